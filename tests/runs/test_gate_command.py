"""The gate alone and overruled by a person; classes that are renamed, added and removed are compared fairly."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from conftest import plantops
from plantops import artifacts
from plantops.bundle import Bundle
from plantops.judgement.fair import renamed
from runs.cheap import CLASSES, RAW, answering, commit, edit, leaves, state

pytestmark = pytest.mark.ci

AGAINST = "accuracy against the release in service"


def judged(folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and verdict of `plantops gate`."""
    done = plantops("gate", "--json", *more, cwd=folder, check=False)
    return done.returncode, json.loads(done.stdout)


def finding(verdict: dict[str, Any], rule: str) -> dict[str, Any]:
    return next(one for one in verdict["findings"] if one["rule"] == rule)


def tags(folder: Path) -> dict[str, str]:
    """The gate's tags on the newest run in MLflow."""
    with sqlite3.connect(f"file:{folder}/mlruns/mlflow.db?mode=ro", uri=True) as database:
        newest = "SELECT run_uuid FROM runs ORDER BY start_time DESC LIMIT 1"
        rows = database.execute(
            f"SELECT key, value FROM tags WHERE key LIKE 'plantops.gate%' AND run_uuid = ({newest})"
        )
        return dict(rows)


def test_the_gate_alone_and_overruled(project: Path) -> None:
    nothing = plantops("gate", cwd=project, check=False)
    assert (nothing.returncode, "there is no candidate" in nothing.stderr) == (2, True)
    for name, colour in CLASSES.items():
        leaves(project / "data/field" / name, colour, 5, seed=7)
    plantops("run", cwd=project)
    one = answering(project)
    itself = plantops("gate", cwd=project)
    assert f"the candidate is {one} itself" in itself.stdout
    assert "accepted: a run would release it" in itself.stdout

    edit(project / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.95")
    refused = plantops("run", cwd=project, check=False)
    assert (refused.returncode, "--accept-anyway" in refused.stderr) == (4, True)
    code, verdict = judged(project)
    assert (code, verdict["outcome"], verdict["against"]) == (4, "refused", one)
    kept = json.loads(next((project / "models/refused").glob("*/verdict.json")).read_text())
    timeless = [item["sentence"] for item in verdict["findings"] if "time" not in item["rule"]]
    assert timeless == [item["sentence"] for item in kept["findings"] if "time" not in item["rule"]]
    assert finding(verdict, AGAINST)["state"] == "failed"
    in_field = finding(verdict, f"field {AGAINST}")
    assert (in_field["state"], in_field["numbers"]["photos"]) == ("failed", 5 * len(CLASSES))
    assert in_field["numbers"]["champion"] == 1
    assert finding(verdict, "time for a photo")["value"] > 0
    assert tags(project)["plantops.gate"] == "refused"
    assert list((project / "mlruns").rglob("gate/verdict.json"))
    unknown = plantops("gate", "--against", "nothing", cwd=project, check=False)
    assert (unknown.returncode, "begins with nothing" in unknown.stderr) == (2, True)
    assert answering(project) == one

    # A person may release it all the same, with a reason.
    for bad in (["--accept-anyway", " "], ["--accept-anyway", "why", "--skip-dvc"]):
        assert plantops("run", *bad, cwd=project, check=False).returncode == 2
    released = plantops("run", "--accept-anyway", "a field trial on Monday", cwd=project)
    assert "accepted anyway by" in released.stdout
    two = answering(project)
    assert two != one
    facts = json.loads((project / "models/releases" / two / "release.json").read_text())
    assert facts["verdict"]["accepted_anyway"]["reason"] == "a field trial on Monday"
    assert facts["verdict"]["outcome"] == "refused"
    assert "a field trial on Monday" in plantops("releases", cwd=project).stdout
    assert "a field trial on Monday" in plantops("status", cwd=project).stdout
    assert state(project)["in_service"]["accepted_anyway"]["user"]
    assert "a field trial on Monday" in tags(project)["plantops.gate.anyway"]
    assert judged(project, "--against", one)[1]["against"] == one

    # Not what was withdrawn: 0.96 smooths to the same model.
    plantops("rollback", cwd=project)
    edit(project / "params.yaml", "label_smoothing: 0.95", "label_smoothing: 0.96")
    withdrawn = plantops("run", "--accept-anyway", "again", cwd=project, check=False)
    assert (withdrawn.returncode, f"this is {two}, withdrawn" in withdrawn.stderr) == (4, True)
    assert answering(project) == one
    code, verdict = judged(project)
    assert (code, finding(verdict, "withdrawn")["state"]) == (4, "failed"), "as a run would say it"
    edit(project / artifacts.EVALUATION, '"accuracy": ', '"accuracy": 0.0001, "was": ')
    mixed = plantops("gate", cwd=project, check=False)
    assert (mixed.returncode, "is not of the candidate: its accuracy is 0.0001" in mixed.stderr) == (1, True)


def test_other_classes_are_compared_on_the_shared_ones(project: Path) -> None:
    plantops("run", "--skip-deploy", cwd=project)
    plantops("run", "--skip-dvc", cwd=project)
    one = answering(project)
    first, second, third = CLASSES
    (project / RAW / first).rename(project / RAW / "Renamed")
    (project / RAW / f"{first}.dvc").unlink()
    shutil.rmtree(project / RAW / third)
    (project / RAW / f"{third}.dvc").unlink()
    leaves(project / RAW / "NewClass", (220, 220, 60), 20)
    commit(project, "Rename one class, remove one, add one")
    assert "released: " in plantops("run", cwd=project).stdout
    facts = json.loads((project / "models/releases" / answering(project) / "release.json").read_text())
    assert facts["verdict"]["against"] == one
    fair = fair_photos(project, one, {"Renamed", second})
    assert finding(facts["verdict"], AGAINST)["numbers"]["photos"] == len(fair) > 10
    assert {row["class"] for row in fair} == {"Renamed", second}
    # Both could say only what both know, so that neither is the worse for a class that the other has not.
    assert finding(facts["verdict"], AGAINST)["numbers"]["champion"] == 1
    assert set(Bundle.load(project / "models/production").manifest.classes) == {"Renamed", second, "NewClass"}


def fair_photos(project: Path, release: str, classes: set[str]) -> list[dict[str, str]]:
    """Test photos of these classes that the release did not learn from."""
    split = artifacts.rows(project / "models/releases" / release / "split.csv")
    learned = {row["md5"] for row in split if row["split"] != "test"}
    rows = artifacts.rows(project / artifacts.INDEX)
    return [row for row in rows if row["split"] == "test" and row["md5"] not in learned and row["class"] in classes]


def listed(**classes: str) -> list[dict[str, str]]:
    return [{"md5": md5, "class": name} for name, photos in classes.items() for md5 in photos]


def test_a_renamed_class_is_known_by_its_photos() -> None:
    then, ours, theirs = listed(Old="abcdefghij", Other="xyz"), ("New", "Other"), ("Old", "Other")
    assert renamed(then, listed(New="abcdefghijkl", Other="xyz"), theirs, ours) == {"Old": "New"}
    assert renamed(then, listed(New="abcdefghi", Other="xyzj"), theirs, ours) == {"Old": "New"}
    assert renamed(then, listed(New="abcd", Other="efghijxyz"), theirs, ours) == {}, "it was divided"
    assert renamed(then, listed(New="klm", Other="xyz"), theirs, ours) == {}, "one went, one came"
    assert renamed(then, listed(New="abcdeklmnopq", Other="xyz"), theirs, ours) == {}, "half of it went"
    assert renamed(then, listed(New="abcdef", Other="xyz"), theirs, ours) == {"Old": "New"}, "and lost some"
    united = listed(One="abc", Two="def")
    assert renamed(united, listed(Both="abcdef"), ("One", "Two"), ("Both",)) == {}
