"""Faster training: early epochs at three quarters of the size, and mixed precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plantops.ml import data, train
from plantops.ml.batches import smaller
from plantops.ml.frameworks import torch
from plantops.ml.model import Model

from . import photos


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, size: int, **training: object) -> Path:
    """prepare_data and train in a fresh project."""
    photos.project(folder, 12, model={"backbone": backbone, "size": size}, train={"epochs": 2, **training})
    monkeypatch.chdir(folder)
    data.main()
    train.main()
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return Model.load(folder / "models/checkpoint").network.state_dict()


def alike(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(("side", "becomes"), [(32, 32), (64, 64), (96, 64), (128, 96), (224, 160)])
def test_three_quarters_of_the_side_in_whole_32s(side: int, becomes: int) -> None:
    flat = torch.full((2, 3, side, side), 0.5)
    flat[1] = -1
    small = smaller(flat)
    assert small.shape == (2, 3, becomes, becomes)
    assert torch.allclose(small[0], torch.tensor(0.5))
    assert torch.allclose(small[1], torch.tensor(-1.0))


def test_a_convolution_learns_from_smaller_photos_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def note(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3:
            sizes.append(given[0].shape[-1])

    watching = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        folder = run(tmp_path / "p", monkeypatch, "resnet10t", 96, small_epochs=1)
    finally:
        watching.remove()
    # An epoch: some batches to learn from, then the validation, always at the full size.
    changes = [side for at, side in enumerate(sizes) if at == 0 or sizes[at - 1] != side]
    assert changes == [64, 96]
    assert Model.load(folder / "models/checkpoint").info.preprocessing.size == 96
    assert json.loads((folder / "metrics/train.json").read_text())["epochs"] == 2


@pytest.mark.ci
def test_patience_begins_with_the_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(
        tmp_path / "p", monkeypatch, "resnet10t", 96, small_epochs=3, epochs=12, patience=1, lr=1e-9, batch_size=32
    )
    assert 5 <= json.loads((folder / "metrics/train.json").read_text())["epochs"] < 12


def test_a_transformer_keeps_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without, with_ = (run(tmp_path / str(n), monkeypatch, "test_vit", 96, small_epochs=n) for n in (0, 1))
    assert alike(without, with_)


@pytest.mark.ci
def test_mixed_precision_trains_and_keeps_whole_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, mixed = (run(tmp_path / one, monkeypatch, "resnet10t", 32, precision=one) for one in ("32", "bf16-mixed"))
    assert not alike(whole, mixed)
    assert {one.dtype for one in weights(mixed).values()} == {torch.float32, torch.int64}
    losses = [json.loads((one / "metrics/train.json").read_text())["train_loss"] for one in (whole, mixed)]
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
