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

WRONG, LEARNED = 4, 2  # among photos that are held out, and among those that are learned from


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
        moved = set()
        for split, label, to, count in (("test", 0, 1, WRONG), ("train", 2, 1, LEARNED)):
            ones = [one for one in Prepared.load().of(split) if one.label == photos.CLASSES[label]]
            for one in ones[:: max(1, len(ones) // count)][:count]:
                path = f"{photos.CLASSES[to]}/{Path(one.path).name}"
                (RAW / one.path).rename(RAW / path)
                moved.add(path)
        for stage in (data, train, evaluate):
            stage.main()
    return folder, moved


def test_planted_label_errors_lead_the_list(learned: tuple[Path, set[str]]) -> None:
    folder, moved = learned
    suspects = seen(folder).suspects
    assert len(moved) == WRONG + LEARNED
    first_ones = {one.photo.path for one in suspects.found[: len(moved) - 1]}  # one may be missed, nothing else named
    assert first_ones <= moved
    assert len(first_ones) == len(moved) - 1
    assert sum(one.learned for one in suspects.found[: len(moved)]) == LEARNED
    first = suspects.found[0]
    assert first.predicted == photos.CLASSES[0]
    assert first.own < 0.5 < first.confidence
    margins = [one.confidence - one.own for one in suspects.found]
    assert margins == sorted(margins, reverse=True)


def test_nothing_is_moved_and_all_are_asked(learned: tuple[Path, set[str]]) -> None:
    folder, moved = learned
    before = sorted(path.relative_to(folder) for path in (folder / RAW).rglob("*.jpg"))
    look = seen(folder)
    assert sorted(path.relative_to(folder) for path in (folder / RAW).rglob("*.jpg")) == before
    assert all((folder / RAW / path).is_file() for path in moved)
    prepared = Prepared.load(folder / "data/prepared")
    held = len(prepared.of("test")) + len(prepared.of("val"))
    assert (look.suspects.asked, look.suspects.learned, look.suspects.rest) == (held, len(before) - held, 0)
