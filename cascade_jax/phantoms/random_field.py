"""Smooth random fields of any scale, made of two or three small matrix products."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

_POINTS = 32  # control points along an axis, after which a field repeats
_POINTS_DEPTH = 8
_SHARE = 0.479  # sum of a cubic B-spline's squared weights, its mean over the position between control points


def _spline_weights(positions: jax.Array, points: int) -> jax.Array:
    """Cubic B-spline weights (position, point) of control points at 0, 1, 2, ..., which repeat after the last."""
    distance = positions[:, None] - jnp.arange(points)
    distance = jnp.abs((distance + points / 2) % points - points / 2)
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance) ** 3 / 6
    return jnp.where(distance < 1, near, jnp.where(distance < 2, far, 0.0))


def smooth_fields(key: jax.Array, axes: Sequence[jax.Array], scale: jax.Array | float, count: int = 1) -> jax.Array:
    """Random fields of mean 0 and variance about 1: cubic B-splines with normal coefficients.

    Args:
        key: random key.
        axes: positions (mm) of the voxels along depth, height and width, float32 (size,) each.
        scale: distance of the control points, mm; may be traced. A field repeats after 32 of them in the plane.
        count: how many independent fields.

    Returns:
        float32 (count, depth, height, width).
    """
    key, phases = jax.random.split(key)
    points = (1 if axes[0].size == 1 else _POINTS_DEPTH, _POINTS, _POINTS)
    starts = jax.random.uniform(phases, (3,)) * jnp.array(points)
    fields = jax.random.normal(key, (count, *points))
    if axes[0].size > 1:
        fields = jnp.einsum("dz,czhw->cdhw", _spline_weights(axes[0] / scale + starts[0], points[0]), fields)
        fields /= jnp.sqrt(_SHARE)
    along_height, along_width = (
        _spline_weights(axis / scale + start, size)
        for axis, start, size in zip(axes[1:], starts[1:], points[1:], strict=True)
    )
    return jnp.einsum("yh,cdhw,xw->cdyx", along_height, fields, along_width) / _SHARE
