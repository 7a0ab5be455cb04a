"""`watch.git`: takes up what teammates push, and says why where it does not. Never asks, and never waits for long."""

from __future__ import annotations

import threading
import time

from plantops import branch, lock, recall, written
from plantops.branch import Branch
from plantops.config import Config
from plantops.errors import Busy, PlantopsError
from plantops.store import Store

_PATIENCE_S = 5.0
ONCE_S = 75.0  # of a look that no other follows: git itself gives up before
_NEARLY = 0.9  # looks come a little more often than the interval says, when files move


class Follower:
    """Keeps the branch that is checked out up with the remote's; one for as long as watch goes on."""

    def __init__(self, patience_s: float = _PATIENCE_S) -> None:
        """``patience_s``: how long a look waits for the remote; what it answers later is for the next look."""
        self._patience_s = patience_s
        self._told = ""
        self.waits = ""  # why commits are not taken up, in words
        self._asked = float("-inf")
        self._fetching: threading.Thread | None = None
        self._failed: PlantopsError | None = None

    def look(self, config: Config, interval_s: float) -> list[str]:
        """Fetch, unless that was done within ``interval_s``, and take up what came; returns what there is to tell.

        What is in the way is told once, and left as it is.
        """
        if not config.watch.git.remote:
            self.waits = ""
            return []
        try:
            here = branch.checked_out(config.root, config.watch.git.remote, config.watch.git.branch)
            if not self._answered(here, interval_s):
                return []
            said, self.waits = _take_up(config, here), ""
        except Busy:  # a run is going on: its files are in motion
            return []
        except PlantopsError as error:
            said = self.waits = f"{error.message} ({error.hint})"
        new, self._told = said != self._told, said
        return [said] if said and new else []

    def _answered(self, here: Branch, interval_s: float) -> bool:
        """Whether the remote has just told what it has. Raises what went wrong with it."""
        if self._fetching is None:
            if time.monotonic() - self._asked < _NEARLY * interval_s:
                return False
            self._failed, self._asked = None, time.monotonic()
            self._fetching = threading.Thread(target=self._fetch, args=(here,), daemon=True)
            self._fetching.start()
        self._fetching.join(self._patience_s)
        if self._fetching.is_alive():
            return False
        self._fetching = None
        if self._failed:
            raise self._failed
        return True

    def _fetch(self, here: Branch) -> None:
        try:
            branch.fetch(here)
        except PlantopsError as error:
            self._failed = error


def _take_up(config: Config, here: Branch) -> str:
    lost = recall.lost(config)  # a run writes it anew, and must find it as it is
    with lock.hold(config.state), recall.look(config) if lost else Store(config.state) as store:
        mine = written.is_mine(config.root, store)
        return branch.unite(here, mine, config.watch.git.require_signed, config.state / branch.SCRATCH)
