"""Trainings that go on from the release in service, and trainings with other seeds: real ones, of a tiny network."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plantops import artifacts
from plantops.artifacts import Learned
from plantops.bundle import Bundle
from plantops.errors import StepFailed
from plantops.judgement.fair import unfair
from plantops.ml import data, evaluate, export, start, train
from plantops.ml.frameworks import torch
from plantops.ml.model import Model, make, weights
from plantops.ml.params import load
from plantops.ml.prepared import Meta, Photo, Prepared
from plantops.process import CHAMPION_VARIABLE

from . import photos

RELEASE = "abc1234-0123456789ab"
ON = {"finetune_from": "champion", "finetune_epochs": 1}


@pytest.fixture
def champion(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release made from the shared project, in service for a project of its own, which is the working directory."""
    monkeypatch.chdir(photos.project(tmp_path / "project", train=ON))
    release = tmp_path / "releases" / RELEASE
    shutil.copytree(trained / "models/candidate", release)
    shutil.copyfile(trained / artifacts.INDEX, release / artifacts.SPLIT_FILE)
    facts = {"release": RELEASE, "training": {"seconds": 41.0, "started_from": "x", "anew_seconds": 611.0}}
    (release / artifacts.RELEASE_FILE).write_text(json.dumps(facts))
    monkeypatch.setenv(CHAMPION_VARIABLE, str(release))
    return release


def said(name: str) -> dict[str, Any]:
    return json.loads(Path(f"metrics/{name}.json").read_text())


def change(**sections: dict[str, object]) -> None:
    photos.params(Path.cwd(), **{"train": ON, **sections})


def move(release: Path, sides: dict[str, str]) -> None:
    """Have the release's split list say that whole groups were elsewhere: group -> split."""
    file = release / artifacts.SPLIT_FILE
    rows = artifacts.rows(file)
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "split": sides.get(row["group"], row["split"])} for row in rows)


@pytest.mark.ci
def test_it_goes_on_from_the_champion_and_says_so_everywhere(
    champion: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in (data, train, evaluate, export):
        stage.main()
    said_first = f"training goes on from release {RELEASE}, for 1 epochs in place of 10 (the last training from nothing"
    assert f"{said_first} took 611 s)" in capsys.readouterr().out
    told = said("train")
    assert (told["epochs"], told["started_from"]) == (1, RELEASE)
    evaluation = said("evaluation")
    assert (evaluation["started_from"], evaluation["left_out"]) == (RELEASE, 0)
    assert f"went on from release {RELEASE}" in Path("reports/model_card.md").read_text().replace("\\", "")
    bundle = Bundle.load(Path("models/candidate"))
    assert bundle.manifest.model["started_from"] == RELEASE
    learned = artifacts.read_learned(bundle.path / artifacts.LEARNED)
    assert learned == artifacts.learned(champion)
    assert {one.split for one in learned.values()} == {"train", "val"}
    assert {one.group for one in learned.values()} <= {row["group"] for row in artifacts.rows(artifacts.INDEX)}


@pytest.mark.ci
def test_one_epoch_from_the_champion_is_nearer_to_it_than_one_from_nothing(champion: Path) -> None:
    data.main()

    def away() -> float:
        train.main()
        before, after = weights(champion / "model.ckpt"), weights(Path("models/checkpoint/model.ckpt"))
        return float(sum(((after[key] - before[key]) ** 2).sum() for key in before if key.endswith("weight")))

    went_on = away()
    change(train={"epochs": 1})
    assert went_on < 0.1 * away()
    assert "started_from" not in said("train")


@pytest.mark.ci
def test_a_new_class_starts_fresh_and_the_others_keep_their_rows(champion: Path, trained: Path) -> None:
    model = Model.load(trained / "models/checkpoint")
    begun = start.Start(RELEASE, weights(champion / "model.ckpt"), model.info.classes, {})
    classes = ("A new class", *reversed(model.info.classes[1:]))
    network = make("resnet10t", len(classes), 32)
    fresh = network.get_classifier().weight[0].clone()
    begun.give(network, classes)
    head, old = network.get_classifier(), model.network.get_classifier()
    assert (head.weight[0] == fresh).all()
    for at, name in enumerate(classes[1:], 1):
        before = model.info.classes.index(name)
        assert (head.weight[at] == old.weight[before]).all()
        assert head.bias[at] == old.bias[before]
    body = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    assert all((model.network.state_dict()[key] == value).all() for key, value in body.items())


@pytest.mark.ci
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"model": {"backbone": "resnet14t"}}, "is a resnet10t, and model.backbone is resnet14t"),
        ({"model": {"size": 40}}, "takes its photos otherwise (size 32, now 40)"),
        ({"seed": 9}, "learned from"),
    ],
)
def test_a_champion_that_does_not_fit_is_said_and_the_training_starts_anew(
    champion: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], why: str
) -> None:
    change(train={**ON, "epochs": 1}, **{key: one for key, one in changed.items() if isinstance(one, dict)})
    if "seed" in changed:
        values = yaml.safe_load(Path("params.yaml").read_text())
        Path("params.yaml").write_text(yaml.safe_dump({**values, **changed}))
    data.main()
    train.main()
    out = capsys.readouterr().out
    assert "train.finetune_from: training starts from nothing, because" in out
    assert why in out
    assert "started_from" not in said("train")
    assert not Path("models/checkpoint/learned.csv").exists()


