"""Writes one training into one MLflow run, piece by piece. Each piece is safe to write again."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plantops.tracking.spool import Training
from plantops.tracking.tail import read_epochs

if TYPE_CHECKING:
    from plantops.bundle import Bundle

KEY, RUN, ORIGIN = "plantops.train_key", "plantops.run", "plantops.origin"
VERDICT = "plantops.gate"
MODEL, DIGEST, FAILURE = "plantops.model", "plantops.bundle", "plantops.failure"
_FILES = "plantops.files"
_LONGEST_PARAM, _LONGEST_TAG, _LONGEST_DIGEST = 6000, 5000, 36
_BATCH = 100


@dataclass(frozen=True)
class Page:
    """An MLflow run to write into: ``run`` as it was when it was opened, ``new`` unless it was FINISHED before."""

    client: Any
    run: Any
    new: bool

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.run.info.run_id)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(key, str(value)[:_LONGEST_TAG]) for key, value in tags.items()])

    def write(self, training: Training) -> None:
        """Write everything that is not there yet, and finish the run."""
        from plantops.bundle import Bundle  # numpy and Pillow: not on the way to `check`

        bundle = Bundle.load(training.bundle)
        known = self.run.data.tags
        tags = {**source_tags(training.tags), ORIGIN: training.origin, KEY: training.key}
        # A run found again keeps what it said about where it came from.
        self.tag({key: value for key, value in tags.items() if key not in known or (self.new and key != ORIGIN)})
        self._params(training.params)
        self._epochs(read_epochs(training.epochs))
        self._dataset(training.dataset)
        self._files(training)
        self._metrics(training.metrics, self._model(bundle), training.dataset)
        if self.new:
            if FAILURE in known:
                self.client.delete_tag(self.id, FAILURE)
            self.client.set_terminated(self.id, "FINISHED")

    def _params(self, params: Mapping[str, Any]) -> None:
        log_params(self.client, self.id, params, self.run.data.params)

    def _epochs(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Those epochs that were not logged while they came."""
        columns = [name for name in (rows[0] if rows else ()) if name != "epoch"]
        logged = {
            (name, metric.step)
            for name, key in safe_names(columns).items()
            if key in self.run.data.metrics
            for metric in self.client.get_metric_history(self.id, key)
        }
        log_epochs(self.client, self.id, rows, logged)

    def _dataset(self, dataset: Mapping[str, Any]) -> None:
        from mlflow.entities import DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        used = DatasetInput(_dataset_entity(dataset), [InputTag(MLFLOW_DATASET_CONTEXT, "training")])
        self.client.log_inputs(self.id, datasets=[used])

    def _files(self, training: Training) -> None:
        """Plots and metrics as they are, the bundle as a folder."""
        from plantops.bundle import sha256

        parts = [*training.artifacts, *sorted(path for path in training.bundle.rglob("*") if path.is_file())]
        digest = hashlib.sha256("".join(f"{path.name} {sha256(path)}\n" for path in parts).encode()).hexdigest()
        if self.run.data.tags.get(_FILES) == digest:
            return
        for file in training.artifacts:
            self.client.log_artifact(self.id, str(file), file.parent.name)
        self.client.log_artifacts(self.id, str(training.bundle), "bundle")
        self.tag({_FILES: digest})

    def _model(self, bundle: Bundle) -> str:
        """The bundle's ONNX file as an MLflow model; returns its id."""
        from mlflow.entities import LoggedModelOutput

        tags = self.run.data.tags
        if tags.get(DIGEST) == bundle.digest and MODEL in tags:
            return str(tags[MODEL])
        model = self._left_behind(bundle.digest) or self._new_model(bundle)
        outputs = self.run.outputs.model_outputs if self.run.outputs else []
        if model not in [one.model_id for one in outputs]:
            self.client.log_outputs(self.id, [LoggedModelOutput(model, 0)])
        self.tag({MODEL: model, DIGEST: bundle.digest})
        return model

    def _left_behind(self, digest: str) -> str | None:
        """The model that a killed call had finished; half ones are deleted."""
        ours = f"source_run_id = '{self.id}'"
        for left in self.client.search_logged_models([self.run.info.experiment_id], ours):
            if left.status == "PENDING":
                self.client.delete_logged_model(left.model_id)
            elif left.tags.get(DIGEST) == digest:
                return str(left.model_id)
        return None

    def _new_model(self, bundle: Bundle) -> str:
        model = self.client.create_logged_model(self.run.info.experiment_id, "model", self.id, {DIGEST: bundle.digest})
        with tempfile.TemporaryDirectory() as folder:
            _save_onnx(bundle, Path(folder) / "model", self.id, model)
            self.client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        self.client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _metrics(self, metrics: Mapping[str, float], model: str, dataset: Mapping[str, Any]) -> None:
        """Evaluation metrics, each also for the model and the dataset."""
        from mlflow.entities import Metric

        names = safe_names(metrics)
        same_model = self.run.data.tags.get(MODEL) == model
        data = {"dataset_name": dataset["name"], "dataset_digest": _short(dataset["digest"])}
        log_metrics(
            self.client,
            self.id,
            [
                Metric(names[key], float(value), _now(), 0, model_id=model, run_id=self.id, **data)
                for key, value in metrics.items()
                if not (same_model and self.run.data.metrics.get(names[key]) == value)
            ],
        )


