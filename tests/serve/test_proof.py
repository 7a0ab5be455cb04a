"""A worker is healthy only when its bundle answers as its checkpoint did."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from api_client import form, get, post, predict, until
from bundle_factory import CLASSES, SPEC, TinyModel, make_bundle, make_release, photo
from plantops.bundle import GOLDEN, MANIFEST, MODEL, sha256
from plantops.serve.predictor import Predictor
from plantops.serve.predictor import load as load_predictor
from plantops.serve.service import Service
from plantops.serve.settings import Settings
from serve.looking import LookingModel

BROKEN = {
    "size": 31,
    "fit": "squash",
    "filter": "bicubic",
    "turn": False,
    "mean": (0.5, 0.456, 0.406),
    "std": (0.229, 0.25, 0.225),
}


def load(folder: Path) -> Service:
    async def go() -> Service:
        service = Service(Settings())
        await service.load(folder)
        service.pool.close()
        return service

    return asyncio.run(go())


def test_a_whole_bundle_is_healthy(tmp_path: Path) -> None:
    service = load(make_bundle(tmp_path / "b"))
    assert (service.status, service.reason) == ("healthy", None)
    assert service.release == service.predictor().bundle.digest[:12]


def test_every_field_of_the_preprocessing_is_tried() -> None:
    assert BROKEN.keys() == {one.name for one in dataclasses.fields(SPEC)}


@pytest.mark.parametrize("field", BROKEN)
def test_any_other_preprocessing_fails_the_golden_photos(tmp_path: Path, field: str) -> None:
    changed = dataclasses.replace(SPEC, **{field: BROKEN[field]})
    service = load(make_bundle(tmp_path / "b", preprocessing=changed))
    assert service.status == "failed"
    assert service.health().model_loaded is False
    if field != "size":
        assert "NotProven: golden photo" in (service.reason or "")


def swap_classes(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["classes"][:2] = reversed(manifest["classes"][:2])
    (folder / MANIFEST).write_text(json.dumps(manifest))


def rewrite_model(folder: Path, change: Callable[[Path], None]) -> None:
    """Change the ONNX file, and let the manifest name the changed one."""
    import plantops.bundle as bundles

    change(folder / MODEL)
    values = json.loads((folder / MANIFEST).read_text())
    values["model"]["sha256"] = sha256(folder / MODEL)
    fields = {key: value for key, value in values.items() if key not in ("format", "digest")}
    fields["preprocessing"] = SPEC
    manifest = bundles.Manifest(**{**fields, "classes": tuple(fields["classes"])})
    (folder / MANIFEST).write_text(json.dumps(manifest.to_dict()))


def not_numbers(path: Path) -> None:
    model = onnx.load(path)
    weights = np.full((3 * 32 * 32, len(CLASSES)), np.nan, np.float32)
    model.graph.initializer[0].raw_data = weights.tobytes()
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda folder: (folder / MODEL).unlink(), "model.onnx is missing"),
        (lambda folder: (folder / MODEL).write_bytes(b"changed"), "not the file that manifest.json names"),
        (lambda folder: rewrite_model(folder, lambda path: path.write_bytes(b"garbage")), "INVALID_PROTOBUF"),
        (lambda folder: rewrite_model(folder, not_numbers), "no numbers"),
        (swap_classes, "manifest.json says digest"),
        (lambda folder: (folder / GOLDEN).unlink(), "golden.json"),
        (lambda folder: (folder / "golden/0.jpg").unlink(), "golden photos missing"),
        (lambda folder: (folder / "golden/0.jpg").write_bytes(b"x"), "not an image"),
        (lambda folder: (folder / "release.json").write_text("{"), "release.json"),
    ],
)
def test_a_broken_bundle_says_what_is_wrong(tmp_path: Path, fault: Callable[[Path], Any], says: str) -> None:
    folder = make_release(tmp_path / "b")
    fault(folder)
    service = load(folder)
    assert service.status == "failed"
    assert says in (service.reason or "")


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b", classes=CLASSES[:-1])
    assert "5 outputs" in (load(folder).reason or "")


@pytest.mark.ci
def test_starting_then_healthy(worker: Any, tmp_path: Path) -> None:
    folder = make_release(tmp_path / "slow")
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)  # loading waits here until we let it go on
    running = worker(folder)
    health = get(running.port, "/health")
    assert (health.status, health.json["status"], health.json["model_loaded"]) == (503, "starting", False)
    assert "x-plantops-release" not in health.headers
    for answer in (
        predict(running.port, photo(1)),
        post(running.port, "/predict_batch", form(("files", "a", photo(1)))),
        get(running.port, "/classes"),
        get(running.port, "/model/info"),
    ):
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert "no model is ready" in answer.json["detail"]
    assert get(running.port, "/metrics").status == 200
    threading.Thread(target=lambda: (folder / MANIFEST).write_text(manifest), daemon=True).start()
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    assert predict(running.port, photo(1)).headers["x-plantops-release"] == "slow"


@pytest.mark.ci
def test_a_bundle_that_fails_its_golden_photos_never_answers(worker: Any, tmp_path: Path) -> None:
    running = worker(make_bundle(tmp_path / "b", preprocessing=dataclasses.replace(SPEC, turn=False)))
    until(lambda: get(running.port, "/health").json["status"] == "failed", what="failed")
    health = get(running.port, "/health")
    assert health.status == 503
    assert "golden photo" in health.json["reason"]
    assert predict(running.port, photo(1)).status == 503
    assert running.said("failed: NotProven")


def test_answers_differ_between_models(tmp_path: Path) -> None:
    one, two = TinyModel(1).answer(photo(1)), TinyModel(2).answer(photo(1))
    assert max(abs(one[name] - two[name]) for name in CLASSES) > 0.05


def test_nothing_of_the_tower_and_no_torch_is_loaded() -> None:
    def loaded(module: str) -> set[str]:
        code = f"import sys, {module}; print(*{{n.split('.')[0] for n in sys.modules}}, *sys.modules)"
        return set(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        )

    http, looker = loaded("plantops.serve.__main__"), loaded("plantops.serve.looker")
    banned = {"torch", "lightning", "dvc", "mlflow", "yaml", "typer", "plantops.config", "plantops.ml", "onnx"}
    assert banned.isdisjoint(http | looker)
    assert "fastapi" in http - looker
    assert "onnxruntime" in looker - http


def whole(model: TinyModel, folder: Path) -> Predictor:
    predictor = load_predictor(make_bundle(folder, model))
    predictor.prove()
    return predictor


def test_photos_share_a_pass_only_where_that_changes_no_bit(tmp_path: Path) -> None:
    assert whole(LookingModel(), tmp_path / "apart").together(4) == 4
    assert whole(LookingModel(crowded=True), tmp_path / "crowded").together(4) == 1
    assert whole(LookingModel(lone=True), tmp_path / "lone").together(4) == 1


def test_a_graph_for_one_photo_gets_one(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b", LookingModel())

    def fix(path: Path) -> None:
        graph = onnx.load(path)
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(graph, path)

    rewrite_model(folder, fix)
    predictor = load_predictor(folder)
    predictor.prove()
    assert predictor.together(4) == 1
