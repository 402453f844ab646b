"""Training the network of `quantify/septum.py` on random slices (`phantoms/random_septum.py`) alone."""

from collections.abc import Iterator
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import ndimage

from cascade_jax.data.case import CAVITY, MYOCARDIUM
from cascade_jax.phantoms.random_septum import SeptumPhantom, draw_septum_phantom
from cascade_jax.progress import Progress
from cascade_jax.quantify import septum
from cascade_jax.quantify.wall import SPOKES, centre_of, spoke_angles
from cascade_jax.weights import write_weights

PIXEL, SIZE = 2.0, 96
_FEATURES, _TAPS = 32, 5
_DRAWN_AT_ONCE, _BATCH = 64, 64
_HEIGHTS = (0.3, 1.0)  # of the slices, from the apex (0) to the base (1)
_BESIDE = np.array([1.0, 2.0, 3.0, 4.0])  # mm from the wall, within which blood lies at it
_SEPTUM, _NONE = 30.0, 12.0  # degrees: from how much there is a septum, up to how much there is none
_CROPPED, _MARGIN = 0.2, (6.0, 30.0)  # the share of images that end near the heart, and how near, mm
_BLOOD_LIKE = 0.5  # the share of slices with an organ as bright as blood beside the right ventricle
_RATE, _DECAY = 3e-3, 1e-4


