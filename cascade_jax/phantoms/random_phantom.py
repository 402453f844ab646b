"""Phantoms drawn at random inside a compiled program: `key -> (image, labels)`, never the same twice.

They are made to cover more than reality, not to resemble it (domain randomisation: Tobin et al. 2017; for the
segmentation of brain MRI, Billot et al. 2023, "SynthSeg"): hearts of any shape (`random_heart.py`), before any
background, with any contrast, through any coil, noise and resolution. A network that gets all of those right has little
left to find surprising in a real scan. `phantom.py` is the opposite: a cohort with real signals, as files.
"""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp

from cascade_jax.data.augment import Augmentation, blurring_matrix, change_intensities, inside_extent
from cascade_jax.phantoms.draws import Draws
from cascade_jax.phantoms.random_field import smooth_fields
from cascade_jax.phantoms.random_heart import RandomHeart, Stack, draw_heart

_REGIONS = 8
_TEXTURES = 3
_VESSELS = 3
_DEGRADATION = Augmentation(
    noise_probability=0.2,
    noise_deviation=0.2,
    blur_probability=0.2,
    blur_pixels=(0.3, 0.8),
    brightness_probability=0.0,
    contrast_probability=0.0,
    low_resolution_probability=0.3,
    low_resolution=(0.5, 1.0),
    gamma_probability=0.4,
    gamma=(0.6, 1.7),
)


@flax.struct.dataclass
class Phantom:
    """One random stack, as a preprocessed case looks to the networks.

    Attributes:
        image: float32 (depth, height, width), mean 0 and standard deviation 1 where there is tissue, else 0.
        labels: uint8, same shape.
        extent: int32 (3, 2), where along each axis the field of view starts and stops.
        slice_distance: mm.
    """

    image: jax.Array
    labels: jax.Array
    extent: jax.Array
    slice_distance: jax.Array


def blend(image: jax.Array, membership: jax.Array, level: jax.Array) -> jax.Array:
    """The image with a level where the membership is 1, in the image's shape."""
    return image + membership * (level - image)


def draw_background(key: jax.Array, stack: Stack) -> jax.Array:
    """A random partition of the body into tissues, with structure at several scales, and the air around it."""
    draws = Draws(key, 24)

    def partition(key, scale, count):
        fields, bias, used = jax.random.split(key, 3)
        fields = smooth_fields(fields, stack, scale, count) + 0.5 * jax.random.normal(bias, (count, 1, 1, 1))
        unused = jnp.arange(count) >= jax.random.randint(used, (), 2, count + 1)
        return jnp.argmax(jnp.where(unused[:, None, None, None], -jnp.inf, fields), axis=0)

    levels = draws.uniform(0.0, 1.1, (_REGIONS,)) * draws.bernoulli(0.85, (_REGIONS,))
    image = levels[partition(draws.key(), draws.uniform(12.0, 60.0), _REGIONS)]

    finer = draws.uniform(-0.35, 0.35, (_TEXTURES,))[partition(draws.key(), draws.uniform(5.0, 20.0), _TEXTURES)]
    somewhere = smooth_fields(draws.key(), stack, 40.0)[0] > draws.uniform(-0.8, 1.5)
    image += jnp.where(somewhere & draws.bernoulli(0.7), finer, 0.0)
    image += draws.uniform(0.0, 0.15) * smooth_fields(draws.key(), stack, draws.uniform(3.0, 8.0))[0]

    # Vessels, as round as a ventricle but with a thin wall.
    sizes, walls = draws.uniform(4.0, 18.0, (_VESSELS,)), draws.uniform(0.5, 3.0, (_VESSELS,))
    bright, dark = draws.uniform(0.0, 1.2, (2, _VESSELS))
    exists = draws.bernoulli(0.5, (_VESSELS,))
    places = draws.uniform(-100.0, 100.0, (2, _VESSELS))
    for index in range(_VESSELS):
        distance = jnp.hypot(stack.height[:, None] - places[0, index], stack.width - places[1, index])
        for size, level in ((sizes[index] + walls[index], dark[index]), (sizes[index], bright[index])):
            image = blend(image, jax.nn.sigmoid((size - distance) / 0.5) * exists[index], level)

    half = draws.uniform(90.0, 220.0, (2,))
    body = (stack.height[:, None] / half[0]) ** 2 + (stack.width / half[1]) ** 2 < 1
    return jnp.where(body | ~draws.bernoulli(0.5), jnp.maximum(image, 0.0), 0.0)


