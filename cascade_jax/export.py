"""A trained cascade as one file that runs with JAX alone: StableHLO, weights included, serialised by `jax.export`."""

from collections.abc import Sequence

import jax
import jax.export
import jax.numpy as jnp

from cascade_jax.inference import Cascade
from cascade_jax.models.cascade import segment
from cascade_jax.plan import smallest_shape

PLATFORMS = ("cpu", "cuda", "tpu")


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
    shape = smallest_shape(cascade.plan, cascade.plan.shape if shape is None else shape)

    def program(image, valid):
        vote = segment(cascade.networks, cascade.params, image, valid, mirror=cascade.mirror)
        return vote.labels, vote.probabilities

    arguments = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.bool_)
    return bytes(jax.export.export(jax.jit(program), platforms=tuple(platforms))(*arguments).serialize())
