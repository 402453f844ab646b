"""A heart drawn at random, far beyond what patients have: where its parts lie in every voxel of a short-axis stack.

Lengths are mm. The left ventricle is a truncated ellipsoid along the stack's axis (z = 0 at the apex, `length` at the
mitral valve) in coordinates that are shifted, tilted, squeezed and bent. A membership is float32 in 0..1, soft at the
border by partial volume through the slice; the reader's label is where it passes one half.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from cascade_jax.phantoms.draws import Draws
from cascade_jax.phantoms.random_field import smooth_fields

_SLICE_THICKNESS = 8.0
_THINNEST_INFARCT = 3.0  # mm in its middle; a thinner layer than a voxel or two is not outlined
_THINNEST_SCAR = 3.0  # mm between no-reflow and the myocardium or epicardium, without which it looks like myocardium
_INFARCTS = 3
_PAPILLARY_MUSCLES = 3


class Stack(NamedTuple):
    """Where the voxels of a short-axis stack lie, in mm.

    Attributes:
        depth: (depth,) from the apex to the base, or back.
        height, width: (size,) from the middle of the image.
    """

    depth: jax.Array
    height: jax.Array
    width: jax.Array


@flax.struct.dataclass
class RandomHeart:
    """Memberships, float32 (depth, height, width) each.

    Attributes:
        cavity, wall: of the left ventricle as readers outline it; papillary muscles and trabeculae are cavity.
        trabeculae: the myocardium within the cavity.
        infarct, no_reflow: within the wall, before it is cut out of them.
        right_ventricle, right_wall: its blood and its thin wall.
        atrium, atrium_wall: above the left ventricle, and beside it where its wall is open.
        fat: around the left ventricle.
        rim: of slow blood along the endocardium.
    """

    cavity: jax.Array
    wall: jax.Array
    trabeculae: jax.Array
    infarct: jax.Array
    no_reflow: jax.Array
    right_ventricle: jax.Array
    right_wall: jax.Array
    atrium: jax.Array
    atrium_wall: jax.Array
    fat: jax.Array
    rim: jax.Array

    def labels(self) -> jax.Array:
        """uint8 (depth, height, width): 0 background, 1 cavity, 2 myocardium, 3 infarction, 4 no-reflow."""
        wall = jnp.where(self.infarct > 0.5, jnp.where(self.no_reflow > 0.5, 4, 3), 2)
        labels = jnp.where(self.cavity > 0.5, 1, jnp.where(self.cavity + self.wall > 0.5, wall, 0))
        return jnp.where((labels > 1) & (self.wall < 0.25), 0, labels).astype(jnp.uint8)


def _angle_between(angle: jax.Array, other: jax.Array) -> jax.Array:
    """The absolute difference of two angles, 0 to pi."""
    return jnp.abs((angle - other + jnp.pi) % (2 * jnp.pi) - jnp.pi)


def _below(value: jax.Array, limit: jax.Array, width: jax.Array | float) -> jax.Array:
    return jax.nn.sigmoid((limit - value) / width)


def _profile(position: jax.Array, power: jax.Array) -> jax.Array:
    """The relative radius of an ellipsoid-like shape at a relative height: 0 at 0, 1 from 1 on."""
    return jnp.sqrt(jnp.maximum(1 - (1 - jnp.clip(position, 0, 1)) ** power, 0.0))


def _infarcts(key, stack, length, angle, share, thickness):
    """How far each voxel lies inside an infarct (positive inside), in shares of the wall's thickness.

    Args:
        key: random key.
        stack: the voxels.
        length: of the ventricle.
        angle: around the ventricle, radians.
        share: of the wall from the endocardium (0) to the epicardium (1).
        thickness: of the wall there, mm.
    """
    draws = Draws(key, 9)
    height = stack.depth[:, None, None]
    number = jax.random.choice(draws.key(), 4, p=jnp.array([0.3, 0.45, 0.17, 0.08]))
    scale, raggedness = draws.uniform(6.0, 14.0), draws.uniform(0.0, 0.3)
    ragged = raggedness * smooth_fields(draws.key(), stack, scale)[0]
    centres = draws.uniform(-jnp.pi, jnp.pi, (_INFARCTS,))
    extents = jnp.exp(draws.uniform(jnp.log(0.3), jnp.log(1.6), (_INFARCTS,)))
    transmurality = draws.uniform(0.35, 1.5, (_INFARCTS,))
    middles = draws.uniform(0.0, 1.0, (_INFARCTS,)) * length
    spans = draws.uniform(0.2, 0.7, (_INFARCTS,)) * length
    inside, thinnest = jnp.full(angle.shape, -1.0), _THINNEST_INFARCT / thickness
    for index in range(_INFARCTS):
        bend = 0.3 * ragged  # the borders around the ventricle are as ragged as the one through the wall
        around = _angle_between(angle, centres[index]) / extents[index] + bend
        along = (height - middles[index]) / spans[index]
        dome = jnp.sqrt(jnp.maximum(1 - around**2 - along**2, 0.0))
        depth = jnp.where(dome > 0, jnp.maximum(transmurality[index], thinnest) * dome + ragged - share, -1.0)
        inside = jnp.where(index < number, jnp.maximum(inside, depth), inside)
    return inside


def _papillary_muscles(key, stack, rows, columns, length, inner, angle):
    """Membership of the papillary muscles and of the trabeculae at the endocardium."""
    draws = Draws(key, 9)
    height = stack.depth[:, None, None] / length
    members = jnp.zeros(rows.shape)
    present = draws.bernoulli(0.6, (_PAPILLARY_MUSCLES,))
    directions = draws.uniform(-jnp.pi, jnp.pi, (_PAPILLARY_MUSCLES,))
    places, sizes = (draws.uniform(*limits, (_PAPILLARY_MUSCLES,)) for limits in ((0.45, 0.9), (1.5, 5.5)))
    tops = draws.uniform(0.5, 0.9, (_PAPILLARY_MUSCLES,))
    for index in range(_PAPILLARY_MUSCLES):
        row, column = (places[index] * inner * turn(directions[index]) for turn in (jnp.sin, jnp.cos))
        distance = jnp.hypot(rows - row, columns - column)
        here = present[index] & (height < tops[index]) & (inner > 2 * sizes[index])
        members = jnp.maximum(members, jnp.where(here, _below(distance, sizes[index], 0.6), 0.0))
    reach = draws.uniform(0.0, 3.0) * draws.bernoulli(0.7)
    field = smooth_fields(draws.key(), stack, draws.uniform(3.0, 8.0))[0]
    distance = inner - jnp.hypot(rows, columns)
    return jnp.maximum(members, _below(distance, jnp.minimum(reach * jnp.maximum(field, 0), inner / 3) - 0.5, 0.6))


def draw_heart(key: jax.Array, stack: Stack, length: jax.Array, centre: jax.Array) -> RandomHeart:
    """A random heart.

    Args:
        key: random key.
        stack: where the voxels lie.
        length: of the left ventricle from apex to base, mm.
        centre: of the left ventricle in the middle of its length, mm, (row, column).

    Returns:
        Its memberships.
    """
    draws = Draws(key, 60)
    height = stack.depth[:, None, None]
    shape = (stack.depth.size, stack.height.size, stack.width.size)

    # Coordinates of the ventricle: its axis tilts, single slices were breathed out of place, tissue bends.
    tilt = draws.uniform(-0.3, 0.3, (2,))
    breathing = draws.bernoulli(0.3) * draws.uniform(0.0, 4.0)
    breathing *= jax.random.normal(draws.key(), (2, stack.depth.size))
    axis = centre[:, None] + tilt[:, None] * (stack.depth - length / 2) + breathing
    bend_scale = draws.uniform(15.0, 60.0)
    bend = draws.uniform(0.0, 0.1) * bend_scale * smooth_fields(draws.key(), stack, bend_scale, 2)
    rows = jnp.broadcast_to(stack.height[:, None] - axis[0][:, None, None], shape) + bend[0]
    columns = jnp.broadcast_to(stack.width - axis[1][:, None, None], shape) + bend[1]
    turn, squeeze = draws.uniform(0.0, jnp.pi), jnp.exp(draws.uniform(-0.17, 0.17))
    squeezed_rows = squeeze * (jnp.cos(turn) * rows - jnp.sin(turn) * columns)
    squeezed_columns = (jnp.sin(turn) * rows + jnp.cos(turn) * columns) / squeeze
    radius, angle = jnp.hypot(squeezed_rows, squeezed_columns), jnp.arctan2(rows, columns)

    # The left ventricle.
    inner_base = draws.uniform(7.0, 32.0)
    thickness = draws.uniform(4.5, 14.0)
    apex = draws.uniform(3.0, 14.0)
    power = draws.uniform(1.5, 3.0)
    narrowing = draws.uniform(0.0, 0.2)
    first, second = draws.uniform(0.0, 0.3), draws.uniform(0.0, 0.15)
    uneven = 1 + first * jnp.cos(angle - draws.uniform(-jnp.pi, jnp.pi))
    uneven += second * jnp.cos(2 * angle - draws.uniform(-jnp.pi, jnp.pi))

    def radii(height):
        share = jnp.clip((height - apex) / (length - apex), 0, 1)
        shrink = 1 - narrowing * jnp.maximum(height / length - 0.6, 0) / 0.4
        inner = inner_base * _profile(share, power) * shrink
        outer = (inner_base + thickness) * _profile(height / length, power) * shrink
        return inner, inner + jnp.maximum(outer - inner, 0.0) * uneven

    inner, outer = radii(height)
    border = draws.uniform(0.3, 1.0)
    within = jnp.stack(
        [
            jnp.stack([_below(radius, jnp.where(limit > 0, limit, -9.0), border) for limit in radii(height + offset)])
            * ((height + offset > 0) & (height + offset < length))
            for offset in (-_SLICE_THICKNESS / 3, 0.0, _SLICE_THICKNESS / 3)
        ]
    ).mean(axis=0)
    cavity, wall = within[0], within[1] - within[0]

    # Near the base the wall is open, or missing, on one side; no one draws it there.
    gap, gap_top = draws.uniform(-jnp.pi, jnp.pi), length - draws.uniform(0.0, 22.0)
    gap_width = draws.uniform(0.2, 1.6) * draws.bernoulli(0.4)
    wall *= 1 - _below(_angle_between(angle, gap), gap_width - 0.05, 0.05) * (height > gap_top)

    # Scar and, in its core, no-reflow.
    across = jnp.maximum(outer - inner, 1.0)
    share = jnp.clip((radius - inner) / across, -0.5, 1.5)
    inside = _infarcts(draws.key(), stack, length, angle, share, across)
    softness = draws.uniform(0.02, 0.12)
    infarct = jax.nn.sigmoid(inside / softness)
    core_field = smooth_fields(draws.key(), stack, draws.uniform(3.0, 8.0))[0]
    scar = jnp.maximum(draws.uniform(0.25, 0.6), _THINNEST_SCAR / across)
    core = jnp.minimum(inside, 1 - share) - scar - draws.uniform(0.0, 0.15) * jnp.maximum(core_field, -1.0)
    core = jnp.minimum(core, share - draws.uniform(-0.2, 0.2))
    no_reflow = jnp.where(draws.bernoulli(0.5), jax.nn.sigmoid(core / softness), 0.0)

    # The right ventricle lies beside the septum and starts above the apex.
    septum = draws.uniform(-jnp.pi, jnp.pi)
    right_start, right_power = draws.uniform(-0.1, 0.35), draws.uniform(1.5, 3.0)
    right_height = (height / length - right_start) / (1.1 - right_start)
    outer_base = inner_base + thickness
    right_size = draws.uniform(0.6, 1.5) * outer_base * _profile(right_height, right_power)
    distance = draws.uniform(0.8, 1.3) * outer_base * (0.5 + 0.5 * _profile(height / length, power))
    right_bend = draws.uniform(0.0, 5.0) * smooth_fields(draws.key(), stack, draws.uniform(8.0, 30.0))[0]
    ratio = jnp.exp(draws.uniform(-0.35, 0.35))
    along = jnp.cos(septum) * columns + jnp.sin(septum) * rows - distance
    aside = jnp.cos(septum) * rows - jnp.sin(septum) * columns
    right_radius = jnp.hypot(along * ratio, aside / ratio) + right_bend
    exists = draws.bernoulli(0.9) * (right_size > 1.0)
    right_ventricle = _below(right_radius, right_size, 0.7) * exists
    right_wall = _below(right_radius, right_size + draws.uniform(1.0, 5.0), 0.7) * exists

    # Above the valve: the atrium, with a thin wall.
    above = jax.nn.sigmoid((height - length) / 2.0)
    atrium_radius = inner_base * draws.uniform(0.6, 1.5)
    atrium_exists = draws.bernoulli(0.8)
    atrium = _below(radius, atrium_radius, 0.7) * above * atrium_exists
    atrium_wall = _below(radius, atrium_radius + draws.uniform(0.5, 3.0), 0.7) * above * atrium_exists

    # Through the gap the cavity leads on, into the outflow tract or the atrium; readers close its outline there.
    outflow_centre, outflow_radius = inner_base * draws.uniform(0.7, 1.4), inner_base * draws.uniform(0.4, 1.2)
    outflow_exists = draws.bernoulli(0.7) * (gap_width > 0) * (height > gap_top)
    beyond = jnp.hypot(rows - outflow_centre * jnp.sin(gap), columns - outflow_centre * jnp.cos(gap))
    atrium = jnp.maximum(atrium, _below(beyond, outflow_radius, 0.7) * outflow_exists)
    outflow_wall = _below(beyond, outflow_radius + draws.uniform(0.5, 3.0), 0.7) * outflow_exists
    atrium_wall = jnp.maximum(atrium_wall, outflow_wall)

    fat_thickness = draws.uniform(1.0, 9.0) * (1 + 0.5 * smooth_fields(draws.key(), stack, 15.0)[0])
    fat_side = _angle_between(angle, draws.uniform(-jnp.pi, jnp.pi)) < draws.uniform(0.3, jnp.pi)
    fat = _below(radius, outer + fat_thickness, 0.6) * fat_side * draws.bernoulli(0.6) * (outer > 3.0)

    rim_side = _angle_between(angle, draws.uniform(-jnp.pi, jnp.pi)) < draws.uniform(0.3, jnp.pi)
    rim = (1 - _below(radius, inner - draws.uniform(1.0, 4.0), 0.6)) * rim_side * draws.bernoulli(0.2)

    trabeculae = _papillary_muscles(draws.key(), stack, squeezed_rows, squeezed_columns, length, inner, angle)
    return RandomHeart(
        cavity, wall, trabeculae, infarct, no_reflow, right_ventricle, right_wall, atrium, atrium_wall, fat, rim
    )
