"""The SQLite file behind the store: opened, migrated, read without write access. WAL mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
    """
    CREATE TABLE look (md5 TEXT PRIMARY KEY, version INTEGER NOT NULL, facts TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE note (
        release TEXT NOT NULL REFERENCES release (id), what TEXT NOT NULL, at TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (release, what)
    ) WITHOUT ROWID;
    """,
]


FILE = "state.db"
Error = sqlite3.Error  # what an open store may raise: no room, a lock held too long
# What commands that only read ask of; the photos, the bulk of the file, are not among it.
_ASKED = ("run", "release", "service", "shown")
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Damaged(SetupError):
    """The state database is there and is none any more."""


class Database:
    """An open state database. Use as a context manager or :meth:`close` it."""

    def __init__(self, folder: Path | None, readonly: bool = False) -> None:
        """Open (and make, unless ``readonly``) the database in ``folder``; None: one in memory, forgotten at its end.

        A ``readonly`` store of a project that has none yet is empty. Raises Damaged when the file is no database
        any more, SetupError when it was written by a newer plantops or cannot be read.
        """
        self.path = folder / FILE if folder else Path(":memory:")
        try:
            self._db = self._open(folder, readonly) if folder else _in_memory()
            self._db.row_factory = sqlite3.Row
            self._migrate(readonly)
        except (sqlite3.DatabaseError, OSError) as error:
            raise _unusable(self.path, error) from None

    def _open(self, folder: Path, readonly: bool) -> sqlite3.Connection:
        if readonly:
            db = _read_only(self.path) if self.path.exists() else None
            if db is None or _version(db) == 0:  # none yet, or just being made
                return _in_memory()
            return db
        folder.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        return db

    def _migrate(self, readonly: bool) -> None:
        version = _version(self._db)
        if version > len(MIGRATIONS):
            raise SetupError(
                f"{self.path} was written by a newer plantops (schema {version}, this one knows {len(MIGRATIONS)})",
                "upgrade plantops",
            )
        if not readonly:
            _apply(self._db)

    @property
    def unused(self) -> bool:
        """Whether it remembers neither a run nor a release."""
        rows = "SELECT EXISTS (SELECT 1 FROM run) OR EXISTS (SELECT 1 FROM release)"
        try:
            return not self._db.execute(rows).fetchone()[0]
        except sqlite3.OperationalError:  # a table is missing: somebody was at it
            return False

    def damage(self, thorough: bool = False) -> str:
        """What SQLite finds wrong with the pages of the file, in its words; empty when they are well.

        Not ``thorough``: only what reading commands ask of, without the photos.
        """
        checks = ["quick_check"] if thorough else [f"quick_check({table})" for table in _ASKED]
        try:
            found = [row[0] for check in checks for row in self._db.execute(f"PRAGMA {check}")]
        except sqlite3.DatabaseError as error:
            return str(error) if _is_damage(error) else ""
        lines = [line for one in found for line in one.splitlines()]
        return next((line for line in lines if line != "ok" and not line.startswith("***")), "")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Inside another one it is a part of that."""
        if self._db.in_transaction:
            yield
            return
        with _transaction(self._db):
            yield


def schema(folder: Path) -> tuple[int, int]:
    """The schema of the database in ``folder``, and the one that this plantops writes; the same where there is none."""
    path = folder / FILE
    if not path.exists():
        return len(MIGRATIONS), len(MIGRATIONS)
    try:
        with closing(_read_only(path)) as db:
            return _version(db), len(MIGRATIONS)
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from None


def now() -> str:
    """The time, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def copy(source: Path, target: Path) -> None:
    """A copy of any SQLite database at one moment, while others write to it; ``target`` is made anew.

    Raises SetupError when the source is damaged or there is no room.
    """
    target.unlink(missing_ok=True)
    try:
        with closing(_read_only(source)) as there, closing(sqlite3.connect(target)) as here:
            there.backup(here)  # in one step: one moment of the source, whoever writes
            here.execute("PRAGMA journal_mode = DELETE")  # one file, also when it is looked into
    except (sqlite3.Error, OSError) as error:
        raise SetupError(f"{source} cannot be copied: {error}", "plantops doctor") from None


def _apply(db: sqlite3.Connection) -> None:
    """The migrations that are missing, each with its record in one transaction, and each by one process alone."""
    for number, script in enumerate(MIGRATIONS, 1):
        if _version(db) >= number:
            continue
        with _transaction(db):
            if _version(db) < number:  # else another process was first
                for statement in filter(str.strip, script.split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has ended it already
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _in_memory() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _apply(db)
    return db


def _is_damage(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE  # the low byte: SQLite's primary code


def _unusable(path: Path, error: Exception) -> SetupError:
    if _is_damage(error):
        return Damaged(f"{path} cannot be used: {error}", "plantops doctor --fix")
    return SetupError(f"{path} cannot be used: {error}", f"ls -l {path.parent}; df {path.parent}")


def _read_only(path: Path) -> sqlite3.Connection:
    """Open for reading; in a folder we cannot write, where WAL needs a file of its own, as it stands on disk."""
    try:
        db = sqlite3.connect(
            f"file:{_quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=30, check_same_thread=False
        )
        db.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError:
        db = sqlite3.connect(
            f"file:{_quote(path)}?immutable=1", uri=True, isolation_level=None, check_same_thread=False
        )
    return db


def _quote(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
