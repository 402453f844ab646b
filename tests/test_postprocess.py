"""Scattered voxels go, true targets stay."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cascade_jax import postprocess
from cascade_jax.data import emidec, folders
from cascade_jax.postprocess import CANDIDATES, Rule, apply, choose_rules

REAL = Path(__file__).parents[2] / "shared" / "data" / "emidec"
SPACING = (10.0, 2.0, 2.0)  # 40 mm3 a voxel
ONE_HEART = (Rule("largest_heart"), Rule("one_ventricle"))  # which a patient has, without evidence
EVERY_RULE = [*(rule for group in CANDIDATES for rule in group), Rule("small_infarction", 200.0)]


def heart():
    """A ring of myocardium around a cavity, with an infarct of 12 voxels that holds 2 of no-reflow."""
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[:, 4:16, 4:16] = 2
    labels[:, 7:13, 7:13] = 1
    labels[:, 13:15, 8:10] = 3
    labels[1, 14, 8:10] = 4
    return labels


def test_a_clean_heart_is_left_alone():
    for name in ("largest_heart", "islands_outside_myocardium"):
        np.testing.assert_array_equal(apply([Rule(name)], heart(), SPACING), heart())
    for name in ("small_infarction", "small_no_reflow", "little_infarction"):
        np.testing.assert_array_equal(apply([Rule(name, 80.0)], heart(), SPACING), heart())


def test_components_away_from_the_largest_heart_go():
    scattered = heart()
    scattered[0, 0, 0] = 2
    scattered[2, 18:20, 18:20] = 1
    np.testing.assert_array_equal(apply([Rule("largest_heart")], scattered, SPACING), heart())


def two_ventricles(gap):
    """A ventricle with an infarct, and beside it, with `gap` pixels of myocardium between the cavities, a larger cavity
    that has myocardium on that side and a thin wall around it."""
    labels = np.zeros((4, 60, 90), np.uint8)
    labels[:, 10:34, 10:34] = 2
    labels[:, 15:29, 15:29] = 1
    labels[1, 29:33, 18:24] = 3
    ventricle = labels.copy()
    start = 29 + gap
    wall = labels[:, 8:46, start - 1 : start + 38]
    wall[wall == 0] = 2
    labels[:, 10:44, start : start + 37] = 1
    return labels, ventricle


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("gap", [5, 7])
def test_a_second_cavity_that_touches_the_myocardium_goes_with_the_wall_drawn_around_it(gap, mirrored):
    labels, ventricle = (volume[:, ::-1, ::-1] if mirrored else volume for volume in two_ventricles(gap))
    one = apply([Rule("one_ventricle")], labels, (10.0, 1.5, 1.5))
    np.testing.assert_array_equal(one == 1, ventricle == 1)
    np.testing.assert_array_equal(one == 3, ventricle == 3)
    # What stays of the second wall is at most as far from the cavity as a wall is thick.
    assert ((one == 2) & (ventricle == 0)).sum() < 0.1 * (labels == 2).sum()
    from_cavity = ndimage.distance_transform_edt(ventricle != 1, sampling=(10.0, 1.5, 1.5))
    assert from_cavity[one > 0].max() <= 20


def test_parts_of_one_cavity_lie_over_one_another_and_stay():
    labels = heart()
    labels[1, 7:13, 7:13] = 2  # a slice without blood between two with it
    labels[0, 9:11, 7:13] = 2  # a papillary muscle through another's middle
    np.testing.assert_array_equal(apply([Rule("one_ventricle")], labels, SPACING), labels)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real cases are not here")
def test_one_ventricle_leaves_what_readers_have_drawn():
    for file in folders.find_cases(REAL, labelled=True)[::5]:
        case = emidec.read_case(file)
        np.testing.assert_array_equal(apply(ONE_HEART, case.labels, case.spacing), case.labels)


def test_a_single_slice_of_unknown_thickness_counts_as_10_mm_thick():
    labels = heart()[:1]  # its infarct has 4 voxels, 160 mm3 if the slice is 10 mm thick
    unknown = (np.nan, *SPACING[1:])
    np.testing.assert_array_equal(apply([Rule("small_infarction", 150.0)], labels, unknown), labels)
    assert not (apply([Rule("small_infarction", 170.0)], labels, unknown) == 3).any()


def test_infarction_outside_the_myocardium_goes():
    scattered = heart()
    scattered[0, 0:2, 0:2] = 3
    scattered[2, 19, 19] = 4
    np.testing.assert_array_equal(apply([Rule("islands_outside_myocardium")], scattered, SPACING), heart())


def test_an_infarct_in_a_slice_without_myocardium_stays_when_nothing_else_is_there():
    labels = np.zeros((2, 6, 6), np.uint8)
    labels[0, 2:4, 2:4] = 3
    np.testing.assert_array_equal(apply([Rule("islands_outside_myocardium")], labels, SPACING), labels)


def test_small_infarcts_become_myocardium_and_small_no_reflow_infarction():
    labels = heart()
    labels[0, 5, 5] = 3
    np.testing.assert_array_equal(apply([Rule("small_infarction", 50.0)], labels, SPACING), heart())
    assert not (apply([Rule("small_no_reflow", 100.0)], heart(), SPACING) == 4).any()
    assert (apply([Rule("small_no_reflow", 100.0)], heart(), SPACING) >= 3).sum() == (heart() >= 3).sum()


def test_a_little_in_all_is_none_and_where_there_is_more_its_small_parts_stay():
    labels = heart()
    labels[0, 5, 5] = 3  # 40 mm3, beside 480 of which 80 are no-reflow
    np.testing.assert_array_equal(apply([Rule("little_infarction", 520.0)], labels, SPACING), labels)
    none = apply([Rule("little_infarction", 521.0)], labels, SPACING)
    np.testing.assert_array_equal(none, np.where(labels >= 3, 2, labels))


def test_what_is_decided_for_the_whole_heart_is_kept_where_true_infarcts_have_small_parts():
    normal = np.where(heart() >= 3, 2, heart()).astype(np.uint8)
    speckled, parted = normal.copy(), heart()
    speckled[0, 5, 5:8] = 3  # 120 mm3, false
    parted[0, 5, 5:7] = 3  # 80 mm3, true
    kept = choose_rules([(speckled, normal, SPACING), (parted, parted, SPACING)])
    assert kept == (*ONE_HEART, Rule("little_infarction", 200.0))


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, (2, 6, 6), elements=st.integers(0, 4)), st.sampled_from(EVERY_RULE))
def test_a_rule_does_to_a_heart_cut_out_what_it_does_to_it_in_its_place(labels, rule):
    for place in ((slice(0, 2), slice(0, 6), slice(0, 6)), (slice(1, 3), slice(3, 9), slice(2, 8))):
        whole = np.zeros((4, 12, 12), np.uint8)
        whole[place] = labels
        seen, _ = postprocess._around_hearts(whole, whole)
        seen, whole = (apply([rule], one, SPACING) for one in (seen, whole))
        np.testing.assert_array_equal(seen[seen > 0], whole[whole > 0])
        assert seen.size <= 4 * 8 * 8


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, (2, 6, 6), elements=st.integers(0, 4)), st.sampled_from(EVERY_RULE))
def test_a_rule_applied_twice_does_no_more_and_no_rule_invents_a_heart(labels, rule):
    once = apply([rule], labels, SPACING)
    np.testing.assert_array_equal(apply([rule], once, SPACING), once)
    assert once.dtype == np.uint8
    assert not once[labels == 0].any()
    assert np.isin(once[labels == 1], (0, 1)).all()
    assert np.isin(once[labels == 2], (0, 2)).all()


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, (2, 6, 6), elements=st.integers(0, 4)))
def test_the_largest_heart_stays_whole(labels):
    once = apply([Rule("largest_heart")], labels, SPACING)
    components, count = ndimage.label(labels > 0, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=1)[1:]
    assert (once > 0).sum() == (sizes.max() if count else 0)
    np.testing.assert_array_equal(once[once > 0], labels[once > 0])


def test_a_rule_is_kept_only_if_it_lowers_no_targets_dice():
    truth = heart()
    scattered = truth.copy()
    scattered[0, 0, 0] = 2
    chosen = choose_rules([(scattered, truth, SPACING)])
    assert chosen[0] == Rule("largest_heart")
    # The true infarct is 480 mm3 and the no-reflow 80: what would remove them is not kept.
    assert not any(rule.name == "little_infarction" and rule.minimum_mm3 > 480 for rule in chosen)
    assert not any(rule.name == "small_no_reflow" and rule.minimum_mm3 > 80 for rule in chosen)
    np.testing.assert_array_equal(apply(chosen, scattered, SPACING), truth)


def test_a_second_true_component_keeps_the_rule_away():
    truth = heart()
    truth[0, 0:3, 0:3] = 2
    assert Rule("largest_heart") not in choose_rules([(truth, truth, SPACING)] * 2)


def test_one_stray_voxel_of_truth_does_not_keep_the_largest_heart_away():
    truth = heart()
    truth[0, 0, 0] = 2
    assert Rule("largest_heart") in choose_rules([(truth, truth, SPACING), *[(heart(), heart(), SPACING)] * 3])


def test_false_infarcts_in_normal_hearts_make_the_smallest_sufficient_threshold_win():
    normal = np.where(heart() >= 3, 2, heart()).astype(np.uint8)
    speckled = normal.copy()
    speckled[0, 5, 5:8] = 3  # 120 mm3
    kept = choose_rules([(speckled, normal, SPACING), (heart(), heart(), SPACING)])
    (rule,) = [rule for rule in kept if rule.name == "little_infarction"]
    assert rule.minimum_mm3 == 200


def test_a_sparing_choice_takes_a_larger_volume_only_where_more_than_one_case_speaks_for_it():
    normal = np.where(heart() >= 3, 2, heart()).astype(np.uint8)
    small, large = normal.copy(), normal.copy()
    small[0, 5, 5:8] = 3  # 120 mm3, false
    large[0, 5, 5:12] = 3  # 280 mm3, false
    cases = [(small, normal, SPACING)] * 2 + [(large, normal, SPACING)]
    heart_and = ONE_HEART
    assert choose_rules(cases) == (*heart_and, Rule("little_infarction", 400.0))
    assert choose_rules(cases, sparing=True) == (*heart_and, Rule("little_infarction", 200.0))
    assert choose_rules([*cases, *cases[2:]], sparing=True) == (*heart_and, Rule("little_infarction", 400.0))


def test_without_evidence_no_rule_that_removes_disease_is_kept():
    normal = np.where(heart() >= 3, 2, heart()).astype(np.uint8)
    rules = choose_rules([(normal, normal, SPACING)] * 4)
    assert rules == ONE_HEART
    np.testing.assert_array_equal(apply(rules, heart(), SPACING), heart())


def test_a_rule_that_is_known_to_do_good_needs_no_evidence_and_gives_way_to_that_of_more_than_one_case():
    known = [Rule("small_infarction", 400.0)]
    normal = np.where(heart() >= 3, 2, heart()).astype(np.uint8)
    assert choose_rules([(normal, normal, SPACING)], known=known) == (*ONE_HEART, *known)
    small = normal.copy()
    small[0, 13:15, 8:10] = 3  # 160 mm3, and true
    cases = [(normal, normal, SPACING)] * 2 + [(small, small, SPACING)] * 2
    assert choose_rules(cases[:3], known=known) == (*ONE_HEART, *known)
    assert choose_rules(cases, known=known) == ONE_HEART


def test_a_known_volume_gives_way_to_another_only_where_more_than_one_case_speaks_for_it():
    normal = np.full((3, 40, 40), 2, np.uint8)
    false = normal.copy()
    false[0, 0, 0:4] = 3  # 160 mm3
    infarct = normal.copy()
    infarct[:, 10:30, 10:30] = 3
    infarct[0, 0, 0:7] = 3  # 280 mm3, and true
    known = [Rule("small_infarction", 400.0)]
    heart_and = ONE_HEART
    one = [(false, normal, SPACING), (infarct, infarct, SPACING)]
    assert choose_rules(one) == (*heart_and, Rule("little_infarction", 200.0))
    assert choose_rules(one, known=known) == (*heart_and, *known)
    three = [*one, *one[1:], *one[1:]]
    assert choose_rules(three, known=known) == (*heart_and, Rule("little_infarction", 200.0))


def test_an_unknown_rule_is_an_error():
    with pytest.raises(KeyError):
        apply([Rule("unknown")], heart(), SPACING)
    assert set(postprocess.RULES) == {rule.name for rule in EVERY_RULE}
