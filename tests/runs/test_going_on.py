"""A run that goes on from the release in service: real stages, tiny photos, and what is on record of it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from conftest import plantops
from plantops import artifacts
from runs.cheap import CLASSES, RAW, answering, commit, edit, leaves
from runs.cheap import make as cheap

pytestmark = pytest.mark.ci


def test_it_goes_on_from_the_champion_says_what_that_saved_and_another_champion_starts_no_run(
    tmp_path: Path,
) -> None:
    folder = cheap(tmp_path / "project")
    try:
        text = (folder / "dvc.yaml").read_text()
        for stage, verb in (("train", "train"), ("evaluate", "evaluate"), ("export", "export")):
            text = text.replace(f"python cheap_stages.py {verb}", f"python -m plantops.ml.{stage}")
        (folder / "dvc.yaml").write_text(text)
        edit(folder / "config.yaml", "min_recall: 0.30", "min_recall: 0")
        edit(folder / "config.yaml", "max_ece: 0.15", "max_ece: 0")
        edit(folder / "config.yaml", "max_fall: 0.04", "max_fall: 0.9")
        edit(folder / "config.yaml", "max_recall_fall: 0.10", "max_recall_fall: 1.0")
        edit(folder / "config.yaml", "min_accuracy: 0.70", "min_accuracy: 0.05")
        edit(folder / "config.yaml", "min_macro_f1: 0.65", "min_macro_f1: 0.01")
        edit(folder / "params.yaml", "finetune_from: null ", "finetune_from: champion ")
        edit(folder / "params.yaml", "finetune_epochs: 6", "finetune_epochs: 1")
        commit(folder, "Take the real stages")
        first = plantops("run", cwd=folder).stdout
        assert "training starts from nothing, because no release is in service yet" in first
        champion = answering(folder)
        assert "no changes" in plantops("check", cwd=folder).stdout

        edit(folder / "params.yaml", "repeats: 1 ", "repeats: 2 ")
        leaves(folder / RAW / next(iter(CLASSES)), (45, 150, 70), 4, seed=7)
        commit(folder, "Add four photos")
        second = plantops("run", cwd=folder).stdout
        assert f"training goes on from release {champion}, for 1 epochs" in second
        assert f"going on from {champion}; the last one from nothing took" in second
        assert "2 trainings that differ by their seed reach accuracy from" in second
        release = answering(folder)
        assert release != champion
        shown = plantops("show", cwd=folder).stdout
        assert f"going on from {champion}" in shown
        assert "accuracy ±" in shown
        facts = json.loads((folder / "models/releases" / release / artifacts.RELEASE_FILE).read_text())["training"]
        before = json.loads((folder / "models/releases" / champion / artifacts.RELEASE_FILE).read_text())["training"]
        assert before["anew_seconds"] == before["seconds"] == facts["anew_seconds"] > 0
        assert facts["started_from"] == champion
        with sqlite3.connect(f"file:{folder}/mlruns/mlflow.db?mode=ro", uri=True) as database:
            tags = dict(database.execute("SELECT key, value FROM tags WHERE value = ?", (champion,)))
        assert tags.get("plantops.training.started_from") == champion

        plantops("rollback", cwd=folder)
        assert answering(folder) == champion
        assert "no changes" in plantops("check", cwd=folder).stdout
    finally:
        plantops("down", cwd=folder, check=False)