def draw_signal(key: jax.Array, heart: RandomHeart, background: jax.Array, stack: Stack) -> tuple[jax.Array, jax.Array]:
    """What the heart and its surroundings look like before the scanner has its say, and by how much blood is brighter
    than myocardium."""
    draws = Draws(key, 24)
    blood = draws.uniform(0.45, 1.0)
    contrast = draws.uniform(0.1, 0.6)
    myocardium = blood - contrast
    # A scar that cannot be told from myocardium is one that no reader outlines, but a faint one is.
    # One as bright as blood, which is common, can be told from the cavity by its shape alone.
    like_blood = draws.bernoulli(0.35)
    beyond_blood = jnp.where(like_blood, draws.uniform(-0.05, 0.05), draws.uniform(-0.12, 0.35))
    scar = jnp.maximum(blood + beyond_blood, myocardium + 0.15)
    faint = myocardium + draws.uniform(0.4, 0.9) * contrast
    scar = jnp.where(draws.bernoulli(0.15), faint, scar)
    obstruction = myocardium + draws.uniform(-0.5, 0.95) * (scar - myocardium)
    right_blood = blood + 0.06 * jax.random.normal(draws.key())
    fat, slow = draws.uniform(0.4, 1.4), blood + draws.uniform(0.03, 0.3)

    # Remote myocardium and blood are even only in textbooks.
    uneven = smooth_fields(draws.key(), stack, draws.uniform(6.0, 40.0), 2)
    myocardium = myocardium + draws.uniform(0.0, 0.15) * contrast * uneven[0]
    cavity = blood + draws.uniform(0.0, 0.1) * contrast * uneven[1]

    # Half of the large organs are made of what the heart is made of.
    count = len(heart.organs)
    levels = draws.uniform(0.0, 1.2, (2, count))
    alike = jnp.where(draws.bernoulli(0.5, (2, count)), blood, jnp.mean(myocardium))
    levels = jnp.where(draws.bernoulli(0.5, (count,)), alike, levels)

    image = background
    for organ, wall, inside, around in zip(heart.organs, heart.organ_walls, *levels, strict=True):
        image = blend(blend(image, wall, around), organ, inside)
    image = blend(image, heart.fat, fat)
    image = blend(image, heart.right_wall, myocardium + 0.05 * jax.random.normal(draws.key()))
    image = blend(image, heart.right_ventricle, right_blood)
    image = blend(image, heart.atrium_wall, myocardium)
    image = blend(image, heart.atrium, blood)
    wall = blend(blend(myocardium, heart.infarct, scar), heart.no_reflow * heart.infarct, obstruction)
    inside = blend(blend(cavity, heart.rim, slow), heart.trabeculae, myocardium)
    total = heart.cavity + heart.wall
    image = image * (1 - total) + heart.wall * wall + heart.cavity * inside

    # Magnitude images: what lies below the null comes back up.
    null = jnp.mean(myocardium) + draws.uniform(-0.25, 0.05)
    return jnp.where(draws.bernoulli(0.15), jnp.abs(image - null), image), contrast


def blurred(image: jax.Array, deviation: jax.Array) -> jax.Array:
    """Blurs every slice by a Gaussian of that many pixels."""
    height, width = (blurring_matrix(size, deviation) for size in image.shape[1:])
    return jnp.einsum("ij,djk,lk->dil", height, image, width)


