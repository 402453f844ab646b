"""Scans and phantoms are measured alike, and what differs is told."""

import math

import numpy as np
import pytest

from cascade_jax.training.phantom_distances import MEASURES, distances, measure

SPACING = (10.0, 1.0, 1.0)
GRAIN = np.where(np.indices((4, 80, 90)).sum(0) % 2, 1, -1)
LEVELS = np.array([0.0, 2.0, 1.0, 1.8, 1.2])  # of background, blood, myocardium, infarct, no-reflow


def heart(infarct=True, shift=0):
    """Discs of blood, 40 mm across, in walls of 10 mm, of which a quarter is infarct and a part of that no-reflow."""
    rows, columns = np.indices((80, 90)) - np.array([40, 40])[:, None, None]
    planes = []
    for index in range(4):
        radius = np.hypot(rows, columns - index * shift)
        plane = np.where(radius < 20, 1, np.where(radius < 30, 2, 0))
        if infarct:
            in_wall = (plane == 2) & (rows > 0) & (columns - index * shift > 0)
            plane[in_wall] = np.where(radius[in_wall] < 23, 4, 3)
        planes.append(plane)
    return np.array(planes, np.uint8)


def test_a_heart_of_known_size_has_its_measures():
    labels = heart(shift=2)
    image = LEVELS[labels] + 0.1 * GRAIN
    values = measure(image, labels, SPACING)
    assert list(values) == list(MEASURES)
    assert values["slices"] == 4
    assert values["cavity mm"] == pytest.approx(40, rel=0.02)
    assert values["wall mm"] == pytest.approx(10, abs=0.5)
    assert values["blood"] == pytest.approx(2, abs=0.02)
    assert values["blood noise"] == pytest.approx(0.1, rel=0.3)
    assert values["bright surroundings"] == pytest.approx(-1, abs=0.25)
    assert values["dark surroundings"] == pytest.approx(-1, abs=0.25)
    assert values["papillary muscles %"] == 0
    assert values["noisiest slice"] == pytest.approx(1)
    assert values["infarcted wall %"] == pytest.approx(100, abs=5)
    assert values["infarct contrast"] == pytest.approx(0.8, abs=0.2)
    assert values["no-reflow contrast"] == pytest.approx(0.2, abs=0.2)
    ring = 4 * math.pi * (30**2 - 20**2) * 10 / 1000  # ml
    assert values["infarct ml"] == pytest.approx(ring / 4, rel=0.1)
    assert values["infarct %"] == pytest.approx(25, abs=2)
    assert values["transmurality %"] == pytest.approx(100, abs=5)
    assert values["no-reflow %"] == pytest.approx(100 * (23**2 - 20**2) / (30**2 - 20**2), abs=4)
    # Of the sides of the no-reflow, a quarter of a ring, the two short ones are bare.
    assert 0 < values["no-reflow without rim %"] < 25
    assert values["slice jump mm"] == pytest.approx(2, abs=0.05)


def test_fat_papillary_muscles_noisy_slices_thin_walls_and_no_reflow_without_a_rim_are_seen():
    labels = heart()
    rows, columns = np.indices(labels.shape[1:]) - np.array([40, 40])[:, None, None]
    radius = np.hypot(rows, columns)
    thinned = np.where((labels >= 3) & (radius > 25), 0, labels)
    image = LEVELS[thinned] + 0.02 * GRAIN
    image[:, radius < 10] -= 1  # a quarter of the cavity
    image[0] += 0.04 * GRAIN[0]
    image[:, (radius > 35) & (columns < 0)] += 3
    values = measure(image, thinned, SPACING)
    assert values["papillary muscles %"] == pytest.approx(25, abs=2)
    assert values["noisiest slice"] == pytest.approx(3, rel=0.05)
    assert values["infarcted wall %"] == pytest.approx(50, abs=10)
    assert values["bright surroundings"] == pytest.approx(2, abs=0.1)
    assert values["dark surroundings"] == pytest.approx(-1, abs=0.1)
    bare = np.where(labels == 3, 2, labels)
    assert measure(image, bare, SPACING)["no-reflow without rim %"] > 40


def test_what_a_heart_has_not_is_not_a_number():
    labels = heart(infarct=False)
    values = measure(LEVELS[labels] + 0.1 * GRAIN, labels, SPACING)
    missing = {name for name, value in values.items() if math.isnan(value)}
    assert missing == {
        "infarct contrast",
        "no-reflow contrast",
        "infarcted wall %",
        "infarct ml",
        "infarct %",
        "transmurality %",
        "no-reflow %",
        "no-reflow without rim %",
    }
    nothing = measure(np.zeros(labels.shape), np.zeros_like(labels), SPACING)
    assert nothing.pop("slices") == 0 and all(map(math.isnan, nothing.values()))


def test_the_table_tells_like_from_unlike():
    like = [dict.fromkeys(MEASURES, float(value)) for value in range(100)]
    far = [one | {"wall mm": one["wall mm"] + 200, "infarct ml": math.nan} for one in like]
    rows = {row[0].split(":")[0]: row[1:] for row in distances(like, far).rows}
    assert rows["cavity mm"][2:] == ("0.00", "0.00", "2")
    assert rows["wall mm"][2:] == ("1.00", f"{200 / np.std(np.arange(100)):.2f}", "100")
    assert rows["infarct ml"][1:] == ("-", "-", "-", "-")
