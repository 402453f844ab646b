"""Infarcts by threshold, on myocardium whose intensities are known."""

import numpy as np
import pytest

from cascade_jax.data import emidec
from cascade_jax.phantoms import simulated
from cascade_jax.quantify import thresholds
from cascade_jax.quantify.quantities import quantify
from tests.quantify.hearts import INNER, OUTER, SPACING, grid, ring


def ramp():
    """Myocardium whose intensity rises by one a degree around the wall, from 100 at 0 to 460 at 360."""
    labels = ring(0)
    return np.where(labels == 2, 100 + grid()[1], 1000.0), labels


@pytest.fixture(scope="module")
def phantoms():
    """[(true infarct in ml, the case's quantities with the true outline)] of 12 phantoms."""
    measured = []
    for index in range(12):
        case = simulated.simulate_case(1, index, field_of_view_mm=115)
        labels, spacing = emidec.to_file_axes(case.labels), case.spacing[::-1]
        true_ml = np.count_nonzero(labels >= 3) * np.prod(spacing) / 1000
        measured.append((true_ml, quantify(labels, spacing, emidec.to_file_axes(case.image)).case))
    return measured


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_on_a_ramp_deviations_cut_where_they_should(count):
    image, labels = ramp()
    remote = thresholds.remote_myocardium(image, labels)
    # The remote region is the first 60 degrees: mean 130, and the standard deviation of an even distribution.
    share = (330 - count * 60 / np.sqrt(12)) / 360
    mask = thresholds.above_deviations(image, labels, remote, count)
    assert mask.sum() / (labels == 2).sum() == pytest.approx(share, abs=0.004)
    myocardium = np.pi * (OUTER**2 - INNER**2) * 60 / 1000
    assert quantify(labels, SPACING, image).case[f"infarct_{count}sd_ml"] == pytest.approx(
        share * myocardium, rel=0.015
    )


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (-2048, 1), (0, 7)])
def test_on_a_ramp_half_the_maximum_cuts_half_way_from_remote_myocardium(offset, scale):
    image, labels = ramp()
    image = image * scale + offset
    mask = thresholds.above_half_maximum(image, labels, thresholds.remote_myocardium(image, labels))
    share = (460 - (130 + 460) / 2) / 360
    assert mask.sum() / (labels == 2).sum() == pytest.approx(share, abs=0.006)


def test_thresholds_find_the_bright_sector():
    labels = ring(10.0)
    random = np.random.default_rng(1)
    image = np.where(labels == 3, 180.0, np.where(labels == 2, 50.0, 150.0)) + random.normal(0, 6, labels.shape)
    contour = np.where(labels == 3, 2, labels)  # the reader gives the myocardium alone
    remote = thresholds.remote_myocardium(image, contour)
    assert not (remote & (labels == 3)).any()
    assert image[remote].mean() == pytest.approx(50, abs=1)
    truth = labels == 3
    for mask in (
        thresholds.above_deviations(image, contour, remote, 5),
        thresholds.above_half_maximum(image, contour, remote),
    ):
        assert np.mean(mask == truth) > 0.999
    case = quantify(contour, SPACING, image).case
    assert case["infarct_2sd_ml"] > case["infarct_5sd_ml"] == pytest.approx(truth.sum() * 2.5 / 1000, rel=0.01)


def test_half_maximum_finds_nothing_in_a_normal_heart():
    labels = ring(0)
    image = np.where(labels == 2, 50.0, 150.0) + np.random.default_rng(1).normal(0, 6, labels.shape)
    remote = thresholds.remote_myocardium(image, labels)
    assert not thresholds.above_half_maximum(image, labels, remote).any()
    with pytest.raises(ValueError, match="remote"):
        thresholds.above_deviations(image, labels, np.zeros_like(remote), 5)


def test_half_maximum_finds_nothing_where_blood_reaches_into_the_rim_of_the_contour():
    labels = ring(0)
    image = np.where(labels == 2, 50.0, 150.0) + np.random.default_rng(1).normal(0, 6, labels.shape)
    image[(labels == 2) & ~thresholds.inner_myocardium(labels) & (grid()[1] > 120)] = 150
    assert not thresholds.above_half_maximum(image, labels, thresholds.remote_myocardium(image, labels)).any()


def test_half_maximum_finds_an_infarct_of_four_thousandths_of_the_myocardium():
    labels = ring(0)
    radius, angle = grid()
    infarct = (radius > 22) & (radius < 27) & (angle < 17.6) & (np.arange(6) == 3)
    assert infarct.sum() / (labels == 2).sum() == pytest.approx(0.004, rel=0.03)
    image = np.where(infarct, 180.0, np.where(labels == 2, 50.0, 150.0))
    image += np.random.default_rng(1).normal(0, 6, labels.shape)
    mask = thresholds.above_half_maximum(image, labels, thresholds.remote_myocardium(image, labels))
    np.testing.assert_array_equal(mask, infarct)


def test_the_maximum_is_not_a_few_odd_voxels_nor_the_noise_of_a_large_infarct():
    labels = ring(10.0)
    noise = np.random.default_rng(1).normal(0, 40, labels.shape)
    image = np.where(labels == 3, 180.0, np.where(labels == 2, 50.0, 150.0)) + np.where(labels == 3, noise, noise / 8)
    assert thresholds.inner_myocardium(labels)[24, 80].all()
    image[24, 80] = 4000
    mask = thresholds.above_half_maximum(image, labels, thresholds.remote_myocardium(image, labels))
    # Medians of nine have 0.41 of a voxel's deviation, and the highest of thousands lies 3.7 of theirs above 180: half
    # way from 50 to 241 finds 81 % of the infarct. The highest voxel, about 330, would find 40 %.
    assert np.mean(mask[labels == 3]) == pytest.approx(0.81, abs=0.03)
    assert np.mean(mask[labels == 2]) < 0.001


