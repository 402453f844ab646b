"""Training samples are windows: inside the field of view, mostly with the heart, and of every part of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_jax.data.augment import Augmentation, PriorCorruption, inside_extent
from cascade_jax.data.preprocess import heart_box
from cascade_jax.training.batches import CaseSelection, Cohort, draw_slices, draw_volumes
from cascade_jax.training.windows import (
    HEART_SHARE,
    cut_extent,
    draw_start,
    labelled_box,
    middle_start,
    take_window,
)

SHAPE, SIZE = (6, 40, 50), (4, 16, 24)
EXTENT, HEART = np.array([[0, 6], [3, 37], [0, 50]], np.int32), np.array([[1, 4], [20, 30], [30, 44]], np.int32)
NOTHING = Augmentation(
    **{name: 0.0 for name in Augmentation.__dataclass_fields__ if name.endswith("probability")}, mirror_plane=False
)
NO_FAULTS = PriorCorruption(reshape_probability=0.0, drop_probability=0.0)


def holds(start, size, limits):
    return ((limits[:, 0] >= start) & (limits[:, 1] <= start + size)).all(-1)


def test_a_share_of_the_windows_holds_the_heart_and_all_lie_in_the_field_of_view():
    keys = jax.random.split(jax.random.key(0), 4000)
    starts = np.asarray(jax.vmap(lambda key: draw_start(key, SHAPE, EXTENT, HEART, SIZE))(keys))
    assert (starts >= EXTENT[:, 0]).all() and (starts + SIZE <= EXTENT[:, 1]).all()
    share = np.mean([holds(start, np.array(SIZE), HEART) for start in starts])
    assert HEART_SHARE < share < HEART_SHARE + 0.1  # and some of those anywhere do
    for axis in range(3):
        assert set(starts[:, axis]) == set(range(EXTENT[axis, 0], EXTENT[axis, 1] - SIZE[axis] + 1))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_window_is_in_the_example_and_holds_what_it_can(data):
    def interval(stop):
        first = data.draw(st.integers(0, stop - 1))
        return first, data.draw(st.integers(first + 1, stop))

    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(3))
    size = tuple(data.draw(st.integers(1, n)) for n in shape)
    extent = np.array([interval(n) for n in shape], np.int32)
    heart = np.array([np.add(first, interval(stop - first)) for first, stop in extent], np.int32)
    seed = data.draw(st.integers(0, 1000))
    small = heart[:, 1] - heart[:, 0] <= size
    for start, with_heart in (
        (draw_start(jax.random.key(seed), shape, extent, heart, size), False),
        (draw_start(jax.random.key(seed), shape, extent, heart, size, heart_share=1.0), True),
        (middle_start(shape, extent, heart, size), True),
    ):
        start = np.asarray(start)
        assert (start >= 0).all() and (start + size <= shape).all()
        inside = np.asarray(cut_extent(extent, start, size))
        # As much of the field of view as there is room for.
        np.testing.assert_array_equal(inside[:, 1] - inside[:, 0], np.minimum(size, extent[:, 1] - extent[:, 0]))
        assert not with_heart or holds(start[small], np.array(size)[small], heart[small])


def test_a_heart_larger_than_the_window_is_seen_in_every_part():
    heart = np.array([[0, 6], [5, 35], [2, 48]], np.int32)
    starts = np.asarray(
        jax.vmap(lambda key: draw_start(key, SHAPE, EXTENT, heart, SIZE))(jax.random.split(jax.random.key(1), 500))
    )
    for axis in (1, 2):
        assert starts[:, axis].min() <= heart[axis, 0] and (starts[:, axis] + SIZE[axis]).max() >= heart[axis, 1]


def test_the_heart_is_what_is_labelled_and_without_labels_the_field_of_view():
    labels = np.zeros(SHAPE, np.uint8)
    for box in (heart_box, labelled_box):
        np.testing.assert_array_equal(box(labels, EXTENT), EXTENT)
    labels[1:4, 20:30, 30:44][0, 0, 0] = labels[1:4, 20:30, 30:44][-1, -1, -1] = 3
    for box in (heart_box, labelled_box):
        np.testing.assert_array_equal(box(labels, EXTENT), HEART)


@pytest.fixture(scope="module")
def cohort():
    """Two cases in which every voxel says where it lies."""
    places = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    image = np.stack([places, places + places.size])
    labels = (image % 5).astype(np.uint8)
    box = np.stack([EXTENT, EXTENT]), np.stack([HEART, HEART])
    return jax.device_put(Cohort(image, labels, labels, *box))


@pytest.mark.parametrize("stage", [0, 1])
def test_image_labels_prior_and_field_of_view_are_of_one_window(cohort, stage):
    draw = draw_slices(16, SIZE[1:], NOTHING) if stage == 0 else draw_volumes(16, SIZE, NOTHING, NO_FAULTS, 5)
    cases = CaseSelection(jnp.array([0, 1], jnp.int32), jnp.int32(2))
    batch = jax.device_get(jax.jit(draw)(jax.random.key(3), cohort, cases, None))
    image, valid = batch.inputs[..., 0], batch.valid
    assert valid.all(), "the window fits into the field of view"
    places = image.astype(int)
    np.testing.assert_array_equal(places % 5, batch.labels)
    np.testing.assert_array_equal(
        places // np.prod(SHAPE), np.broadcast_to(batch.case.reshape(-1, *[1] * (image.ndim - 1)), places.shape)
    )
    if stage == 1:
        np.testing.assert_array_equal(batch.inputs[..., 1:].argmax(-1) + batch.inputs[..., 1:].any(-1), batch.labels)
    assert len({window.ravel()[0] for window in places}) > 8, "windows lie in many places"


def test_a_cut_of_the_whole_is_the_whole(cohort):
    start = middle_start(SHAPE, EXTENT, HEART, SHAPE)
    np.testing.assert_array_equal(start, 0)
    np.testing.assert_array_equal(take_window(cohort.image, 1, start, SHAPE), cohort.image[1])
    valid = inside_extent(SHAPE, cut_extent(EXTENT, start, SHAPE))
    np.testing.assert_array_equal(valid, inside_extent(SHAPE, EXTENT))
