"""train: a Lightning run over the prepared photos; keeps the epoch with the best validation macro-F1."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import numpy as np

from plantops.errors import StepFailed
from plantops.ml import stage
from plantops.ml.batches import Photos, loader
from plantops.ml.classifier import Classifier
from plantops.ml.epochs import COLUMNS, EpochLog
from plantops.ml.files import (
    CHECKPOINT,
    CHECKPOINT_FOLDER,
    CHECKPOINT_INFO,
    EPOCHS,
    TRAIN_METRICS,
    fresh_folder,
    write_json,
)
from plantops.ml.frameworks import lightning, torch
from plantops.ml.model import Info, make, normalisation, takes_one_size
from plantops.ml.params import Params, load
from plantops.ml.prepared import Prepared


def main() -> None:
    """Read params.yaml and data/prepared; write models/checkpoint, metrics/train.json and plots/epochs.csv."""
    params, prepared = load(), Prepared.load()
    _quiet()
    torch.manual_seed(params.seed)
    classifier, info = _model(params, prepared)
    folder = fresh_folder(CHECKPOINT_FOLDER)
    judged = bool(prepared.of("val"))
    if not judged:
        print("no photos for validation: the epoch with the lowest training loss is kept, and none is stopped early")
    log = EpochLog(EPOCHS, params.train.epochs)
    keeper = _keeper(judged)
    trainer = _trainer(params, [log, keeper, *([_stopper(params)] if judged else [])])
    began = time.monotonic()
    with log:
        _fit(trainer, classifier, params, prepared)
    _speed(log, len(prepared.of("train")), time.monotonic() - began)
    write_json(folder / CHECKPOINT_INFO, info.to_dict())
    write_json(TRAIN_METRICS, _metrics(log.rows, info))


def _model(params: Params, prepared: Prepared) -> tuple[Classifier, Info]:
    model, meta = params.model, prepared.meta
    network = make(model.backbone, len(meta.classes), meta.size, model.pretrained)
    info = Info(
        backbone=model.backbone,
        classes=meta.classes,
        preprocessing=meta.preprocessing(*normalisation(model.backbone)),
        parameters=sum(weights.numel() for weights in network.parameters()),
        sample_data=meta.sample_data,
        data_digest=meta.digest,
    )
    small_epochs = 0 if takes_one_size(model.backbone) else params.train.small_epochs
    return Classifier(network, info.preprocessing, params, small_epochs), info


def _fit(trainer: Any, classifier: Classifier, params: Params, prepared: Prepared) -> None:
    train = loader(_photos(prepared, "train", params.seed), params.train.batch_size, params.seed)
    val = _photos(prepared, "val")
    trainer.fit(classifier, train, loader(val, params.train.batch_size) if len(val) else None)


def _photos(prepared: Prepared, split: str, seed: int | None = None) -> Photos:
    photos = prepared.of(split)
    rows = np.array([photo.row for photo in photos], np.int64)
    vary = None if seed is None else np.random.default_rng(seed)
    return Photos(prepared.images, rows, prepared.labels(photos), vary)


def _trainer(params: Params, callbacks: list[Any]) -> Any:
    accelerator = params.train.accelerator
    gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    if gpu and not torch.cuda.is_available():
        raise StepFailed("train.accelerator is gpu, and torch finds none", "set it to auto or cpu in params.yaml")
    precision = params.train.precision
    if precision == "auto":
        precision = "bf16-mixed" if gpu else "32"
    return lightning.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=1,
        precision={"32": "32-true"}.get(precision, precision),
        max_epochs=params.train.epochs,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _keeper(judged: bool) -> Any:
    return lightning.callbacks.ModelCheckpoint(
        dirpath=CHECKPOINT_FOLDER,
        filename=CHECKPOINT.removesuffix(".ckpt"),
        monitor="val_macro_f1" if judged else "train_loss",
        mode="max" if judged else "min",
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )


def _stopper(params: Params) -> Any:
    return lightning.callbacks.EarlyStopping(
        "val_macro_f1", mode="max", patience=params.train.patience, check_on_train_epoch_end=True
    )


def _metrics(rows: list[dict[str, Any]], info: Info) -> dict[str, Any]:
    """Only what the inputs decide: no times, or DVC would see a new result each time."""
    best = rows[torch.load(CHECKPOINT_FOLDER / CHECKPOINT, map_location="cpu", weights_only=True)["epoch"]]
    scores = {key: best[key] for key in COLUMNS if key not in ("epoch", "lr") and best[key] is not None}
    return {"best_epoch": best["epoch"], "epochs": len(rows), "parameters": info.parameters, **scores}


def _speed(log: EpochLog, photos: int, seconds: float) -> None:
    epochs = len(log.rows)
    print(f"{epochs} epochs in {seconds:.0f} s, {epochs * photos / seconds:,.0f} photos/s with validation")


def _quiet() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning_utilities"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*The number of training batches.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*")
    warnings.filterwarnings("ignore", ".*exists and is not empty.*")


if __name__ == "__main__":
    stage.run(main)
