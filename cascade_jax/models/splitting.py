"""Volumes too large for one device: a part of the height on each, by the compiler's own partitioner.

The networks and `segment` need no change. XLA splits every feature map as its inputs are split, has neighbours exchange
the rows that a convolution needs beyond its part, and adds up the moments of instance norm. Results are those of one
device to float tolerance.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

HEIGHT_AXIS = "height"


def height_mesh(devices: Sequence[jax.Device], height: int) -> Mesh:
    """A mesh of one axis, `HEIGHT_AXIS`, of as many of the devices as share the height evenly."""
    used = max(count for count in range(1, len(devices) + 1) if height % count == 0)
    # Auto, so that XLA finds the shardings inside.
    return Mesh(np.array(devices[:used]), (HEIGHT_AXIS,), axis_types=(AxisType.Auto,))


def split_along_height(params: Any, arrays: Sequence[Any], devices: Sequence[jax.Device]) -> tuple[Any, ...]:
    """Parameters on every device, and a part of each array's height on each: what a function under `jax.jit` is given
    to have it run split.

    Args:
        params: any tree of arrays.
        arrays: each (depth, height, width), of one shape.
        devices: see `height_mesh`.

    Returns:
        The parameters, and the arrays.
    """
    mesh = height_mesh(devices, arrays[0].shape[1])
    split = NamedSharding(mesh, PartitionSpec(None, HEIGHT_AXIS))
    return jax.device_put(params, NamedSharding(mesh, PartitionSpec())), *jax.device_put(tuple(arrays), split)
