"""Runs and their steps: what was tried, what is settled, what is owed."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from plantops.store.database import Database, now

# Outcomes of a run. Settled: these inputs need no further run. Owed: they do.
RELEASED, UNCHANGED, ACCEPTED, REFUSED = "released", "unchanged", "accepted", "refused"
RUNNING, FAILED, INTERRUPTED = "running", "failed", "interrupted"
SETTLED = (RELEASED, UNCHANGED, ACCEPTED, REFUSED)
OWED = (FAILED, INTERRUPTED)
_DIED = "the process ended without a word (killed, or power lost)"
# The trigger of a run that was read back from its release.
REBUILT = "rebuilt"
# A run without DVC consumed no inputs and settles none.
_SETTLED = f"left_behind IS NOT NULL AND state IN ({','.join('?' * len(SETTLED))})"


@dataclass(frozen=True)
class Run:
    """One run: ``inputs`` is what it started from, ``left_behind`` the same with what the run wrote itself."""

    id: str
    started: str
    ended: str | None
    trigger: str
    pid: int
    options: dict[str, Any]
    state: str
    fingerprint: str
    inputs: dict[str, Any]
    left_behind: dict[str, Any] | None
    release: str | None
    error: str | None

    @property
    def ended_how(self) -> str:
        """The end of one that came to none that is good, in a sentence: it failed, it was interrupted."""
        return f"was {self.state}" if self.state == INTERRUPTED else self.state


@dataclass(frozen=True)
class StepRow:
    """One step of a run as it was recorded."""

    name: str
    state: str
    started: str
    ended: str | None
    note: str | None


class Runs(Database):
    """The tables run and step."""

    def begin(self, trigger: str, options: dict[str, Any], fingerprint: str, inputs: dict[str, Any]) -> str:
        """Record that a run starts; returns its id, which sorts by time."""
        run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"
        self._db.execute(
            "INSERT INTO run (id, started, trigger, pid, options, state, fingerprint, inputs) VALUES (?,?,?,?,?,?,?,?)",
            (run, now(), trigger, os.getpid(), _dump(options), RUNNING, fingerprint, _dump(inputs)),
        )
        return run

    def finish(
        self,
        run: str,
        state: str,
        left_behind: dict[str, Any] | None = None,
        release: str | None = None,
        error: str | None = None,
    ) -> None:
        """Record how a run ended; steps still open end with it."""
        with self.transaction():
            self._db.execute(
                "UPDATE step SET state = ?, ended = ? WHERE run = ? AND ended IS NULL", (state, now(), run)
            )
            self._db.execute(
                "UPDATE run SET state = ?, ended = ?, left_behind = ?, release = ?, error = ? WHERE id = ?",
                (state, now(), _dump(left_behind) if left_behind is not None else None, release, error, run),
            )

    def remember_settled(self, run: str, at: str, fingerprint: str, inputs: dict[str, Any], release: str) -> None:
        """Record a run that is known by its release alone: its inputs are settled."""
        self._db.execute(
            "INSERT OR IGNORE INTO run VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (run, at, at, REBUILT, 0, "{}", RELEASED, fingerprint, _dump(inputs), _dump(inputs), release, None),
        )

    def bury_dead(self) -> list[Run]:
        """Mark runs that never ended as interrupted, and return them. Call only while holding the run lock."""
        dead = self._runs("state = ?", (RUNNING,))
        for run in dead:
            self.finish(run.id, INTERRUPTED, error=_DIED)
        return dead

    def last_run(self, going_on: bool = True) -> Run | None:
        """The newest run, whatever became of it; unless one is ``going_on``, one that never ended died."""
        return next(iter(self._runs("1 ORDER BY rowid DESC LIMIT 1", going_on=going_on)), None)

    def last_settled(self) -> Run | None:
        """The newest run whose inputs need no further work."""
        return next(iter(self._runs(f"{_SETTLED} ORDER BY rowid DESC LIMIT 1", SETTLED)), None)

    def last_ended(self) -> Run | None:
        """The newest run that left something behind, settled or not."""
        return next(iter(self._runs("left_behind IS NOT NULL ORDER BY rowid DESC LIMIT 1")), None)

    def unfinished(self, going_on: bool) -> list[Run]:
        """The runs since the last settled one that failed or were interrupted, newest first.

        Unless one is ``going_on``, which holds the run lock, a run that never ended died, and is interrupted.
        """
        settled = f"SELECT max(rowid) FROM run WHERE {_SETTLED}"
        where = f"state IN (?, ?, ?) AND rowid > ifnull(({settled}), 0) ORDER BY rowid DESC"
        return self._runs(where, (*OWED, FAILED if going_on else RUNNING, *SETTLED), going_on)

    def run(self, name: str, going_on: bool = True) -> Run | None:
        """A run by its id, or by an unambiguous beginning of it; unless one is ``going_on``, as :meth:`runs`."""
        begins = "substr(id, 1, length(?)) = ? LIMIT 2"
        found = self._runs("id = ?", (name,), going_on) or self._runs(begins, (name, name), going_on)
        return found[0] if name and len(found) == 1 else None

    def runs(self, limit: int = 20, going_on: bool = True) -> list[Run]:
        """The newest runs, newest first; unless one is ``going_on``, one that never ended died."""
        return self._runs("1 ORDER BY rowid DESC LIMIT ?", (limit,), going_on)

    def begun(self, trigger: str, limit: int) -> list[str]:
        """When the newest ``limit`` runs that ``trigger`` began started, newest first."""
        rows = self._db.execute(
            "SELECT started FROM run WHERE trigger = ? ORDER BY rowid DESC LIMIT ?", (trigger, limit)
        )
        return [row[0] for row in rows]

    def endings(self, limit: int) -> list[str]:
        """How the newest ``limit`` runs that ended did, newest first."""
        rows = self._db.execute("SELECT state FROM run WHERE ended IS NOT NULL ORDER BY rowid DESC LIMIT ?", (limit,))
        return [row[0] for row in rows]

    def outcomes(self) -> dict[str, int]:
        """How many runs ended in each state."""
        return dict(
            self._db.execute("SELECT state, count(*) FROM run WHERE ended IS NOT NULL GROUP BY state").fetchall()
        )

    def verdicts(self) -> dict[str, int]:
        """How many candidates the gate accepted and refused."""
        rows = self._db.execute(
            "SELECT CASE state WHEN ? THEN ? ELSE ? END, count(*) FROM step"
            " WHERE name = 'gate' AND state IN (?, 'done') GROUP BY 1",
            (REFUSED, REFUSED, ACCEPTED, REFUSED),
        )
        return dict(rows.fetchall())

    def _runs(self, where: str, values: Iterable[Any] = (), going_on: bool = True) -> list[Run]:
        rows = self._db.execute(f"SELECT * FROM run WHERE {where}", tuple(values)).fetchall()
        found = [_run(row) for row in rows]
        if going_on:
            return found
        return [replace(one, state=INTERRUPTED, error=_DIED) if one.state == RUNNING else one for one in found]

    def step_begins(self, run: str, name: str) -> int:
        """Record that a step starts; returns its position."""
        position: int = self._db.execute("SELECT count(*) FROM step WHERE run = ?", (run,)).fetchone()[0]
        self._db.execute(
            "INSERT INTO step (run, position, name, state, started) VALUES (?,?,?,?,?)",
            (run, position, name, RUNNING, now()),
        )
        return position

    def step_ends(self, run: str, position: int, state: str, note: str) -> None:
        """Record how a step ended: done, skipped or failed."""
        self._db.execute(
            "UPDATE step SET state = ?, ended = ?, note = ? WHERE run = ? AND position = ?",
            (state, now(), note, run, position),
        )

    def steps(self, run: str) -> list[StepRow]:
        """The steps of a run, in order."""
        rows = self._db.execute(
            "SELECT name, state, started, ended, note FROM step WHERE run = ? ORDER BY position", (run,)
        )
        return [StepRow(*row) for row in rows]


def _run(row: sqlite3.Row) -> Run:
    values = dict(row)
    for name in ("options", "inputs", "left_behind"):
        values[name] = json.loads(values[name]) if values[name] is not None else None
    return Run(**values)


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
