"""train: a Lightning run over the prepared photos; keeps the epoch with the best validation macro-F1."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plantops.artifacts import COURSE
from plantops.errors import StepFailed
from plantops.ml import course, stage, start, workers
from plantops.ml.batches import Photos, loader
from plantops.ml.classifier import Classifier
from plantops.ml.course import Course
from plantops.ml.epochs import COLUMNS, EpochLog, Stopper
from plantops.ml.files import (
    CHECKPOINT,
    CHECKPOINT_FOLDER,
    CHECKPOINT_INFO,
    EPOCHS,
    TRAIN_METRICS,
    fresh_folder,
    seed_checkpoint,
    write_json,
)
from plantops.ml.frameworks import lightning, torch
from plantops.ml.model import Info, make, normalisation, takes_one_size
from plantops.ml.params import Params, load
from plantops.ml.prepared import Prepared
from plantops.ml.sharing import Resume, Together
from plantops.ml.start import Start


def main() -> None:
    """Read params.yaml and data/prepared; write models/checkpoint, metrics/train.json and plots/epochs.csv."""
    params = load()
    _quiet()
    if workers.inside():
        workers.work(params, lambda: _train(params, Prepared.load()))
        return
    prepared = Prepared.load()
    fresh_folder(CHECKPOINT_FOLDER)
    if params.train.processes > 1:
        workers.launch(params)
    else:
        _train(params, prepared)


def _train(params: Params, prepared: Prepared) -> None:
    info = _info(params, prepared)
    begun = start.champion(params, info, prepared)
    if begun:
        params, prepared = begun.params(params), start.unseen(prepared, begun.learned)
        info = replace(info, started_from=begun.release)
    if not prepared.of("val"):
        print("no photos for validation: the epoch with the lowest training loss is kept, and none is stopped early")
    classifier, rows = _learn(params, prepared, info, begun, EPOCHS)
    # The model is that of `seed`, whatever the others reach: the best of several, chosen by its score on test photos,
    # would have a score that is too good. The others only say how far scores differ by chance.
    for seed in params.more_seeds:
        checkpoint = CHECKPOINT_FOLDER / seed_checkpoint(seed)
        log = checkpoint.with_suffix(".csv")
        _learn(replace(params, seed=seed), prepared, info, begun, log, checkpoint.name, f"seed {seed}: ")
    if workers.share().rank:
        return
    if begun:
        start.write(begun)  # and no course: it knew most photos before
    else:
        course.write(classifier.course, prepared.of("train"), info.classes, COURSE)
    parameters = sum(weights.numel() for weights in classifier.network.parameters())
    write_json(CHECKPOINT_FOLDER / CHECKPOINT_INFO, replace(info, parameters=parameters).to_dict())
    write_json(TRAIN_METRICS, _metrics(rows, parameters, info.started_from))


def _learn(
    params: Params,
    prepared: Prepared,
    info: Info,
    begun: Start | None,
    epochs: Path,
    checkpoint: str = CHECKPOINT,
    title: str = "",
) -> tuple[Classifier, list[dict[str, Any]]]:
    """One training, its best epoch kept as ``checkpoint``; how it ended, and the rows of its epochs."""
    torch.manual_seed(params.seed)
    classifier = _model(params, info, begun, Course(len(prepared.images), len(info.classes)))
    judged, share = bool(prepared.of("val")), workers.share()
    log = EpochLog(None if share.rank else epochs, params.train.epochs, title)
    callbacks = [log, _keeper(judged, checkpoint), *([Stopper(params.train.patience)] if judged else [])]
    state = workers.UNFINISHED / checkpoint
    if share.of > 1:
        callbacks = [Together(params.seed, share), *callbacks, Resume(state)]
    trainer = _trainer(params, callbacks)
    began = time.monotonic()
    with log:
        _fit(trainer, classifier, params, prepared, state if workers.left(state) else None)
    _speed(log, len(prepared.of("train")), time.monotonic() - began, trainer.precision)
    return classifier, log.rows


def _info(params: Params, prepared: Prepared) -> Info:
    meta, backbone = prepared.meta, params.model.backbone
    spec = meta.preprocessing(*normalisation(backbone))
    return Info(backbone, meta.classes, spec, 0, meta.sample_data, meta.digest)


def _model(params: Params, info: Info, begun: Start | None, told: Course) -> Classifier:
    model = params.model
    network = make(model.backbone, len(info.classes), info.preprocessing.size, model.pretrained and not begun)
    if begun:
        begun.give(network, info.classes)
    small_epochs = 0 if takes_one_size(model.backbone) else params.train.small_epochs
    return Classifier(network, info.preprocessing, params, told, small_epochs)


def _fit(trainer: Any, classifier: Classifier, params: Params, prepared: Prepared, state: Path | None) -> None:
    """``state``: what an earlier try left, from which the training goes on."""
    share, size = workers.share(), params.train.batch_size
    train = loader(photos(prepared, "train", params.seed), size, params.seed, share)
    val = photos(prepared, "val")
    if 0 < len(val) < share.of:
        raise StepFailed(
            f"{len(val)} photos for validation are too few for {share.of} processes", "fewer train.devices"
        )
    judge = loader(val.part(share), size) if len(val) else None
    trainer.fit(classifier, train, judge, ckpt_path=state, weights_only=True)


def photos(prepared: Prepared, split: str, seed: int | None = None) -> Photos:
    photos = prepared.of(split)
    rows = np.array([photo.row for photo in photos], np.int64)
    vary = None if seed is None else np.random.default_rng(seed)
    return Photos(prepared.images, rows, prepared.labels(photos), vary)


def _trainer(params: Params, callbacks: list[Any]) -> Any:
    gpu = workers.on_gpu(params)
    return lightning.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=params.train.devices,
        num_nodes=params.train.nodes,
        strategy=_strategy(params) if params.train.processes > 1 else "auto",
        use_distributed_sampler=False,  # ours (batches.Shares) keeps the batches what they are for one process
        precision=_precision(params.train.precision, gpu),
        max_epochs=params.train.epochs,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _strategy(params: Params) -> str:
    """Lightning's name for it. A held backbone has no gradients that the others could wait for."""
    if params.train.strategy != "auto":
        return params.train.strategy
    return "ddp_find_unused_parameters_true" if params.model.freeze_epochs else "ddp"


