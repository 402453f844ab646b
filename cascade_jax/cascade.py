"""A trained cascade as one object: an image in, labels out."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np

from cascade_jax import checkpoint, postprocess, weights
from cascade_jax.account import VoteSummary, make_account, summarise_vote, voxel_volume_ml
from cascade_jax.bundle import folder_of, is_in_the_box, name_of, read_model
from cascade_jax.calibration import CONFIDENCE_FILE, Calibration, read_calibration
from cascade_jax.case_warnings import warnings_of_input, warnings_of_labels
from cascade_jax.confidence import Confidence, disagreement, uncalibrated, with_warnings
from cascade_jax.data.case import Case, CaseError
from cascade_jax.data.emidec import from_file_axes, to_file_axes
from cascade_jax.data.geometry import GeometryError, check_spacing
from cascade_jax.data.preprocess import (
    Example,
    bounding_box,
    preprocess,
    resampled_shape,
    restore_labels,
    restore_scores,
)
from cascade_jax.errors import is_out_of_memory
from cascade_jax.models.graph import MIRROR_IMAGES, Vote, segment, spread_folds
from cascade_jax.models.splitting import split_along_height
from cascade_jax.models.unet import UNet
from cascade_jax.plan import Plan, StagePlan, bucket
from cascade_jax.segmentation import Segmentation
from cascade_jax.spreading import devices_of_a_case, devices_of_folds

STAGES = ("stage1", "stage2")
_DIGITS_OF_WEIGHTS = 12


def compute_dtype(name: str) -> jnp.dtype:
    """The dtype networks compute in: "auto" is float32 on a CPU (bfloat16 gains nothing there), else bfloat16."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


def build_networks(plan: Plan, dtype: jnp.dtype) -> tuple[UNet, UNet]:
    """The networks of both stages."""

    def build(stage: StagePlan) -> UNet:
        return UNet(stage.features, stage.kernel_sizes, stage.strides, len(plan.labels.names), dtype)

    return build(plan.slices), build(plan.volumes)


