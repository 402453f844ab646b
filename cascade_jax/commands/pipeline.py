"""Many cases through one device, which does not wait for files."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from cascade_jax.data.case import CaseError
from cascade_jax.spreading import in_order

Item = TypeVar("Item")


class Done(NamedTuple):
    """An item that is done.

    Attributes:
        item: as it was given.
        value: what came of it; None if it failed.
        error: why it failed, or None.
    """

    item: Any
    value: Any
    error: CaseError | None


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Any],
    compute: Callable[[Any, Any], Any],
    write: Callable[[Item, Any], Any],
    workers: Sequence[Any],
) -> Iterator[Done]:
    """Reads each item, computes on what was read, and writes what was computed, in that order of items.

    While one is computed the next is read and the one before is written, each in a thread of its own. A single worker
    computes in the caller's thread, and at most three items are in memory; several compute as `spreading.in_order`
    says. A CaseError of any of the steps fails its item alone.

    Args:
        items: taken one ahead.
        read: of an item.
        compute: of a worker and what was read.
        write: of an item and what was computed; gives the value that is yielded.
        workers: that compute, such as one cascade for each device.

    Yields:
        Each item when it is written, or has failed.
    """

    def computed(worker: Any, one: tuple[Item, Future]) -> tuple[Item, Any, CaseError | None]:
        item, loaded = one
        try:
            return item, compute(worker, loaded.result()), None
        except CaseError as error:
            return item, None, error

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading = ((item, reader.submit(read, item)) for item in items)
        ahead = (one for one, _ in itertools.pairwise(itertools.chain(reading, [None])))
        writing: tuple[Item, Future] | None = None
        for item, value, error in in_order(computed, workers, ahead):
            written: Future = Future()
            if error is None:
                written = writer.submit(write, item, value)
            else:
                written.set_exception(error)
            if writing is not None:
                yield _done(*writing)
            writing = item, written
        if writing is not None:
            yield _done(*writing)


def _done(item: Item, written: Future) -> Done:
    try:
        return Done(item, written.result(), None)
    except CaseError as error:
        return Done(item, None, error)
