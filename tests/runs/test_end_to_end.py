"""The whole job on real photos with the real stages: five classes, a sixth, the switch under load, and back."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import api_client
from api_client import free_port, predict
from conftest import plantops, sh
from deploy.load import Load
from mlflow_at import mlflow_at
from plantops import artifacts
from plantops.bundle import Bundle
from plantops.photo import decode, normalise, table
from plantops.shelf import Shelf
from runs.cheap import RAW, aliases, answering, commit, edit, get, state, url

SIXTH = "Tomato___Late_blight"
FIRST = (
    "Cherry_(including_sour)___Powdery_mildew",
    "Pepper,_bell___healthy",
    "Potato___Early_blight",
    "Tomato___Spider_mites Two-spotted_spider_mite",
    "Tomato___Tomato_Yellow_Leaf_Curl_Virus",
)
EACH = 40

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, photos: Path, _own_home: None) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("real") / "project"
    plantops("init", str(folder), cwd=folder.parent)
    edit(folder / "config.yaml", "backend: auto", "backend: local")
    edit(folder / "config.yaml", "  port: 8000", f"  port: {free_port()}")
    edit(folder / "config.yaml", "ui_port: 5000", f"ui_port: {free_port()}")
    edit(folder / "config.yaml", "min_support: 10", "min_support: 5")
    edit(folder / "config.yaml", "min_compared: 30", "min_compared: 15")
    edit(folder / "config.yaml", "max_fall: 0.04", "max_fall: 0.5")  # thirty photos in eight groups can tell no less
    edit(folder / "params.yaml", "batch_size: 32", "batch_size: 16")
    edit(folder / "params.yaml", "\n  epochs: 45", "\n  epochs: 14")
    edit(folder / "params.yaml", "small_epochs: 24", "small_epochs: 8")
    for name in FIRST:
        copy(photos, folder, name)
    commit(folder, "Add five classes")
    plantops("run", cwd=folder)
    yield folder
    plantops("down", cwd=folder, check=False)


def copy(photos: Path, folder: Path, name: str) -> None:
    """Some photos of a class: spread over the series, so that the split has groups to choose from."""
    (folder / RAW / name).mkdir(parents=True)
    found = sorted((photos / name).iterdir(), key=lambda one: one.name.partition("___")[2])
    for one in found[:: max(1, len(found) // EACH)][:EACH]:
        shutil.copy(one, folder / RAW / name)


def expected(folder: Path, release: str, data: bytes) -> dict[str, float]:
    """What a release must answer: its ONNX file asked directly."""
    bundle = Bundle.load(Shelf(folder / "models").release(release))
    spec = bundle.manifest.preprocessing
    session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
    batch = normalise(decode(data, spec)[None], table(spec))
    logits = session.run(None, {session.get_inputs()[0].name: batch})[0][0].astype(np.float64)
    powers = np.exp((logits - logits.max()) / bundle.manifest.temperature)
    return dict(zip(bundle.manifest.classes, (powers / powers.sum()).tolist(), strict=True))


def test_first_release_answers_and_is_recorded(project: Path) -> None:
    one = answering(project)
    assert one
    assert get(url(project) + "/classes")["classes"] == sorted(FIRST)
    metrics = json.loads((project / "metrics/evaluation.json").read_text())
    assert metrics["macro_f1"] > 0.65
    assert "macro_f1" in sh("dvc", "metrics", "show", cwd=project).stdout
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("plant-disease")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.backbone"] == "resnet10t"
    assert len(client.get_metric_history(run.info.run_id, "val_loss")) >= 5
    assert run.data.metrics["macro_f1"] == pytest.approx(metrics["macro_f1"])
    assert {"bundle", "plots", "metrics", "reports"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_dvc_shows_our_plots(project: Path) -> None:
    """On one page, which git is not asked to keep."""
    before = sh("git", "status", "--porcelain", cwd=project).stdout
    assert "dvc_plots/index.html" in sh("dvc", "plots", "show", cwd=project).stdout
    page = (project / "dvc_plots/index.html").read_text()
    for named in ("loss by epoch", "train_loss", "val_loss", "confusion.csv", *FIRST):
        assert named in page, named
    pictures = {path.name.rpartition("_")[2]: path for path in (project / "dvc_plots/static").iterdir()}
    assert set(pictures) == {"confusion.png", "curves.png"}
    for name, path in pictures.items():
        assert path.name in page
        assert path.read_bytes() == (project / "plots" / name).read_bytes()
    assert sh("git", "status", "--porcelain", cwd=project).stdout == before


def test_the_registered_model_loads_and_answers_alike(project: Path) -> None:
    import mlflow
    import onnx

    with mlflow_at(f"sqlite:///{project}/mlruns/mlflow.db"):
        model = mlflow.onnx.load_model("models:/plant-disease@champion")
    onnx.checker.check_model(model)
    one = Bundle.load(Shelf(project / "models").release(answering(project)))
    assert model.SerializeToString() == onnx.load(one.model).SerializeToString()


def test_photos_it_never_saw_score_alike_through_the_api(project: Path) -> None:
    rows = artifacts.predictions(project / "models/evaluation/predictions.parquet")
    port = int(url(project).rpartition(":")[2])
    for row in rows:
        said = predict(port, (project / RAW / row["path"]).read_bytes()).json
        assert said["prediction"] == row["predicted"]
        assert said["confidence"] == pytest.approx(row["confidence"], abs=1e-4)


def assert_metrics_diff(project: Path) -> None:
    """DVC sets the scores of the committed training beside those of the newest."""
    told = json.loads(sh("dvc", "metrics", "diff", "--json", cwd=project).stdout)
    moved = told["metrics/evaluation.json"]
    newest = json.loads((project / "metrics/evaluation.json").read_text())
    assert moved["macro_f1"]["new"] == newest["macro_f1"]
    assert 0 < moved["macro_f1"]["old"] != newest["macro_f1"]
    assert f"per_class.{SIXTH}.recall" in moved
    assert "macro_f1" in sh("dvc", "metrics", "diff", cwd=project).stdout


def test_a_sixth_class_under_load_and_back(project: Path, photos: Path) -> None:
    one = answering(project)
    copy(photos, project, SIXTH)
    sh("dvc", "add", f"data/raw/PlantVillage/{SIXTH}", cwd=project)
    sh("git", "add", f"data/raw/PlantVillage/{SIXTH}.dvc", "dvc.lock", cwd=project)
    sh("git", "commit", "-m", "Add a sixth class", cwd=project)
    assert f"{SIXTH} new: {EACH} photos" in plantops("check", cwd=project).stdout
    # The training alone, so that the load meets the switch and not the training.
    plantops("run", "--skip-deploy", cwd=project)
    assert answering(project) == one
    assert_metrics_diff(project)
    port = int(url(project).rpartition(":")[2])
    some = [path.read_bytes() for path in sorted((photos / SIXTH).iterdir())[:6]]
    with Load(port, lambda release, data: expected(project, release, data), some) as load:
        plantops("run", cwd=project)
        two = answering(project)
        threading.Event().wait(1)
        began = plantops("rollback", cwd=project)
    assert two not in ("", one)
    assert load.failures == []
    assert load.total > 40
    for kind in ("fresh", "busy", "idle", "slow"):
        assert load.seen(kind) <= {one, two}
    assert load.seen("fresh") == {one, two}
    assert f"{one} is in service" in began.stdout
    assert get(url(project) + "/classes")["num_classes"] == 5
    plantops("rollback", two, cwd=project)
    assert get(url(project) + "/classes")["classes"] == sorted([*FIRST, SIXTH])
    api_client.until(lambda: aliases(project) == {"champion": 2, "previous": 1}, what="the aliases' following")
    assert state(project)["waiting"]["due"] is False
