"""Random short-axis slices on which a network learns where the septum is: hearts of `random_heart.py` whose right
ventricle is known, among organs and fat that touch the heart, with an outline as a network would have drawn it."""

import flax.struct
import jax
import jax.numpy as jnp

from cascade_jax.phantoms.draws import Draws
from cascade_jax.phantoms.random_field import smooth_fields
from cascade_jax.phantoms.random_heart import RandomHeart, Stack, draw_heart
from cascade_jax.phantoms.random_phantom import blend, blurred, draw_background, draw_signal, scan

_ORGANS = 4
_LOBES = 2


@flax.struct.dataclass
class SeptumPhantom:
    """Slices of one heart.

    Attributes:
        image: float32 (slice, height, width).
        labels: uint8, same shape, as a reader draws them.
        outline: uint8, same shape, as a network draws them: too large, too small or a little out of place.
        right_ventricle: bool, same shape, its blood.
    """

    image: jax.Array
    labels: jax.Array
    outline: jax.Array
    right_ventricle: jax.Array


def draw_septum_phantom(key: jax.Array, heights: jax.Array, size: int, pixel: float) -> SeptumPhantom:
    """Random slices of a random heart.

    Args:
        key: random key.
        heights: (slice,), from the apex (0) to the base (1).
        size: of a slice, pixels along each side.
        pixel: mm.

    Returns:
        The phantom. jit and vmap over keys.
    """
    draws = Draws(key, 20)
    length = draws.uniform(60.0, 115.0)
    axis = (jnp.arange(size) - (size - 1) / 2) * pixel
    stack = Stack(heights * length, axis, axis)
    heart = draw_heart(draws.key(), stack, length, draws.uniform(-12.0, 12.0, (2,)))
    heart = _with_lobes(draws.key(), heart, stack, pixel)
    background = _organs(draws.key(), draw_background(draws.key(), stack), heart, stack, pixel)
    background = _fat(draws.key(), background, heart, stack, pixel)
    image, contrast = draw_signal(draws.key(), heart, background, stack)
    outside = heart.right_ventricle * (1 - heart.cavity - heart.wall)
    image += outside * contrast * _unevenness(draws.key(), stack)
    image = scan(draws.key(), image, contrast, stack, pixel)
    outline = _as_a_network_draws(draws.key(), heart, stack, pixel)
    return SeptumPhantom(image, heart.labels(), outline, outside > 0.5)


