"""Memory for decoding photos, which all threads share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
