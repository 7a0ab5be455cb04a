"""What the machine refuses comes out in words, and no password does."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from plantops.errors import PlantopsError, StepFailed, in_words, redacted
from plantops.store import Store


def caught(act: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as one:
        act()
    return one.value


def write_to_a_full_disk(folder: Path) -> None:
    Path("/dev/full").write_text("something")


def copy_to_a_full_disk(folder: Path) -> None:
    """shutil.copytree tells of each file, in an error without a number."""
    for name in ("from", "to"):
        (folder / name).mkdir()
    (folder / "from/file").write_text("something")
    (folder / "to/file").symlink_to("/dev/full")
    shutil.copytree(folder / "from", folder / "to", dirs_exist_ok=True)


def store_on_a_full_disk(folder: Path) -> None:
    """SQLite itself says that there is no room, and has rolled back already."""
    with Store(folder) as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        try:
            with store.transaction():
                store.begin("by hand", {"long": "x" * 100_000}, "", {})
        finally:
            assert not store._db.in_transaction
            assert store.runs() == []


@pytest.mark.parametrize("write", [write_to_a_full_disk, copy_to_a_full_disk, store_on_a_full_disk])
def test_a_full_disk(tmp_path: Path, write: Callable[[Path], None]) -> None:
    error = in_words(caught(lambda: write(tmp_path)))
    assert isinstance(error, StepFailed)
    assert error.message == "the disk is full"
    assert "du -sh .dvc/cache models mlruns" in error.hint


def test_what_may_not_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    error = in_words(PermissionError(13, os.strerror(13), str(path)))
    assert error
    assert (error.message, error.hint) == (
        f"{path} cannot be used: Permission denied",
        f"ls -ld {shlex.quote(str(path))}",
    )


def test_a_database_that_another_program_holds_is_no_bug(tmp_path: Path) -> None:
    with Store(tmp_path) as store, closing(sqlite3.connect(tmp_path / "state.db")) as other:
        store._db.execute("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        error = in_words(caught(lambda: store.begin("by hand", {}, "", {})))
    assert error
    assert (error.message, error.hint) == (
        "a database of this project cannot be used: database is locked",
        "plantops doctor",
    )


def test_anything_else_is_a_bug(tmp_path: Path) -> None:
    for act in (
        lambda: 1 / 0,
        lambda: (tmp_path / "none").read_text(),
        lambda: sqlite3.connect(":memory:").execute("x"),
    ):
        assert in_words(caught(act)) is None


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("to http://bob:s3cret@host:1/a, https://t@k/", "to http://[redacted]@host:1/a, https://[redacted]@k/"),
        ("postgresql://u:s3/cret@host/db", "postgresql://[redacted]@host/db"),
        ("'http://u:it's@b@host'", "'http://[redacted]@host'"),
        ("x://h/db?user=u&password=s3'cret&a=1", "x://h/db?user=u&password=[redacted]&a=1"),
        ("mssql+pyodbc://?odbc_connect=PWD%3Ds3cret", "mssql+pyodbc://?odbc_connect=[redacted]"),
        ("http://127.0.0.1:8000/docs for ann@host", "http://127.0.0.1:8000/docs for ann@host"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
    ],
)
def test_no_error_holds_a_password(text: str, clean: str) -> None:
    assert redacted(text) == clean
    error = PlantopsError(text, text)
    assert (error.message, error.hint, str(error)) == (clean, clean, clean)


def test_an_error_is_text_whatever_a_file_is_called() -> None:
    """It is printed, stored and sent: a name that is no UTF-8 stops none of that."""
    error = PlantopsError("caf\udce9.jpg cannot be read", "ls 'caf\udce9.jpg'")
    assert (error.message, error.hint) == (r"caf\udce9.jpg cannot be read", r"ls 'caf\udce9.jpg'")
