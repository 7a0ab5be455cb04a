"""File events: waiting for one that matters, and waiting until a burst of them is over.

Where the kernel gives none (its limit is reached, the disk is another machine's), waiting is all that is done, and
the interval finds what changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from plantops import dvc
from plantops.config import Config
from plantops.watch import places
from plantops.watch.places import Moved
from plantops.watch.signals import Calls

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

# Each step is a look whether something came: 0.06 % of a core at 100 ms.
_STEP_MS = 100
_NEVER_POLL = 300


class Events:
    """The file events of a project. ``say`` is told when there are none, and when there are again."""

    def __init__(self, calls: Calls, say: Callable[[str], None]) -> None:
        self._calls, self._say = calls, say
        self._places: places.Places | None = None
        self._notify: RustNotify | None = None
        self._deaf = ""

    @property
    def deaf(self) -> bool:
        """Whether there are no file events."""
        return self._notify is None

    @property
    def called(self) -> bool:
        """Whether a signal asks for attention."""
        return self._calls.attention.is_set()

    def arm(self, config: Config, anew: bool = False) -> None:
        """Watch the folders that the project has now, ``anew`` when some came or went. Look after this, not before."""
        for _ in range(10):  # a folder can come or go meanwhile
            now, before = places.of(config), self._places
            self._places = now
            if self._notify and before and now.folders == before.folders and not anew:
                self._now_deaf("")
                return
            self.close()
            anew = False
            try:
                self._notify = _notify(now.folders)
            except FileNotFoundError:
                continue
            except (OSError, RuntimeError) as error:  # ENOSPC: the limit of watches; EMFILE: of instances
                self._now_deaf(str(error).partition(" about ")[0].rstrip("."))
                return
        self._now_deaf("the folders come and go too fast")

    def wait(self, seconds: float) -> Moved:
        """Wait for something that matters, at most ``seconds``, or until a signal asks for attention."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._calls.attention.is_set():
            if self._notify is None:
                self._calls.attention.wait(left)
                continue
            came = self._notify.watch(50, _STEP_MS, max(1, round(left * 1000)), self._calls.attention)
            if came == "signal":  # a handler raised, and the exception ended in the Rust code
                raise KeyboardInterrupt
            if isinstance(came, set) and self._places:
                moved = reduce(or_, {self._places.moved(path) for _, path in came}, Moved())
                if moved:
                    return moved
        return Moved()

    def settle(self, config: Config) -> Moved:
        """Wait until nothing has moved for ``watch.settle_seconds``, at most ``watch.max_wait_seconds``."""
        deadline = time.monotonic() + config.watch.max_wait_seconds
        moved, before = Moved(), dvc.inputs(config.root)
        while (left := deadline - time.monotonic()) > 0 and config.watch.settle_seconds > 0:
            came = self.wait(min(config.watch.settle_seconds, left))
            if self._calls.attention.is_set():
                break
            moved |= came
            now = dvc.inputs(config.root)
            if not came and now == before:
                break
            before = now
        return moved

    def close(self) -> None:
        """Stop watching."""
        if self._notify:
            self._notify.close()
        self._notify = None

    def _now_deaf(self, why: str) -> None:
        if why and why != self._deaf:
            self._say(f"no file events ({why}; see sysctl fs.inotify): looking by the interval alone")
        elif self._deaf and not why:
            self._say("file events are there again")
        self._deaf = why


def _notify(folders: frozenset[str]) -> RustNotify:
    from watchfiles._rust_notify import RustNotify

    # Never its own polling, which watchfiles takes on WSL: the interval costs less, and sees as much.
    # Nor its ignore_permission_denied, which keeps silent about a limit that is reached, too (watchfiles 1.3).
    return RustNotify(sorted(folders), False, False, _NEVER_POLL, False, False)