def input_shapes(plan: Plan) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape of one input of each stage: (height, width, 1), and (depth, height, width, 1 + foreground labels)."""
    return (*plan.shape[1:], 1), (*plan.volume_shape, len(plan.labels.names))


# One for all cascades: those of the same networks share its programs.
_segment = jax.jit(segment, static_argnums=0, static_argnames=("mirror", "windows", "mesh", "folds"))


def whole_example(plan: Plan, case: Case) -> Example:
    """The case on the networks' grid, in the plan's shape or the next larger `bucket` that holds it whole.

    Raises:
        CaseError: the image has no contrast.
    """
    box = bounding_box(case.image)
    needed = resampled_shape([stop - start for start, stop in box], case.spacing, plan.spacing[1:])
    return preprocess(case, plan.spacing[1:], bucket(plan, needed))


class Cascade:
    """The trained folds of both stages, ready to segment.

    Attributes:
        plan: the spacing, shape and networks it was trained with.
        networks: the 2D and the 3D U-Net, hashable.
        params: their parameters, each leaf with the folds along its first axis.
        rules: the postprocessing that the cross-validation kept.
        folds: which folds vote.
        mirror: whether probabilities are averaged over in-plane mirror images.
        licence: of the parameters, in one line; "" where they are under no other than this package's own.
        calibration: what the cross-validation learnt of its confidence, or None. With one, a target that it finds too
            improbable is not drawn.
        name: what the parameters are called, as "emidec".
        devices: over which the folds of a vote, and the mirror images of each fold, are spread.
        split_volumes: whether instead each of the devices has every fold and a part of the volume's height, which is
            for volumes too large for one.
    """

    def __init__(
        self,
        plan: Plan,
        networks: tuple[UNet, UNet],
        params: tuple[Any, Any],
        rules: Sequence[postprocess.Rule],
        folds: Sequence[int],
        mirror: bool = False,
        licence: str = "",
        calibration: Calibration | None = None,
        name: str = "",
        devices: Sequence[jax.Device] | None = None,
        split_volumes: bool = False,
    ):
        self.calibration, self.name = calibration, name
        self.devices = tuple(jax.local_devices() if devices is None else devices)
        self.plan, self.networks, self.params = plan, networks, params
        self.rules, self.folds, self.mirror, self.licence = tuple(rules), tuple(folds), mirror, licence
        self.split_volumes = split_volumes
        self._params, mesh = params, None
        by_fold, by_image = (1, 1) if split_volumes else devices_of_folds(*self._work, len(self.devices))
        if (number := by_fold * by_image) > 1:
            self._params, mesh = spread_folds(params, np.array(self.devices[:number]).reshape(by_fold, by_image))
        elif devices is not None:
            self._params = jax.device_put(params, self.devices[0])
        settings = {"mirror": mirror, "windows": plan.windows, "mesh": mesh, "folds": len(self.folds)}
        self._vote = functools.partial(_segment, networks, **settings)

    @property
    def _work(self) -> tuple[int, int]:
        """How many folds compute a case, each of them how many mirror images."""
        return len(self.folds), len(MIRROR_IMAGES) if self.mirror else 1

    @functools.cached_property
    def weights(self) -> str:
        """Which parameters these are: their name, and the first of the digits of their SHA-256."""
        digest = hashlib.sha256()
        for path, leaf in jax.tree.leaves_with_path(self.params):
            digest.update(jax.tree_util.keystr(path).encode())
            digest.update(np.asarray(leaf).tobytes())
        return f"{self.name} {digest.hexdigest()[:_DIGITS_OF_WEIGHTS]}".strip()

    def for_cases(self, number: int) -> list["Cascade"]:
        """What segments so many cases soonest: this cascade, whose devices share the folds and the mirror images of
        each case, or several of the same on some of the devices each, for cases of their own (`spreading.in_order`)."""
        together = devices_of_a_case(max(1, number), *self._work, len(self.devices))
        cascades = min(number, len(self.devices) // together)
        if self.split_volumes or cascades <= 1:
            return [self]
        about = (self.plan, self.networks, self.params, self.rules, self.folds, self.mirror, self.licence)
        groups = [self.devices[start * together :][:together] for start in range(cascades)]
        return [Cascade(*about, self.calibration, self.name, group) for group in groups]

    def example(self, case: Case) -> Example:
        """The case whole on the networks' grid; see `whole_example`."""
        return whole_example(self.plan, case)

    def vote(self, example: Example) -> Vote:
        """The folds' vote on the networks' grid, as numpy arrays."""
        volume = example.image, example.valid
        if self.split_volumes:
            self._params, *volume = split_along_height(self._params, volume, self.devices)
        return jax.device_get(self._vote(self._params, *volume))

    def segment_case(self, case: Case, *, details: bool = False) -> Segmentation:
        """Segments a case; arrays are (depth, height, width) in the case's own grid.

        Args:
            case: the case.
            details: whether to bring probabilities and disagreement to the case's grid too; otherwise they are None.

        Raises:
            CaseError: the image has no contrast, or the device's memory is too small for it.
        """
        example = self.example(case)
        try:
            vote = self.vote(example)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            fault = f"the device's memory is too small for it ({str(error).splitlines()[0]})"
            raise CaseError(case.name, f"{fault}; JAX_PLATFORMS=cpu computes on the processor") from error
        return self.segmentation_of(vote, example, case, details=details)

    def segmentation_of(self, vote: Vote, example: Example, case: Case, *, details: bool) -> Segmentation:
        """What a vote on the networks' grid says about the case; arguments and result as for `segment_case`."""
        labels, confidence = self.finish(self.majority(vote, example), self.summarise(vote, example, case), case)
        probabilities = None
        if details or confidence is None:
            probabilities = restore_scores(np.asarray(vote.probabilities), example.grid)
        if confidence is None:
            confidence = uncalibrated(probabilities, labels, case.spacing, self.plan.labels)
        seen = warnings_of_labels(labels, case.spacing, self.plan.labels)
        confidence = with_warnings(confidence, (*seen, *warnings_of_input(case, self.plan.spacing)))
        confidence = dataclasses.replace(confidence, weights=self.weights)
        if not details:
            return Segmentation(labels, None, None, confidence)
        if len(self.folds) == 1:
            return Segmentation(labels, probabilities, None, confidence)
        share = disagreement(np.asarray(vote.counts))
        restored = restore_scores(np.stack([1 - share, share], axis=-1), example.grid)[..., 1]
        return Segmentation(labels, probabilities, restored, confidence)

    def summarise(self, vote: Vote, example: Example, case: Case) -> VoteSummary:
        """What a case's account needs of a vote."""
        return summarise_vote(vote, voxel_volume_ml(example.grid, case.spacing))

    def finish(self, labels: np.ndarray, summary: VoteSummary, case: Case) -> tuple[np.ndarray, Confidence | None]:
        """Postprocesses a majority's labels, and leaves out what the calibration finds too improbable.

        Args:
            labels: uint8 (depth, height, width) in the case's own grid.
            summary: of the vote that they are of.
            case: the case.

        Returns:
            The labels, and what can be said of them; None without a calibration.
        """
        labels = self.postprocess(labels, case)
        if self.calibration is None:
            return labels, None
        account = make_account(summary, labels, case, self.plan.labels)
        return self.calibration.settle(account, labels, case.spacing)

    def majority(self, vote: Vote, example: Example) -> np.ndarray:
        """The vote's labels in the case's own grid, uint8, before postprocessing."""
        return restore_labels(np.asarray(vote.counts + vote.probabilities), example.grid)

    def fold_params(self, stage: int, fold: int) -> Any:
        """One fold's parameters of one stage (0 or 1); folds beyond the last begin anew with the first."""
        return jax.tree.map(lambda leaf: leaf[fold % len(self.folds)], self.params[stage])

    def postprocess(self, labels: np.ndarray, case: Case) -> np.ndarray:
        """Labels in the case's own grid after the rules that the cross-validation kept."""
        return postprocess.apply(self.rules, labels, case.spacing)

    @overload
    def segment(
        self, image: np.ndarray, spacing: Sequence[float], *, details: Literal[False] = False
    ) -> np.ndarray: ...

    @overload
    def segment(self, image: np.ndarray, spacing: Sequence[float], *, details: Literal[True]) -> Segmentation: ...

    def segment(
        self, image: np.ndarray, spacing: Sequence[float], *, details: bool = False
    ) -> np.ndarray | Segmentation:
        """Segments one short-axis stack.

        Args:
            image: (x, y, slice), as nibabel gives it, or one slice (x, y).
            spacing: mm along (x, y, slice), as `header.get_zooms()` gives it; for one slice (x, y) will do.
            details: also return the probabilities, where the folds disagree, and what the cascade says of its result.

        Returns:
            uint8 labels of the image's shape, by `plan.labels.names`: 0 background, 1 cavity, 2 normal myocardium,
            3 infarction, 4 no-reflow; with `details`, a `Segmentation` whose arrays are (x, y, slice) or (x, y), and
            class.

        Raises:
            CaseError: the image is not two- or three-dimensional and finite, is constant, or the spacing is not
                positive or none that a short-axis stack has.
        """
        image, spacing = np.asarray(image), tuple(float(value) for value in spacing)
        if image.ndim == 2 and image.size:
            stack, known = image[..., None], (*spacing, np.nan)[:3]
            if not details:
                return self.segment(stack, known)[:, :, 0]
            *parts, confidence = self.segment(stack, known, details=True)
            labels, probabilities, shares = (None if part is None else part[:, :, 0] for part in parts)
            return Segmentation(labels, probabilities, shares, confidence)
        if image.ndim != 3 or not image.size:
            raise CaseError(
                "image", f"has shape {image.shape}; a stack has three dimensions (x, y, slice), a slice two"
            )
        if not np.isfinite(image).all():
            raise CaseError("image", "has voxels that are NaN or infinite")
        if image.min() == image.max():
            raise CaseError("image", f"is constant: every voxel is {image.flat[0]:g}")
        known = spacing[:2] if image.shape[2:] == (1,) and np.isnan(spacing[2:]).all() else spacing
        if len(spacing) != 3 or not all(np.isfinite(value) and value > 0 for value in known):
            raise CaseError("spacing", f"is {spacing}; three positive numbers (mm) are needed")
        try:
            check_spacing(image.shape, spacing)
        except GeometryError as error:
            raise CaseError("image", str(error)) from None
        case = Case("image", from_file_axes(image).astype(np.float32), None, spacing[::-1])
        result = self.segment_case(case, details=details)
        labels = to_file_axes(result.labels)
        if not details:
            return labels
        shares = None if result.disagreement is None else to_file_axes(result.disagreement)
        return Segmentation(labels, result.probabilities.transpose(2, 1, 0, 3), shares, result.confidence)


