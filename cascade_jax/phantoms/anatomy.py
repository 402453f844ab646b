"""The phantom's anatomy: where, in mm, each tissue of a short-axis view of the chest lies.

Coordinates are the patient's in the short-axis frame: y downwards (to the inferior wall), x to the image's right (to
the lateral wall), z from the base (0) to the apex. Angles are atan2(y, x), so that the septum lies at pi, the
anterior wall at -pi/2 and the inferior wall at pi/2.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

# Tissues, each with its T1 in `phantom.py`.
LUNG, BLOOD, MYOCARDIUM, SCAR, OBSTRUCTION, FAT, LIVER, STOMACH, SKELETAL_MUSCLE = range(9)

# Centre of each coronary territory around the wall and the range of its share of the long axis (AHA 17-segment model,
# Cerqueira et al. 2002): angle, its spread, start (lowest, highest) and end (lowest, highest) along base-apex.
_TERRITORIES = {
    "left anterior descending": (-2.1, 0.35, (0.15, 0.5), (0.9, 1.0)),
    "right": (1.9, 0.3, (0.0, 0.25), (0.55, 0.85)),
    "circumflex": (0.35, 0.45, (0.0, 0.25), (0.55, 0.85)),
}


def _waves(random: np.random.Generator, count: int, highest: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A smooth random field of (angle, long-axis position) with a standard deviation near 1."""
    around = random.integers(1, highest + 1, count)
    along = random.uniform(-2.0, 2.0, count)
    phase = random.uniform(0, 2 * np.pi, count)
    weight = random.normal(size=count) * np.sqrt(2.0 / count)

    def field(angle, position):
        total = np.zeros(np.broadcast_shapes(np.shape(angle), np.shape(position)), np.float32)
        for k, a, p, w in zip(around, along, phase, weight, strict=True):
            total += np.float32(w) * np.cos(k * angle + np.float32(a * np.pi) * position + np.float32(p))
        return total

    return field


@dataclasses.dataclass(frozen=True)
class Infarct:
    """An infarct that starts at the endocardium and spreads outward.

    Attributes:
        angle, half_width: radians around the wall.
        start, end: along base-apex, 0 to 1.
        transmurality: the share of the wall it reaches at its centre.
        ragged: random field that roughens its border.
        core: whether it holds an obstructed core.
    """

    angle: float
    half_width: float
    start: float
    end: float
    transmurality: float
    ragged: Callable[[np.ndarray, np.ndarray], np.ndarray]
    core: bool

    def tissue(self, depth: np.ndarray, angle: np.ndarray, position: float) -> tuple[np.ndarray, np.ndarray]:
        """Which points are infarcted and which of these obstructed.

        Args:
            depth: 0 at the endocardium, 1 at the epicardium.
            angle: around the wall.
            position: along base-apex.
        """
        middle, half_length = (self.start + self.end) / 2, (self.end - self.start) / 2
        around = np.angle(np.exp(1j * (angle - self.angle))).astype(np.float32) / self.half_width
        along = (position - middle) / half_length
        inside = 1.0 - around**2 - max(0.0, abs(along) - 0.5) ** 2 / 0.25
        reach = self.transmurality * np.sqrt(np.clip(inside, 0, 1)) * (1 + 0.18 * self.ragged(angle, position))
        infarcted = (depth < reach) & (reach > 0.12)
        if not self.core:
            return infarcted, np.zeros_like(infarcted)
        ellipsoid = (
            (around / 0.45) ** 2 + (along / 0.5) ** 2 + ((depth - 0.45 * reach) / (0.3 * np.maximum(reach, 0.1))) ** 2
        )
        return infarcted, infarcted & (ellipsoid < 1)


def draw_infarct(random: np.random.Generator) -> Infarct:
    territory = list(_TERRITORIES.values())[random.choice(3, p=[0.45, 0.32, 0.23])]
    angle, spread, start, end = territory
    transmurality = random.uniform(0.6, 1.25)
    return Infarct(
        angle=random.normal(angle, spread),
        half_width=random.uniform(0.75, 1.4),
        start=random.uniform(*start),
        end=random.uniform(*end),
        transmurality=transmurality,
        ragged=_waves(random, 6, 7),
        core=bool(transmurality > 0.65 and random.random() < 0.6),
    )


