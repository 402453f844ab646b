"""A trained 2D U-Net as the start of a 3D one."""

from typing import Any

import jax
import jax.numpy as jnp


def inflate(params: Any, like: Any) -> Any:
    """Parameters of a 3D U-Net that does to every slice what a 2D one does, and ignores its further input channels.

    A kernel's slice becomes the middle one of the 3D kernel, the others and the new input channels start at 0 (the idea
    is Carreira and Zisserman's, 2017; they repeat the kernel along the new axis). Only instance norm sees the whole
    stack at once, where it saw single slices.

    Args:
        params: of a `UNet` in 2D.
        like: parameters, or their shapes, of a `UNet` in 3D with the same features, the same strides and kernels in the
            plane, and no strides along the depth.

    Returns:
        float32 parameters shaped as `like`.

    Raises:
        ValueError: the two networks do not match.
    """

    def fill(path, target, source):
        name = jax.tree_util.keystr(path)
        if source.shape == target.shape:
            return jnp.asarray(source, jnp.float32)
        if len(target.shape) != 5 or len(source.shape) != 4 or source.shape[:2] != target.shape[1:3]:
            raise ValueError(f"{name} of shape {source.shape} cannot be inflated to {target.shape}")
        channels, features = source.shape[2:]
        if target.shape[4] != features or target.shape[3] < channels:
            raise ValueError(f"{name} of shape {source.shape} cannot be inflated to {target.shape}")
        return jnp.zeros(target.shape).at[target.shape[0] // 2, :, :, :channels].set(source)

    if jax.tree.structure(params) != jax.tree.structure(like):  # type: ignore[operator]
        raise ValueError("the networks have different layers")
    return jax.tree_util.tree_map_with_path(fill, like, params)
