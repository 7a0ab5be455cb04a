"""history, show, diff and verify on a project with two releases; what is moved by hand is seen, and mended as told."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from api_client import until
from conftest import plantops, sh
from plantops import lock, steps
from plantops.store import Store
from runs.cheap import CLASSES, RAW, aliases, commit, edit, leaves

pytestmark = pytest.mark.ci
STEPS = [step.name for step in steps.steps(steps.Options())]


def told(folder: Path, *argv: str) -> Any:
    """What a command says to machines."""
    return json.loads(plantops(*argv, "--json", cwd=folder).stdout)


def verified(folder: Path) -> dict[str, tuple[str, str]]:
    """{thing: (state, remedy)} of what is not as the store says; the exit code is 1 exactly when something is not."""
    done = plantops("verify", "--json", cwd=folder, check=False)
    wrong = {one["what"]: (one["state"], one["remedy"]) for one in json.loads(done.stdout) if one["state"] != "ok"}
    assert done.returncode == (1 if wrong else 0), done.stderr
    return wrong


def mended(folder: Path, what: str) -> None:
    """It is found, alone, and the command that is told mends it."""
    ((found, (state, remedy)),) = verified(folder).items()
    assert (found, state) == (what, "differs")
    assert remedy.startswith("plantops ")
    plantops(*remedy.split()[1:], cwd=folder)
    assert verified(folder) == {}


def test_what_is_on_record_and_whether_it_is_so(project: Path) -> None:
    assert told(project, "history") == []
    assert plantops("show", cwd=project, check=False).returncode == 2
    assert plantops("verify", cwd=project, check=False).returncode == 2
    plantops("run", cwd=project)
    first, second, _ = CLASSES
    leaves(project / RAW / first, CLASSES[first], 4, seed=3)
    next((project / RAW / second).glob("*.jpg")).unlink()
    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.2")
    commit(project, "Add photos, remove one, smooth more")
    plantops("run", cwd=project)

    newest, oldest = told(project, "history")
    assert [newest["state"], oldest["state"]] == ["released", "released"]
    assert list(newest["steps"]) == STEPS
    assert all(seconds >= 0 for seconds in newest["steps"].values())
    assert 0 < sum(newest["steps"].values()) <= newest["seconds"]
    assert (newest["trigger"], bool(newest["by"])) == ("by hand", True)
    assert [one["id"] for one in told(project, "history", "-n", "1")] == [newest["id"]]

    old, new = oldest["release"], newest["release"]
    shown = told(project, "show")
    assert (shown["id"], shown["run"], shown["replaced"]) == (new, newest["id"], old)
    assert shown["commit"] == sh("git", "rev-parse", "HEAD", cwd=project).stdout.strip()
    assert shown["classes"] == {name: 20 + 4 * (name == first) - (name == second) for name in CLASSES}
    assert shown["params"]["train"]["label_smoothing"] == 0.2
    assert shown["verdict"]["against"] == old
    assert any("label_smoothing" in sentence for sentence in shown["changed"])
    assert any(first in sentence for sentence in shown["changed"])
    assert (shown["image"], shown["image_tag"]) == (None, None)
    assert told(project, "show", old)["services"][0]["reason"] == f"run {oldest['id']}"
    run = told(project, "show", oldest["id"])
    assert (run["release"], [step["name"] for step in run["steps"]]) == (old, STEPS)
    assert "no release is called nobody" in plantops("show", "nobody", cwd=project, check=False).stderr
    for argv in (["show"], ["show", oldest["id"]], ["history"], ["diff", old, new], ["verify"]):
        assert plantops(*argv, cwd=project).stdout

    differs = told(project, "diff", old, new)
    assert differs["classes"][first] == {"photos": [20, 24], "added": 4, "removed": 0, "other_split": 0}
    assert differs["classes"][second]["removed"] == 1
    assert differs["params"] == {"train.label_smoothing": [0.1, 0.2]}
    assert differs["verdict"]["against"] == [None, old]
    assert "the same photos, parameters" in plantops("diff", new, new, cwd=project).stdout
    assert plantops("diff", old, "nobody", cwd=project, check=False).returncode == 2

    moved_by_hand(project, old, new)


def test_a_run_that_was_killed_is_not_going_on(project: Path) -> None:
    with Store(project / ".plantops") as store:
        run = store.begin("by hand", {}, "f", {})
        store.step_begins(run, "reproduce")
    (listed,) = told(project, "history")
    shown = told(project, "show", run)
    assert shown["state"] == listed["state"] == "interrupted"
    assert [one["state"] for one in shown["steps"]] == ["interrupted"]
    assert "killed, or power lost" in plantops("show", run, cwd=project).stdout
    with lock.hold(project / ".plantops"):
        assert told(project, "show", run)["state"] == "running"


def moved_by_hand(project: Path, old: str, new: str) -> None:
    """Each thing outside the store, moved as a person would."""
    assert verified(project) == {}
    (project / "models/production/manifest.json").write_text("{}")
    mended(project, "production")
    shutil.rmtree(project / "models/production")
    shutil.copytree(project / "models/releases" / old, project / "models/production")
    mended(project, "production")
    champion = aliases(project)["champion"]
    with sqlite3.connect(project / "mlruns/mlflow.db") as database:
        database.execute("UPDATE registered_model_aliases SET version = ? WHERE alias = 'champion'", (champion - 1,))
    mended(project, "mlflow")
    assert aliases(project)["champion"] == champion
    plantops("down", cwd=project)
    mended(project, "api")

    plantops("rollback", cwd=project)
    (service, *_) = told(project, "show", old)["services"]
    assert service["reason"].startswith("rollback by ")
    assert service["replaced"] == new
    until(lambda: not verified(project), what="MLflow's alias, moved by a process of its own")
    model = project / "models/releases" / old / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    assert set(verified(project)) == {"bundle", "production"}
