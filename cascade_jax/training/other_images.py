"""Images that are no late enhancement of a heart, made from scans or drawn: of them a cascade should be in doubt."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage

from cascade_jax.cascade import Cascade
from cascade_jax.data.case import CAVITY, MYOCARDIUM, Case
from cascade_jax.report.text_tables import Table

_CINE_CONTRAST = 0.35  # of the myocardium's level to the blood's, about that of balanced steady-state free precession


def _noise(case: Case, random: np.random.Generator) -> np.ndarray:
    return random.normal(1000, 200, case.image.shape)


def _clouds(case: Case, random: np.random.Generator) -> np.ndarray:
    return 1000 + 4000 * ndimage.gaussian_filter(random.normal(size=case.image.shape), (0.5, 8, 8))


def _inverted(case: Case, random: np.random.Generator) -> np.ndarray:
    del random
    return case.image.max() - case.image


def _cine(case: Case, random: np.random.Generator) -> np.ndarray:
    """The scan with the levels of a cine: all muscle evenly dark, an infarct too, and blood bright."""
    blood, muscle = (np.median(case.image[case.labels == label]) for label in (CAVITY, MYOCARDIUM))
    low = np.percentile(case.image, 2)
    image = (case.image - low) * (1 + 1.2 * ndimage.gaussian_filter((case.labels == CAVITY).astype(float), (0, 1, 1)))
    wall = ndimage.gaussian_filter((case.labels >= MYOCARDIUM).astype(float), (0, 1, 1))
    level = _CINE_CONTRAST * (blood - low) * 2.2
    noise = random.normal(0, abs(blood - muscle) / 4, case.image.shape)
    return image * (1 - wall) + wall * level + noise


def _ellipse(case: Case, centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """bool (height, width): within an ellipse, its centre and radii in shares of the plane."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, size) for size in case.image.shape[1:]), indexing="ij")
    return ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 < 1


def _drawn(case: Case, random: np.random.Generator, parts: Sequence[tuple[tuple, tuple, float]]) -> np.ndarray:
    plane = np.zeros(case.image.shape[1:])
    for centre, radii, level in parts:
        jitter = random.uniform(-0.03, 0.03, 2)
        plane[_ellipse(case, np.add(centre, jitter), radii)] = level
    smooth = ndimage.gaussian_filter(plane, 1.0)
    return np.stack([smooth + random.normal(0, 40, plane.shape) for _ in case.image])


def _head(case: Case, random: np.random.Generator) -> np.ndarray:
    parts: list[tuple[tuple, tuple, float]] = [
        ((0, 0), (0.85, 0.7), 900),
        ((0, 0), (0.78, 0.63), 150),
        ((0, 0), (0.72, 0.57), 600),
    ]
    parts += [((0.05, side), (0.2, 0.06), 1100) for side in (-0.1, 0.1)]  # ventricles of the brain
    return _drawn(case, random, parts)


def _abdomen(case: Case, random: np.random.Generator) -> np.ndarray:
    parts = [((0, 0), (0.7, 0.9), 1000), ((0, 0), (0.62, 0.82), 500), ((-0.1, -0.4), (0.4, 0.35), 650)]
    parts += [((0.2, side), (0.15, 0.1), 800) for side in (-0.4, 0.4)]  # kidneys
    parts += [((0.35, 0), (0.14, 0.12), 300), ((0.12, 0.08), (0.06, 0.06), 1100)]  # spine and aorta
    return _drawn(case, random, parts)


KINDS: Mapping[str, Callable[[Case, np.random.Generator], np.ndarray]] = {
    "cine levels": _cine,
    "inverted": _inverted,
    "noise": _noise,
    "clouds": _clouds,
    "head": _head,
    "abdomen": _abdomen,
}


def other_image(kind: str, case: Case, seed: int) -> Case:
    """An image of a kind of `KINDS` on a labelled case's grid, without labels; the same seed gives the same image."""
    image = KINDS[kind](case, np.random.default_rng([seed, list(KINDS).index(kind)])).astype(np.float32)
    return dataclasses.replace(case, image=image, labels=None)


def doubts(cascade: Cascade, cases: Sequence[Case]) -> dict[str, list[bool]]:
    """{kind: of each case, whether the cascade is in doubt}; "scans as they are" come first."""
    told = {"scans as they are": [_doubtful(cascade, dataclasses.replace(case, labels=None)) for case in cases]}
    for kind in KINDS:
        told[kind] = [_doubtful(cascade, other_image(kind, case, index)) for index, case in enumerate(cases)]
    return told


def _doubtful(cascade: Cascade, case: Case) -> bool:
    return cascade.segment_case(case).confidence.doubtful is not None


def table_of(told: Mapping[str, Sequence[bool]]) -> Table:
    """How many of each kind are called doubtful."""
    rows = [[kind, f"{sum(doubtful)} of {len(doubtful)}"] for kind, doubtful in told.items()]
    return Table("Images that are no late enhancement", ["", "called doubtful"], rows, "")
