"""params.yaml: what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from conftest import ROOT
from plantops.errors import StepFailed
from plantops.ml.params import load

GIVEN = yaml.safe_load((ROOT / "params.yaml").read_text())


def test_the_file_that_ships_is_read() -> None:
    params = load(ROOT / "params.yaml")
    assert params.model.backbone == "resnet10t"
    assert isinstance(params.train.lr, float)
    assert params.export.quantize == "off"  # which YAML reads as no


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.epoch", 3, "unknown key `train.epoch`"),
        ("trian", {}, "unknown key `trian`"),
        ("seed", "one", "`seed` should be a whole number"),
        ("seed", True, "`seed` should be a whole number"),
        ("train.epochs", 2.5, "`train.epochs` should be a whole number"),
        ("train.lr", "fast", "`train.lr` should be a number"),
        ("train.small_epochs", 5000, "`train.small_epochs` should be 0 or more, and less than train.epochs"),
        ("train.lr", 0, "`train.lr` should be more than 0"),
        ("model.pretrained", "yes please", "`model.pretrained` should be true or false"),
        ("model.fit", "stretch", "`model.fit` should be one of crop, squash"),
        ("split.val", 0.9, "`split.val + split.test` should be less than 1"),
        ("split.group_by", "___(.+", "`split.group_by` is no regular expression"),
        ("seed", -1, "`seed` should be 0 or more"),
        ("train.devices", 0, "`train.devices` should be 1 or more"),
        ("train.nodes", "two", "`train.nodes` should be a whole number"),
        ("train.strategy", "fsdp", "`train.strategy` should be one of auto, ddp"),
        ("train.devices", 3, "`train.batch_size` should be a multiple of train.devices x train.nodes"),
        ("train.nodes", 32, "`train.batch_size` should be 64 or more"),
        ("train.precision", "64", "`train.precision` should be one of auto"),
        ("export.quantize", True, "`export.quantize` should be text"),
        ("export.quantize", "int8", "`export.quantize` should be one of off, auto"),
        ("prepare.store", "bucket/pixels", "`prepare.store` should be s3://BUCKET"),
        ("prepare.store", "s3://", "`prepare.store` should be s3://BUCKET"),
        ("model", None, "`model` should hold keys and values"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, key: str, value: object, said: str) -> None:
    values = yaml.safe_load(yaml.safe_dump(GIVEN))
    *section, name = key.split(".")
    (values[section[0]] if section else values)[name] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(StepFailed) as raised:
        load(path)
    assert said in raised.value.message


def test_a_missing_key_a_missing_file_and_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(StepFailed, match="is missing"):
        load(path)
    path.write_text(yaml.safe_dump({key: part for key, part in GIVEN.items() if key != "split"}))
    with pytest.raises(StepFailed, match="`split` is missing"):
        load(path)
    path.write_text("seed: [1")
    with pytest.raises(StepFailed, match="cannot be read"):
        load(path)


def test_precision_32_may_be_written_as_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({**GIVEN, "train": {**GIVEN["train"], "precision": 32}}))
    assert load(path).train.precision == "32"


def test_what_is_missing_is_told_line_by_line_as_it_ships(tmp_path: Path) -> None:
    path, shipped = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    lines = [line for line in shipped.splitlines() if line.startswith(("  finetune_from:", "  finetune_epochs:"))]
    assert len(lines) == 2
    path.write_text("".join(f"{line}\n" for line in shipped.splitlines() if line not in lines))
    with pytest.raises(StepFailed, match=r"`train\.finetune_epochs` is missing") as raised:
        load(path)
    told = raised.value.hint.splitlines()
    assert told[0] == "add below `train:`"
    assert set(told[1:]) == set(lines)
    text = path.read_text()
    path.write_text(text.replace("train:\n", "train:\n" + "\n".join(told[1:]) + "\n"))
    assert load(path) == load(ROOT / "params.yaml")


@pytest.mark.parametrize("text", ["2e-3", "2E-3", "2.e3", "15e2", "2.0e-03"])
def test_a_number_is_one_as_dvc_reads_it(tmp_path: Path, text: str) -> None:
    """PyYAML alone reads some of them as text."""
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text().replace("  lr: 0.002", f"  lr: {text}"))
    assert load(file).train.lr == YAML().load(file)["train"]["lr"] == float(text)


def test_what_says_nothing_of_processes_means_one(tmp_path: Path) -> None:
    train = load(ROOT / "params.yaml").train
    assert (train.devices, train.nodes, train.strategy, train.processes) == (1, 1, "auto", 1)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({**GIVEN, "train": {**GIVEN["train"], "devices": 2, "nodes": 4}}))
    assert load(path).train.processes == 8