class SeptumNetwork(nn.Module):
    """Convolutions around the circle."""

    @nn.compact
    def __call__(self, views: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(slice, direction, channel) -> log odds (slice, direction) of the septum and (slice,) that there is one."""
        values = views
        for dilation in septum.DILATIONS:
            values = nn.relu(nn.Conv(_FEATURES, (_TAPS,), kernel_dilation=(dilation,), padding="CIRCULAR")(values))
        outputs = nn.Conv(2, (1,))(values)
        return outputs[..., 0], outputs[..., 1].mean(axis=1)


def septum_of(
    labels: np.ndarray, right_ventricle: np.ndarray, outline: np.ndarray, pixel: float
) -> tuple[float, float] | None:
    """Where the septum of a phantom's slice begins and ends: the right ventricle's blood lies within 4 mm of the wall.

    Args:
        labels: (x, y), as a reader draws them.
        right_ventricle: bool (x, y), its blood.
        outline: (x, y), the labels about whose centre the angles are wanted.
        pixel: mm.

    Returns:
        Angles in degrees, the septum counter-clockwise between them; None where no blood lies at the wall.

    Raises:
        ValueError: it cannot be said, as where two parts lie at the wall or its length is neither much nor little.
    """
    epicardium = _epicardium(labels, pixel)
    if not np.isfinite(epicardium).any() or not (outline == CAVITY).any():
        raise ValueError("no wall")
    known = np.isfinite(epicardium)
    epicardium = np.interp(spoke_angles(), spoke_angles()[known], epicardium[known], period=360)
    along, (x, y) = np.deg2rad(spoke_angles())[:, None], centre_of(labels)

    def place(radius):
        return x + radius * np.cos(along) / pixel, y - radius * np.sin(along) / pixel

    beside = ndimage.map_coordinates(right_ventricle.astype(np.float32), place(epicardium[:, None] + _BESIDE), order=1)
    beside = ndimage.binary_closing(np.tile((beside > 0.5).any(axis=1), 3), np.ones(7))
    runs, count = ndimage.label(beside)
    runs = runs[SPOKES : 2 * SPOKES]
    lengths = np.bincount(runs, minlength=count + 1)[1:] * (360 / SPOKES)
    if runs[0] and runs[-1] and runs[0] != runs[-1]:  # one run across 0 degrees
        lengths[runs[0] - 1] += lengths[runs[-1] - 1]
        lengths[runs[-1] - 1] = 0
        runs = np.where(runs == runs[-1], runs[0], runs)
    if not count or lengths.max(initial=0) <= _NONE:
        return None
    if lengths.max() < _SEPTUM or lengths.max() > 270 or np.sort(lengths)[:-1].sum() > 0.2 * lengths.max():
        raise ValueError("unclear")
    inside = runs == 1 + np.argmax(lengths)
    first = np.flatnonzero(inside & ~np.roll(inside, 1))[0]
    last = np.flatnonzero(inside & ~np.roll(inside, -1))[0]
    ends = []
    centre_x, centre_y = centre_of(outline)
    for spoke, border in ((first, first), (last, last + 1)):
        angle = np.deg2rad(border * (360 / SPOKES))
        across = x + epicardium[spoke] * np.cos(angle) / pixel - centre_x
        down = y - epicardium[spoke] * np.sin(angle) / pixel - centre_y
        ends.append(float(np.rad2deg(np.arctan2(-down, across)) % 360))
    return ends[0], ends[1]


def _epicardium(labels: np.ndarray, pixel: float) -> np.ndarray:
    """float (spoke,), as `wall.spokes` has it but for its finer steps, which would take most of the time; mm."""
    along, distances = np.deg2rad(spoke_angles())[:, None], np.arange(0.0, 70.0, 0.5)
    x, y = centre_of(labels)
    columns = np.rint(x + distances * np.cos(along) / pixel).astype(int).clip(0, labels.shape[0] - 1)
    rows = np.rint(y - distances * np.sin(along) / pixel).astype(int).clip(0, labels.shape[1] - 1)
    wall = labels[columns, rows] >= MYOCARDIUM
    outermost = distances[wall.shape[1] - 1 - wall[:, ::-1].argmax(axis=1)]
    return np.where(wall.any(axis=1), outermost, np.nan)


def _around(labels: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The part of a slice with the heart and `margin` pixels around it."""
    found = (np.flatnonzero((labels > 0).any(axis=axis)) for axis in (1, 0))
    return tuple(slice(max(0, places[0] - margin), places[-1] + margin + 1) for places in found)


def _examples(
    phantom: SeptumPhantom, pixel: float, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Of the slices of a phantom, as far as they are clear: view, share of each direction in the septum, whether
    there is one."""
    for planes in zip(phantom.image, phantom.labels, phantom.outline, phantom.right_ventricle, strict=True):
        image, labels, outline, blood = (plane.T for plane in planes)
        if not (outline == CAVITY).any() or not (labels == CAVITY).any():
            continue
        if random.random() < _CROPPED:
            around = _around(labels, int(random.uniform(*_MARGIN) / pixel))
            image, labels, outline, blood = (plane[around] for plane in (image, labels, outline, blood))
        try:
            ends = septum_of(labels, blood, outline, pixel)
        except ValueError:
            continue
        if ends is not None and random.random() < _BLOOD_LIKE:
            image = _with_a_blood_like_organ(image, labels, blood, ends, pixel, random)
        view = septum.view_of(image, outline, (pixel, pixel), _epicardium(outline, pixel))
        if view is not None:
            yield view, shares(ends), float(ends is not None)


def _with_a_blood_like_organ(image, labels, blood, ends, pixel, random) -> np.ndarray:
    """The slice with an organ as bright as the right ventricle's blood beyond an end of the septum, as the liver often
    is: it touches the left ventricle, and nothing but the right ventricle's thin wall lies between it and the blood."""
    which = random.integers(2)
    angle = np.deg2rad(ends[which] + (2 * which - 1) * random.uniform(0, 70))
    size = random.uniform(15, 100)
    distance = np.sqrt((labels > 0).sum() / np.pi) * pixel + random.uniform(-10, 3) + size
    (x, y), (columns, rows) = centre_of(labels), np.indices(labels.shape)
    away = np.hypot((columns - x) * pixel - distance * np.cos(angle), (rows - y) * pixel + distance * np.sin(angle))
    near_blood = ndimage.binary_dilation(blood, iterations=int(random.integers(1, 3)))
    organ = ndimage.gaussian_filter(((away < size) & ~near_blood).astype(np.float32), 0.4) * (labels == 0) * ~blood
    bright, muscle = np.median(image[blood]), np.median(image[labels >= MYOCARDIUM])
    level = muscle + (bright - muscle) * random.uniform(0.6, 1.4)
    noise = random.normal(0, random.uniform(0.5, 1.0) * image[blood].std(), image.shape)
    return image + organ * (level + noise - image)


def shares(ends: tuple[float, float] | None) -> np.ndarray:
    """float32 (direction,): 1 inside a septum, 0 outside, between them where an end cuts a direction's 3 degrees."""
    if ends is None:
        return np.zeros(septum.DIRECTIONS, np.float32)
    fine = (np.arange(10 * septum.DIRECTIONS) + 0.5) * (36 / septum.DIRECTIONS)
    inside = (fine - ends[0]) % 360 < (ends[1] - ends[0]) % 360
    return np.roll(inside, 5).reshape(septum.DIRECTIONS, 10).mean(axis=1).astype(np.float32)


def draw_examples(key: jax.Array, count: int, progress: Progress) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views, shares and whether there is a septum, of at most `count` random slices."""

    @jax.jit
    @jax.vmap
    def draw(key):
        height, rest = jax.random.split(key)
        heights = jax.random.uniform(height, (1,), minval=_HEIGHTS[0], maxval=_HEIGHTS[1])
        return draw_septum_phantom(rest, heights, SIZE, PIXEL)

    examples: list = []
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    for part in progress(jax.random.split(key, max(1, count // _DRAWN_AT_ONCE)), "hearts"):
        phantoms = jax.device_get(draw(jax.random.split(part, _DRAWN_AT_ONCE)))
        for index in range(_DRAWN_AT_ONCE):
            one = jax.tree.map(lambda values, index=index: values[index], phantoms)
            examples.extend(_examples(one, PIXEL, random))
    views, targets, seen = zip(*examples, strict=True)
    return np.stack(views), np.stack(targets), np.array(seen, np.float32)


def train_network(key: jax.Array, hearts: int, steps: int, progress: Progress) -> dict[str, np.ndarray]:
    """Trains the network from nothing.

    Args:
        key: random key.
        hearts: how many random slices are drawn; each is seen as drawn and mirrored, many times.
        steps: of the optimiser.
        progress: wraps loops with a bar.

    Returns:
        The weights, as `septum.network` gives them.
    """
    drawing, starting, choosing = jax.random.split(key, 3)
    views, targets, seen = (jnp.asarray(part) for part in draw_examples(drawing, hearts, progress))
    model = SeptumNetwork()
    params = model.init(starting, views[:1])
    optimizer = optax.adamw(optax.cosine_decay_schedule(_RATE, steps), weight_decay=_DECAY)

    def loss_of(params, views, targets, seen):
        directions, present = model.apply(params, views)
        entropy = optax.sigmoid_binary_cross_entropy(directions, targets).mean(axis=1)
        return (entropy * seen + optax.sigmoid_binary_cross_entropy(present, seen)).mean()

    @jax.jit
    def step(params, state, key):
        choice, turn = jax.random.split(key)
        batch = jax.random.randint(choice, (_BATCH,), 0, len(views))
        mirrored = jax.random.bernoulli(turn, 0.5, (_BATCH, 1))

        def perhaps_mirrored(values):
            turned_over = jnp.roll(values[:, ::-1], 1, axis=1)
            return jnp.where(mirrored.reshape(-1, *[1] * (values.ndim - 1)), turned_over, values)

        loss, gradients = jax.value_and_grad(loss_of)(
            params, perhaps_mirrored(views[batch]), perhaps_mirrored(targets[batch]), seen[batch]
        )
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    for one in progress(jax.random.split(choosing, steps), "steps"):
        params, state, _ = step(params, state, one)
    layers = jax.device_get(params)["params"]
    return {
        f"{part}_{index}": layers[f"Conv_{index}"][part] for index in range(len(layers)) for part in ("kernel", "bias")
    }


def write_network(path: Path, *, seed: int, hearts: int, steps: int, progress: Progress) -> None:
    """Trains the network and writes its file.

    Raises:
        CaseError: the file cannot be written.
    """
    write_weights(path, train_network(jax.random.key(seed), hearts, steps, progress))
