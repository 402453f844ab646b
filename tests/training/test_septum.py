"""What the network that finds the septum learns from."""

import subprocess
import sys

import numpy as np
import pytest

from cascade_jax.quantify import septum
from cascade_jax.training.septum import septum_of, shares

PIXEL = 2.0


def slice_with(start, stop, gap=0.0):
    """Labels (x, y) of a left ventricle of 30 mm and blood that lies on it, or `gap` mm off, between two angles."""
    x, y = np.indices((96, 96))
    across, up = (x - 48) * PIXEL, -(y - 50) * PIXEL
    radius, angle = np.hypot(across, up), np.rad2deg(np.arctan2(up, across)) % 360
    labels = np.where(radius < 20, 1, np.where(radius < 30, 2, 0)).astype(np.uint8)
    blood = (radius >= 30 + gap) & (radius < 45) & ((angle - start) % 360 < stop - start)
    return labels, blood


@pytest.mark.parametrize(("start", "stop"), [(120, 240), (300, 430), (10, 60)])
def test_the_septum_of_a_phantom_reaches_as_far_as_blood_lies_at_the_wall(start, stop):
    labels, blood = slice_with(start, stop)
    first, last = septum_of(labels, blood, labels, PIXEL)
    assert abs((first - start + 180) % 360 - 180) < 6
    assert abs((last - stop + 180) % 360 - 180) < 6


def test_blood_away_from_the_wall_makes_no_septum():
    labels, blood = slice_with(120, 240, gap=8.0)
    assert septum_of(labels, blood, labels, PIXEL) is None
    assert septum_of(labels, np.zeros_like(blood), labels, PIXEL) is None


def test_where_it_cannot_be_said_where_the_septum_is_nothing_is_learnt():
    labels, one = slice_with(120, 200)
    _, other = slice_with(280, 340)
    for blood in (one | other, slice_with(120, 140)[1]):
        with pytest.raises(ValueError, match="unclear"):
            septum_of(labels, blood, labels, PIXEL)


def test_angles_are_those_about_the_outlines_own_centre():
    labels, blood = slice_with(120, 240)
    first, last = septum_of(labels, blood, np.roll(labels, 3, axis=0), PIXEL)
    about_the_labels = septum_of(labels, blood, labels, PIXEL)
    # The centre has moved 6 mm to the right, away from the septum on the left, which looks smaller from there.
    assert 5 < first - about_the_labels[0] < 15
    assert -15 < last - about_the_labels[1] < -5


def test_a_mirrored_slice_has_its_septum_on_the_other_side():
    np.testing.assert_allclose(septum.mirror(shares((100.5, 205.5))[None])[0], shares((154.5, 259.5)))
    share = shares((352.5, 46.5))
    assert share.sum() * (360 / septum.DIRECTIONS) == pytest.approx(54)
    assert share[[-3, -2, 0, 15, 16]].tolist() == [0, 1, 1, 1, 0]


def test_a_training_from_nothing_gives_a_network_that_can_be_used(tmp_path):
    path = tmp_path / "septum.npz"
    command = [sys.executable, "-m", "launch.septum", f"--output={path}", "--hearts=64", "--steps=40"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{path}: ")
    with np.load(path, allow_pickle=False) as file:
        weights = {name: file[name].astype(np.float32) for name in file.files}
    assert {name: array.shape for name, array in weights.items()} == {
        name: array.shape for name, array in septum.network().items()
    }
    directions, seen = septum.evaluate(weights, np.zeros((1, septum.DIRECTIONS, septum.CHANNELS), np.float32))
    assert np.isfinite(directions).all()
    assert seen > 0, "most hearts have a right ventricle"


def test_what_is_already_there_is_not_replaced(tmp_path):
    path = tmp_path / "septum.npz"
    path.write_bytes(b"mine")
    result = subprocess.run(
        [sys.executable, "-m", "launch.septum", f"--output={path}"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr == f"error: {path}: is already there\n"
    assert path.read_bytes() == b"mine"
