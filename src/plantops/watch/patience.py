"""Whether what is due may run now: the pauses after failures, how many there are, and the breaker. Pure.

All it counts comes from the store, so a watch that starts again goes on counting. A time in the future means that
the clock was set back: it holds nothing up, and the number of tries is a bound all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

LONGEST_PAUSE_S = 3600.0
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Rules:
    """How long the first pause is, how many tries follow the first, and how many runs an hour may see."""

    interval_s: float
    max_retries: int
    max_runs_per_hour: int


@dataclass(frozen=True)
class Try:
    """A run on the inputs as they are that came to no good end. One that was ``interrupted`` needs no pause."""

    ended: datetime
    interrupted: bool


@dataclass(frozen=True)
class Turn:
    """What is to be done: run when ``why`` is empty, else wait ``until`` then; None: until something changes."""

    why: str = ""
    until: datetime | None = None

    @property
    def go(self) -> bool:
        """Whether a run may start now."""
        return not self.why


def decide(tries: Sequence[Try], begun: Sequence[datetime], rules: Rules, now: datetime) -> Turn:
    """What to do about something that is due.

    ``tries``: since the last settled run, newest first. ``begun``: when watch began its newest runs.
    """
    if len(tries) > rules.max_retries:
        times = "once" if len(tries) == 1 else f"{len(tries)} times"
        return Turn(f"tried {times} on these inputs (watch.max_retries): waiting for a change, or for plantops run")
    if tries and not tries[0].interrupted:
        wait = pause(len(tries), rules.interval_s)
        if timedelta(0) <= now - tries[0].ended < wait:
            ready = tries[0].ended + wait
            return Turn(f"trying again at {clock(ready)} ({len(tries)} of {rules.max_retries}), or at a change", ready)
    return _breaker(begun, rules, now)


def pause(failures: int, interval_s: float) -> timedelta:
    """How long to wait after so many failures in a row."""
    return timedelta(seconds=min(LONGEST_PAUSE_S, interval_s * 2.0 ** min(failures, 30)))


def clock(when: datetime) -> str:
    """A time as this machine's clocks show it."""
    return f"{when.astimezone():%H:%M:%S}"


def _breaker(begun: Sequence[datetime], rules: Rules, now: datetime) -> Turn:
    recent = sorted(one for one in begun if now - _HOUR < one <= now)
    if len(recent) < rules.max_runs_per_hour:
        return Turn()
    until = (recent[-rules.max_runs_per_hour] if rules.max_runs_per_hour else now) + _HOUR
    return Turn(
        f"{len(recent)} runs within an hour (watch.max_runs_per_hour): starting none before {clock(until)}", until
    )
