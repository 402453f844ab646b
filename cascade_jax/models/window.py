"""The window around the heart that stage two sees, where it does not see the whole plane."""

import jax
import jax.numpy as jnp


def find_window(prior: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Where the window begins that holds most of what stage one has labelled; the middle of all that hold as much.

    Voxels are counted over all slices, so a spot far from the heart does not move it. Without any label it is the
    middle of the plane.

    Args:
        prior: integer labels (depth, height, width), 0 the background.
        size: (height, width) of the window, at most the plane's.

    Returns:
        int32 (2,), its first row and column.
    """
    labelled = (prior > 0).sum(0).astype(jnp.float32)  # counts of voxels are exact up to 2**24
    held = jax.lax.reduce_window(labelled, 0.0, jax.lax.add, size, (1, 1), "valid")
    most = held == held.max()
    rows, columns = jnp.indices(held.shape)
    return jnp.stack([jnp.where(most, axis, 0).sum() // most.sum() for axis in (rows, columns)])


def cut_window(volume: jax.Array, start: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The window of a volume (depth, height, width)."""
    return jax.lax.dynamic_slice(volume, (0, *start), (volume.shape[0], *size))


def paste_window(window: jax.Array, start: jax.Array, whole: jax.Array) -> jax.Array:
    """A window (depth, height, width, channel) in its place of a whole of the same depth and channels."""
    return jax.lax.dynamic_update_slice(whole, window, (0, *start, 0))
