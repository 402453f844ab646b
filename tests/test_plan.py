"""The plan is nnU-Net's for data like EMIDEC's, and can be overridden."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from cascade_jax.plan import Plan, make_plan, smallest_shape, topology, total_strides

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
