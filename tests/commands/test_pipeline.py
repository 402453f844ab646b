"""Files are read and written while the device computes."""

import threading

import pytest

from cascade_jax.commands.pipeline import overlapped
from cascade_jax.data.case import CaseError


def test_the_next_item_is_read_and_the_last_is_written_while_one_is_computed():
    read, written = {index: threading.Event() for index in range(5)}, {index: threading.Event() for index in range(4)}

    def compute(_, value):
        index = value // 10
        if index < 3:
            assert read[index + 1].wait(30), "the next has not been read"
        if index:
            computing.set()
            assert written[index - 1].wait(30), "the last has not been written"
        computing.clear()
        return value + 1

    def write(index, value):
        assert index == 3 or computing.wait(30), "it was written before the next was computed"
        written[index].set()
        return value

    computing = threading.Event()
    done = list(overlapped(range(4), lambda index: read[index].set() or 10 * index, compute, write, [None]))
    assert [(one.item, one.value, one.error) for one in done] == [(index, 10 * index + 1, None) for index in range(4)]


def test_no_more_is_read_than_the_next():
    taken = []

    def items():
        for index in range(10):
            taken.append(index)
            yield index

    def compute(_, value):
        assert len(taken) <= value + 2
        return value

    assert len(list(overlapped(items(), int, compute, lambda _, value: value, [None]))) == 10


@pytest.mark.parametrize("workers", [["one"], ["one", "another"]])
@pytest.mark.parametrize("step", range(3))
def test_a_fault_in_any_step_fails_its_item_alone(step, workers):
    def fails(of):
        def work(*given):
            if of == step and given[-1] == 1:
                raise CaseError("one.nii.gz", "is damaged")
            return given[-1]

        return work

    done = list(overlapped(range(3), *map(fails, range(3)), workers))
    assert [(one.item, one.value) for one in done] == [(0, 0), (1, None), (2, 2)]
    assert [str(one.error) for one in done] == ["None", "one.nii.gz: is damaged", "None"]


def test_what_is_no_fault_of_a_case_ends_the_work():
    def compute(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(overlapped(range(3), int, compute, lambda _, value: value, [None]))
    assert list(overlapped([], int, compute, compute, [None])) == []
