"""Augmentation as a pure function of arrays, meant to run inside the compiled training step.

A slice is a volume of one slice: everything happens in the plane, as nnU-Net does for slices this thick, and one
interpolation serves rotation, scaling, elastic deformation, mirroring and the slices' shifts.
"""

import jax
import jax.numpy as jnp

from cascade_jax.data.augment_settings import Augmentation, PriorCorruption


def _uniform(key: jax.Array, limits: tuple[float, float]) -> jax.Array:
    return jax.random.uniform(key, minval=limits[0], maxval=limits[1])


def _drawn(key: jax.Array, probability: float, limits: tuple[float, float], neutral: float) -> jax.Array:
    """A value within limits with the given probability, else the one that changes nothing."""
    happens, value = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(happens, float(probability)), _uniform(value, limits), neutral)


def source_positions(key: jax.Array, shape: tuple[int, int, int], settings: Augmentation) -> jax.Array:
    """Where each voxel of the augmented volume comes from.

    Args:
        key: random key.
        shape: (depth, height, width) of the volume.
        settings: how often and how far.

    Returns:
        float32 (2, depth, height, width): row and column in the same slice.
    """
    depth, height, width = shape
    keys = jax.random.split(key, 7)
    degrees = (-settings.rotation_degrees, settings.rotation_degrees)
    angle = jnp.deg2rad(_drawn(keys[0], settings.rotation_probability, degrees, 0.0))
    growth = _drawn(keys[1], settings.scaling_probability, settings.scaling, 1.0)
    flips = jnp.where(jax.random.bernoulli(keys[2], 0.5, (2,)) & settings.mirror_plane, -1.0, 1.0)

    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    rows, columns = jnp.arange(height) - centre[0], jnp.arange(width) - centre[1]
    rows, columns = flips[0] * rows[:, None], flips[1] * columns[None, :]
    positions = jnp.stack(
        [
            (jnp.cos(angle) * rows - jnp.sin(angle) * columns) / growth,
            (jnp.sin(angle) * rows + jnp.cos(angle) * columns) / growth,
        ]
    )

    amplitude = _drawn(keys[3], settings.elastic_probability, (0.0, settings.elastic_pixels), 0.0)
    points = settings.elastic_control_points
    displacement = amplitude * jax.random.normal(keys[4], (2, points, points))
    positions += jax.image.resize(displacement, (2, height, width), "cubic") + centre[:, None, None]

    shifted = jax.random.bernoulli(keys[5], settings.slice_shift_probability)
    shifts = jnp.where(shifted & (depth > 1), settings.slice_shift_pixels, 0.0)
    shifts = shifts * jax.random.normal(keys[6], (2, depth))
    return positions[:, None] + shifts[:, :, None, None]


def sample_linear(image: jax.Array, positions: jax.Array) -> jax.Array:
    """Bilinear interpolation in each slice; positions beyond the edge take the edge's value.

    Args:
        image: float32 (depth, height, width).
        positions: float32 (2, depth, height, width), rows and columns.

    Returns:
        float32 (depth, height, width).
    """
    depth, height, width = image.shape
    limits = jnp.array([height - 1, width - 1])[:, None, None, None]
    positions = jnp.clip(positions, 0, limits)
    first = jnp.minimum(positions.astype(jnp.int32), limits - 1)
    fraction = positions - first
    index = (jnp.arange(depth)[:, None, None] * height + first[0]) * width + first[1]
    flat = image.reshape(-1)
    upper = flat[index] * (1 - fraction[1]) + flat[index + 1] * fraction[1]
    lower = flat[index + width] * (1 - fraction[1]) + flat[index + width + 1] * fraction[1]
    return upper * (1 - fraction[0]) + lower * fraction[0]


def sample_nearest(labels: jax.Array, positions: jax.Array) -> jax.Array:
    """Nearest-neighbour sampling of integers (depth, height, width) at `positions`, as for `sample_linear`."""
    depth, height, width = labels.shape
    rows = jnp.clip(jnp.round(positions[0]).astype(jnp.int32), 0, height - 1)
    columns = jnp.clip(jnp.round(positions[1]).astype(jnp.int32), 0, width - 1)
    return labels.reshape(-1)[(jnp.arange(depth)[:, None, None] * height + rows) * width + columns]


