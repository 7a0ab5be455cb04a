"""What a process of ours tells the C library and the kernel about itself."""

from __future__ import annotations

import ctypes
import signal
from contextlib import suppress

_M_MMAP_THRESHOLD, _BIG = -3, 4 << 20
_PR_SET_PDEATHSIG = 1


def return_big_pieces() -> None:
    """Have glibc give a big picture's memory back at once: by itself it keeps much of it for each thread."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _BIG)


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however that comes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
