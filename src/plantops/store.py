""".plantops/state.db: runs, their steps, what is settled, releases and what is in service. The store decides.

SQLite in WAL mode; each migration and its record are one transaction. Times are UTC, ISO 8601.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plantops.errors import SetupError

# Outcomes of a run. Settled: these inputs need no further run. Owed: they do.
RELEASED, UNCHANGED, ACCEPTED, REFUSED = "released", "unchanged", "accepted", "refused"
RUNNING, FAILED, INTERRUPTED = "running", "failed", "interrupted"
SETTLED = (RELEASED, UNCHANGED, ACCEPTED, REFUSED)
OWED = (FAILED, INTERRUPTED)
# A run without DVC consumed no inputs and settles none.
_SETTLED = f"left_behind IS NOT NULL AND state IN ({','.join('?' * len(SETTLED))})"

MIGRATIONS = [
    """
    CREATE TABLE run (
        id TEXT PRIMARY KEY, started TEXT NOT NULL, ended TEXT, trigger TEXT NOT NULL, pid INTEGER NOT NULL,
        options TEXT NOT NULL, state TEXT NOT NULL, fingerprint TEXT NOT NULL, inputs TEXT NOT NULL,
        left_behind TEXT, release TEXT, error TEXT
    );
    CREATE TABLE step (
        run TEXT NOT NULL REFERENCES run (id), position INTEGER NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,
        started TEXT NOT NULL, ended TEXT, note TEXT, PRIMARY KEY (run, position)
    );
    CREATE TABLE release (
        id TEXT PRIMARY KEY, created TEXT NOT NULL, run TEXT, digest TEXT NOT NULL, sample_data INTEGER NOT NULL,
        mlflow_run TEXT, version INTEGER, withdrawn TEXT
    );
    CREATE TABLE service (
        number INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL,
        release TEXT NOT NULL REFERENCES release (id), code TEXT NOT NULL, reason TEXT NOT NULL
    );
    CREATE TABLE shown (view TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE photo (
        path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
        md5 TEXT NOT NULL
    ) WITHOUT ROWID;
    """,
]


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


@dataclass(frozen=True)
class Release:
    """One accepted model. ``withdrawn`` is when it was rolled back, or None."""

    id: str
    created: str
    run: str | None
    digest: str
    sample_data: bool
    mlflow_run: str | None
    version: int | None
    withdrawn: str | None


@dataclass(frozen=True)
class StepRow:
    """One step of a run as it was recorded."""

    name: str
    state: str
    started: str
    ended: str | None
    note: str | None


class Store:
    """An open state database. Use as a context manager or :meth:`close` it."""

    def __init__(self, folder: Path, readonly: bool = False) -> None:
        """Open (and make, unless ``readonly``) the database in ``folder``.

        A ``readonly`` store of a project that has none yet is empty. Raises SetupError when the database was
        written by a newer plantops or cannot be read.
        """
        self.path = folder / "state.db"
        try:
            self._db = self._open(folder, readonly)
            self._db.row_factory = sqlite3.Row
            self._migrate(readonly)
        except (sqlite3.DatabaseError, OSError) as error:
            raise SetupError(f"{self.path} cannot be used: {error}", f"move {self.path} away and run again") from None

    def _open(self, folder: Path, readonly: bool) -> sqlite3.Connection:
        if readonly:
            db = _read_only(self.path) if self.path.exists() else None
            if db is None or db.execute("PRAGMA user_version").fetchone()[0] == 0:  # none yet, or just being made
                db = sqlite3.connect(":memory:", isolation_level=None)
                _apply(db, 0)
            return db
        folder.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        return db

    def _migrate(self, readonly: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise SetupError(
                f"{self.path} was written by a newer plantops (schema {version}, this one knows {len(MIGRATIONS)})",
                "upgrade plantops",
            )
        if not readonly:
            _apply(self._db, version)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Runs

    def begin(self, trigger: str, options: dict[str, Any], fingerprint: str, inputs: dict[str, Any]) -> str:
        """Record that a run starts; returns its id, which sorts by time."""
        run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
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
        with self._transaction():
            self._db.execute(
                "UPDATE step SET state = ?, ended = ? WHERE run = ? AND ended IS NULL", (state, now(), run)
            )
            self._db.execute(
                "UPDATE run SET state = ?, ended = ?, left_behind = ?, release = ?, error = ? WHERE id = ?",
                (state, now(), _dump(left_behind) if left_behind is not None else None, release, error, run),
            )

    def bury_dead(self) -> list[Run]:
        """Mark runs that never ended as interrupted, and return them. Call only while holding the run lock."""
        dead = self._runs("state = ?", (RUNNING,))
        for run in dead:
            self.finish(run.id, INTERRUPTED, error="the process ended without a word (killed, or power lost)")
        return dead

    def last_run(self) -> Run | None:
        """The newest run, whatever became of it."""
        return next(iter(self._runs("1 ORDER BY rowid DESC LIMIT 1")), None)

    def last_settled(self) -> Run | None:
        """The newest run whose inputs need no further work."""
        return next(iter(self._runs(f"{_SETTLED} ORDER BY rowid DESC LIMIT 1", SETTLED)), None)

    def last_ended(self) -> Run | None:
        """The newest run that left something behind, settled or not."""
        return next(iter(self._runs("left_behind IS NOT NULL ORDER BY rowid DESC LIMIT 1")), None)

    def unfinished(self) -> list[Run]:
        """The runs since the last settled one that failed or were interrupted, newest first."""
        settled = f"SELECT max(rowid) FROM run WHERE {_SETTLED}"
        return self._runs(f"state IN (?, ?) AND rowid > ifnull(({settled}), 0) ORDER BY rowid DESC", (*OWED, *SETTLED))

    def runs(self, limit: int = 20) -> list[Run]:
        """The newest runs, newest first."""
        return self._runs("1 ORDER BY rowid DESC LIMIT ?", (limit,))

    def _runs(self, where: str, values: Iterable[Any] = ()) -> list[Run]:
        rows = self._db.execute(f"SELECT * FROM run WHERE {where}", tuple(values)).fetchall()
        return [_run(row) for row in rows]

    # Steps

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

    # Releases

    def add_release(self, release: Release) -> None:
        """Record an accepted model; one that is known already is left as it is."""
        self._db.execute(
            "INSERT INTO release VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING",
            (
                release.id, release.created, release.run, release.digest, int(release.sample_data),
                release.mlflow_run, release.version, release.withdrawn,
            ),
        )  # fmt: skip

    def set_version(self, release: str, version: int) -> None:
        """Record the registry version of a release."""
        self._db.execute("UPDATE release SET version = ? WHERE id = ?", (version, release))

    def release(self, name: str) -> Release | None:
        """A release by its id, or by an unambiguous beginning of it or of its digest."""
        found = [one for one in self.releases() if one.id == name] or [
            one for one in self.releases() if name and (one.id.startswith(name) or one.digest.startswith(name))
        ]
        return found[0] if len(found) == 1 else None

    def releases(self) -> list[Release]:
        """All releases, newest first."""
        rows = self._db.execute("SELECT * FROM release ORDER BY rowid DESC").fetchall()
        return [Release(**{**dict(row), "sample_data": bool(row["sample_data"])}) for row in rows]

    def with_digest(self, digest: str) -> Release | None:
        """The newest release with this bundle digest."""
        return next((one for one in self.releases() if one.digest == digest), None)

    def put_in_service(self, release: str, code: str, reason: str, withdraw: str | None = None) -> None:
        """The release that answers from now on, served by ``code`` (its digest). One transaction.

        ``withdraw`` marks the one left as withdrawn.
        """
        with self._transaction():
            self._db.execute(
                "INSERT INTO service (at, release, code, reason) VALUES (?,?,?,?)", (now(), release, code, reason)
            )
            self._db.execute("UPDATE release SET withdrawn = NULL WHERE id = ?", (release,))
            if withdraw:
                self._db.execute("UPDATE release SET withdrawn = ? WHERE id = ?", (now(), withdraw))

    def in_service(self) -> Release | None:
        """The release that the store says is answering: the champion."""
        row = self._db.execute("SELECT release FROM service ORDER BY number DESC LIMIT 1").fetchone()
        return self.release(row["release"]) if row else None

    def serving_code(self) -> str:
        """Digest of the serving code that the release in service was started with, or an empty string."""
        row = self._db.execute("SELECT code FROM service ORDER BY number DESC LIMIT 1").fetchone()
        return row["code"] if row else ""

    def previous(self) -> Release | None:
        """Where a rollback goes: the last other release in service that was not withdrawn."""
        current = self.in_service()
        rows = self._db.execute("SELECT release FROM service ORDER BY number DESC").fetchall()
        for row in rows:
            one = self.release(row["release"])
            if one and current and one.id != current.id and not one.withdrawn:
                return one
        return None

    def shown(self, view: str) -> str:
        """What a view outside the store was last made to show, or an empty string."""
        row = self._db.execute("SELECT value FROM shown WHERE view = ?", (view,)).fetchone()
        return row["value"] if row else ""

    def set_shown(self, view: str, value: str) -> None:
        """Record what a view shows now."""
        self._db.execute("INSERT OR REPLACE INTO shown VALUES (?,?)", (view, value))

    # Photos seen: a stat signature to md5, so that no photo is hashed twice

    def photos(self) -> dict[str, tuple[int, int, int, str]]:
        """path: (size in bytes, mtime in ns, inode, md5)."""
        return {os.fsdecode(row[0]): tuple(row[1:]) for row in self._db.execute("SELECT * FROM photo")}

    def remember_photos(self, rows: Iterable[tuple[str, int, int, int, str]], gone: Iterable[str]) -> None:
        """Add or replace rows of :meth:`photos`; forget the paths in ``gone``."""
        with self._transaction():
            self._db.executemany("DELETE FROM photo WHERE path = ?", [(os.fsencode(path),) for path in gone])
            self._db.executemany(
                "INSERT OR REPLACE INTO photo VALUES (?,?,?,?,?)", [(os.fsencode(path), *rest) for path, *rest in rows]
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def now() -> str:
    """The time, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _apply(db: sqlite3.Connection, version: int) -> None:
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _read_only(path: Path) -> sqlite3.Connection:
    """Open for reading; in a folder we cannot write, where WAL needs a file of its own, as it stands on disk."""
    try:
        db = sqlite3.connect(f"file:{_quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=30)
        db.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError:
        db = sqlite3.connect(f"file:{_quote(path)}?immutable=1", uri=True, isolation_level=None)
    return db


def _quote(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _run(row: sqlite3.Row) -> Run:
    values = dict(row)
    for name in ("options", "inputs", "left_behind"):
        values[name] = json.loads(values[name]) if values[name] is not None else None
    return Run(**values)


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
