"""Every line a person sees. Plain text when not a terminal; colour only on one, and never with NO_COLOR."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

from plantops.errors import PlantopsError

Item = TypeVar("Item")
_MARK = "@progress"
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "grey": "90", "bold": "1"}
_BAR = 24
_PLAIN_EVERY_S = 10.0


class Console:
    """Writes to ``out`` and, when one is open, to the run's log (without colour)."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stdout or _nowhere()  # Python has no stdout where it was closed (`>&-`)
        self.terminal = self.out.isatty()
        self.colour = self.terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._log: TextIO | None = None
        self._early: deque[str] = deque(maxlen=1000)
        self._open_bar = False
        self._plain_at: dict[str, tuple[float, bool]] = {}

    def log_to(self, path: Path | None) -> None:
        """Copy everything to ``path``, what was said since the last log included; None closes the log."""
        if self._log:
            self._log.close()
            self._log = None
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._log = path.open("a", encoding="utf-8", errors="surrogateescape")
            while self._early:
                self.log(self._early.popleft())

    def say(self, text: str = "", colour: str = "") -> None:
        """Print a line, or several."""
        self.clear()
        self._write(self.paint(text, colour) + "\n")
        self.log(text)

    def log(self, text: str) -> None:
        """Write a line to the log only."""
        if self._log:
            try:
                self._log.write(text + "\n")
                self._log.flush()
            except OSError:  # told once: what is said next is said without a log
                log, self._log = self._log, None
                with suppress(OSError):  # it tries to write the rest again
                    log.close()
                raise
        else:
            self._early.append(text)

    def error(self, error: PlantopsError) -> None:
        """What happened, and the command that helps."""
        self.say(f"error: {error.message}", "red")
        if error.hint:
            self.say(f"  try: {error.hint}", "yellow")

    def json(self, value: Any) -> None:
        """One JSON document for machines."""
        self._write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")

    def paint(self, text: str, colour: str) -> str:
        """``text`` in a colour, where colours are wanted."""
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if self.colour and colour and text else text

    def bar(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show progress: a bar on a terminal, elsewhere a line every ten seconds."""
        share = done / total if total else 1.0
        line = f"  {what} {done:,}/{total:,} {note}".rstrip()
        if self.terminal:
            filled = round(share * _BAR)
            self._write(f"\r\033[K  {'█' * filled}{'░' * (_BAR - filled)} {line.strip()}")
            self._open_bar = True
        elif done >= total:
            if self._plain_at.pop(what, (0.0, False))[1]:
                self._write(line + "\n")
        else:
            since, _ = self._plain_at.setdefault(what, (time.monotonic(), False))
            if time.monotonic() - since >= _PLAIN_EVERY_S:
                self._plain_at[what] = (time.monotonic(), True)
                self._write(line + "\n")
        if done >= total:
            self.clear()

    def clear(self) -> None:
        """Take an unfinished bar off the screen."""
        if self._open_bar:
            self._write("\r\033[K")
            self._open_bar = False

    def relay(self, line: str) -> bool:
        """Show ``line`` as progress when a stage meant it so (see :func:`report`); says whether it did."""
        if not line.startswith(_MARK + " "):
            return False
        what, done, total, note = json.loads(line[len(_MARK) + 1 :])
        self.bar(what, done, total, note)
        return True

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            # Whoever read along has left (`plantops run | head`, a closed terminal); the work goes on, and its log
            # has every line.
            self.out = _nowhere()
            self.terminal = self.colour = False


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def report(what: str, done: int, total: int, note: str = "") -> None:
    """Progress of a stage: a marked line for the plantops above it, or a bar of its own under a bare ``dvc repro``."""
    if os.environ.get("PLANTOPS_RUN"):
        print(_MARK, json.dumps([what, done, total, note]), flush=True)
    else:
        _stage_console.bar(what, done, total, note)


def track(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield ``items``, reporting at most five times a second."""
    last = 0.0
    for done, item in enumerate(items):
        if time.monotonic() - last >= 0.2:
            report(what, done, total)
            last = time.monotonic()
        yield item
    report(what, total, total)


_stage_console = Console()