def log_verdict(client: Any, run_id: str, verdict: Mapping[str, Any]) -> None:
    """The gate's verdict in full as ``gate/verdict.json``, and what a list of runs may show of it as tags."""
    from mlflow.entities import RunTag

    failed = [one["sentence"] for one in verdict["findings"] if one["state"] == "failed"]
    anyway = verdict.get("accepted_anyway")
    tags = {
        f"{VERDICT}": verdict["outcome"],
        f"{VERDICT}.against": verdict.get("against") or "",
        f"{VERDICT}.reasons": "\n".join(failed),
        f"{VERDICT}.anyway": f"{anyway['user']}: {anyway['reason']}" if anyway else "",
    }
    client.log_text(run_id, json.dumps(verdict, indent=2, ensure_ascii=False), "gate/verdict.json")
    client.log_batch(run_id, tags=[RunTag(key, value[:_LONGEST_TAG]) for key, value in tags.items()])


def log_params(client: Any, run_id: str, params: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Log parameters that the run does not have yet; MLflow allows no second value."""
    from mlflow.entities import Param

    names = safe_names(params)
    new = [Param(names[key], str(value)[:_LONGEST_PARAM]) for key, value in params.items() if names[key] not in known]
    for first in range(0, len(new), _BATCH):
        client.log_batch(run_id, params=new[first : first + _BATCH])


def log_epochs(
    client: Any, run_id: str, rows: Sequence[Mapping[str, str]], logged: Iterable[tuple[str, int]] = ()
) -> None:
    """Log each number of ``rows`` with its epoch as step, except those (column, epoch) that are ``logged``."""
    from mlflow.entities import Metric

    logged = set(logged)
    names = safe_names(rows[0] if rows else ())
    log_metrics(
        client,
        run_id,
        [
            Metric(names[key], float(value), _now(), step)
            for row in rows
            for step in [int(float(row["epoch"]))]
            for key, value in row.items()
            if key != "epoch" and value and (key, step) not in logged
        ],
    )


def log_metrics(client: Any, run_id: str, metrics: Sequence[Any]) -> None:
    """Log metrics, a few hundred at a time."""
    for first in range(0, len(metrics), 5 * _BATCH):
        client.log_batch(run_id, metrics=metrics[first : first + 5 * _BATCH])


def source_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """``tags`` with what MLflow's own pages show about the source of a run."""
    own = {"mlflow.source.name": "plantops", "mlflow.source.type": "PROJECT"}
    if tags.get("git.commit"):
        own["mlflow.source.git.commit"] = tags["git.commit"]
    return {**own, **tags}


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Names as MLflow takes them: other characters than letters, digits and `_-. /` become `_`, no two alike."""
    taken: dict[str, str] = {}
    for name in names:
        plain = safe = re.sub(r"[^\w\-. /]", "_", name)[:240].strip("/") or "_"
        number = 2
        while safe in taken.values():
            safe, number = f"{plain}_{number}", number + 1
        taken[name] = safe
    return taken


def _dataset_entity(dataset: Mapping[str, Any]) -> Any:
    from mlflow.entities import Dataset

    counts = dataset["counts"]
    total = sum(value for value in counts.values() if isinstance(value, int))
    return Dataset(
        name=dataset["name"],
        digest=_short(dataset["digest"]),
        source_type="local",
        source=json.dumps({"uri": str(dataset["source"])}),
        profile=json.dumps({"photos": total, "classes": counts}),
    )


def _short(digest: str) -> str:
    return digest[:_LONGEST_DIGEST] or "unknown"


def _save_onnx(bundle: Bundle, folder: Path, run_id: str, model: Any) -> None:
    """An MLflow model folder; signature and requirements are given, so that nothing is inferred (seconds)."""
    from importlib.metadata import version

    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    graph = onnx.load(bundle.model)
    size, classes = bundle.manifest.preprocessing.size, bundle.manifest.classes
    kind = np.dtype(np.float32)
    mlflow.onnx.save_model(
        graph,
        str(folder),
        mlflow_model=Model(artifact_path=model.artifact_location, run_id=run_id, model_id=model.model_id),
        signature=ModelSignature(
            inputs=Schema([TensorSpec(kind, (-1, 3, size, size), graph.graph.input[0].name)]),
            outputs=Schema([TensorSpec(kind, (-1, len(classes)), graph.graph.output[0].name)]),
        ),
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")],
        metadata={"digest": bundle.digest, "classes": list(classes)},
        save_as_external_data=False,
    )


def _now() -> int:
    return int(time.time() * 1000)
