"""A synthetic delayed-enhancement cohort in the challenge's layout, with its files' quirks.

A heart and a chest are drawn at random (`anatomy.py`), sampled finer than the image in the plane and through each
thick slice, given the signal of a phase-sensitive inversion-recovery image some minutes after contrast, and averaged:
partial volume at the apex, the base and every border is real. Labels are what a reader would contour.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy import ndimage

from cascade_jax.data import emidec, folders
from cascade_jax.data.case import Case, CaseError, number_of_cases
from cascade_jax.data.files import read_json, write_text
from cascade_jax.phantoms import anatomy

_OFFSET = 2048.0  # where phase-sensitive files put the zero of the signal
_HIGHEST = 4095.0
_SLICE_THICKNESS_MM = 8.0
_SUBSLICES = 5
_OVERSAMPLING = 2  # in the plane

# T1 in ms about 10 to 15 minutes after 0.15 to 0.2 mmol/kg of a gadolinium chelate at 1.5 T (blood, myocardium, scar:
# Klein et al. 2004, Messroghli et al. 2007; the obstruction, which contrast reaches late, between myocardium and scar),
# its spread from case to case, and relative proton density.
_T1 = {
    anatomy.LUNG: (900.0, 60.0, 0.4),
    anatomy.BLOOD: (330.0, 10.0, 1.0),
    anatomy.MYOCARDIUM: (450.0, 12.0, 1.0),
    anatomy.SCAR: (328.0, 12.0, 1.0),
    anatomy.OBSTRUCTION: (385.0, 10.0, 1.0),
    anatomy.FAT: (250.0, 15.0, 0.9),
    anatomy.LIVER: (370.0, 30.0, 0.9),
    anatomy.STOMACH: (600.0, 200.0, 0.7),
    anatomy.SKELETAL_MUSCLE: (470.0, 25.0, 0.9),
}


def inversion_recovery(t1_ms: float, inversion_time_ms: float, repetition_time_ms: float) -> float:
    """Longitudinal magnetisation at the read-out of a phase-sensitive inversion recovery, as a share of equilibrium.

    S = 1 - 2 exp(-TI / T1) + exp(-TR / T1), its sign kept (Kellman et al. 2002).
    """
    return 1 - 2 * np.exp(-inversion_time_ms / t1_ms) + np.exp(-repetition_time_ms / t1_ms)


def _tissue_signals(random: np.random.Generator) -> np.ndarray:
    """The signal of each tissue in file units relative to the offset.

    The inversion time nulls normal myocardium within the operator's error, which in practice falls on the late side;
    the receiver's gain brings the blood to where files have it.
    """
    t1 = {tissue: random.normal(mean, spread) for tissue, (mean, spread, _) in _T1.items()}
    repetition = random.uniform(1400, 1900)
    null = t1[anatomy.MYOCARDIUM] * (np.log(2) - np.log1p(np.exp(-repetition / t1[anatomy.MYOCARDIUM])))
    inversion = null * (1 + random.normal(0.085, 0.02))
    signals = np.array([_T1[k][2] * inversion_recovery(t1[k], inversion, repetition) for k in sorted(_T1)])
    return signals * (random.uniform(350, 430) / signals[anatomy.BLOOD])


def _smooth_field(random: np.random.Generator, shape: tuple[int, int], points: int) -> np.ndarray:
    """A smooth random field with a standard deviation near 1."""
    coarse = random.normal(size=(points, points))
    zoom = [size / points for size in shape]
    return ndimage.zoom(coarse, zoom, order=3, mode="nearest", grid_mode=True).astype(np.float32)


def is_pathological(seed: int, index: int) -> bool:
    """Two of each three consecutive cases are; which, depends on the seed."""
    normal = np.random.default_rng([seed, index // 3, 1]).integers(3)
    return index % 3 != normal


def simulate_case(seed: int, index: int, *, field_of_view_mm: float | None = None) -> Case:
    """One case of the cohort that `seed` stands for.

    Args:
        seed: the cohort's.
        index: the case's; it depends on nothing else.
        field_of_view_mm: about how wide the image is; None is a whole slice as in the challenge's files.

    Returns:
        A case with labels, intensities 0 to 4095, named `Case_N...` or `Case_P...` by whether there is an infarct.
    """
    random = np.random.default_rng([seed, index])
    pathological = is_pathological(seed, index)
    heart = anatomy.Heart(random, anatomy.draw_infarct(random) if pathological else None)
    chest = anatomy.Chest(random, heart.reach)
    signals = _tissue_signals(random)

    pixel = random.uniform(1.25, 2.0)
    distance = float(random.choice([8.0, 9.0, 10.0, 10.0, 10.0, 11.0, 13.0]))
    first = random.uniform(2.0, 6.0)
    depth = int(np.clip(np.ceil((heart.length - first) / distance), 5, 10))
    if field_of_view_mm is None:
        # As many pixels as files have: 130 to 270 a side, taller than wide.
        size_mm = np.array([random.uniform(300, 385), random.uniform(250, 310)])
        shape = np.clip(np.round(size_mm / pixel), 130, 270).astype(int)
        jitter, border = random.uniform(-20, 20, 2), 0.05
    else:
        shape = np.round(field_of_view_mm * random.uniform(0.9, 1.1, 2) / pixel).astype(int)
        jitter, border = random.uniform(-5, 5, 2), 0.02
    shape = tuple(int(size) for size in shape)
    noise = random.uniform(60, 85)
    shading = 1 + random.uniform(0.03, 0.10) * _smooth_field(random, shape, 3)

    images, labels = [], []
    for number in reversed(range(depth)):  # files run from the apex to the base
        shift = random.normal(0, 1.2, 2) + (random.random() < 0.06) * random.normal(0, 4.0, 2)
        rows, columns = ((np.arange(n) - (n - 1) / 2) * pixel for n in shape)
        rows, columns = rows - jitter[0] - shift[0], columns - jitter[1] - shift[1]
        signal, plane_labels = _plane(heart, chest, signals, rows, columns, first + number * distance, pixel)
        texture = 1 + 0.06 * _smooth_field(random, shape, 12)
        noisy = _with_noise(random, signal * shading * texture, noise)
        outside = _outside_registration(random, shape, border)
        images.append(np.where(outside, 0.0, np.clip(np.round(_OFFSET + noisy), 1, _HIGHEST)))
        labels.append(np.where(outside, 0, plane_labels))
    name = f"Case_{'P' if pathological else 'N'}{index + 1:03}"
    return Case(name, np.stack(images).astype(np.float32), np.stack(labels).astype(np.uint8), (distance, pixel, pixel))


def _plane(heart, chest, signals, rows, columns, z, pixel) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free signal and labels of one thick slice: averages over subslices and, near the heart, subpixels."""
    y, x = rows[:, None].astype(np.float32), columns[None, :].astype(np.float32)
    signal = signals[chest.tissue(y, x)]
    labels = np.zeros(signal.shape, np.uint8)
    box = tuple(slice(*np.searchsorted(axis, (-heart.reach, heart.reach))) for axis in (rows, columns))
    fine = (np.arange(_OVERSAMPLING) + 0.5) / _OVERSAMPLING - 0.5
    y, x = (
        (axis[part][:, None] + fine * pixel).ravel().astype(np.float32)
        for axis, part in zip((rows, columns), box, strict=True)
    )
    y, x = y[:, None], x[None, :]
    values, shares = 0.0, np.zeros((5, y.size, x.size), np.float32)
    around = chest.tissue(y, x)
    through = ((np.arange(_SUBSLICES) + 0.5) / _SUBSLICES - 0.5) * _SLICE_THICKNESS_MM
    for offset in through:
        tissue, reader = heart.tissue(y, x, z + offset)
        values = values + signals[np.where(tissue < 0, around, tissue)]
        for label in range(1, 5):
            shares[label] += reader == label

    def average(fine_values):
        height, width = fine_values.shape[-2:]
        blocks = fine_values.reshape(-1, height // _OVERSAMPLING, _OVERSAMPLING, width // _OVERSAMPLING, _OVERSAMPLING)
        return blocks.mean((2, 4)) / _SUBSLICES

    signal[box] = average(values)[0]
    labels[box] = _contour(average(shares))
    return signal, labels


def _contour(shares: np.ndarray) -> np.ndarray:
    """A reader's labels of the shares (5, height, width) of each label in each voxel: first the heart's outline, then
    the cavity's, then infarction in the myocardium, then no-reflow in the infarction, each by majority."""
    _, cavity, normal, infarcted, obstructed = shares
    myocardium, diseased = normal + infarcted + obstructed, infarcted + obstructed
    inner = np.where(diseased >= normal, np.where(obstructed >= infarcted, 4, 3), 2)
    return np.where(cavity + myocardium >= 0.5, np.where(cavity > myocardium, 1, inner), 0).astype(np.uint8)


def _with_noise(random: np.random.Generator, signal: np.ndarray, deviation: float) -> np.ndarray:
    """Rician noise with the polarity restored, slightly correlated as after interpolation in k-space."""
    real, imaginary = (ndimage.gaussian_filter(random.normal(size=signal.shape), 0.45) for _ in range(2))
    scale = deviation / real.std()
    real = signal + scale * real
    return np.sign(real) * np.hypot(real, scale * imaginary)


def _outside_registration(random: np.random.Generator, shape: tuple[int, int], share: float) -> np.ndarray:
    """bool (height, width): the border that registration left empty in this slice."""
    outside = np.ones(shape, bool)
    margins = [int(random.uniform(0, share) * size) + int(random.integers(0, 3)) for size in shape for _ in range(2)]
    outside[margins[0] : shape[0] - margins[1], margins[2] : shape[1] - margins[3]] = False
    return outside


def write_cohort(
    root: Path,
    cases: int,
    seed: int,
    *,
    field_of_view_mm: float | None = None,
    progress: Callable[[Iterable, str], Iterable] = lambda iterable, description: iterable,
) -> None:
    """Writes a cohort in the challenge's layout; cases that an earlier call finished are left alone.

    Args:
        root: the cohort's folder.
        cases: how many.
        seed: of the cohort.
        field_of_view_mm: as for `simulate_case`.
        progress: wraps the loop with a bar.

    Raises:
        CaseError: the folder cannot be written, or holds something else or more cases than these.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _claim(root, {"seed": seed, "field_of_view_mm": field_of_view_mm})
        if (held := sum((path / folders.IMAGES).is_dir() for path in root.iterdir())) > cases:
            raise CaseError(root, f"holds {number_of_cases(held)} already, more than the {cases} that are asked for")
        for index in progress(range(cases), f"simulating {number_of_cases(cases)} in {root}"):
            name = f"Case_{'P' if is_pathological(seed, index) else 'N'}{index + 1:03}"
            if (root / name).exists():
                continue
            case = simulate_case(seed, index, field_of_view_mm=field_of_view_mm)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=root))
            try:
                emidec.write_case(partial, case)
                os.replace(partial / name, root / name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise CaseError(root, f"cannot be written: {error.strerror}") from error


def _claim(root: Path, settings: dict) -> None:
    """Makes sure that a folder holds nothing but this cohort."""
    record = root / "phantom.json"
    if not record.exists():
        if any(root.iterdir()):
            raise CaseError(root, "is not empty and holds no phantom cohort")
        write_text(record, json.dumps(settings))
    elif (held := read_json(record)) != settings:
        raise CaseError(root, f"holds another phantom cohort, made with {held}")
