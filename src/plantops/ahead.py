"""Work on many things with several threads, in order, without holding more than a few."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 4  # things begun for each thread, so that one slow thing does not hold up the others
_LARGE = 1 << 26  # bytes
_one_large = Lock()


def ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """``work`` of each item, in the items' order. What it raises is raised here, and nothing new is begun."""
    pool = ThreadPoolExecutor(threads)
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) >= _AHEAD * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Cores that the scheduler lets us use."""
    return len(os.sched_getaffinity(0))


def one_large(size: int) -> AbstractContextManager[object]:
    """Enter it to hold ``size`` bytes of a file in memory: of large files one at a time is."""
    return _one_large if size > _LARGE else nullcontext()