def _precision(wanted: str, gpu: bool) -> str:
    """Lightning's name for it. ``auto`` is bfloat16 where the chip computes in it: twice as fast, scores the same."""
    if wanted == "auto":
        chip = torch.cpu.get_capabilities()
        wanted = "bf16-mixed" if gpu or chip.get("avx512_bf16") or chip.get("amx_bf16") else "32"
    return {"32": "32-true"}.get(wanted, wanted)


def _keeper(judged: bool, checkpoint: str) -> Any:
    return lightning.callbacks.ModelCheckpoint(
        dirpath=CHECKPOINT_FOLDER,
        filename=checkpoint.removesuffix(".ckpt"),
        monitor="val_macro_f1" if judged else "train_loss",
        mode="max" if judged else "min",
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )


def _metrics(rows: list[dict[str, Any]], parameters: int, started_from: str) -> dict[str, Any]:
    """Only what the inputs decide: no times, or DVC would see a new result each time."""
    best = rows[torch.load(CHECKPOINT_FOLDER / CHECKPOINT, map_location="cpu", weights_only=True)["epoch"]]
    scores = {key: best[key] for key in COLUMNS if key not in ("epoch", "lr") and best[key] is not None}
    went_on = {"started_from": started_from} if started_from else {}
    return {"best_epoch": best["epoch"], "epochs": len(rows), "parameters": parameters, **scores, **went_on}


def _speed(log: EpochLog, photos: int, seconds: float, precision: str) -> None:
    epochs = len(log.rows) - log.before
    speed = epochs * photos / seconds
    print(f"{epochs} epochs in {seconds:.0f} s, {speed:,.0f} photos/s with validation, precision {precision}")


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
