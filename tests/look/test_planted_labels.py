"""Photos put into the wrong folder are found by the look, by a model that was really trained, and lead its list."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from conftest import ROOT
from look.scenes import RAW, seen
from ml import photos
from plantops.ml import data, evaluate, train
from plantops.ml.prepared import Prepared

pytestmark = pytest.mark.ci

WRONG = 4


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A project with planted label errors whose model has answered, and the planted paths."""
    folder = tmp_path_factory.mktemp("planted") / "project"
    folder.mkdir()
    for name in ("config.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    photos.params(folder, prepare={"raw": str(RAW)}, train={"epochs": 14, "patience": 14})
    photos.fill(folder / RAW, 60)
    with contextlib.chdir(folder):
        data.main()
        tests = [one for one in Prepared.load().of("test") if one.label == photos.CLASSES[0]]
        moved = set()
        for one in tests[:: max(1, len(tests) // WRONG)][:WRONG]:
            to = f"{photos.CLASSES[1]}/{Path(one.path).name}"
            (RAW / one.path).rename(RAW / to)
            moved.add(to)
        for stage in (data, train, evaluate):
            stage.main()
    return folder, moved


def test_planted_label_errors_lead_the_list(learned: tuple[Path, set[str]]) -> None:
    folder, moved = learned
    suspects = seen(folder).suspects
    assert len(moved) == WRONG
    ranked = [one.photo.path for one in suspects.found]
    assert set(ranked[:WRONG]) == moved
    first = suspects.found[0]
    assert first.predicted == photos.CLASSES[0]
    assert first.own < 0.5 < first.confidence
    margins = [one.confidence - one.own for one in suspects.found]
    assert margins == sorted(margins, reverse=True)


def test_nothing_is_moved_and_those_learned_by_heart_are_not_asked(learned: tuple[Path, set[str]]) -> None:
    folder, moved = learned
    before = sorted(path.relative_to(folder) for path in (folder / RAW).rglob("*.jpg"))
    look = seen(folder)
    assert sorted(path.relative_to(folder) for path in (folder / RAW).rglob("*.jpg")) == before
    assert all((folder / RAW / path).is_file() for path in moved)
    held = len(Prepared.load(folder / "data/prepared").of("test")) + len(
        Prepared.load(folder / "data/prepared").of("val")
    )
    assert (look.suspects.asked, look.suspects.rest) == (held, len(before) - held)
