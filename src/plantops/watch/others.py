"""What other machines with this project do, as watch tells it: who releases, and what each has in service."""

from __future__ import annotations

import time

from plantops import lease
from plantops.config import Config
from plantops.errors import PlantopsError

_NEARLY = 0.9  # looks come a little more often than the interval says, when files move


class Others:
    """One for as long as watch goes on: what it has told is no news."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._asked = float("-inf")

    def look(self, config: Config, interval_s: float) -> list[str]:
        """Ask the shared database, unless that was done within ``interval_s``; returns what there is to tell.

        That it does not answer is told once, too.
        """
        if not config.share.database or time.monotonic() - self._asked < _NEARLY * interval_s:
            return []
        self._asked = time.monotonic()
        said = _said(config)
        news = [one for one in said if one not in self._told]
        self._told = set(said)
        return news


def _said(config: Config) -> list[str]:
    try:
        seen = lease.look(config) or lease.Seen()
    except PlantopsError as error:
        return [f"what other machines do is not known: {error.message} ({error.hint})"]
    busy = [f"another machine releases: {one}"] if (one := seen.releasing) and not one.here else []
    return [*busy, *map(str, seen.elsewhere)]
