"""Which part of a case a training sample shows, where it does not show it whole: mostly one with the heart."""

import jax
import jax.numpy as jnp

HEART_SHARE = 0.7  # of the windows of a whole plane hold the heart; the others lie anywhere, as nnU-Net's patches


def labelled_box(labels: jax.Array, extent: jax.Array) -> jax.Array:
    """`preprocess.heart_box` inside a compiled program: int32 (3, 2)."""
    occupied = [(labels > 0).any(tuple({0, 1, 2} - {axis})) for axis in range(3)]
    box = jnp.stack([jnp.stack([jnp.argmax(one), one.size - jnp.argmax(one[::-1])]) for one in occupied])
    return jnp.where(occupied[0].any(), box, extent).astype(jnp.int32)


def _starts(limits: jax.Array, size: jax.Array) -> jax.Array:
    """The first and the last start, (axis, 2), of windows that lie within limits, or that hold them where they are
    smaller than a window."""
    return jnp.sort(jnp.stack([limits[:, 0], limits[:, 1] - size], axis=-1), axis=-1)


def _starts_with_heart(extent: jax.Array, heart: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The starts of all windows, and of those that hold the heart, or of those within it where it is larger."""
    anywhere = _starts(extent, size)
    return anywhere, jnp.clip(_starts(heart, size), anywhere[:, :1], anywhere[:, 1:])


def draw_start(
    key: jax.Array,
    shape: tuple[int, int, int],
    extent: jax.Array,
    heart: jax.Array,
    size: tuple[int, int, int],
    heart_share: float = HEART_SHARE,
) -> jax.Array:
    """Draws where a window begins: int32 (3,), inside the example.

    A window leaves the field of view only along an axis along which that is smaller.

    Args:
        key: random key.
        shape: of the example, (depth, height, width), at least `size`.
        extent: integer (3, 2), the example's field of view.
        heart: integer (3, 2), its `preprocess.heart_box`.
        size: of the window.
        heart_share: of the windows that hold the heart.
    """
    share_key, start_key = jax.random.split(key)
    anywhere, with_heart = _starts_with_heart(extent, heart, jnp.array(size))
    starts = jnp.where(jax.random.bernoulli(share_key, heart_share), with_heart, anywhere)
    start = jax.random.randint(start_key, (3,), starts[:, 0], starts[:, 1] + 1)
    return jnp.clip(start, 0, jnp.array(shape) - jnp.array(size))


def middle_start(
    shape: tuple[int, int, int], extent: jax.Array, heart: jax.Array, size: tuple[int, int, int]
) -> jax.Array:
    """Where the window begins that has the heart in its middle, as far as the field of view lets it: int32 (3,).

    Arguments as for `draw_start`.
    """
    _, with_heart = _starts_with_heart(extent, heart, jnp.array(size))
    return jnp.clip(with_heart.sum(-1) // 2, 0, jnp.array(shape) - jnp.array(size))


def take_window(volumes: jax.Array, case: jax.Array, start: jax.Array, size: tuple[int, int, int]) -> jax.Array:
    """A window of one of several volumes, (case, depth, height, width), that begins at `start`."""
    return jax.lax.dynamic_slice(volumes, (case, *start), (1, *size))[0]


def cut_extent(extent: jax.Array, start: jax.Array, size: tuple[int, int, int]) -> jax.Array:
    """The field of view, integer (3, 2), in a window."""
    return jnp.clip(extent - start[:, None], 0, jnp.array(size)[:, None])
