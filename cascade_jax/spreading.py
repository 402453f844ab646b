"""Cases over several devices: each device has a thread that works on a case of its own."""

import collections
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def cases_are_faster(cases: int, folds: int, devices: int) -> bool:
    """Whether an ensemble is through with some cases sooner when each device does whole cases than when each does some
    folds of every case; counted in folds that a device computes one after another."""
    whole_cases, some_folds = -(-cases // devices) * folds, cases * -(-folds // devices)
    return whole_cases < some_folds


def in_order(function: Callable[[Any, Any], Any], workers: Sequence[Any], items: Iterable[Any]) -> Iterator[Any]:
    """`function(worker, item)` for every item, in the items' order.

    With several workers, each has a thread and does one item at a time; two items for each are under way at most. What
    a call raises is raised when its turn comes.
    """
    if len(workers) == 1:
        for item in items:
            yield function(workers[0], item)
        return
    free: queue.SimpleQueue = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def on_a_free_worker(item):
        worker = free.get()
        try:
            return function(worker, item)
        finally:
            free.put(worker)

    waiting: collections.deque = collections.deque()
    pool = ThreadPoolExecutor(len(workers), "device")
    try:
        for item in items:
            waiting.append(pool.submit(on_a_free_worker, item))
            if len(waiting) == 2 * len(workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