class Heart:
    """A left ventricle with papillary muscles, right ventricle and pericardial fat, drawn at random.

    Attributes:
        length: mm from the base to the tip of the apex.
        reach: mm from the ventricle's axis within which all of the heart lies.
    """

    def __init__(self, random: np.random.Generator, infarct: Infarct | None):
        self.infarct = infarct
        self.length = random.uniform(78, 100)
        self._wall = random.uniform(8.0, 12.0)
        self._cavity = random.uniform(19.0, 27.0)  # radius at the base
        self._apex = random.uniform(6.0, 10.0)  # thickness of the tip
        self._tilt = random.normal(0, 0.08, 2)
        self._bend = random.normal(0, 4.0, 2)
        self._ellipse = random.uniform(0.0, 0.08), random.uniform(0, np.pi)
        self._outline, self._thickness = _waves(random, 4, 4), _waves(random, 5, 3)
        self._trabeculae = _waves(random, 8, 14)
        self._papillary = [
            (random.normal(angle, 0.25), random.uniform(0.55, 0.72), random.uniform(3.0, 5.5)) for angle in (-0.8, 1.5)
        ]
        self._septum = np.pi + random.normal(0, 0.25)
        self._right = random.uniform(0.85, 1.25), random.uniform(1.15, 1.5), random.uniform(0.7, 0.9)
        self._fat, self._fat_thickness = _waves(random, 6, 5), random.uniform(1.0, 5.0)
        self.reach = 2.9 * (self._cavity + self._wall)

    def tissue(self, y: np.ndarray, x: np.ndarray, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Tissue and reader's label of points of one plane.

        Args:
            y, x: float32, mm from the ventricle's axis at the base.
            z: mm from the base.

        Returns:
            int8 tissue, -1 where the heart is not; uint8 labels 0 to 4, papillary muscles counted as cavity.
        """
        position = z / self.length
        share = np.clip(position, 0.0, None)
        y = y - np.float32(self._tilt[0] * z + self._bend[0] * share**2)
        x = x - np.float32(self._tilt[1] * z + self._bend[1] * share**2)
        radius, angle = np.hypot(y, x), np.arctan2(y, x)
        stretch, direction = self._ellipse
        shape = 1 + stretch * np.cos(2 * (angle - direction)) + 0.025 * self._outline(angle, np.float32(position))

        taper = (1 - min(share, 1.0) ** 2.3) ** 0.6
        inner_length = 1 - self._apex / self.length
        inner_taper = (1 - min(share / inner_length, 1.0) ** 2.3) ** 0.6
        wall = self._wall * (1 + 0.12 * self._thickness(angle, np.float32(position)))
        inner = self._cavity * inner_taper * shape
        outer = np.maximum((self._cavity + self._wall) * taper * shape + (wall - self._wall) * taper, inner + 0.5)
        outer = np.where(share >= 1.0, 0.0, outer)
        depth = (radius - inner) / np.maximum(outer - inner, 0.1)

        tissue, labels = np.full(radius.shape, -1, np.int8), np.zeros(radius.shape, np.uint8)
        self._add_right_ventricle(tissue, y, x, position, angle, radius, outer)
        within = radius < outer
        if z < 0:  # above the valve: the atrium's blood, which no reader contours
            tissue[within] = BLOOD
            return tissue, labels
        cavity = within & (depth < 0)
        myocardium = within & ~cavity
        tissue[cavity], labels[cavity] = BLOOD, 1
        trabeculated = cavity & (radius > inner - 1.5 * np.clip(self._trabeculae(angle, np.float32(position)), 0, 2))
        tissue[trabeculated] = MYOCARDIUM
        if 0.2 < position < 0.72:
            for direction, distance, size in self._papillary:
                y0, x0 = (distance * self._cavity * inner_taper * trig(direction) for trig in (np.sin, np.cos))
                tissue[cavity & ((y - y0) ** 2 + (x - x0) ** 2 < size**2)] = MYOCARDIUM
        tissue[myocardium], labels[myocardium] = MYOCARDIUM, 2
        if self.infarct is not None:
            infarcted, obstructed = self.infarct.tissue(depth, angle, position)
            infarcted, obstructed = infarcted & myocardium, obstructed & myocardium
            tissue[infarcted], labels[infarcted] = SCAR, 3
            tissue[obstructed], labels[obstructed] = OBSTRUCTION, 4
        return tissue, labels

    def _add_right_ventricle(self, tissue, y, x, position, angle, radius, outer) -> None:
        """Draws what lies around the left ventricle: fat, the right ventricle's wall and its blood."""
        size, height, length = self._right
        scale = (self._cavity + self._wall) * max(0.0, 1 - max(0.0, position / length) ** 2.5) ** 0.5
        right = np.full(radius.shape, np.inf, np.float32)
        if scale > 3:
            along = np.cos(self._septum) * x + np.sin(self._septum) * y
            across = -np.sin(self._septum) * x + np.cos(self._septum) * y
            # In units of its own radius: 1 is the endocardial border.
            right = np.hypot((along - 0.75 * scale) / (size * scale), across / (height * scale * 0.85)) * scale * size
            right = right - scale * size
        fat = np.clip(0.6 + self._fat(angle, np.float32(position)), 0, 2) * self._fat_thickness
        fat = np.where(position > 1.05, 0.0, fat)
        tissue[(radius < outer + fat) | (right < 3.0 + fat)] = FAT
        tissue[right < 3.0] = MYOCARDIUM
        tissue[right < 0.0] = BLOOD


class Chest:
    """What surrounds the heart: lung, chest wall, liver, stomach and descending aorta, drawn at random."""

    def __init__(self, random: np.random.Generator, reach: float):
        self._towards_front = random.uniform(-2.9, -1.7)
        self._front = reach * 0.6 + random.uniform(2, 18)
        self._bow = random.uniform(0.0005, 0.0025)
        self._layers = random.uniform(12, 24), random.uniform(10, 30)
        self._diaphragm = random.uniform(32, 50), random.uniform(-0.1, 0.3), random.uniform(0, 0.003)
        self._liver = random.uniform(-10, 25)
        self._stomach = random.uniform(45, 65), random.uniform(25, 60), random.uniform(18, 34)
        self._bowel = random.uniform(65, 110), random.uniform(30, 90), random.uniform(14, 26)
        self._aorta = random.uniform(15, 40), random.uniform(60, 80), random.uniform(9, 13)
        self._back = random.uniform(85, 110)
        self._waves = (
            random.uniform(0.02, 0.09, (6, 2)),
            random.uniform(0, 2 * np.pi, (6, 2)),
            random.normal(0, 2.2, (6, 2)),
        )

    def tissue(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """int8 tissue of points given in mm from the ventricle's axis."""
        y, x = np.broadcast_arrays(y, x)
        bend = np.zeros((2, *y.shape), np.float32)
        for (down, right), phases, weights in zip(*self._waves, strict=True):
            for axis in range(2):
                bend[axis] += weights[axis] * np.sin(down * y + (-1) ** axis * right * x + phases[axis])
        y, x = y + bend[0], x + bend[1]
        tissue = np.full(y.shape, LUNG, np.int8)
        offset, slope, bow = self._diaphragm
        below = y > offset + slope * x + bow * x**2
        tissue[below & (x < self._liver)] = LIVER
        tissue[below & (x >= self._liver)] = FAT
        for (row, column, radius), organ in (
            (self._stomach, STOMACH),
            (self._bowel, LIVER),
            (self._aorta, BLOOD),
        ):
            tissue[np.hypot(y - row, x - column) < radius] = organ
        along = np.cos(self._towards_front) * x + np.sin(self._towards_front) * y
        across = -np.sin(self._towards_front) * x + np.cos(self._towards_front) * y
        muscle, skin = self._layers
        for wall in (along + self._bow * across**2 - self._front, x - self._back):
            tissue[wall > 0] = SKELETAL_MUSCLE
            tissue[wall > muscle] = FAT
            tissue[wall > muscle + skin] = LUNG  # air around the patient, as dark
        return tissue
