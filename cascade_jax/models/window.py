"""The window around the heart that a stage sees, where it does not see the whole plane."""

import jax
import jax.numpy as jnp


def find_window(prior: jax.Array, valid: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Where the window begins that holds most of what stage one has labelled.

    Of several that hold as much it is one with the least padding, in the middle of those.

    Voxels are counted over all slices, so a spot far from the heart does not move it. Without any label it is the
    middle of the field of view.

    Args:
        prior: integer labels (depth, height, width), 0 the background.
        valid: bool, same shape; the rest is padding.
        size: (height, width) of the window, at most the plane's.

    Returns:
        int32 (2,), its first row and column.
    """
    held = _sums_in_windows((prior > 0).sum(0), size)
    best = held == held.max()
    inside = jnp.where(best, _sums_in_windows(valid.sum(0), size), -1)
    best = inside == inside.max()
    places = jnp.stack(jnp.indices(best.shape), axis=-1)
    middle = jnp.where(best[..., None], places, 0).sum((0, 1)) / best.sum()
    # They may lie apart, as around two spots, with a middle that is none of them.
    distance = jnp.where(best, jnp.square(places - middle).sum(-1), jnp.inf)
    return jnp.stack(jnp.unravel_index(jnp.argmin(distance), best.shape)).astype(jnp.int32)


def _sums_in_windows(counts: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The sum of integers (height, width) in every window: int32 (height - rows + 1, width - columns + 1)."""
    for along in ((size[0], 1), (1, size[1])):
        counts = jax.lax.reduce_window(counts.astype(jnp.int32), 0, jax.lax.add, along, (1, 1), "valid")
    return counts


def cut_window(volume: jax.Array, start: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The window of a volume (depth, height, width)."""
    return jax.lax.dynamic_slice(volume, _place(start, volume.ndim), (volume.shape[0], *size))


def paste_window(window: jax.Array, start: jax.Array, whole: jax.Array) -> jax.Array:
    """A window (depth, height, width, ...) in its place of a whole of the same depth and other axes."""
    return jax.lax.dynamic_update_slice(whole, window, _place(start, whole.ndim))


def _place(start: jax.Array, axes: int) -> tuple[jax.Array, ...]:
    """Row and column among so many axes, all of one dtype, also where JAX counts in 64 bits."""
    zero = jnp.zeros_like(start[0])
    return (zero, *start, *[zero] * (axes - 3))
