"""Releases, which of them was in service when, and what the views outside show of it."""

from __future__ import annotations

from dataclasses import dataclass

from plantops.store.database import Database, now

# Of a release that may have been rolled back before the database was lost: as long as nobody knows, it was.
PERHAPS = "a time that nobody knows (the database was lost)"

# What is noted of a release: figures of the one that it replaced (JSON), how its photos drifted, the inputs'
# fingerprint on which drift has forced a run, and what is wrong with how it behaves.
BEFORE, DRIFTED, RETRAINED, MISBEHAVES = "before", "drifted", "retrained", "misbehaves"


@dataclass(frozen=True)
class Release:
    """One accepted model. ``withdrawn`` is when it was rolled back, PERHAPS where that is not known, or None."""

    id: str
    created: str
    run: str | None
    digest: str
    sample_data: bool
    mlflow_run: str | None
    version: int | None
    withdrawn: str | None


@dataclass(frozen=True)
class Served:
    """A release was put in service: when, and in words by what."""

    at: str
    release: str
    reason: str


class Releases(Database):
    """The tables release, service, note and shown."""

    def add_release(self, release: Release) -> None:
        """Record an accepted model; one that is known already is left as it is."""
        self._db.execute(
            "INSERT INTO release VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING",
            (
                release.id, release.created, release.run, release.digest, int(release.sample_data),
                release.mlflow_run, release.version, release.withdrawn,
            ),
        )  # fmt: skip

    def set_version(self, release: str, version: int | None) -> None:
        """Record the registry version of a release; None when it has none any more."""
        self._db.execute("UPDATE release SET version = ? WHERE id = ?", (version, release))

    def release(self, name: str) -> Release | None:
        """A release by its id, or by an unambiguous beginning of it or of its digest."""
        begins = "WHERE ?1 != '' AND ?1 IN (substr(id, 1, length(?1)), substr(digest, 1, length(?1))) LIMIT 2"
        found = self._releases("WHERE id = ?", name) or self._releases(begins, name)
        return found[0] if len(found) == 1 else None

    def releases(self) -> list[Release]:
        """All releases, newest first."""
        return self._releases("ORDER BY rowid DESC")

    def _releases(self, which: str, *values: str) -> list[Release]:
        rows = self._db.execute(f"SELECT release.* FROM release {which}", values).fetchall()
        return [Release(**{**dict(row), "sample_data": bool(row["sample_data"])}) for row in rows]

    def with_digest(self, digest: str) -> Release | None:
        """The newest release with this bundle digest."""
        return next(iter(self._releases("WHERE digest = ? ORDER BY rowid DESC LIMIT 1", digest)), None)

    def put_in_service(self, release: str, code: str, reason: str, withdraw: str | None = None) -> None:
        """The release that answers from now on, served by ``code`` (its digest). One transaction.

        ``withdraw`` marks the one left as withdrawn.
        """
        with self.transaction():
            self._db.execute(
                "INSERT INTO service (at, release, code, reason) VALUES (?,?,?,?)", (now(), release, code, reason)
            )
            self._db.execute("UPDATE release SET withdrawn = NULL WHERE id = ?", (release,))
            if withdraw:
                self._db.execute("UPDATE release SET withdrawn = ? WHERE id = ?", (now(), withdraw))

    def withdraw(self, release: str) -> None:
        """Mark a release as withdrawn: it is not deployed again by itself."""
        self._db.execute("UPDATE release SET withdrawn = ? WHERE id = ?", (now(), release))

    def note(self, release: str, what: str, value: str) -> None:
        """Remember one thing about a release, by :data:`BEFORE` and the others; a later value takes its place."""
        self._db.execute("INSERT OR REPLACE INTO note VALUES (?,?,?,?)", (release, what, now(), value))

    def noted(self, release: str, what: str) -> str:
        """What was remembered, or an empty string."""
        return next(iter(self._notes(what, "release", release)), "")

    def retrained(self, fingerprint: str) -> bool:
        """Whether drift has forced a run on inputs of this fingerprint."""
        return bool(self._notes(RETRAINED, "value", fingerprint))

    def _notes(self, what: str, column: str, wanted: str) -> list[str]:
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'note'").fetchone():
            return []  # only read, and written by an older plantops
        asked = f"SELECT value FROM note WHERE what = ? AND {column} = ?"
        rows = self._db.execute(asked, (what, wanted)).fetchall()
        return [row["value"] for row in rows]

    def in_service(self) -> Release | None:
        """The release that the store says is answering: the champion."""
        row = self._db.execute("SELECT release FROM service ORDER BY number DESC LIMIT 1").fetchone()
        return self.release(row["release"]) if row else None

    def in_service_since(self) -> str:
        """When the release in service was put there, or an empty string."""
        row = self._db.execute("SELECT at FROM service ORDER BY number DESC LIMIT 1").fetchone()
        return row["at"] if row else ""

    def served(self) -> list[Served]:
        """Which release was put in service when, newest first."""
        rows = self._db.execute("SELECT at, release, reason FROM service ORDER BY number DESC").fetchall()
        return [Served(**dict(row)) for row in rows]

    def serving_code(self) -> str:
        """Digest of the serving code that the release in service was started with, or an empty string."""
        row = self._db.execute("SELECT code FROM service ORDER BY number DESC LIMIT 1").fetchone()
        return row["code"] if row else ""

    def previous(self) -> Release | None:
        """Where a rollback goes: the last other release in service that was not withdrawn."""
        current = self.in_service()
        before = "JOIN service ON service.release = id WHERE withdrawn IS NULL AND id != ? ORDER BY number DESC LIMIT 1"
        return next(iter(self._releases(before, current.id)), None) if current else None

    def shown(self, view: str) -> str:
        """What a view outside the store was last made to show, or an empty string."""
        row = self._db.execute("SELECT value FROM shown WHERE view = ?", (view,)).fetchone()
        return row["value"] if row else ""

    def set_shown(self, view: str, value: str) -> None:
        """Record what a view shows now."""
        self._db.execute("INSERT OR REPLACE INTO shown VALUES (?,?)", (view, value))
