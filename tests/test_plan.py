"""The plan is nnU-Net's for data like EMIDEC's, and can be overridden."""

import dataclasses
import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from cascade_jax.cascade import load
from cascade_jax.data import emidec, folders
from cascade_jax.data.preprocess import bounding_box, resampled_shape
from cascade_jax.plan import Plan, bucket, make_plan, smallest_shape, topology, total_strides, with_networks_of

REAL = Path(__file__).parent.parent.parent / "shared" / "data" / "emidec"

# Shapes and spacings as in the EMIDEC training set: 5 to 10 slices, 8 to 13 mm apart, no two cases alike.
SHAPES = [(7, 235, 200), (10, 250, 215), (8, 260, 225), (9, 248, 212)] * 25
SPACINGS = [(10.0, 1.43, 1.43), (8.0, 1.4, 1.4), (10.0, 1.46, 1.46), (13.0, 1.43, 1.43)] * 25


def test_emidec_like_data_get_nnunets_plan():
    plan = make_plan(SHAPES, SPACINGS)
    assert plan.spacing == pytest.approx((10, 1.43, 1.43))
    assert plan.shape == (10, 256, 224)
    assert plan.slices.features == (32, 64, 128, 256, 512, 512)
    assert plan.slices.strides == ((1, 1),) + ((2, 2),) * 5
    assert plan.slices.kernel_sizes == ((3, 3),) * 6
    assert plan.volumes.features == (32, 64, 128, 256, 320, 320)
    assert plan.volumes.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert plan.volumes.kernel_sizes == ((1, 3, 3),) * 2 + ((3, 3, 3),) * 4
    assert plan.volumes.batch_size == 2
    assert 20 <= plan.slices.batch_size <= 60


def test_a_small_cohort_gets_smaller_batches_of_slices():
    assert make_plan(SHAPES[:10], SPACINGS[:10]).slices.batch_size == 4


def test_overrides_take_the_place_of_what_was_derived():
    overrides = {
        "spacing": (10.0, 2.0, 2.0),
        "slices": {"features": (8, 16), "batch_size": 3},
        "volumes": {"features": (4, 8, 16), "kernel_sizes": ((3, 3, 3),) * 3},
    }
    plan = make_plan(SHAPES, SPACINGS, overrides)
    assert plan.spacing == (10.0, 2.0, 2.0)
    assert plan.slices.features == (8, 16)
    assert plan.slices.strides == ((1, 1), (2, 2))
    assert plan.slices.batch_size == 3
    assert plan.volumes.kernel_sizes == ((3, 3, 3),) * 3
    # Medians of 352 and 302 mm are 176 and 151 voxels; two halvings make them multiples of 4.
    assert plan.shape == (10, 176, 152)


def test_more_resolutions_than_the_shape_allows_are_refused():
    with pytest.raises(ValueError, match="has 6 resolutions"):
        make_plan(SHAPES, SPACINGS, {"slices": {"features": (8,) * 7}})


def test_a_plan_written_and_read_is_the_same():
    plan = make_plan(SHAPES, SPACINGS)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


sizes = st.tuples(st.integers(5, 14), st.integers(40, 400), st.integers(40, 400))
spacings = st.tuples(st.floats(5, 14), st.floats(0.7, 2.5), st.floats(0.7, 2.5))