@pytest.mark.ci
@pytest.mark.parametrize("broken", ["split.csv", "model.ckpt", "model.onnx", ""])
def test_a_champion_that_is_not_whole_or_not_there_is_said(
    champion: Path, capsys: pytest.CaptureFixture[str], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(train={**ON, "epochs": 1})
    data.main()
    if broken:
        (champion / broken).unlink()
    else:
        monkeypatch.setenv(CHAMPION_VARIABLE, "")
    train.main()
    assert ("is not whole" if broken else "no release is in service yet") in capsys.readouterr().out
    assert "started_from" not in said("train")


@pytest.mark.parametrize("damage", ["empty", "half", "text", "a list", "a tensor", "no weights", "another layer"])
def test_a_champion_whose_weights_are_damaged_or_do_not_fit_is_said(
    champion: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    data.main()
    file = champion / "model.ckpt"
    whole, state = file.read_bytes(), weights(file)
    damaged = {"empty": b"", "half": whole[: len(whole) // 2], "text": b"weights"}
    if damage in damaged:
        file.write_bytes(damaged[damage])
    elif damage in (held := {"no weights": {"epoch": 1}, "a list": [1, 2], "a tensor": torch.zeros(3)}):
        torch.save(held[damage], file)
    else:
        torch.save(
            {"state_dict": {f"network.{key}".replace("conv1", "first"): one for key, one in state.items()}}, file
        )
    prepared = Prepared.load()
    assert start.champion(load(), train._info(load(), prepared), prepared) is None
    out = capsys.readouterr().out
    assert "training starts from nothing, because" in out
    assert ("do not fit the resnet10t of now" if damage == "another layer" else "model.ckpt is damaged") in out


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_with_more_than_half_of_the_training_photos_new_to_it_no_champion_is_gone_on_from(
    champion: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    data.main()
    prepared = Prepared.load()
    train_photos = prepared.of("train")
    new = {photo.md5 for photo in train_photos[: round(share * len(train_photos))]}
    file = champion / artifacts.SPLIT_FILE
    lines = [line for line in file.read_text().splitlines() if not any(md5 in line for md5 in new)]
    file.write_text("\n".join(lines) + "\n")
    begun = start.champion(load(), train._info(load(), prepared), prepared)
    out = capsys.readouterr().out
    assert (begun is None) == (share > 0.5)
    said = f"{len(new)} of the {len(train_photos)} training photos of now are new to release {RELEASE}, more than half"
    assert (said in out) == (share > 0.5)


@pytest.mark.ci
def test_a_bare_dvc_repro_takes_what_is_in_production(champion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHAMPION_VARIABLE)
    shutil.copytree(champion, start.PRODUCTION)
    data.main()
    train.main()
    assert said("train")["started_from"] == RELEASE


@pytest.mark.ci
def test_held_out_photos_that_the_champion_learned_from_are_not_judged_on(
    champion: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data.main()
    prepared = Prepared.load()
    tests, vals = ({photo.group for photo in prepared.of(split)} for split in ("test", "val"))
    assert len(tests) >= 4
    lost, seen = sorted(tests)[0], sorted(vals)[0]
    labels = {photo.label for photo in prepared.of("test") if photo.group != lost}
    if {photo.label for photo in prepared.of("test")} != labels:
        pytest.fail("the group is all that its class has: the project is too small for this test")
    once = Path("data/field", photos.CLASSES[0], "once_learned.jpg")
    once.parent.mkdir(parents=True)
    once.write_bytes(photos.jpeg(photos.leaf(77)))
    with (champion / artifacts.SPLIT_FILE).open("a") as file:  # no photo of now: a champion learned from it
        file.write(f"99,gone.jpg,{hashlib.md5(once.read_bytes()).hexdigest()},gone,gone,train\n")
    move(champion, {lost: "val", seen: "test"})  # tuned on: no test any more; tested on: no matter
    for stage in (train, evaluate, export):
        stage.main()
    gone = {photo.md5 for photo in prepared.of("test") if photo.group == lost}
    assert f"{len(gone)} held-out photos are left out" in capsys.readouterr().out
    table = pyarrow.parquet.read_table("models/evaluation/predictions.parquet").to_pylist()
    answered = {row["md5"] for row in table if row["split"] == "test"}
    assert answered == {photo.md5 for photo in prepared.of("test")} - gone
    assert {row["md5"] for row in table if row["split"] == "val"} == {photo.md5 for photo in prepared.of("val")}
    evaluation = said("evaluation")
    assert (evaluation["photos"], evaluation["left_out"]) == (len(answered), len(gone))
    assert any(f"{len(gone)} photos held out now were not asked about" in one for one in evaluation["remarks"])
    assert evaluation["field"]["photos"] == evaluation["field"]["left_out"] == 0
    assert evaluation["field"]["copies"] == [{"path": f"{photos.CLASSES[0]}/once_learned.jpg", "of": ""}]
    assert any("(learned from once)" in one for one in evaluation["remarks"])
    counted = Bundle.load(Path("models/candidate")).manifest.data["per_class"]
    assert sum(one["test"] for one in counted.values()) == len(answered)


def test_what_a_release_went_on_from_is_remembered_over_generations(tmp_path: Path) -> None:
    (tmp_path / artifacts.LEARNED).write_text("md5,split\nold,train\ngone,val\nboth,train\n")  # by an earlier version
    index = "row,path,md5,class,group,split\n"
    rows = [("old", "test"), ("new", "train"), ("tuned", "val"), ("both", "val"), ("kept", "test")]
    (tmp_path / artifacts.SPLIT_FILE).write_text(index + "".join(f"0,{md5},{md5},A,{md5},{s}\n" for md5, s in rows))
    assert artifacts.learned(tmp_path) == {
        "old": Learned("train"), "gone": Learned("val"), "both": Learned("train"), "new": Learned("train", "new"),
        "tuned": Learned("val", "tuned"),
    }  # fmt: skip


def test_a_photo_that_went_speaks_for_its_leaf_at_the_gate_and_for_a_network_that_goes_on(tmp_path: Path) -> None:
    index = "row,path,md5,class,group,split\n"
    (tmp_path / artifacts.SPLIT_FILE).write_text(index + '0,a.jpg,a,A,"leaf, G",train\n1,t.jpg,t,A,tested,test\n')
    learned = artifacts.learned(tmp_path)  # a.jpg was removed since; b.jpg is of the same leaf
    listed = (Photo(0, "b.jpg", "b", "A", "leaf, G", "test"), Photo(1, "c.jpg", "c", "A", "tested", "test"))
    meta = Meta(("A",), 8, "crop", "bilinear", True, len(listed), False, "")
    assert [one.md5 for one in start.unseen(Prepared(Path(), meta, listed), learned).photos] == ["c"]
    assert unfair(learned, [{"md5": one.md5, "group": one.group} for one in listed]) == {"a", "b"}
    start.write(start.Start(RELEASE, {}, ("A",), learned), tmp_path)
    assert start.learned(tmp_path) == learned


SIDES = st.sampled_from(("train", "val", "test"))


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(("", "train", "val"))), max_size=30), st.data())
def test_no_photo_that_is_left_shares_a_group_with_what_was_learned(
    drawn: list[tuple[int, str]], draw: st.DataObject
) -> None:
    sides = {group: draw.draw(SIDES) for group in range(6)}
    listed = tuple(Photo(at, str(at), str(at), "A", str(group), sides[group]) for at, (group, _) in enumerate(drawn))
    learned = {str(at): Learned(how) for at, (_, how) in enumerate(drawn) if how}
    meta = Meta(("A",), 8, "crop", "bilinear", True, len(listed), False, "")
    left = start.unseen(Prepared(Path(), meta, listed), learned).photos
    known = {how: {one.group for one in listed if learned.get(one.md5) == Learned(how)} for how in ("train", "val")}
    assert [one for one in listed if one.split == "train"] == [one for one in left if one.split == "train"]
    for one in listed:
        spoiled = one.group in known["train"] or (one.split == "test" and one.group in known["val"])
        assert (one in left) == (one.split == "train" or not spoiled)


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have run with two further seeds."""
    folder = photos.project(tmp_path_factory.mktemp("repeated") / "p", train={"epochs": 2}, evaluate={"repeats": 3})
    with contextlib.chdir(folder):
        for stage in (data, train, evaluate, export):
            stage.main()
    return folder


@pytest.mark.ci
def test_other_seeds_tell_the_spread_and_the_model_stays_that_of_the_seed(repeated: Path) -> None:
    told = json.loads((repeated / "metrics/evaluation.json").read_text())
    assert told["repeats"]["seeds"] == [1, 2, 3]
    rows = pyarrow.parquet.read_table(repeated / "models/evaluation/probed.parquet").to_pylist()
    right = [told["accuracy"]]
    for seed in (2, 3):
        mine = [row["actual"] == row["predicted"] for row in rows if row["variant"] == f"seed {seed}"]
        assert len(mine) == told["photos"]
        right.append(float(np.mean(mine)))
    accuracy = told["repeats"]["accuracy"]
    assert accuracy["values"] == pytest.approx(right, abs=1e-6)
    expected = (np.mean(right), np.std(right, ddof=1), min(right), max(right))
    assert tuple(accuracy[key] for key in ("mean", "std", "low", "high")) == pytest.approx(expected, abs=1e-6)
    assert told["accuracy_spread"] == accuracy["std"]
    assert told["repeats"]["macro_f1"]["values"][0] == told["macro_f1"]
    manifest = Bundle.load(repeated / "models/candidate").manifest
    assert manifest.metrics["macro_f1_spread"] == told["macro_f1_spread"]
    folder = repeated / "models/checkpoint"
    assert {path.name for path in folder.iterdir()} == {
        "course.csv", "model.ckpt", "model.json", "seed-2.ckpt", "seed-2.csv", "seed-3.ckpt", "seed-3.csv",
    }  # fmt: skip
    first, second = (weights(folder / name)["fc.weight"] for name in ("model.ckpt", "seed-2.ckpt"))
    assert (first != second).any()
    assert (repeated / "models/candidate/model.ckpt").read_bytes() == (folder / "model.ckpt").read_bytes()
    card, page = ((repeated / f"reports/{name}").read_text() for name in ("model_card.md", "evaluation.html"))
    assert "accuracy over 3 seeds" in card
    assert "right, of 3 trainings" in page
    assert "spread over seeds" not in card
    assert "with another seed" not in page


@pytest.mark.ci
def test_one_more_seed_changes_nothing_of_the_model(repeated: Path, tmp_path: Path) -> None:
    with contextlib.chdir(photos.project(tmp_path / "alone", train={"epochs": 2})):
        data.main()
        train.main()
        assert json.loads((repeated / "metrics/train.json").read_text()) == said("train")
        ours, theirs = (weights(one / "models/checkpoint/model.ckpt") for one in (Path(), repeated))
    assert all((ours[key] == theirs[key]).all() for key in theirs)


@pytest.mark.ci
def test_trainings_that_were_not_done_are_an_error_that_names_the_way_out(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    photos.params(folder, evaluate={"repeats": 2})
    with pytest.raises(StepFailed, match="holds no training with seed 2") as raised:
        evaluate.main()
    assert "params of stage train in dvc.yaml" in raised.value.hint
