"""Follows the CSV of epochs while the train stage writes it."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from plantops.errors import PlantopsError

_PAUSE = 0.5
_PATIENCE = 15.0


class Log(Protocol):
    """Where epochs go."""

    def log_epochs(self, run_id: str, rows: Sequence[dict[str, str]]) -> None:
        """Log rows of the CSV."""

    def started(self, run_id: str) -> float:
        """When the run began, seconds since 1970."""


class Tail(threading.Thread):
    """Logs each new row of ``path`` to a run within a second. Never fails what it follows.

    A file last written before the run began is an older training's, which DVC is about to remove. What could not
    be logged is tried again; ``problems`` says in words what went wrong.
    """

    def __init__(self, log: Log, run_id: str, path: Path) -> None:
        super().__init__(name="epochs to MLflow", daemon=True)
        self.problems: list[str] = []
        self._log, self._run_id, self._path = log, run_id, path
        self._done: set[str] = set()
        self._ended = threading.Event()
        self._since: float | None = None

    def run(self) -> None:
        """Look twice a second until :meth:`stop`, and once more then."""
        ended = False
        while not ended:
            ended = self._ended.wait(_PAUSE)
            try:
                self._look()
            except PlantopsError as error:
                self._note(error.message)
            except (OSError, ValueError) as error:
                self._note(f"{self._path.name}: {error}")

    def stop(self) -> None:
        """Log what is left and end, within ``_PATIENCE`` seconds."""
        self._ended.set()
        if self.ident is None:
            return
        self.join(_PATIENCE)
        if self.is_alive():
            self._note("MLflow is slow: the last epochs are logged with the rest")

    def _look(self) -> None:
        if self._since is None:
            self._since = self._log.started(self._run_id)
        fresh = [row for row in read_epochs(self._path, self._since) if row["epoch"] not in self._done]
        if fresh:
            self._log.log_epochs(self._run_id, fresh)
            self._done.update(row["epoch"] for row in fresh)

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def read_epochs(path: Path, since: float = 0) -> list[dict[str, str]]:
    """The whole rows of a CSV that may still grow; none when it is not there or was last written before ``since``.

    Raises ValueError when it has no column ``epoch``.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            # The clock of files ticks in milliseconds and lags behind by some.
            text = file.read() if path.stat().st_mtime > since - 0.05 else ""
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.DictReader(io.StringIO(whole)))
    if rows and "epoch" not in rows[0]:
        raise ValueError("no column epoch")
    return [row for row in rows if row["epoch"]]
