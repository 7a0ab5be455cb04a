"""The last photos, asked of a release without traffic: what counts as another answer, and the page of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bundle_factory import CLASSES, TinyModel, make_release, photo
from plantops.config import Config
from plantops.deploy.local import Local
from plantops.judgement import renaming
from plantops.replay import FEWEST, NOT_TAKEN, page, replay, write
from plantops.serve.recent import Recent
from plantops.shelf import Shelf
from plantops.store import Release, Store, now

pytestmark = pytest.mark.ci
GOOD = TinyModel()
RENAMED = ("New name", *CLASSES[1:])


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A project that keeps what the release `good` was asked."""
    made = Config(tmp_path / "project", tmp_path / "project/config.yaml")
    recent = Recent(made.kept, FEWEST)
    for data in map(photo, range(FEWEST)):
        answer = GOOD.answer(data)
        best = max(answer, key=lambda name: answer[name])
        recent.add(data, "good", best, answer[best])
    return made


def split(folder: Path, *classes: str) -> Path:
    """The split list of a release: ten photos of each class, the same ones by whatever name."""
    photos = [(f"{number}{shot}", name) for number, name in enumerate(classes) for shot in range(10)]
    rows = [f'0,{md5},{md5},"{name}",{md5},train' for md5, name in photos]
    (folder / "split.csv").write_text("row,path,md5,class,group,split\n" + "\n".join(rows) + "\n")
    return folder


def test_a_renamed_class_is_no_other_answer(local: Local, config: Config, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "models")
    split(make_release(shelf.release("good"), GOOD), *CLASSES)
    new = split(make_release(shelf.release("new"), TinyModel(classes=RENAMED)), *RENAMED)
    with Store(tmp_path / "state") as store:
        assert renaming(store, shelf, "new") == {}, "nothing is in service yet"
        store.add_release(Release("good", now(), None, "digest", False, None, None, None))
        store.put_in_service("good", "code", "run x")
        names = renaming(store, shelf, "new")
        assert renaming(store, shelf, "gone") == {}
    assert names == {CLASSES[0]: RENAMED[0]}
    local.up(new)
    found = replay(config, local.public, "good", names)
    assert (found.asked, found.others) == (FEWEST, [])
    strict = replay(config, local.public, "good", {})
    assert {(one.old[0], one.new[0]) for one in strict.others} == {(CLASSES[0], RENAMED[0])}
    assert 0 < len(strict.others) < FEWEST
    written = write(config, "new", strict)
    assert written == page(config, "new")
    assert written.read_text().count("data:image/jpeg;base64,/9j/") == len(strict.others)
    assert replay(config, local.public, "another", {}).asked == 0


def test_a_photo_that_is_too_large_by_now_is_another_answer_and_no_failure(
    local: Local, config: Config, tmp_path: Path
) -> None:
    Recent(config.kept, FEWEST).add(photo(0, (400, 300)), "good", CLASSES[0], 0.9)
    strict = Local(local._root, local._deploy, replace(local._serve, max_megapixels=0.1))
    strict.up(make_release(tmp_path / "strict", GOOD))
    found = replay(config, strict.public, "good", {})
    assert found.asked == FEWEST
    assert [(one.old[0], one.new) for one in found.others] == [(CLASSES[0], (NOT_TAKEN, 0.0))]
    assert NOT_TAKEN in write(config, "strict", found).read_text()
