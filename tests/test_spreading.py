"""Cases, folds and mirror images over several devices: in order, a thread for each, and only where it is faster."""

import threading

import pytest

from cascade_jax.spreading import devices_of_a_case, devices_of_folds, in_order


@pytest.mark.parametrize(
    ("folds", "mirror_images", "devices", "expected"),
    [
        (5, 1, 8, (5, 1)),
        (5, 1, 4, (3, 1)),  # two rounds with four devices too
        (1, 1, 8, (1, 1)),
        (1, 4, 8, (1, 4)),
        (1, 4, 3, (1, 2)),  # each device has as many of four images
        (5, 4, 5, (5, 1)),
        (5, 4, 8, (2, 4)),  # three folds, one image each: three passes; a fold on each of five devices takes four
        (2, 4, 4, (2, 2)),  # as fast as (1, 4), and half as many parameters on each
        (5, 4, 20, (5, 4)),
    ],
)
def test_folds_and_mirror_images_go_over_the_devices_so_as_to_take_the_fewest_passes(
    folds, mirror_images, devices, expected
):
    assert devices_of_folds(folds, mirror_images, devices) == expected


@pytest.mark.parametrize(
    ("cases", "folds", "mirror_images", "devices", "expected"),
    [
        (1, 5, 1, 8, 5),  # one case: its folds side by side
        (8, 5, 1, 8, 1),  # each device does a case's five folds; or eight times one fold, three devices being idle
        (70, 5, 1, 8, 1),
        (70, 5, 1, 5, 5),  # as fast, and less memory: a fold on each device
        (70, 5, 1, 2, 1),  # three folds and two would leave a device idle
        (2, 1, 1, 2, 1),
        (9, 1, 1, 1, 1),
        (1, 1, 4, 4, 4),  # one case by one fold: its mirror images side by side
        (2, 1, 4, 8, 4),  # two cases, on four devices each
        (70, 1, 4, 2, 1),  # as fast, and nothing is exchanged
        (3, 1, 4, 4, 4),  # three passes; four, with a device for each case
    ],
)
def test_as_many_devices_do_a_case_together_as_are_through_with_all_cases_soonest(
    cases, folds, mirror_images, devices, expected
):
    assert devices_of_a_case(cases, folds, mirror_images, devices) == expected


@pytest.mark.parametrize("workers", ["a", "abc"])
def test_results_come_in_the_order_of_the_items_and_no_worker_does_two_at_once(workers):
    busy, used = set(), set()

    def square(worker, item):
        assert worker not in busy
        busy.add(worker)
        used.add(worker)
        threading.Event().wait(0.001 * (5 - item % 5))
        busy.remove(worker)
        return item * item

    assert list(in_order(square, workers, range(20))) == [item * item for item in range(20)]
    assert used == set(workers)


@pytest.mark.parametrize("workers", ["a", "abc"])
def test_no_more_is_begun_than_keeps_the_workers_busy(workers):
    begun = []
    results = in_order(lambda _, item: item, workers, (begun.append(item) or item for item in range(100)))
    assert next(results) == 0
    assert len(begun) <= 2 * len(workers)
    results.close()


@pytest.mark.parametrize("workers", ["a", "abc"])
def test_what_a_call_raises_is_raised_when_its_turn_comes(workers):
    def half(_, item):
        if item == 3:
            raise ValueError(item)
        return item / 2

    results = in_order(half, workers, range(10))
    assert [next(results) for _ in range(3)] == [0, 0.5, 1]
    with pytest.raises(ValueError, match="3"):
        next(results)
