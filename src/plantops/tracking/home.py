"""MLflow's database keeps absolute paths: where a project has moved, they move with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from plantops.errors import SetupError

# Of mlflow 3.17; a column that another version does not have is left out.
_PATHS = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}


def rehome(database: Path, old: Path, new: Path) -> None:
    """Have the artifacts that ``database`` names below the folder ``old`` lie below ``new``. One transaction.

    Raises SetupError when it is no database.
    """
    try:
        with closing(sqlite3.connect(database)) as db, db:
            for table, columns in _PATHS.items():
                there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
                for column in there.intersection(columns):
                    db.execute(
                        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1)"
                        f" WHERE substr({column}, 1, length(:old) + 1) = :old || '/'",
                        {"old": str(old), "new": str(new)},
                    )
    except sqlite3.Error as error:
        raise SetupError(f"MLflow's database {database.name} is damaged: {error}", "take another backup") from None
