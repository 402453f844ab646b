"""A trained cascade as one object: an image in, labels out."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascade_jax import checkpoint, compilation, postprocess
from cascade_jax.data.case import LABEL_NAMES, Case, CaseError
from cascade_jax.data.emidec import from_file_axes, to_file_axes
from cascade_jax.data.preprocess import Example, field_of_view, preprocess, resampled_shape, restore_labels
from cascade_jax.models.cascade import Vote, segment
from cascade_jax.models.unet import UNet
from cascade_jax.plan import Plan, StagePlan, smallest_shape

MODEL_FILE = "model.json"
STAGES = ("stage1", "stage2")


def compute_dtype(name: str) -> jnp.dtype:
    """The dtype networks compute in: "auto" is float32 on a CPU (bfloat16 gains nothing there), else bfloat16."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


def build_networks(plan: Plan, dtype: jnp.dtype) -> tuple[UNet, UNet]:
    """The networks of both stages."""

    def build(stage: StagePlan) -> UNet:
        return UNet(stage.features, stage.kernel_sizes, stage.strides, len(LABEL_NAMES), dtype)

    return build(plan.slices), build(plan.volumes)


def input_shapes(plan: Plan) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape of one input of each stage: (height, width, 1), and (depth, height, width, 1 + foreground labels)."""
    return (*plan.shape[1:], 1), (*plan.shape, len(LABEL_NAMES))


def params_like(network: UNet, input_shape: Sequence[int]) -> Any:
    """The shapes of a network's parameters, without making them."""

    def initialise():
        return network.init(jax.random.key(0), jnp.zeros((1, *input_shape)), deep_supervision=True)["params"]

    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), jax.eval_shape(initialise)
    )


class Cascade:
    """The trained folds of both stages, ready to segment.

    Attributes:
        plan: the spacing, shape and networks it was trained with.
        networks: the 2D and the 3D U-Net.
        params: their parameters, each leaf with the folds along its first axis.
        rules: the postprocessing that the cross-validation kept.
        folds: which folds vote.
    """

    def __init__(
        self,
        plan: Plan,
        networks: tuple[UNet, UNet],
        params: tuple[Any, Any],
        rules: Sequence[postprocess.Rule],
        folds: Sequence[int],
        mirror: bool = False,
    ):
        self.plan, self.networks, self.params = plan, networks, params
        self.rules, self.folds = tuple(rules), tuple(folds)
        self._segment = compilation.jit(functools.partial(segment, networks, mirror=mirror))

    def example(self, case: Case) -> Example:
        """The case on the networks' grid: the plan's shape, or the next larger one that holds the case."""
        box = field_of_view(case.image)
        needed = resampled_shape([stop - start for start, stop in box], case.spacing, self.plan.spacing[1:])
        return preprocess(case, self.plan.spacing[1:], smallest_shape(self.plan, needed))

    def vote(self, example: Example) -> Vote:
        """The folds' vote on the networks' grid, as numpy arrays."""
        return jax.device_get(self._segment(self.params, example.image, example.valid))

    def segment_case(self, case: Case) -> np.ndarray:
        """uint8 labels (depth, height, width) in the case's own grid, postprocessed.

        Raises:
            CaseError: the image has no contrast.
        """
        example = self.example(case)
        vote = self.vote(example)
        return self.finish(restore_labels(vote.counts + vote.probabilities, example.grid), case)

    def finish(self, labels: np.ndarray, case: Case) -> np.ndarray:
        """Labels in the case's own grid after the rules that the cross-validation kept."""
        return postprocess.apply(self.rules, labels, case.spacing)

    def segment(self, image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Segments one short-axis stack.

        Args:
            image: (x, y, slice), as nibabel gives it; exactly 0 means outside the field of view.
            spacing: mm along (x, y, slice), as `header.get_zooms()` gives it.

        Returns:
            uint8 labels (x, y, slice): 0 background, 1 cavity, 2 normal myocardium, 3 infarction, 4 no-reflow.

        Raises:
            CaseError: the image is not three-dimensional and finite, is constant, or the spacing is not positive.
        """
        image = np.asarray(image)
        spacing = tuple(float(value) for value in spacing)
        if image.ndim != 3 or not image.size:
            raise CaseError("image", f"has shape {image.shape}; a stack has three dimensions (x, y, slice)")
        if not np.isfinite(image).all():
            raise CaseError("image", "has voxels that are NaN or infinite")
        if image.min() == image.max():
            raise CaseError("image", f"is constant: every voxel is {image.flat[0]:g}")
        if len(spacing) != 3 or not all(np.isfinite(value) and value > 0 for value in spacing):
            raise CaseError("spacing", f"is {spacing}; three positive numbers (mm) are needed")
        case = Case("image", from_file_axes(image).astype(np.float32), None, spacing[::-1])
        return to_file_axes(self.segment_case(case))


def load(workdir, *, mirror: bool | None = None) -> Cascade:
    """The cascade that `python -m launch.train` left in a working folder.

    Args:
        workdir: the folder.
        mirror: average over in-plane mirror images; None does as the training's config said.

    Raises:
        CaseError: there is no finished model.
    """
    workdir = Path(workdir)
    path = workdir / MODEL_FILE
    if not path.exists():
        raise CaseError(workdir, f"has no trained model ({MODEL_FILE} is missing); run or finish launch.train first")
    model = json.loads(path.read_text())
    plan = Plan.from_json(model["plan"])
    networks = build_networks(plan, compute_dtype(model["compute_dtype"]))
    params = []
    for stage, network, shape in zip(STAGES, networks, input_shapes(plan), strict=True):
        like = params_like(network, shape)
        folds = [
            checkpoint.restore_params(fold_folder(workdir, stage, fold) / "params", like) for fold in model["folds"]
        ]
        params.append(jax.tree.map(lambda *leaves: jnp.stack(leaves), *folds))
    rules = [postprocess.Rule(**rule) for rule in model["rules"]]
    mirror = model["mirror"] if mirror is None else mirror
    return Cascade(plan, networks, tuple(params), rules, model["folds"], mirror)


def fold_folder(workdir: Path, stage: str, fold: int) -> Path:
    """Where one fold of one stage keeps what it makes."""
    return Path(workdir) / stage / f"fold{fold}"
