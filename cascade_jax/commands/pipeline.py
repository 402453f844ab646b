"""Many cases through one device, which does not wait for files."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from cascade_jax.data.case import CaseError

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
    compute: Callable[[Item, Any], Any],
    write: Callable[[Item, Any], Any],
) -> Iterator[Done]:
    """Reads each item, computes on what was read, and writes what was computed, in that order of items.

    While one is computed, in the caller's thread, the next is read and the one before is written, each in a thread of
    its own. So at most three are in memory. A CaseError of any of the steps fails its item alone.

    Args:
        items: taken one ahead.
        read: of an item.
        compute: of an item and what was read.
        write: of an item and what was computed; gives the value that is yielded.

    Yields:
        Each item when it is written, or has failed.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading = ((item, reader.submit(read, item)) for item in items)
        writing: tuple[Item, Future] | None = None
        for (item, loaded), _ in itertools.pairwise(itertools.chain(reading, [(None, None)])):
            written: Future = Future()
            try:
                computed = compute(item, loaded.result())
            except CaseError as error:
                written.set_exception(error)
            else:
                written = writer.submit(write, item, computed)
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
