"""Memory for decoding photos, which all threads, or all processes, share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Room:
    """So many bytes. Whoever needs more than is free waits; one that needs more than all of it goes alone."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._freed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Hold that many bytes, as soon as they are free."""
        with self._freed:
            self._freed.wait_for(lambda: not self.taken or self.taken + amount <= self.size)
            self.taken += amount
        try:
            yield
        finally:
            with self._freed:
                self.taken -= amount
                self._freed.notify_all()


class Grants:
    """The same without waiting: whoever asked is called when there is room, in the order in which they came."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._asked: deque[tuple[int, Callable[[], None]]] = deque()

    def ask(self, amount: int, granted: Callable[[], None]) -> None:
        """Call ``granted`` as soon as that many bytes are free; they are held from then on."""
        self._asked.append((amount, granted))
        self._grant()

    def give_back(self, amount: int) -> None:
        """Hold so much less."""
        self.taken -= amount
        self._grant()

    def _grant(self) -> None:
        while self._asked and (not self.taken or self.taken + self._asked[0][0] <= self.size):
            amount, granted = self._asked.popleft()
            self.taken += amount
            granted()