def _centre_and_radius(heart: RandomHeart, stack: Stack, pixel: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of the left ventricle in each slice: row and column of its middle and the radius of its area, mm."""
    total = heart.cavity + heart.wall
    count = jnp.maximum(total.sum(axis=(1, 2)), 1e-3)
    row = (total * stack.height[:, None]).sum(axis=(1, 2)) / count
    column = (total * stack.width).sum(axis=(1, 2)) / count
    return row[:, None, None], column[:, None, None], jnp.sqrt(count / jnp.pi)[:, None, None] * pixel


def _towards_the_right_ventricle(heart: RandomHeart, stack: Stack, row: jax.Array, column: jax.Array) -> jax.Array:
    """The direction in each slice, radians; 0 where there is none."""
    down = (heart.right_ventricle * (stack.height[:, None] - row)).sum(axis=(1, 2), keepdims=True)
    right = (heart.right_ventricle * (stack.width - column)).sum(axis=(1, 2), keepdims=True)
    return jnp.arctan2(down, right)


def _disc(stack, row, column, radius, width=0.7):
    return jax.nn.sigmoid((radius - jnp.hypot(stack.height[:, None] - row, stack.width - column)) / width)


def _with_lobes(key: jax.Array, heart: RandomHeart, stack: Stack, pixel: float) -> RandomHeart:
    """A right ventricle that bulges along the left one's wall, as towards its outflow tract and its lower edge."""
    draws = Draws(key, 8)
    row, column, radius = _centre_and_radius(heart, stack, pixel)
    towards = _towards_the_right_ventricle(heart, stack, row, column)
    area = heart.right_ventricle.sum(axis=(1, 2), keepdims=True) * pixel**2
    thickness = draws.uniform(1.0, 4.0)
    exists = draws.bernoulli(0.5, (_LOBES,))
    aside = draws.uniform(0.4, 1.0, (_LOBES,)) * jnp.array([1.0, -1.0])
    away, sizes = draws.uniform(0.9, 1.3, (_LOBES,)), draws.uniform(0.3, 0.7, (_LOBES,))
    blood, wall = heart.right_ventricle, heart.right_wall
    for index in range(_LOBES):
        angle, distance = towards + aside[index], away[index] * radius
        place = row + distance * jnp.sin(angle), column + distance * jnp.cos(angle)
        here = exists[index] & (area > 300.0)  # mm2, where the right ventricle is more than its tip
        blood = jnp.maximum(blood, here * _disc(stack, *place, sizes[index] * radius))
        wall = jnp.maximum(wall, here * _disc(stack, *place, sizes[index] * radius + thickness))
    return heart.replace(right_ventricle=blood, right_wall=wall)  # type: ignore[attr-defined]


def _organs(key: jax.Array, image: jax.Array, heart: RandomHeart, stack: Stack, pixel: float) -> jax.Array:
    """Liver, stomach, lung and chest wall: large and rounded, some behind a line, touching the left ventricle or
    nearly. Half of them lie at an end of the septum, where they touch both ventricles, as the liver does below."""
    draws = Draws(key, 24)
    row, column, radius = _centre_and_radius(heart, stack, pixel)
    towards = _towards_the_right_ventricle(heart, stack, row, column)
    exists, beside = draws.bernoulli(0.6, (_ORGANS,)), draws.bernoulli(0.5, (_ORGANS,))
    angles, ends = draws.uniform(-jnp.pi, jnp.pi, (_ORGANS,)), draws.uniform(0.7, 1.8, (_ORGANS,))
    sides = jnp.where(draws.bernoulli(0.5, (_ORGANS,)), 1.0, -1.0)
    sizes, gaps = draws.uniform(15.0, 100.0, (_ORGANS,)), draws.uniform(-8.0, 10.0, (_ORGANS,))
    levels = draws.uniform(0.0, 1.2, (_ORGANS,)) * draws.bernoulli(0.75, (_ORGANS,))
    lines, dark = draws.uniform(0.0, 4.0, (_ORGANS,)), draws.uniform(0.0, 1.2, (_ORGANS,))
    bend = draws.uniform(0.0, 5.0) * smooth_fields(draws.key(), stack, draws.uniform(10.0, 40.0))[0]
    for index in range(_ORGANS):
        angle = jnp.where(beside[index], towards + sides[index] * ends[index], angles[index])
        distance = radius + gaps[index] + sizes[index]
        place = row + distance * jnp.sin(angle), column + distance * jnp.cos(angle)
        for size, level in ((sizes[index], dark[index]), (sizes[index] - lines[index], levels[index])):
            image = blend(image, exists[index] * _disc(stack, *place, size + bend), level)

    # The pericardium, or what lies between: a thin dark line around both ventricles.
    both = jnp.clip(heart.cavity + heart.wall + heart.right_wall, 0, 1)
    line = jax.nn.sigmoid((blurred(both, 2.0 / pixel) - draws.uniform(0.1, 0.4)) / 0.04)
    return blend(image, line * draws.bernoulli(0.5), draws.uniform(0.0, 0.5))


def _fat(key: jax.Array, image: jax.Array, heart: RandomHeart, stack: Stack, pixel: float) -> jax.Array:
    """Fat around both ventricles that fills the grooves between them before it covers them."""
    draws = Draws(key, 8)
    both = jnp.clip(heart.cavity + heart.wall + heart.right_wall, 0, 1)
    nearness = blurred(both, draws.uniform(3.0, 7.0) / pixel)
    limit = draws.uniform(0.15, 0.6) - 0.12 * smooth_fields(draws.key(), stack, draws.uniform(10.0, 40.0))[0]
    fat = jax.nn.sigmoid((nearness - limit) / 0.04) * draws.bernoulli(0.7)
    return blend(image, fat, draws.uniform(0.5, 1.7))


def _unevenness(key: jax.Array, stack: Stack) -> jax.Array:
    """How much brighter the right ventricle's blood is than the left's, in units of the contrast: coils, trabeculae."""
    draws = Draws(key, 8)
    whole = draws.uniform(-0.6, 0.5) * draws.bernoulli(0.5)
    fields = smooth_fields(draws.key(), stack, draws.uniform(4.0, 20.0))[0]
    return jnp.maximum(whole + draws.uniform(0.0, 0.5) * draws.bernoulli(0.6) * fields, -1.0)


def _as_a_network_draws(key: jax.Array, heart: RandomHeart, stack: Stack, pixel: float) -> jax.Array:
    """uint8 labels whose borders are smoothed and lie up to 3 mm from where they should."""
    draws = Draws(key, 12)
    smoothness = draws.uniform(0.5, 3.0) / pixel
    fields = smooth_fields(draws.key(), stack, draws.uniform(10.0, 40.0), 2)
    inner, outer = (
        blurred(member, smoothness) + shift + 0.1 * field > 0.5
        for member, shift, field in zip(
            (heart.cavity, heart.cavity + heart.wall), draws.uniform(-0.2, 0.2, (2,)), fields, strict=True
        )
    )
    infarct = (heart.infarct > 0.5) & draws.bernoulli(0.7)
    outline = jnp.where(inner, 1, jnp.where(outer, jnp.where(infarct, 3, 2), 0)).astype(jnp.uint8)
    moved = jax.random.randint(draws.key(), (2,), -1, 2)
    return jnp.roll(outline, moved, axis=(1, 2))
