"""`.plantops/watch.json`: what watch did last and what it waits for. Written whole or not at all, at each look."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plantops import whole
from plantops.deploy import daemon

FILE = "watch.json"
WATCHING, RUNNING, WAITING, STOPPED, ONCE = "watching", "running", "waiting", "stopped", "once"
# A look may take its time: the photos are hashed, a burst is waited out.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Beat:
    """One heartbeat. Times are UTC, ISO 8601; ``started`` tells the process from a later one of the same pid."""

    pid: int
    started: str | None
    since: str
    interval_s: float
    checked: str
    state: str
    why: str = ""
    next_try: str | None = None
    last_run: dict[str, Any] | None = None


def first(interval_s: float, state: str = WATCHING) -> Beat:
    """The first heartbeat of this process."""
    now = _now().isoformat(timespec="milliseconds")
    return Beat(os.getpid(), daemon.started(os.getpid()), now, interval_s, now, state)


def write(folder: Path, beat: Beat) -> None:
    """Write ``beat`` into the state ``folder``. Raises OSError."""
    whole.write(folder / FILE, json.dumps(asdict(beat), indent=2, ensure_ascii=False) + "\n")


def read(folder: Path) -> Beat | None:
    """The last heartbeat, or None where there is none that can be read."""
    try:
        return Beat(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def alive(folder: Path) -> Beat | None:
    """The last heartbeat if the process that wrote it still runs, and goes on watching."""
    beat = read(folder)
    if beat is None or beat.state in (STOPPED, ONCE) or daemon.find(folder / FILE) is None:
        return None
    return beat


def said(folder: Path, now: datetime | None = None) -> str:
    """How watch is, in words, for `plantops status`."""
    beat, now = read(folder), now or _now()
    if beat is None:
        return "never started"
    looked = f"looked {_ago(beat.checked, now)} ago"
    if beat.state == ONCE:
        return f"not going; --once {looked}"
    if alive(folder) is None:
        return f"stopped {_ago(beat.checked, now)} ago" if beat.state == STOPPED else f"not running: it died, {looked}"
    if beat.state == RUNNING:
        return f"alive, in a run since {_ago(beat.checked, now)}"
    late = _seconds(beat.checked, now) > beat.interval_s + _PATIENCE_S
    if late:
        return f"pid {beat.pid} is not answering since {beat.checked}"
    return f"alive, {looked}" + (f"; waits: {beat.why}" if beat.why else "")


def to_dict(folder: Path) -> dict[str, Any] | None:
    """The last heartbeat as plain values, and whether its process is ``alive``."""
    beat = read(folder)
    return {**asdict(beat), "alive": alive(folder) is not None} if beat else None


def stopped(beat: Beat) -> Beat:
    """The last heartbeat of a watch that ends."""
    return replace(beat, state=STOPPED, checked=_now().isoformat(timespec="milliseconds"), why="", next_try=None)


def _ago(then: str, now: datetime) -> str:
    seconds = round(_seconds(then, now))
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _seconds(then: str, now: datetime) -> float:
    """Seconds since ``then``; none when the clock was set back in between."""
    try:
        return max(0.0, (now - datetime.fromisoformat(then)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _now() -> datetime:
    return datetime.now(UTC)
