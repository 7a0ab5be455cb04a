"""The SQLite file behind the store: opened, migrated, read without write access. WAL mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from plantops.errors import SetupError

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
    CREATE TABLE folder (path BLOB PRIMARY KEY, signature TEXT NOT NULL, md5 TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE photo (
        folder BLOB NOT NULL REFERENCES folder (path) ON DELETE CASCADE, path BLOB NOT NULL, size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, md5 TEXT NOT NULL, PRIMARY KEY (folder, path)
    ) WITHOUT ROWID;
    """,
]


class Database:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
