"""Cases over several devices: in order, a thread for each, and only where that is faster."""

import threading

import pytest

from cascade_jax.spreading import cases_are_faster, in_order


@pytest.mark.parametrize(
    ("cases", "folds", "devices", "expected"),
    [
        (1, 5, 8, False),  # one case: its folds side by side
        (8, 5, 8, True),  # each device does a case's five folds; or eight times one fold, three devices being idle
        (70, 5, 8, True),
        (70, 5, 5, False),  # as fast, and less memory: a fold on each device
        (70, 5, 2, True),  # three folds and two would leave a device idle
        (2, 1, 2, True),
        (9, 1, 1, False),
    ],
)
def test_whole_cases_go_over_the_devices_where_that_takes_fewer_rounds(cases, folds, devices, expected):
    assert cases_are_faster(cases, folds, devices) == expected


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
