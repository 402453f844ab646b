"""What each of several devices computes: some folds or mirror images of a case, or cases of its own in a thread."""

import collections
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def devices_of_folds(folds: int, mirror_images: int, devices: int) -> tuple[int, int]:
    """Over how many devices a case's folds are spread, and over how many the mirror images of each fold.

    It is what takes the fewest passes, by a network over a volume, one after another on a device; of equals, what takes
    the fewest devices, and spreads folds before mirror images. Of mirror images each device has as many.
    """
    ways = [
        (by_fold, by_image)
        for by_image in range(1, mirror_images + 1)
        for by_fold in range(1, devices // by_image + 1)
        if mirror_images % by_image == 0
    ]
    return min(ways, key=lambda way: (_passes(folds, mirror_images, *way), way[0] * way[1], way[1]))


def devices_of_a_case(cases: int, folds: int, mirror_images: int, devices: int) -> int:
    """How many devices do a case together, beside others that do other cases, so that all are done soonest: counted in
    passes, as by `devices_of_folds`. Of equals, the one with folds on most devices, which takes the least memory."""

    def cost(number):
        by_fold, by_image = devices_of_folds(folds, mirror_images, number)
        rounds = -(-cases // (devices // number))
        return rounds * _passes(folds, mirror_images, by_fold, by_image), -by_fold, number

    return min(range(1, devices + 1), key=cost)


def _passes(folds: int, mirror_images: int, by_fold: int, by_image: int) -> int:
    return -(-folds // by_fold) * (mirror_images // by_image)


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
