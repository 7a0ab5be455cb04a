""".plantops/state.db: runs, their steps, what is settled, releases and what is in service. The store decides.

SQLite in WAL mode; each migration and its record are one transaction. Times are UTC, ISO 8601.
"""

from __future__ import annotations

from plantops.store.database import FILE, Damaged, Error, copy, now, schema
from plantops.store.photos import Photos
from plantops.store.releases import (
    BEFORE,
    DRIFTED,
    MISBEHAVES,
    PERHAPS,
    RETRAINED,
    Release,
    Releases,
    Served,
)
from plantops.store.runs import (
    ACCEPTED,
    FAILED,
    INTERRUPTED,
    OWED,
    REFUSED,
    RELEASED,
    RUNNING,
    SETTLED,
    UNCHANGED,
    Run,
    Runs,
    StepRow,
)


class Store(Runs, Releases, Photos):
    """The open state database: all that plantops remembers. Use as a context manager or :meth:`close` it."""


__all__ = [
    "ACCEPTED", "BEFORE", "DRIFTED", "FAILED", "FILE", "INTERRUPTED", "MISBEHAVES", "OWED", "PERHAPS", "REFUSED",
    "RELEASED", "RETRAINED", "RUNNING", "SETTLED", "UNCHANGED", "Damaged", "Error", "Release", "Run", "Served",
    "StepRow", "Store", "copy", "now", "schema",
]  # fmt: skip
