"""Real DVC stages that learn in a second, for tests of what surrounds training: ridge regression on pixels.

    python cheap_stages.py train|evaluate|export

They read what the real prepare_data writes, and write what the real stages write. ``train.label_smoothing`` of 0.9
or more smooths everything away: a model that answers the same to every photo.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from plantops.bundle import CHECKPOINT, GOLDEN, MANIFEST, MODEL, Manifest, sha256
from plantops.ml import field, predictions
from plantops.ml.files import CARD, EVALUATION, PREDICTIONS, REPORT, fresh_file
from plantops.ml.prepared import Photo, Prepared
from plantops.photo import decode, normalise, table

WEIGHTS = Path("models/checkpoint/model.ckpt")
SHARP = 8.0


def main() -> None:
    {"train": train, "evaluate": evaluate, "export": export}[sys.argv[1]]()


def inputs(prepared: Prepared, photos: tuple[Photo, ...]) -> np.ndarray:
    spec = prepared.meta.preprocessing()
    pixels = prepared.images[[photo.row for photo in photos]]
    return normalise(pixels, table(spec)).reshape(len(photos), -1)


def train() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())["train"]
    prepared = Prepared.load()
    photos = prepared.of("train")
    x = inputs(prepared, photos)
    y = np.eye(len(prepared.meta.classes), dtype=np.float32)[prepared.labels(photos)]
    weights = x.T @ np.linalg.solve(x @ x.T + np.eye(len(x), dtype=np.float32), y) * SHARP
    weights *= params["label_smoothing"] < 0.9
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    with WEIGHTS.open("wb") as file:
        np.save(file, weights.astype(np.float32))
    rows = [{"epoch": n + 1, "train_loss": 1 / (n + 1), "val_loss": 1 / (n + 1)} for n in range(params["epochs"])]
    write_csv(Path("plots/epochs.csv"), rows)
    write_json(Path("metrics/train.json"), {"epochs": params["epochs"]})


def evaluate() -> None:
    prepared = Prepared.load()
    photos = prepared.of("test")
    names = prepared.meta.classes
    shares = softmax(inputs(prepared, photos) @ np.load(WEIGHTS))
    listed = [predictions.Answers(photos, shares)]
    outside = field.read(prepared.meta.preprocessing(), names, field.Known(prepared))
    if outside and outside.photos:
        seen = normalise(outside.pixels, table(prepared.meta.preprocessing())).reshape(len(outside.photos), -1)
        listed.append(predictions.Answers(outside.photos, softmax(seen @ np.load(WEIGHTS))))
    predictions.write(PREDICTIONS, names, listed)
    right, labels = shares.argmax(1) == prepared.labels(photos), prepared.labels(photos)
    accuracy = float(right.mean())
    per_class = {
        name: {"support": int((labels == number).sum()), "recall": float(right[labels == number].mean())}
        for number, name in enumerate(names)
        if (labels == number).any()
    }
    write_json(EVALUATION, {"accuracy": accuracy, "photos": len(photos), "per_class": per_class})
    for report in (REPORT, CARD):
        fresh_file(report).write_text(f"accuracy {accuracy:.3f}")


def export() -> None:
    prepared, weights = Prepared.load(), np.load(WEIGHTS)
    meta, folder = prepared.meta, Path("models/candidate")
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    onnx.save(graph(weights, meta.size), folder / MODEL)
    shutil.copyfile(WEIGHTS, folder / CHECKPOINT)
    model = {"backbone": "ridge", "parameters": weights.size, "sha256": sha256(folder / MODEL)}
    data = {"digest": meta.digest, "photos": meta.count}
    metrics = {"accuracy": json.loads(EVALUATION.read_text())["accuracy"]}
    manifest = Manifest(meta.classes, meta.preprocessing(), meta.sample_data, model, data, metrics)
    write_json(folder / MANIFEST, manifest.to_dict())
    listed = []
    for source in sorted((prepared.folder / "golden").iterdir()):
        pixels = decode(source.read_bytes(), meta.preprocessing())[None]
        share = softmax(normalise(pixels, table(meta.preprocessing())).reshape(1, -1) @ weights)[0]
        shutil.copyfile(source, folder / "golden" / source.name)
        answer = dict(zip(meta.classes, share.tolist(), strict=True))
        listed.append({"file": f"golden/{source.name}", "probabilities": answer})
    write_json(folder / GOLDEN, {"photos": listed})


def graph(weights: np.ndarray, size: int) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["n", 3, size, size])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", weights.shape[1]])
    nodes = [
        helper.make_node("Flatten", ["photos"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    whole = helper.make_graph(nodes, "ridge", [given], [made], [numpy_helper.from_array(weights, "weights")])
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def write_csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2))


if __name__ == "__main__":
    main()
