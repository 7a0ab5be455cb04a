"""A real project whose state database is deleted or damaged while its API answers: nothing retrains, nothing moves."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from api_client import until
from conftest import plantops, sh
from plantops.store import Store
from runs.cheap import aliases, answering, edit, state

pytestmark = pytest.mark.ci


def trainings(folder: Path) -> int:
    with sqlite3.connect(f"file:{folder}/mlruns/mlflow.db?mode=ro", uri=True) as database:
        return int(database.execute("SELECT count(*) FROM runs").fetchone()[0])


def listed(folder: Path) -> dict[str, tuple[str, int]]:
    """`plantops releases`: release: (state, version)."""
    found = json.loads(plantops("releases", "--json", cwd=folder).stdout)
    return {one["id"]: (one["state"], one["version"]) for one in found}


def since(folder: Path) -> str:
    """What tells one start of the API from another."""
    return str(state(folder)["answering"]["since"])


def lose(folder: Path, how: str) -> None:
    database = folder / ".plantops/state.db"
    if how == "damaged":
        with sqlite3.connect(database) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with database.open("r+b") as file:
            file.write(b"\xa5" * 8192)
    else:
        for suffix in ("", "-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)


def test_a_lost_memory_costs_no_training_and_no_switch(project: Path) -> None:
    """Three releases, the third withdrawn: whatever becomes of the database, the second serves on untouched."""
    for seed in (1, 2, 3):
        edit(project / "params.yaml", f"\nseed: {max(1, seed - 1)}", f"\nseed: {seed}")
        plantops("run", cwd=project)
    three = answering(project)
    plantops("rollback", cwd=project)
    two, known, began, trained = answering(project), listed(project), since(project), trainings(project)
    one = next(name for name in known if name not in (two, three))
    assert known[three][0] == "withdrawn"
    until(lambda: aliases(project) == {"champion": known[two][1], "previous": known[one][1]}, what="the aliases")

    for how in ("gone", "damaged"):
        lose(project, how)
        assert "no changes" in plantops("check", cwd=project).stdout
        told = state(project)  # looking does not mend it
        assert (told["in_service"]["id"], told["answering"]["release"]) == (two, two)
        assert (told["previous"], told["waiting"]["due"]) == (one, False)
        assert listed(project) == {**known, three: ("perhaps withdrawn", known[three][1])}
        assert not list((project / ".plantops").glob("*.corrupt-*"))

        told = plantops("run", cwd=project).stdout
        assert f"3 releases came back from models/releases, {two} in service; {three} may have been withdrawn" in told
        assert "lost are earlier runs" in told
        assert "no changes" in told
        assert "lost" not in plantops("run", cwd=project).stdout
        assert (answering(project), since(project), trainings(project)) == (two, began, trained)
        assert listed(project) == {**known, three: ("perhaps withdrawn", known[three][1])}
        assert aliases(project) == {"champion": known[two][1], "previous": known[one][1]}
        assert json.loads((project / "models/production/release.json").read_text())["release"] == two
    assert len(list((project / ".plantops").glob("state.db.corrupt-????????-??????"))) == 1

    # It remembers on as if nothing had been: a person may go forward and back, and the next change is noticed.
    plantops("rollback", three, cwd=project)
    assert listed(project)[three][0] == "in service"
    plantops("rollback", cwd=project)
    assert answering(project) == two
    edit(project / "params.yaml", "\nseed: 3", "\nseed: 4")
    assert "released: " in plantops("run", cwd=project).stdout
    assert trainings(project) == trained + 1


def test_what_answers_counts_more_than_a_production_that_a_kill_left_behind(project: Path) -> None:
    plantops("run", cwd=project)
    shutil.copytree(project / "models/production", project / "older")
    one = answering(project)
    edit(project / "params.yaml", "\nseed: 1", "\nseed: 2")
    plantops("run", cwd=project)
    two, began = answering(project), since(project)
    shutil.rmtree(project / "models/production")  # as when the writer of the view is killed
    (project / "older").rename(project / "models/production")
    lose(project, "gone")
    sh("mv", "mlruns", "away", cwd=project)
    (project / "mlruns").write_text("in the way")
    told = plantops("up", cwd=project, check=False).stdout
    assert f"2 releases came back from models/releases, {two} in service; lost are" in told
    assert "MLflow could not be asked" in told
    (project / "mlruns").unlink()
    (project / "away").rename(project / "mlruns")
    assert "no changes" in plantops("run", cwd=project).stdout
    assert (answering(project), since(project), state(project)["previous"]) == (two, began, one)
    assert json.loads((project / "models/production/release.json").read_text())["release"] == two
    with Store(project / ".plantops", readonly=True) as store:
        assert store.shown("backend") == "local"


def test_where_mlruns_was_removed_no_release_keeps_a_number_that_another_gets(project: Path) -> None:
    plantops("run", cwd=project)
    shutil.rmtree(project / "mlruns")
    assert "is not version 1 there: its records were removed" in plantops("doctor", cwd=project).stdout
    plantops("run", "--force", cwd=project)
    assert ([one for _, one in listed(project).values()], aliases(project)) == ([1], {"champion": 1})
    shutil.rmtree(project / "mlruns")
    edit(project / "params.yaml", "\nseed: 1", "\nseed: 2")
    plantops("run", cwd=project)
    assert ([one for _, one in listed(project).values()], aliases(project)) == ([1, None], {"champion": 1})
    assert "is not version" not in plantops("doctor", cwd=project).stdout