def test_half_maximum_is_not_known_where_the_wall_is_two_voxels_thick():
    radius, _ = grid()
    labels = np.where(radius < INNER, 1, np.where(radius < INNER + 0.6, 2, 0)).astype(np.uint8)
    image = np.where(labels == 2, 50.0, 150.0)
    case = quantify(labels, SPACING, image).case
    assert np.isnan(case["infarct_fwhm_ml"])
    assert case["infarct_5sd_ml"] == 0
    with pytest.raises(ValueError, match="three voxels"):
        thresholds.above_half_maximum(image, labels, labels == 2)


def test_half_maximum_is_near_a_phantoms_infarct_or_empty_with_the_reason(phantoms):
    values = [(true_ml, case["infarct_fwhm_ml"], case["infarct_fwhm_reason"]) for true_ml, case in phantoms]
    assert sum(true_ml > 3 for true_ml, *_ in values) >= 6
    known = [(true_ml, value) for true_ml, value, reason in values if not reason]
    assert len(known) >= 3
    for true_ml, value in known:
        assert true_ml / 1.4 < value < 1.2 * true_ml
    for true_ml, value, reason in values:
        assert np.isnan(value) == bool(reason)
        if reason:
            assert "SD above remote myocardium" in reason
        if not true_ml:
            assert reason, "a normal heart has no half maximum"


def test_deviations_count_an_infarct_or_say_why_not(phantoms):
    for true_ml, case in phantoms:
        assert case["infarct_2sd_ml"] > 0.3 * true_ml
        # Noise puts five standard deviations above everything, the infarct too.
        assert np.isnan(case["infarct_5sd_ml"])
        reason = "5 and 6 SD above remote myocardium is brighter than blood and than the bright myocardium"
        assert case["infarct_sd_reason"].endswith(reason)


def test_the_remote_region_is_named_beside_the_numbers():
    image, labels = ramp()
    case = quantify(labels, SPACING, image).case
    assert (case["remote_from_degrees"], case["remote_to_degrees"]) == (0, 60)
    assert (case["remote_slices"], case["remote_statistics"]) == ("1-6", "pooled over slices")
    assert case["remote_mean"] == pytest.approx(130, abs=1)
    assert case["remote_sd"] == pytest.approx(60 / np.sqrt(12), rel=0.02)
    assert case["remote_voxels"] == np.count_nonzero((labels == 2) & (grid()[1] < 60))
    assert case["infarct_sd_reason"] == case["infarct_fwhm_reason"] == ""


def test_a_sliver_beside_an_open_wall_is_no_remote_region():
    image, labels = ramp()
    labels = np.where((grid()[1] > 5) & (grid()[1] < 120) & (labels == 2), 0, labels)
    case = quantify(labels, SPACING, image).case
    assert case["remote_from_degrees"] == 90, "half of its sixty degrees are myocardium"
    labels = np.where((labels == 2) & (np.arange(160)[:, None] != 80), 0, labels)[:, :, :1]
    case = quantify(labels, SPACING, image[:, :, :1]).case
    assert case["remote_voxels"] < 20 or case["infarct_sd_reason"] == ""


def test_without_a_remote_region_no_threshold_has_a_value():
    labels = np.where(ring(0) == 1, 2, ring(0))
    case = quantify(labels, SPACING, np.ones(labels.shape)).case
    for name in ("infarct_2sd_ml", "infarct_6sd_ml", "infarct_fwhm_ml", "remote_mean", "remote_sd"):
        assert np.isnan(case[name])
    assert case["infarct_sd_reason"] == case["infarct_fwhm_reason"]
    assert case["infarct_sd_reason"].startswith("no remote region")
    assert case["remote_voxels"] == 0


def test_dark_blood_does_not_empty_the_deviations():
    labels = ring(10.0)
    image = np.where(labels == 3, 180.0, np.where(labels == 2, 50.0, 0.0))
    image += np.random.default_rng(1).normal(0, 6, labels.shape)
    case = quantify(np.where(labels == 3, 2, labels), SPACING, image).case
    assert case["infarct_5sd_ml"] == pytest.approx((labels == 3).sum() * 2.5 / 1000, rel=0.01)


@pytest.mark.parametrize(("blood", "measured"), [(100.0, False), (400.0, True)])
def test_deviations_above_the_bright_myocardium_count_only_below_the_blood(blood, measured):
    labels = ring(10.0)
    image = np.where(labels == 3, 180.0, np.where(labels == 2, 50.0, np.where(labels == 1, blood, 0.0)))
    image += np.random.default_rng(1).normal(0, 40, labels.shape)
    case = quantify(np.where(labels == 3, 2, labels), SPACING, image).case
    assert np.isfinite(case["infarct_6sd_ml"]) == measured == (case["infarct_sd_reason"] == "")


def test_inner_myocardium_has_myocardium_on_its_four_sides_whatever_lies_at_its_corners():
    labels = np.full((5, 5, 2), 2, np.uint8)
    labels[1, 1, 0] = 1
    inner = thresholds.inner_myocardium(labels)
    assert inner[2, 2].all() and not inner[2, 1, 0] and not inner[1, 2, 0] and inner[2, 1, 1]
    assert not inner[0].any() and not inner[:, 4].any()
