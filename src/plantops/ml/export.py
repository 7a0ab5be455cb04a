"""export_model: the checkpoint as a bundle in models/candidate, proved to answer as the checkpoint does."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plantops.artifacts import LEARNED
from plantops.bundle import (
    CHECKPOINT,
    GOLDEN,
    GOLDEN_TOLERANCE,
    MANIFEST,
    MODEL,
    REFERENCE,
    UNLIKE,
    UNSURE,
    Manifest,
    sha256,
)
from plantops.errors import StepFailed
from plantops.ml import files, golden, stage, start
from plantops.ml.model import Model
from plantops.ml.onnxfile import write_onnx
from plantops.ml.params import Export, load
from plantops.ml.prepared import GOLDEN as ORIGINALS
from plantops.ml.prepared import SPLITS, Prepared
from plantops.ml.runtime import answers
from plantops.photo import decode
from plantops.preprocess import Preprocessing

PARITY = 1e-4
_CHECKED = 64


def main() -> None:
    """Read data/prepared, models/checkpoint and what evaluate found; write models/candidate."""
    evaluation, decision = json.loads(files.EVALUATION.read_text()), _decision(load().export)
    prepared, model = start.held_out(), replace(Model.load(), temperature=evaluation["temperature"])
    folder = files.fresh_folder(files.CANDIDATE)
    shutil.copyfile(files.CHECKPOINT_FOLDER / files.CHECKPOINT, folder / CHECKPOINT)
    if model.info.started_from:
        shutil.copyfile(files.CHECKPOINT_FOLDER / LEARNED, folder / LEARNED)
    photos = _write_golden(folder, model, golden.read_originals(prepared.folder / ORIGINALS))
    write_onnx(model.network, model.info.preprocessing.size, folder / MODEL)
    if UNLIKE in evaluation:
        shutil.copyfile(files.REFERENCE, folder / REFERENCE)
    pixels = np.concatenate([_decode(photos, model.info.preprocessing), _some(prepared)])
    worst = check_parity(folder / MODEL, model, pixels)
    print(f"bundle in {folder}; ONNX and checkpoint differ by {worst:.1e} at most on {len(pixels)} photos")
    if decision and decision["taken"]:
        shutil.copyfile(files.EIGHT_BITS, folder / MODEL)
        _record_golden(folder, model)
    files.write_json(folder / MANIFEST, _manifest(folder, prepared, model, evaluation, decision).to_dict())


def check_parity(onnx: Path, model: Model, pixels: NDArray[np.uint8]) -> float:
    """The largest difference in probability between the ONNX file and the checkpoint.

    Raises StepFailed when it is more than 1e-4 (or no number).
    """
    served = answers(onnx, pixels, model.info.preprocessing, model.temperature)
    worst = float(np.abs(served - model.probabilities(pixels)).max())
    if not worst <= PARITY:
        raise StepFailed(
            f"{onnx} and its checkpoint differ by {worst:.2g} in probability; at most {PARITY:.0e} is allowed",
            "another model.backbone in params.yaml; this one cannot be exported faithfully",
        )
    return worst


def _decision(wanted: Export) -> dict[str, Any] | None:
    """What evaluate decided on the graph in eight bits; None where nothing was asked.

    Raises StepFailed where that is not what ``export.quantize`` says now.
    """
    there = files.EIGHT_BITS_DECISION.is_file()
    if there != (wanted.quantize == "auto"):
        raise StepFailed(
            f"export.quantize is {wanted.quantize}, and the evaluation was made {'with' if there else 'without'} it",
            "`- export` belongs among the params of stage evaluate in dvc.yaml (plantops upgrade); then dvc repro",
        )
    return json.loads(files.EIGHT_BITS_DECISION.read_text()) if there else None


def _record_golden(folder: Path, model: Model) -> None:
    """The golden answers anew, by the graph that serves."""
    listed = json.loads((folder / GOLDEN).read_text())["photos"]
    spec, classes = model.info.preprocessing, model.info.classes
    pixels = _decode([(folder / one["file"]).read_bytes() for one in listed], spec)
    rows = answers(folder / MODEL, pixels, spec, model.temperature).tolist()
    entries = [
        {"file": one["file"], "probabilities": dict(zip(classes, row, strict=True))}
        for one, row in zip(listed, rows, strict=True)
    ]
    files.write_json(folder / GOLDEN, {"photos": entries})


def _write_golden(folder: Path, model: Model, originals: Sequence[bytes]) -> list[bytes]:
    def ask(pixels: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.float64]:
        return replace(model, info=replace(model.info, preprocessing=spec)).probabilities(pixels)

    spec = model.info.preprocessing
    named = golden.make(originals, spec, ask)
    photos = [photo for _, photo in named]
    listed = []
    (folder / "golden").mkdir()
    for number, (ending, photo) in enumerate(named):
        file = f"golden/{number:02d}.{ending}"
        (folder / file).write_bytes(photo)
        listed.append(file)
    probabilities = model.probabilities(_decode(photos, spec))
    rows = [dict(zip(model.info.classes, row.tolist(), strict=True)) for row in probabilities]
    entries = [{"file": file, "probabilities": row} for file, row in zip(listed, rows, strict=True)]
    files.write_json(folder / GOLDEN, {"photos": entries})
    if unnoticed := golden.unnoticed(photos, spec, ask, GOLDEN_TOLERANCE):
        print(f"this model is so flat that no golden photo would notice a wrong {', '.join(unnoticed)}")
    return photos


def _decode(photos: Sequence[bytes], spec: Preprocessing) -> NDArray[np.uint8]:
    return np.stack([decode(photo, spec) for photo in photos])


def _some(prepared: Prepared) -> NDArray[np.uint8]:
    """Pixels of some test photos, evenly spread."""
    rows = [photo.row for photo in prepared.of("test") or prepared.photos]
    return prepared.images[rows[:: max(1, len(rows) // _CHECKED)][:_CHECKED]]


def _manifest(
    folder: Path, prepared: Prepared, model: Model, evaluation: dict[str, Any], decision: dict[str, Any] | None
) -> Manifest:
    info = model.info
    more = {"started_from": info.started_from, "quantized": decision}
    counts = Counter((photo.label, photo.split) for photo in prepared.photos)
    return Manifest(
        classes=info.classes,
        preprocessing=info.preprocessing,
        sample_data=info.sample_data,
        model={
            "backbone": info.backbone,
            "parameters": info.parameters,
            "sha256": sha256(folder / MODEL),
            **{key: value for key, value in more.items() if value},
        },
        data={
            "digest": prepared.meta.digest,
            "photos": prepared.meta.count,
            "per_class": {name: {side: counts[name, side] for side in SPLITS} for name in info.classes},
        },
        metrics=_flat(evaluation),
        temperature=model.temperature,
        thresholds={name: evaluation[name] for name in (UNSURE, UNLIKE) if name in evaluation},
        reference=sha256(folder / REFERENCE) if UNLIKE in evaluation else "",
    )


def _flat(evaluation: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in evaluation.items() if isinstance(value, float)}


if __name__ == "__main__":
    stage.run(main)
