"""The synthetic cohort looks like the challenge's data, in the ranges measured on real cases."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cascade_jax.data import emidec, folders
from cascade_jax.data.case import CAVITY, INFARCTION, MYOCARDIUM, NO_REFLOW, CaseError
from cascade_jax.phantoms import simulated

CASES = 9


@pytest.fixture(scope="module")
def whole():
    return [simulated.simulate_case(0, index) for index in range(CASES)]


@pytest.fixture(scope="module")
def windowed():
    return [simulated.simulate_case(5, index, field_of_view_mm=120) for index in range(CASES)]


def pathological(cases):
    return [case for case in cases if case.name.startswith("Case_P")]


def test_one_third_of_any_three_consecutive_cases_is_normal(whole):
    for first in range(0, CASES, 3):
        assert sum(case.name.startswith("Case_N") for case in whole[first : first + 3]) == 1
    for case in whole:
        assert (case.labels >= INFARCTION).any() == case.name.startswith("Case_P")
    order = {tuple(simulated.is_pathological(seed, index) for index in range(3)) for seed in range(12)}
    assert len(order) == 3


def test_geometry_is_in_the_range_of_the_challenges_files(whole):
    for case in whole:
        depth, *plane = case.image.shape
        assert 5 <= depth <= 10
        assert all(130 <= size <= 270 for size in plane)
        assert 8 <= case.spacing[0] <= 13
        assert 1.25 <= case.spacing[1] == case.spacing[2] <= 2
    assert len({case.image.shape for case in whole}) == len(whole)


def test_tissues_fill_the_share_of_voxels_that_they_do_in_real_cases(whole):
    heart = np.mean([(case.labels > 0).mean() for case in whole])
    assert 0.02 <= heart <= 0.03
    infarction = np.mean([(case.labels >= INFARCTION).mean() for case in pathological(whole)])
    assert 0.001 <= infarction <= 0.003
    obstructed = [(case.labels == NO_REFLOW).mean() for case in whole if (case.labels == NO_REFLOW).any()]
    assert 0 < len(obstructed) < len(pathological(whole))
    assert 0.00005 <= np.mean(obstructed) <= 0.0004


def test_intensities_are_those_of_real_cases(whole):
    """Real: blood 2440 +- 120, normal myocardium 2160 +- 110, infarction 2430 +- 140, no-reflow 2300 +- 100."""
    # label: mean, tolerance of the cohort's mean, deviation and its tolerance within a case
    expected = {
        CAVITY: (2440, 60, 120, 30),
        MYOCARDIUM: (2160, 40, 110, 30),
        INFARCTION: (2430, 70, 140, 60),
        NO_REFLOW: (2300, 70, 100, 45),
    }
    means = {}
    for label, (mean, tolerance, deviation, spread) in expected.items():
        values = [case.image[case.labels == label] for case in whole if (case.labels == label).any()]
        means[label] = np.mean([value.mean() for value in values])
        assert means[label] == pytest.approx(mean, abs=tolerance)
        assert np.mean([value.std() for value in values]) == pytest.approx(deviation, abs=spread)
    assert abs(means[INFARCTION] - means[CAVITY]) < 60 < means[CAVITY] - means[NO_REFLOW]
    assert means[NO_REFLOW] - means[MYOCARDIUM] > 60


def test_values_are_whole_and_within_the_files_range(whole):
    for case in whole:
        assert case.image.min() == 0
        assert 2500 < case.image.max() <= 4095
        np.testing.assert_array_equal(case.image, np.round(case.image))


def test_the_zero_border_differs_from_slice_to_slice_and_holds_no_heart(whole):
    for case in whole:
        assert len({np.count_nonzero(plane == 0) for plane in case.image}) > 1
        assert not case.labels[case.image == 0].any()
        # Zero is the border only: tissue does not reach it.
        assert ndimage.label(case.image[0] != 0)[1] == 1


def test_the_ventricle_tapers_to_the_apex(whole):
    for case in whole:
        areas = [(plane > 0).sum() for plane in case.labels]
        assert areas[0] < 0.7 * max(areas)
        assert np.argmax(areas) >= len(areas) // 2


def test_partial_volume_makes_the_apex_uneven(windowed):
    """At the apex a thick slice holds myocardium, blood and what is around: its myocardium is of more intensities."""
    ratios = []
    for case in windowed:
        planes = zip(case.image, case.labels, strict=True)
        myocardium = [plane[labels == MYOCARDIUM] for plane, labels in planes]
        apex = next(values for values in myocardium if values.size > 50)
        ratios.append(apex.std() / myocardium[len(myocardium) // 2].std())
    assert np.mean(ratios) > 1.1


def test_infarcts_start_at_the_endocardium_and_lie_in_the_wall(windowed):
    for case in pathological(windowed):
        infarct = case.labels >= INFARCTION
        cavity = ndimage.binary_dilation(case.labels == CAVITY, np.ones((1, 3, 3)), iterations=2)
        assert (infarct & cavity).any()
        heart = case.labels > 0
        # Nearly all of what lies around an infarct in its plane is heart, but for the epicardial side.
        filled = np.stack([ndimage.binary_fill_holes(plane) for plane in heart])
        np.testing.assert_array_equal(filled, heart)
        sizes = np.bincount(ndimage.label(infarct, np.ones((3, 3, 3)))[0].ravel())[1:]
        assert sizes.max() > 0.75 * sizes.sum()


def test_infarcts_extend_through_slices_and_differ_in_transmurality(windowed):
    shares = []
    for case in pathological(windowed):
        slices = [(plane >= INFARCTION).sum() / max(1, (plane >= MYOCARDIUM).sum()) for plane in case.labels]
        assert np.count_nonzero(slices) >= 3
        shares.append(max(slices))
    assert max(shares) > 1.5 * min(shares)


def test_no_reflow_is_a_core_inside_the_infarction(windowed):
    found = 0
    for case in windowed:
        core = case.labels == NO_REFLOW
        if not core.any():
            continue
        found += 1
        around = ndimage.binary_dilation(core, np.ones((1, 3, 3))) & ~core
        assert (case.labels[around] == INFARCTION).mean() > 0.5
    assert found


def test_slices_are_shifted_against_each_other():
    jumps = []
    for index in range(4):
        case = simulated.simulate_case(2, index, field_of_view_mm=120)
        centres = [ndimage.center_of_mass(plane > 0) for plane in case.labels if (plane > 0).sum() > 50]
        second = np.diff(np.array(centres) * case.spacing[1], n=2, axis=0)
        jumps.append(np.abs(second).mean())
    # A straight or gently bent axis would leave next to nothing.
    assert np.mean(jumps) > 1.0


def test_a_case_depends_on_seed_and_number_alone(tmp_path):
    simulated.write_cohort(tmp_path / "few", 2, 7, field_of_view_mm=100)
    simulated.write_cohort(tmp_path / "more", 4, 7, field_of_view_mm=100)
    simulated.write_cohort(tmp_path / "other", 2, 8, field_of_view_mm=100)
    few, more, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.nii.gz")}
        for name in ("few", "more", "other")
    )
    assert len(more) == 4
    for name, content in few.items():
        assert more[name] == content
    assert not set(few.values()) & set(other.values())


def test_files_have_the_challenges_quirks(tmp_path):
    simulated.write_cohort(tmp_path, 1, 0, field_of_view_mm=100)
    (files,) = folders.find_cases(tmp_path, labelled=True)
    for path in (files.image, files.contour):
        image = nib.load(path)
        assert image.get_data_dtype() == np.float64
        np.testing.assert_array_equal(image.affine, np.diag([-1, -1, 1, 1]))
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (2, 0)
        assert image.header.get_zooms()[2] >= 8
    case, made = emidec.read_case(files), simulated.simulate_case(0, 0, field_of_view_mm=100)
    np.testing.assert_array_equal(case.image, made.image)
    np.testing.assert_array_equal(case.labels, made.labels)
    assert case.spacing == pytest.approx(made.spacing)


def test_the_signal_is_null_where_it_should_be():
    repetition = 1e9
    assert simulated.inversion_recovery(450, 450 * np.log(2), repetition) == pytest.approx(0)
    assert simulated.inversion_recovery(450, 1e-9, repetition) == pytest.approx(-1)
    assert simulated.inversion_recovery(300, 330, 1600) > simulated.inversion_recovery(450, 330, 1600)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    simulated.write_cohort(tmp_path / "cohort", 1, 0, field_of_view_mm=90)
    with pytest.raises(CaseError, match="holds another phantom cohort"):
        simulated.write_cohort(tmp_path / "cohort", 1, 1, field_of_view_mm=90)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CaseError, match="is not empty and holds no phantom cohort"):
        simulated.write_cohort(tmp_path, 1, 0, field_of_view_mm=90)
