"""A trained cascade as one file that runs with JAX alone: StableHLO, weights included, serialised by `jax.export`.

What the program does not know of, `describe_export` says: the way from an image to its input and on from its labels.
"""

from collections.abc import Sequence

import jax
import jax.export
import jax.numpy as jnp

from cascade_jax import postprocess
from cascade_jax.bundle import PLATFORMS
from cascade_jax.cascade import Cascade
from cascade_jax.models.graph import segment
from cascade_jax.plan import smallest_shape

# What `data.preprocess.preprocess` does, for those who have the program alone.
_PREPROCESSING = (
    "image: float32 (depth, height, width), slices first; plateaus of one constant value that reach a slice's edge, of "
    "at least half as many pixels as its shorter side has, are the border around the field of view, not tissue",
    "cut the plane to the bounding box of tissue over all slices; keep every slice",
    "subtract the mean of the tissue's voxels and divide by their standard deviation, over the whole stack; then set "
    "the border to 0",
    "resample each slice to the height and width of spacing_mm with cubic splines, voxels being areas whose outer "
    "edges coincide (scipy.ndimage.zoom with order=3, mode='nearest', grid_mode=True), to round(size * old / new) "
    "voxels; never resample between slices",
    "centre in the input's shape, padded with 0 or cut evenly on both sides; valid is true inside and false in the "
    "padding",
)


def _accepted_shape(cascade: Cascade, shape: Sequence[int] | None) -> tuple[int, int, int]:
    return smallest_shape(cascade.plan, cascade.plan.shape if shape is None else shape)


def export_cascade(cascade: Cascade, shape: Sequence[int] | None = None, platforms: Sequence[str] = PLATFORMS) -> bytes:
    """Serialises the inference graph with all folds and their vote.

    The program maps a preprocessed image, float32 (depth, height, width), and its field of view, bool of the same
    shape, to uint8 labels and float32 probabilities (*shape, class). In another process, with jax and flatbuffers:

        program = jax.export.deserialize(bytearray(path.read_bytes()))
        labels, probabilities = program.call(image, valid)

    Args:
        cascade: the trained cascade.
        shape: (depth, height, width) of the images; None takes the plan's. It is raised to what the networks accept.
        platforms: on which it is to run.

    Returns:
        The file's content.
    """
    shape = _accepted_shape(cascade, shape)

    def program(image, valid):
        vote = segment(
            cascade.networks, cascade.params, image, valid, mirror=cascade.mirror, windows=cascade.plan.windows
        )
        return vote.labels, vote.probabilities

    arguments = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.bool_)
    return bytes(jax.export.export(jax.jit(program), platforms=tuple(platforms))(*arguments).serialize())


def describe_export(cascade: Cascade, shape: Sequence[int] | None = None, platforms: Sequence[str] = PLATFORMS) -> dict:
    """What those need who have the exported program alone, fit for JSON.

    Args:
        cascade, shape, platforms: as for `export_cascade`.

    Returns:
        `inputs` and `outputs` of the program (name, shape, dtype), `axes` of their shapes, `spacing_mm` along the axes
        (of the depth it is the cohort's median), `preprocessing` in words, step by step, `labels` by value,
        `postprocessing` in words and as rules with their parameters, in the order in which they are applied to labels
        in the case's own grid, `platforms`, `folds` (how many vote), `mirror` (whether mirror images are averaged),
        `licence` (of the weights, "" where they are under no other than this package's own) and `jax_version`, by which
        it was exported.
    """
    shape = list(_accepted_shape(cascade, shape))
    names = cascade.plan.labels.names
    return {
        "inputs": [
            {"name": "image", "shape": shape, "dtype": "float32"},
            {"name": "valid", "shape": shape, "dtype": "bool"},
        ],
        "outputs": [
            {"name": "labels", "shape": shape, "dtype": "uint8"},
            {"name": "probabilities", "shape": [*shape, len(names)], "dtype": "float32"},
        ],
        "axes": ["depth", "height", "width", "class"],
        "spacing_mm": list(cascade.plan.spacing),
        "preprocessing": list(_PREPROCESSING),
        "labels": {str(value): name for value, name in enumerate(names)},
        "postprocessing": [
            {
                "rule": rule.name,
                "minimum_mm3": rule.minimum_mm3,
                "meaning": postprocess.RULES[rule.name].__doc__.splitlines()[0],
            }
            for rule in cascade.rules
        ],
        "platforms": list(platforms),
        "folds": len(cascade.folds),
        "mirror": cascade.mirror,
        "licence": cascade.licence,
        "jax_version": jax.__version__,
    }