@given(sizes, spacings)
def test_no_axis_is_halved_below_four_voxels(shape, spacing):
    strides, kernel_sizes = topology(shape, spacing)
    assert len(strides) == len(kernel_sizes)
    for size, factor in zip(shape, total_strides(strides), strict=True):
        assert -(-size // factor) >= 4 or factor == 1


@given(st.lists(st.tuples(sizes, spacings), min_size=1, max_size=5), sizes)
def test_every_shape_fits_both_networks_and_holds_what_it_must(cohort, needed):
    plan = make_plan(*zip(*cohort, strict=True))
    for shape in (plan.shape, smallest_shape(plan, needed)):
        for axis in range(3):
            assert shape[axis] % total_strides(plan.volumes.strides)[axis] == 0
        for axis in range(2):
            assert shape[axis + 1] % total_strides(plan.slices.strides)[axis] == 0
    assert all(size >= least for size, least in zip(smallest_shape(plan, needed), needed, strict=True))


def needed_shapes(cases, plan):
    """What cases, (shape in voxels, spacing in mm) each, take on a plan's grid."""
    return [resampled_shape(shape, spacing, plan.spacing[1:]) for shape, spacing in cases]


def random_cases(seed, count=30):
    """Stacks as in the EMIDEC training set: 4 to 10 slices of 130 to 270 pixels of 1.25 to 2 mm."""
    random = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        pixel = random.uniform(1.25, 2)
        shape = random.integers(4, 11), *random.integers(130, 271, 2)
        cases.append((tuple(map(int, shape)), (float(random.uniform(8, 13)), pixel, pixel)))
    return cases


@given(st.lists(st.tuples(sizes, spacings), min_size=1, max_size=5), sizes)
def test_a_bucket_holds_the_case_and_fits_both_networks(cohort, needed):
    plan = make_plan(*zip(*cohort, strict=True))
    shape = bucket(plan, needed)
    assert shape == smallest_shape(plan, shape)
    assert all(size >= least for size, least in zip(shape, needed, strict=True))
    assert bucket(plan, plan.shape) == plan.shape, "an example of the training is not padded further"
    assert bucket(plan, shape) == shape


def test_sizes_share_buckets_and_a_small_case_is_not_padded_to_a_large_one():
    plan = load("phantom").plan
    assert plan.shape == (8, 144, 144)
    assert bucket(plan, (5, 90, 100)) == (8, 144, 144)
    assert bucket(plan, (8, 140, 140)) == (8, 144, 144)
    assert bucket(plan, (8, 145, 140)) == (8, 208, 144)
    assert bucket(plan, (9, 115, 191)) == (10, 144, 208)
    assert bucket(plan, (14, 200, 210)) == (17, 208, 272)
    assert bucket(plan, (4, 100, 270)) == (8, 208, 272), "the shorter axis is at most one step behind"
    small = dataclasses.replace(plan, shape=(8, 64, 64))
    assert bucket(small, (8, 66, 64)) == (8, 80, 64), "small planes grow by small steps"
    assert bucket(small, (8, 100, 110)) == (8, 112, 112)


@pytest.mark.parametrize("seed", range(5))
def test_thirty_cases_of_any_sizes_share_few_shapes(seed):
    cases = random_cases(seed)
    own = make_plan(*zip(*cases, strict=True))
    assert len({bucket(own, shape) for shape in needed_shapes(cases, own)}) <= 7
    # The plan of "phantom" is of smaller planes and fewer slices than most of these.
    in_the_box = load("phantom").plan
    needed = needed_shapes(cases, in_the_box)
    assert len({bucket(in_the_box, shape) for shape in needed}) <= 13
    assert len({smallest_shape(in_the_box, shape) for shape in needed}) > 20


@pytest.mark.skipif(not REAL.exists(), reason="the real cases are not beside the project")
def test_seventy_real_cases_are_ten_shapes_instead_of_two_dozen():
    plan = load("phantom").plan
    cases = [emidec.read_case(file) for file in folders.find_cases(REAL)]
    boxes = [[stop - start for start, stop in bounding_box(case.image)] for case in cases]
    needed = needed_shapes([(box, case.spacing) for box, case in zip(boxes, cases, strict=True)], plan)
    assert len({bucket(plan, shape) for shape in needed}) == 10
    assert len({smallest_shape(plan, shape) for shape in needed}) == 24
    voxels = [np.prod([of(plan, shape) for shape in needed], axis=1).sum() for of in (bucket, smallest_shape)]
    assert voxels[0] < 1.2 * voxels[1]


def test_stage_twos_window_fits_its_network_and_the_plane():
    plan = make_plan(SHAPES, SPACINGS, {"window": (90, 300)})
    assert plan.window == (96, 224) and plan.volume_shape == (10, 96, 224)
    # Its own size decides how often it is halved: 96 voxels four times, to 6.
    small = make_plan(SHAPES, SPACINGS, {"window": (96, 96)})
    assert total_strides(small.volumes.strides)[1:] == (16, 16) and small.slices == plan.slices
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    for window in ((96,), (96, 96, 96), (0, 96)):
        with pytest.raises(ValueError, match=r"window \(.* is not \(height, width\)"):
            make_plan(SHAPES, SPACINGS, {"window": window})


def test_what_is_set_goes_before_spacing_and_window_of_the_weights():
    plan = make_plan(SHAPES, SPACINGS, {"window": (96, 96)})
    inherited = make_plan(SHAPES, SPACINGS, with_networks_of(plan, {}))
    assert inherited == plan
    given = make_plan(SHAPES, SPACINGS, with_networks_of(plan, {"window": (64, 64), "spacing": (10.0, 2.0, 2.0)}))
    assert given.window == (64, 64) and given.spacing == (10.0, 2.0, 2.0)
    assert given.volumes == plan.volumes
