"""train, evaluate: real training of a small network on tiny photos."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from api_client import until
from conftest import sh
from plantops.errors import StepFailed
from plantops.ml import data, evaluate, train
from plantops.ml.frameworks import torch
from plantops.ml.model import Info, Model, make
from plantops.ml.prepared import Prepared
from plantops.ml.scores import softmax
from plantops.photo import normalise, table
from plantops.preprocess import Preprocessing

from . import photos


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"metrics/{name}.json").read_text())


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, **changed: dict[str, object]) -> Path:
    """prepare_data and train in a fresh project."""
    photos.project(folder, 12, **changed)
    monkeypatch.chdir(folder)
    data.main()
    train.main()
    return folder


def test_it_learns_what_can_be_learned(trained: Path) -> None:
    assert metrics(trained, "evaluation")["accuracy"] > 0.6
    losses = [float(row["train_loss"]) for row in rows(trained / "plots/epochs.csv")]
    assert losses[-1] < losses[0]


def test_the_best_epoch_is_the_one_kept(trained: Path) -> None:
    epochs, said = rows(trained / "plots/epochs.csv"), metrics(trained, "train")
    best = max(epochs, key=lambda row: float(row["val_macro_f1"]))
    assert said["best_epoch"] == int(best["epoch"])
    assert said["val_macro_f1"] == float(best["val_macro_f1"])
    prepared, model = Prepared.load(trained / "data/prepared"), Model.load(trained / "models/checkpoint")
    val = prepared.of("val")
    answers = model.probabilities(prepared.images[[photo.row for photo in val]]).argmax(1)
    assert (answers == prepared.labels(val)).mean() == pytest.approx(said["val_accuracy"], abs=1e-6)


def test_outputs_hold_no_times_and_no_places(trained: Path) -> None:
    judged = {f"val_{score}" for score in ("loss", "accuracy", "macro_f1")}
    assert set(metrics(trained, "train")) == {
        "best_epoch", "epochs", "parameters", "train_loss", "train_accuracy", *judged,
    }  # fmt: skip
    for path in (trained / "models").rglob("*.*"):
        assert str(trained).encode() not in path.read_bytes(), path
    left = {path.name for path in trained.iterdir()}
    assert left == {"params.yaml", "raw", "data", "metrics", "models", "plots", "reports"}


def test_the_checkpoint_is_lightnings_and_needs_no_pickle(trained: Path) -> None:
    state = torch.load(trained / "models/checkpoint/model.ckpt", weights_only=True)
    assert {"state_dict", "pytorch-lightning_version", "epoch"} <= set(state)
    info = json.loads((trained / "models/checkpoint/model.json").read_text())
    assert info["backbone"] == "resnet10t"
    assert info["preprocessing"]["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.ci
def test_the_same_seed_and_photos_give_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"epochs": 2}
    first, second = (run(tmp_path / name, monkeypatch, train=short) for name in "ab")
    other = run(tmp_path / "c", monkeypatch, train={**short, "label_smoothing": 0.0})
    files = ("metrics/train.json", "plots/epochs.csv", "models/checkpoint/model.ckpt")
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
        assert (first / file).read_bytes() != (other / file).read_bytes(), file


def test_without_validation_photos_the_training_loss_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path / "p", monkeypatch, split={"val": 0.0}, train={"epochs": 2})
    assert "no photos for validation" in capsys.readouterr().out
    epochs, said = rows(folder / "plots/epochs.csv"), metrics(folder, "train")
    assert all(row["val_loss"] == "" for row in epochs)
    assert said["train_loss"] == min(float(row["train_loss"]) for row in epochs)
    assert "val_macro_f1" not in said


def test_it_stops_early_when_nothing_gets_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tmp_path / "p", monkeypatch, train={"epochs": 12, "patience": 1, "lr": 1e-9})
    assert metrics(folder, "train")["epochs"] < 12


def test_a_frozen_backbone_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tmp_path / "p", monkeypatch, model={"freeze_epochs": 1}, train={"epochs": 1})
    torch.manual_seed(photos.PARAMS["seed"])
    fresh = make("resnet10t", 3, 32).state_dict()
    learned = Model.load(folder / "models/checkpoint").network.state_dict()
    moved = {name for name, values in fresh.items() if not torch.equal(values, learned[name])}
    assert moved == {"fc.weight", "fc.bias"}


def test_a_loss_that_is_no_number_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StepFailed, match="training came apart in epoch"):
        run(tmp_path / "p", monkeypatch, train={"lr": 1e30})


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([1, 2], "is damaged"),
        (torch.zeros(3), "is damaged"),
        ({"state_dict": 5}, "is damaged"),
        ({"state_dict": {"network.first": torch.zeros(3)}}, "does not fit resnet10t"),
        ({"state_dict": {}}, "does not fit resnet10t"),
    ],
)
def test_a_checkpoint_that_is_none_is_an_error_with_a_way_out(tmp_path: Path, held: object, said: str) -> None:
    spec = Preprocessing(32, "crop", "bilinear", True, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    info = Info("resnet10t", ("a", "b"), spec, 0, False, "")
    (tmp_path / "model.json").write_text(json.dumps(info.to_dict()))
    torch.save(held, tmp_path / "model.ckpt")
    with pytest.raises(StepFailed, match=said) as raised:
        Model.load(tmp_path)
    assert "dvc repro" in raised.value.hint


def test_an_unknown_backbone_is_an_error_that_names_others() -> None:
    with pytest.raises(StepFailed, match=r"knows no model\.backbone `resnet10x`") as raised:
        make("resnet10x", 3, 32)
    assert "resnet10t" in raised.value.hint


def test_weights_that_cannot_be_had_are_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StepFailed, match="pretrained weights of resnet10t cannot be had") as raised:
        make("resnet10t", 3, 32, pretrained=True)
    assert "model.pretrained to false" in raised.value.hint


def test_a_transformer_takes_the_size_given() -> None:
    network = make("test_vit", 3, 64).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_stage_before_its_inputs_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.params(tmp_path)
    monkeypatch.chdir(tmp_path)
    for stage in (train, evaluate):
        with pytest.raises(StepFailed, match="is missing") as raised:
            stage.main()
        assert raised.value.hint == "dvc repro prepare_data"


def test_the_evaluation_counts_the_answers_it_lists(trained: Path) -> None:
    table = pyarrow.parquet.read_table(trained / "models/evaluation/predictions.parquet")
    classes = json.loads(table.schema.metadata[b"classes"])
    answers, said = [row for row in table.to_pylist() if row["split"] == "test"], metrics(trained, "evaluation")
    prepared = Prepared.load(trained / "data/prepared")
    assert [row["path"] for row in answers] == [photo.path for photo in prepared.of("test")]
    assert said["accuracy"] == pytest.approx(np.mean([row["actual"] == row["predicted"] for row in answers]), abs=1e-6)
    for name, scores in said["per_class"].items():
        mine = [row["predicted"] == name for row in answers if row["actual"] == name]
        assert scores["support"] == len(mine)
        assert scores["recall"] == pytest.approx(np.mean(mine), abs=1e-6)
    for row in answers:
        shares = dict(zip(classes, row["probabilities"], strict=True))
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert row["predicted"] == max(shares, key=shares.__getitem__)
    pairs = [(row["actual"], row["predicted"]) for row in answers]
    assert [(row["actual"], row["predicted"]) for row in rows(trained / "plots/confusion.csv")] == pairs
    for picture in ("confusion.png", "curves.png"):
        assert (trained / "plots" / picture).read_bytes().startswith(b"\x89PNG")


def test_the_model_computes_what_its_network_says(trained: Path) -> None:
    model, prepared = Model.load(trained / "models/checkpoint"), Prepared.load(trained / "data/prepared")
    pixels = prepared.images[:5]
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(normalise(pixels, table(model.info.preprocessing))))
    assert np.allclose(model.probabilities(pixels), softmax(logits.numpy()), atol=1e-6)


def test_no_test_photos_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "p", monkeypatch, split={"test": 0.0}, train={"epochs": 1})
    with pytest.raises(StepFailed, match="no photos to test on"):
        evaluate.main()


@pytest.mark.ci
def test_an_interrupted_training_ends_at_once_and_leaves_no_description(tmp_path: Path) -> None:
    folder = photos.project(tmp_path / "p", 12, train={"epochs": 5000, "patience": 5000})
    sh(sys.executable, "-m", "plantops.ml.data", cwd=folder)
    command = [sys.executable, "-m", "plantops.ml.train"]
    stage = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until((folder / "models/checkpoint/model.ckpt").exists, 120, "the first epoch")
        stage.send_signal(signal.SIGINT)
        said, _ = stage.communicate(timeout=60)
    finally:
        stage.kill()
    assert stage.returncode == -signal.SIGINT
    assert "Traceback" not in said
    assert not (folder / "models/checkpoint/model.json").exists()
    assert not (folder / "metrics/train.json").exists()


@pytest.mark.ci
def test_lightning_timm_and_torchmetrics_load_whatever_torchvision_is_there(tmp_path: Path) -> None:
    """The first import decides, so it is tried in a process of its own."""
    code = (
        "from plantops.ml.frameworks import lightning, timm; import torchmetrics, torchvision; print(timm.__version__)"
    )
    assert sh(sys.executable, "-c", code, cwd=tmp_path).stdout.strip()


@pytest.mark.ci
def test_the_stages_print_plain_lines_only(tmp_path: Path) -> None:
    folder = photos.project(tmp_path / "p", 12, train={"epochs": 2})
    for module in ("data", "train", "evaluate", "export"):
        done = sh(sys.executable, "-m", f"plantops.ml.{module}", cwd=folder)
        assert done.stderr == ""
        assert "\x1b" not in done.stdout
        assert "Lightning" not in done.stdout
