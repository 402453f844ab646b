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
_THINNEST_WALL = 2.5  # mm, where an infarct has thinned it
_INFARCTS = 3
_PAPILLARY_MUSCLES = 3
_ORGANS = 2


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
    """Memberships, float32 (depth, height, width) each, of organs (organ, depth, height, width).

    Attributes:
        cavity, wall: of the left ventricle as readers outline it; papillary muscles and trabeculae are cavity.
        trabeculae: the myocardium within the cavity.
        infarct, no_reflow: within the wall, before it is cut out of them.
        right_ventricle, right_wall: its blood and its thin wall.
        atrium, atrium_wall: above the left ventricle, and beside it where its wall is open.
        fat: around the left ventricle.
        rim: of slow blood along the endocardium.
        organs, organ_walls: large ones beside the heart, like stomach and liver, behind all else; a wall's membership
            is 1 within it too, as that of the right ventricle and of the atrium.
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
    organs: jax.Array
    organ_walls: jax.Array

    def labels(self) -> jax.Array:
        """uint8 (depth, height, width): 0 background, 1 cavity, 2 myocardium, 3 infarction, 4 no-reflow."""
        wall = jnp.where(self.infarct > 0.5, jnp.where(self.no_reflow > 0.5, 4, 3), 2)
        labels = jnp.where(self.cavity > 0.5, 1, jnp.where(self.cavity + self.wall > 0.5, wall, 0))
        return jnp.where((labels > 1) & (self.wall < 0.25), 0, labels).astype(jnp.uint8)

    def right_labels(self) -> jax.Array:
        """uint8 (depth, height, width): 1 blood of the right ventricle, 2 its wall, 0 all else, as far as the left
        ventricle and the atrium leave them to be seen."""
        blood, wall = self.right_ventricle > 0.5, self.right_wall > 0.5
        hidden = (self.labels() > 0) | (self.atrium_wall > 0.5)
        return jnp.where(hidden, 0, jnp.where(blood, 1, jnp.where(wall, 2, 0))).astype(jnp.uint8)


def _angle_between(angle: jax.Array, other: jax.Array) -> jax.Array:
    """The absolute difference of two angles, 0 to pi."""
    return jnp.abs((angle - other + jnp.pi) % (2 * jnp.pi) - jnp.pi)


def _below(value: jax.Array, limit: jax.Array, width: jax.Array | float) -> jax.Array:
    return jax.nn.sigmoid((limit - value) / width)


def _profile(position: jax.Array, power: jax.Array) -> jax.Array:
    """The relative radius of an ellipsoid-like shape at a relative height: 0 at 0, 1 from 1 on."""
    return jnp.sqrt(jnp.maximum(1 - (1 - jnp.clip(position, 0, 1)) ** power, 0.0))


class _Territories(NamedTuple):
    """Where infarcts lie around and along the ventricle, whatever its wall is like there.

    Attributes:
        domes: float32 (infarct, depth, height, width), 1 in the middle of each and 0 from its border on.
        transmurality: float32 (infarct,), in shares of the wall.
        ragged: float32 (depth, height, width), by how much more or less of the wall is infarct.
    """

    domes: jax.Array
    transmurality: jax.Array
    ragged: jax.Array


def _territories(key: jax.Array, stack: Stack, length: jax.Array, angle: jax.Array) -> _Territories:
    """Up to three infarcts, from specks to most of the ventricle."""
    draws = Draws(key, 9)
    height = stack.depth[:, None, None]
    number = jax.random.choice(draws.key(), 4, p=jnp.array([0.3, 0.45, 0.17, 0.08]))
    scale, raggedness = draws.uniform(6.0, 14.0), draws.uniform(0.0, 0.3)
    ragged = raggedness * smooth_fields(draws.key(), stack, scale)[0]
    centres = draws.uniform(-jnp.pi, jnp.pi, (_INFARCTS,))
    extents = jnp.exp(draws.uniform(jnp.log(0.3), jnp.log(2.6), (_INFARCTS,)))
    transmurality = draws.uniform(0.35, 1.5, (_INFARCTS,))
    middles = draws.uniform(0.0, 1.0, (_INFARCTS,)) * length
    spans = draws.uniform(0.2, 1.0, (_INFARCTS,)) * length
    domes = []
    for index in range(_INFARCTS):
        bend = 0.3 * ragged  # the borders around the ventricle are as ragged as the one through the wall
        around = _angle_between(angle, centres[index]) / extents[index] + bend
        along = (height - middles[index]) / spans[index]
        dome = jnp.sqrt(jnp.maximum(1 - around**2 - along**2, 0.0))
        domes.append(jnp.where(index < number, dome, 0.0))
    return _Territories(jnp.stack(domes), transmurality, ragged)


def _inside_infarct(territories: _Territories, share: jax.Array, thickness: jax.Array) -> jax.Array:
    """How far each voxel lies inside an infarct (positive inside), in shares of the wall's thickness.

    Args:
        territories: of the infarcts.
        share: of the wall from the endocardium (0) to the epicardium (1).
        thickness: of the wall there, mm.
    """
    reach = jnp.maximum(territories.transmurality[:, None, None, None], _THINNEST_INFARCT / thickness)
    depth = jnp.max(jnp.where(territories.domes > 0, reach * territories.domes, -2.0), axis=0)
    return jnp.maximum(depth + territories.ragged - share, -1.0)


def _papillary_muscles(key, stack, rows, columns, length, inner):
    """Membership of the papillary muscles and of the trabeculae at the endocardium."""
    draws = Draws(key, 10)
    height = stack.depth[:, None, None] / length
    members = jnp.zeros(rows.shape)
    present = draws.bernoulli(0.6, (_PAPILLARY_MUSCLES,))
    directions = draws.uniform(-jnp.pi, jnp.pi, (_PAPILLARY_MUSCLES,))
    places, sizes = (draws.uniform(*limits, (_PAPILLARY_MUSCLES,)) for limits in ((0.45, 0.9), (1.5, 5.5)))
    tops = draws.uniform(0.5, 0.9, (_PAPILLARY_MUSCLES,))
    # A flat one leaves a strip of blood behind it, which looks like scar along the endocardium.
    flatness = jnp.exp(draws.uniform(0.0, 0.5, (_PAPILLARY_MUSCLES,)))
    for index in range(_PAPILLARY_MUSCLES):
        sine, cosine = jnp.sin(directions[index]), jnp.cos(directions[index])
        outwards = cosine * columns + sine * rows - places[index] * inner
        distance = jnp.hypot(outwards * flatness[index], (cosine * rows - sine * columns) / flatness[index])
        here = present[index] & (height < tops[index]) & (inner > 2 * sizes[index])
        members = jnp.maximum(members, jnp.where(here, _below(distance, sizes[index], 0.6), 0.0))
    reach = draws.uniform(0.0, 3.0) * draws.bernoulli(0.7)
    field = smooth_fields(draws.key(), stack, draws.uniform(3.0, 8.0))[0]
    distance = inner - jnp.hypot(rows, columns)
    return jnp.maximum(members, _below(distance, jnp.minimum(reach * jnp.maximum(field, 0), inner / 3) - 0.5, 0.6))


def _organs(key, stack, rows, columns, length, radius, bends):
    """Memberships (organ, depth, height, width) of what large organs hold and, that included, of their walls.

    They touch the heart or nearly do, and some are as round and as bright as a ventricle; but their walls are thin.

    Args:
        key: random key.
        stack: the voxels.
        rows, columns: mm from the axis of the left ventricle.
        length: of the left ventricle, mm.
        radius: of the left ventricle with its wall, mm.
        bends: random fields (organ, depth, height, width).
    """
    draws = Draws(key, 8)
    height = stack.depth[:, None, None] / length - 0.5
    directions = draws.uniform(-jnp.pi, jnp.pi, (_ORGANS,))
    sizes, gaps = draws.uniform(15.0, 60.0, (_ORGANS,)), draws.uniform(-8.0, 20.0, (_ORGANS,))
    growths, ratios = draws.uniform(-0.6, 0.6, (_ORGANS,)), jnp.exp(draws.uniform(-0.4, 0.4, (_ORGANS,)))
    walls, exists = draws.uniform(0.0, 4.0, (_ORGANS,)), draws.bernoulli(0.5, (_ORGANS,))
    bend = draws.uniform(0.0, 5.0) * bends
    members = []
    for index in range(_ORGANS):
        sine, cosine = jnp.sin(directions[index]), jnp.cos(directions[index])
        size = sizes[index] * (1 + growths[index] * height)
        outwards = cosine * columns + sine * rows - (radius + gaps[index] + sizes[index] / ratios[index])
        aside = cosine * rows - sine * columns
        distance = jnp.hypot(outwards * ratios[index], aside / ratios[index]) + bend[index]
        members.append([_below(distance, size + wall, 0.6) * exists[index] for wall in (0.0, walls[index])])
    return jnp.swapaxes(jnp.array(members), 0, 1)


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
    draws = Draws(key, 70)
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

    # The left ventricle. Its wall is thinner where it is infarcted, or swollen there.
    territories = _territories(draws.key(), stack, length, angle)
    thinning = draws.uniform(-0.4, 0.7) * draws.bernoulli(0.6) * jnp.max(territories.domes, axis=0) ** 2
    bulging = draws.uniform(0.0, 1.0)  # the share of it that widens the cavity; the rest draws the epicardium in
    inner_base = draws.uniform(9.0, 38.0)
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
        thick = jnp.maximum(outer - inner, 0.0) * uneven
        lost = thick - jnp.maximum(thick * (1 - thinning), jnp.minimum(thick, _THINNEST_WALL))
        widened = jnp.where(inner > 0, inner + bulging * lost, inner)
        return widened, inner + thick - (1 - bulging) * lost

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

    # Scar and, within it, no-reflow.
    across = jnp.maximum(outer - inner, 1.0)
    share = jnp.clip((radius - inner) / across, -0.5, 1.5)
    inside = _inside_infarct(territories, share, across)
    softness = draws.uniform(0.02, 0.12)
    infarct = jax.nn.sigmoid(inside / softness)
    # No-reflow has scar around it: from a thin rim, which a scan hardly shows, to most of the infarct, or none towards
    # the epicardium. Of what is left it fills patches.
    scar = jnp.maximum(draws.uniform(0.1, 0.7), draws.uniform(1.0, 4.0) / across)
    rimless = draws.bernoulli(0.2)
    core = jnp.where(rimless, inside, jnp.minimum(inside, 1 - share)) - scar
    core = jnp.minimum(core, share - draws.uniform(-0.2, 0.2))
    patches = smooth_fields(draws.key(), stack, draws.uniform(4.0, 30.0))[0]
    core = jnp.minimum(core, 0.5 * (patches - draws.uniform(-0.9, 1.5)))
    no_reflow = jnp.where(draws.bernoulli(0.5), jax.nn.sigmoid(core / softness), 0.0)

    # The right ventricle lies beside the septum and starts above the apex.
    septum = draws.uniform(-jnp.pi, jnp.pi)
    right_start, right_power = draws.uniform(-0.1, 0.35), draws.uniform(1.5, 3.0)
    right_height = (height / length - right_start) / (1.1 - right_start)
    outer_base = inner_base + thickness
    right_size = draws.uniform(0.6, 1.5) * outer_base * _profile(right_height, right_power)
    distance = draws.uniform(0.8, 1.3) * outer_base * (0.5 + 0.5 * _profile(height / length, power))
    bends = smooth_fields(draws.key(), stack, draws.uniform(8.0, 30.0), 1 + _ORGANS)
    right_bend = draws.uniform(0.0, 5.0) * bends[0]
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

    trabeculae = _papillary_muscles(draws.key(), stack, squeezed_rows, squeezed_columns, length, inner)
    organs, organ_walls = _organs(draws.key(), stack, rows, columns, length, outer_base, bends[1:])
    return RandomHeart(
        cavity=cavity,
        wall=wall,
        trabeculae=trabeculae,
        infarct=infarct,
        no_reflow=no_reflow,
        right_ventricle=right_ventricle,
        right_wall=right_wall,
        atrium=atrium,
        atrium_wall=atrium_wall,
        fat=fat,
        rim=rim,
        organs=organs,
        organ_walls=organ_walls,
    )