def _within(positions: jax.Array, extent: jax.Array) -> jax.Array:
    """bool (depth, height, width): which positions lie in the field of view, integer extent (3, 2)."""
    slices = jnp.arange(positions.shape[1])
    inside = (slices >= extent[0, 0]) & (slices < extent[0, 1])
    inside = inside[:, None, None]
    for axis in range(2):
        inside &= (positions[axis] > extent[axis + 1, 0] - 0.5) & (positions[axis] < extent[axis + 1, 1] - 0.5)
    return inside


def blurring_matrix(size: int, deviation: jax.Array) -> jax.Array:
    """The (size, size) matrix that blurs a line by a Gaussian; the identity for a deviation of 0."""
    distance = jnp.arange(size)[:, None] - jnp.arange(size)[None, :]
    weights = jnp.exp(-0.5 * (distance / jnp.maximum(deviation, 1e-3)) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def _lowering(size: int, factor: jax.Array) -> jax.Array:
    """The (size, size) matrix that samples a line at `factor` times its resolution (nearest) and back (linear)."""
    position = (jnp.arange(size) + 0.5) * factor - 0.5
    first = jnp.floor(position)
    fraction = (position - first)[:, None]
    voxel = jnp.arange(size)[None, :]

    def source(low):
        return jnp.clip(jnp.round((low + 0.5) / factor - 0.5), 0, size - 1)[:, None]

    return (1 - fraction) * (source(first) == voxel) + fraction * (source(first + 1) == voxel)


def change_intensities(key: jax.Array, image: jax.Array, valid: jax.Array, settings: Augmentation) -> jax.Array:
    """Noise, blur, brightness, contrast, low resolution and gamma, each with its own probability.

    Args:
        key: random key.
        image: float32 (depth, height, width), normalised.
        valid: bool, same shape; the rest is padding and comes out as 0.
        settings: how often and how far.

    Returns:
        float32 (depth, height, width).
    """
    keys = jax.random.split(key, 7)
    _, height, width = image.shape
    count = jnp.maximum(valid.sum(), 1)

    def mean_of(values):
        return jnp.sum(values * valid) / count

    deviation = _drawn(keys[0], settings.noise_probability, (0.0, settings.noise_deviation), 0.0)
    image += deviation * jax.random.normal(keys[1], image.shape)

    # Blurring and lowering the resolution are linear along each axis: one matrix for each.
    blur = _drawn(keys[2], settings.blur_probability, settings.blur_pixels, 0.0)
    resolution = _drawn(keys[3], settings.low_resolution_probability, settings.low_resolution, 1.0)
    along_height = _lowering(height, resolution) @ blurring_matrix(height, blur)
    along_width = _lowering(width, resolution) @ blurring_matrix(width, blur)
    image = jnp.einsum("ij,djk,lk->dil", along_height, image, along_width)

    image *= _drawn(keys[4], settings.brightness_probability, settings.brightness, 1.0)
    mean = mean_of(image)
    factor = _drawn(keys[5], settings.contrast_probability, settings.contrast, 1.0)
    image = (image - mean) * factor + mean

    exponent = _drawn(keys[6], settings.gamma_probability, settings.gamma, 1.0)
    mean, square = mean_of(image), mean_of(image * image)
    lowest = jnp.min(jnp.where(valid, image, jnp.inf))
    extent = jnp.maximum(jnp.max(jnp.where(valid, image, -jnp.inf)) - lowest, 1e-6)
    curved = jnp.clip((image - lowest) / extent, 1e-6, 1.0) ** exponent
    # Gamma keeps mean and standard deviation.
    curved_mean, curved_square = mean_of(curved), mean_of(curved * curved)
    scale = jnp.sqrt(jnp.maximum(square - mean**2, 0.0) / jnp.maximum(curved_square - curved_mean**2, 1e-12))
    image = jnp.where(exponent == 1.0, image, (curved - curved_mean) * scale + mean)
    return jnp.where(valid, image, 0.0)


def augment(
    key: jax.Array,
    image: jax.Array,
    labels: jax.Array,
    prior: jax.Array | None,
    extent: jax.Array,
    settings: Augmentation,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array]:
    """Augments one volume, or one slice as a volume of one.

    Args:
        key: random key.
        image: float32 (depth, height, width).
        labels: uint8, same shape.
        prior: stage one's labels, uint8, same shape, or None.
        extent: integer (3, 2), where along each axis the field of view starts and stops; the rest is padding.
        settings: how often and how far.

    Returns:
        image, labels, prior as they came in but moved together, and bool `valid`: which voxels show the field of view.
    """
    space, intensity, depth = jax.random.split(key, 3)
    if settings.mirror_depth:
        flip = jax.random.bernoulli(depth, 0.5)
        image, labels, prior = (
            None if volume is None else jnp.where(flip, volume[::-1], volume) for volume in (image, labels, prior)
        )
        mirrored = image.shape[0] - extent[0, ::-1]
        extent = extent.at[0].set(jnp.where(flip, mirrored, extent[0]))
    positions = source_positions(space, image.shape, settings)
    valid = _within(positions, extent)
    image = change_intensities(intensity, sample_linear(image, positions), valid, settings)
    labels = jnp.where(valid, sample_nearest(labels, positions), 0)
    if prior is not None:
        prior = jnp.where(valid, sample_nearest(prior, positions), 0)
    return image, labels, prior, valid


def inside_extent(shape: tuple[int, int, int], extent: jax.Array) -> jax.Array:
    """bool `shape`: which voxels of an example are not padding, for its integer extent (3, 2)."""
    positions = jnp.broadcast_to(jnp.indices(shape[1:], jnp.float32)[:, None], (2, *shape))
    return _within(positions, extent)


def _neighbourhood(operation, mask: jax.Array, axes: tuple[int, ...], edge: bool) -> jax.Array:
    """Combines each voxel of a bool volume with its neighbours along `axes` by `operation`."""
    result = mask
    for axis in axes:
        padded = jnp.pad(mask, [(1, 1) if a == axis else (0, 0) for a in range(mask.ndim)], constant_values=edge)
        size = mask.shape[axis]
        before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
        after = jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
        result = operation(result, operation(before, after))
    return result


def connected_component(mask: jax.Array, seed: jax.Array) -> jax.Array:
    """The 6-connected component of a bool volume `mask` that holds the voxels of the bool volume `seed`."""

    def grow(carry):
        component, _ = carry
        grown = _neighbourhood(jnp.logical_or, component, (0, 1, 2), False) & mask
        return grown, jnp.any(grown != component)

    return jax.lax.while_loop(lambda carry: carry[1], grow, (seed & mask, jnp.array(True)))[0]


def corrupt_prior(key: jax.Array, prior: jax.Array, settings: PriorCorruption, num_classes: int) -> jax.Array:
    """Dilates or erodes one label of a prior in the plane, and drops one of its components, each at random.

    Args:
        key: random key.
        prior: uint8 labels (depth, height, width).
        settings: how often and how far.
        num_classes: labels there are, the background among them; each other one is chosen equally often.

    Returns:
        uint8 labels of the same shape.
    """
    keys = jax.random.split(key, 7)
    label = jax.random.randint(keys[0], (), 1, num_classes).astype(prior.dtype)
    mask = prior == label
    reach = jax.random.randint(keys[1], (), 1, settings.reshape_pixels + 1)
    dilates = jax.random.bernoulli(keys[2], 0.5)

    def step(i, masks):
        dilated, eroded = masks
        return (
            jnp.where(i < reach, _neighbourhood(jnp.logical_or, dilated, (1, 2), False), dilated),
            jnp.where(i < reach, _neighbourhood(jnp.logical_and, eroded, (1, 2), True), eroded),
        )

    dilated, eroded = jax.lax.fori_loop(0, settings.reshape_pixels, step, (mask, mask))
    reshaped = jnp.where(dilates & dilated, label, jnp.where(~dilates & mask & ~eroded, 0, prior))
    prior = jnp.where(jax.random.bernoulli(keys[3], settings.reshape_probability), reshaped, prior)

    label = jax.random.randint(keys[4], (), 1, num_classes).astype(prior.dtype)
    mask = prior == label
    drops = jax.random.bernoulli(keys[5], settings.drop_probability)
    lottery = jnp.where(mask, jax.random.uniform(keys[6], mask.shape), -1.0)
    seed = (lottery == lottery.max()) & drops
    component = connected_component(mask, seed)
    small = component.sum() <= settings.drop_share * mask.sum()
    return jnp.where(component & small, 0, prior).astype(jnp.uint8)
