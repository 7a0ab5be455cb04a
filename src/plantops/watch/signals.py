"""What watch is told by signals: SIGTERM ends it, SIGINT interrupts it, SIGHUP has it read config.yaml again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Calls:
    """The signals that came. ``attention`` ends every waiting; it is cleared by :meth:`read_again`."""

    def __init__(self) -> None:
        self.attention = threading.Event()
        self.ended = False
        self._read_again = False

    def read_again(self) -> bool:
        """Whether SIGHUP came since the last time this was asked."""
        asked, self._read_again = self._read_again, False
        self.attention.clear()
        return asked

    def end(self, _: int = 0, __: FrameType | None = None) -> None:
        """SIGTERM. Raises KeyboardInterrupt: a run that goes on is interrupted, and owed."""
        self.ended = True
        raise KeyboardInterrupt

    def hang_up(self, _: int, __: FrameType | None) -> None:
        """SIGHUP: a person's wish to read the config again, unless it says that our terminal is gone."""
        if self.had_terminal and not has_terminal():
            self.end()
        self._read_again = True
        self.attention.set()

    had_terminal = False


@contextmanager
def heard() -> Iterator[Calls]:
    """Hear signals inside. Under ``nohup`` SIGHUP stays ignored."""
    calls = Calls()
    calls.had_terminal = has_terminal()
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, calls.end)}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, calls.hang_up)
    try:
        yield calls
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