def scan(key: jax.Array, image: jax.Array, contrast: jax.Array, stack: Stack, pixel: float) -> jax.Array:
    """Coil shading, uneven slices, resolution, ghosts, and noise that no contrast drowns in."""
    draws = Draws(key, 20)
    shading = draws.uniform(0.0, 0.5) * smooth_fields(draws.key(), stack, draws.uniform(60.0, 200.0))[0]
    gains = draws.bernoulli(0.5) * jax.random.uniform(draws.key(), (stack.depth.size, 1, 1), minval=-0.2, maxval=0.2)
    image = image * jnp.exp(shading + gains)

    # Acquired at 1 to 2.2 mm: the Gaussian whose width at half height that is, then the networks' grid.
    deviation = draws.uniform(1.0, 2.4) / 2.355 / pixel
    image = blurred(image, deviation)

    for axis, size in ((1, stack.height.size), (2, stack.width.size)):
        amplitude = draws.uniform(0.0, 0.12) * draws.bernoulli(0.1)
        image += amplitude * jnp.roll(image, jax.random.randint(draws.key(), (), size // 5, size - size // 5), axis)

    # Some stacks have single slices that are much noisier than the others.
    noisy = draws.bernoulli(0.4) & jax.random.bernoulli(draws.key(), 0.2, (stack.depth.size, 1, 1))
    noise = contrast * jnp.exp(draws.uniform(jnp.log(0.02), jnp.log(0.4)))
    real, imaginary = noise * jax.random.normal(draws.key(), (2, *image.shape))
    grain = draws.uniform(0.01, 0.7)  # how far neighbouring noise is alike, pixels
    real = blurred(real, grain)
    louder = jnp.where(noisy, draws.uniform(1.3, 3.0), 1.0)
    real, imaginary = louder * real * noise / jnp.std(real), louder * imaginary
    rician = jnp.hypot(image + real, imaginary)
    return jnp.where(draws.bernoulli(0.3), rician, image + real)


def _field_of_view(key: jax.Array, shape: tuple[int, int, int], slices: jax.Array) -> jax.Array:
    """int32 (3, 2): `slices` slices and at least two fifths of the plane along each axis, centred."""
    draws = Draws(key, 2)
    share = jnp.where(draws.bernoulli(0.5, (2,)), 1.0, draws.uniform(0.4, 1.0, (2,)))
    sizes = jnp.concatenate([slices[None], jnp.round(share * jnp.array(shape[1:])).astype(jnp.int32)])
    starts = (jnp.array(shape) - sizes) // 2
    return jnp.stack([starts, starts + sizes], axis=1)


def draw_phantom(key: jax.Array, shape: Sequence[int], pixel: float) -> Phantom:
    """A random stack; a single slice is a stack of one.

    Args:
        key: random key.
        shape: (depth, height, width) of the example. Deeper ones are filled half the time, the others are padded.
        pixel: in-plane spacing, mm.

    Returns:
        The phantom. jit and vmap over keys.
    """
    depth, *plane = shape
    draws = Draws(key, 20)
    slices = jnp.where(draws.bernoulli(0.5), depth, jax.random.randint(draws.key(), (), 1, depth + 1))
    extent = _field_of_view(draws.key(), tuple(shape), slices)
    valid = inside_extent(tuple(shape), extent)

    # Where the slices cut the heart: a stack that is long enough covers it, a short one lies anywhere in it.
    length, distance = draws.uniform(60.0, 115.0), draws.uniform(5.0, 14.0)
    slack = jnp.maximum(0.55 * (1 - (slices - 1) * distance / length), 0.12)
    middle = length * (0.5 + slack * draws.uniform(-1.0, 1.0))
    step = distance * jnp.where(draws.bernoulli(0.5), 1, -1)
    heights = middle + step * (jnp.arange(depth) - (extent[0, 0] + (slices - 1) / 2))
    stack = Stack(heights, *((jnp.arange(size) - (size - 1) / 2) * pixel for size in plane))
    reach = 0.32 * pixel * (extent[1:, 1] - extent[1:, 0])
    centre = reach * draws.uniform(-1.0, 1.0, (2,))

    heart = draw_heart(draws.key(), stack, length, centre)
    image, contrast = draw_signal(draws.key(), heart, draw_background(draws.key(), stack), stack)
    image = scan(draws.key(), image, contrast, stack, pixel)

    # Some files have zeros in their corners too.
    turned = jnp.abs(stack.height[:, None]) / (pixel * plane[0]) + jnp.abs(stack.width) / (pixel * plane[1])
    corners = draws.bernoulli(0.1) & (turned > draws.uniform(0.65, 1.0))
    tissue = valid & ~corners
    labels = jnp.where(tissue, heart.labels(), 0).astype(jnp.uint8)

    def normalised(image):
        count = jnp.maximum(tissue.sum(), 1)
        mean = jnp.sum(image * tissue) / count
        deviation = jnp.sqrt(jnp.sum((image - mean) ** 2 * tissue) / count)
        return jnp.where(tissue, (image - mean) / jnp.maximum(deviation, 1e-6), 0.0)

    image = normalised(change_intensities(draws.key(), normalised(image), tissue, _DEGRADATION))
    return Phantom(image, labels, extent, distance)