def load(workdir, *, mirror: bool | None = None, split_volumes: bool = False) -> Cascade:
    """A trained cascade.

    Args:
        workdir: weights in the box by name, or the folder that `cascade-jax train` or `cascade-jax release` left.
            "emidec" were trained on patients (CC BY-NC-SA 4.0), "phantom" on random phantoms alone, and "pretrained"
            are those that do better on real scans: "emidec". Such a name goes before a folder of the same name in the
            working directory, which is "./emidec".
        mirror: average over in-plane mirror images; None does as the training's config said. Otherwise than there, the
            cascade has no calibration.
        split_volumes: over all devices, each of which has a part of the height: for volumes too large for one.

    Raises:
        CaseError: there is no finished model, or it cannot be read.
    """
    folder, model = folder_of(workdir), read_model(workdir)
    plan, rules = model["plan"], model["rules"]
    networks = build_networks(plan, compute_dtype(model["compute_dtype"]))
    if (folder / weights.WEIGHTS_FILE).exists():
        params = weights.read_weights(folder / weights.WEIGHTS_FILE)
        counts = {len(leaf) if leaf.ndim else 0 for leaf in jax.tree.leaves(params)}
        if not set(STAGES) <= params.keys() or counts != {len(model["folds"])}:
            raise CaseError(
                folder / weights.WEIGHTS_FILE, f"has not the weights of both stages for {len(model['folds'])} folds"
            )
    else:
        params = {stage: _restore_folds(folder, stage, model["folds"]) for stage in STAGES}
    calibration = None
    # It was learnt from what the model file says: without mirror images probabilities are others.
    if mirror in (None, model["mirror"]) and (folder / CONFIDENCE_FILE).exists():
        calibration = read_calibration(folder / CONFIDENCE_FILE, plan.labels)
    mirror = model["mirror"] if mirror is None else mirror
    stages = tuple(params[stage] for stage in STAGES)
    name = name_of(workdir) if is_in_the_box(workdir) else folder.resolve().name
    about = (plan, networks, stages, rules, model["folds"], mirror, model["licence"], calibration, name)
    return Cascade(*about, split_volumes=split_volumes)


def _restore_folds(folder: Path, stage: str, folds: Sequence[int]) -> Any:
    """One stage's parameters, each leaf with the folds along its first axis."""
    restored = [checkpoint.restore_params(fold_folder(folder, stage, fold) / "params") for fold in folds]
    # By numpy: a program that stacks would be compiled for every shape, which takes longer than all reading.
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *restored)


def fold_folder(workdir: Path, stage: str, fold: int) -> Path:
    """Where one fold of one stage keeps what it makes."""
    return Path(workdir) / stage / f"fold{fold}"
