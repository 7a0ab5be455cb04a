"""What the four stages share at their door: errors without a traceback, and text that always prints."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable

from plantops.console import Console
from plantops.errors import PlantopsError, StepFailed


def run(main: Callable[[], None]) -> None:
    """Run a stage and leave with its exit code: 0, or that of the error it raised, said in words."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Python's own handler raises wherever the program happens to be, also where the exception is lost (in a
        # destructor, in a callback from C). A stage may be killed at any point, so Ctrl-C ends it as any Unix program.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        main()
    except PlantopsError as error:
        Console().error(error)
        sys.exit(error.code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        full = StepFailed("the disk is full", "make room; du -sh .dvc/cache models mlruns shows what takes it")
        Console().error(full)
        sys.exit(full.code)


def plain(name: str) -> str:
    """A file name fit for printing: bytes that are no UTF-8 and control characters are escaped."""
    readable = name.encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in readable)
