"""The graph of eight bits: taken only where it costs no score and saves time, and then all that is told is its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plantops import artifacts
from plantops.bundle import Bundle
from plantops.errors import StepFailed
from plantops.ml import evaluate, export, quantize, runtime
from plantops.ml.model import Model
from plantops.ml.prepared import Prepared
from plantops.ml.quantize import Answered, decide
from plantops.ml.reference import Reference
from plantops.photo import decode, normalise, table
from plantops.serve.predictor import load

from .photos import params

BEFORE = Answered(accuracy=0.94, macro_f1=0.92, unsure=0.1, unlike=0.01, ms=9.0)
AFTER = replace(BEFORE, macro_f1=0.917, ms=3.0)


def test_taken_where_it_costs_no_more_than_the_tolerance() -> None:
    decision = decide(BEFORE, AFTER, 0.99, 463, 0.005)
    assert decision.taken
    assert "macro-F1 0.9200 -> 0.9170" in decision.why
    assert decision.to_dict()["before"]["ms"] == 9.0


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (replace(AFTER, macro_f1=0.914), "a score falls by 0.0060, at most 0.005"),
        (replace(AFTER, accuracy=0.93), "a score falls by 0.0100"),
        (replace(AFTER, unlike=0.05), "unsure or unlike become 0.040 more or fewer"),
        (replace(AFTER, ms=8.0), "1.12 times as fast here, 1.3 is wanted"),
    ],
)
def test_not_taken_and_why(after: Answered, why: str) -> None:
    decision = decide(BEFORE, after, 0.99, 463, 0.005)
    assert not decision.taken
    assert why in decision.why


@pytest.mark.ci
def test_what_is_told_is_told_of_the_graph_that_serves(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    params(Path(), export={"quantize": "auto", "tolerance": 0.99})
    monkeypatch.setattr(quantize, "WORTH", 0.0)  # so small a graph is no faster
    monkeypatch.setattr(quantize, "DOUBTS", 1.0)
    evaluate.main()
    export.main()
    assert "eight bits: taken: on " in capsys.readouterr().out
    floats, bundle = Bundle.load(trained / "models/candidate"), Bundle.load(Path("models/candidate"))
    assert bundle.model.stat().st_size < floats.model.stat().st_size / 3
    assert bundle.digest != floats.digest
    assert load(bundle.path).prove() < 1e-6
    told = bundle.manifest.model["quantized"]
    assert told["taken"]
    assert told["before"]["accuracy"] > 0
    prepared = Prepared.load()
    photos = prepared.of("test")
    pixels = prepared.images[[one.row for one in photos]]
    spec = bundle.manifest.preprocessing
    shares = runtime.answers(bundle.model, pixels, spec, bundle.manifest.temperature)
    right = (shares.argmax(1) == prepared.labels(photos)).mean()
    evaluation = json.loads(Path("metrics/evaluation.json").read_text())
    for of in (bundle.manifest.metrics, evaluation):
        assert of["accuracy"] == pytest.approx(right, abs=1e-6)
    assert any("the graph in eight bits that serves" in one for one in evaluation["remarks"])
    # What the gate and drift's reference go by are its answers, too, not the checkpoint's.
    classes, kept = artifacts.probabilities(artifacts.PREDICTIONS)
    assert tuple(classes) == bundle.manifest.classes
    assert np.allclose([kept[one.md5] for one in photos], shares, atol=1e-9)
    checkpoint = replace(Model.load(), temperature=bundle.manifest.temperature).probabilities(pixels)
    assert np.abs(checkpoint - shares).max() > 1e-4
    _, embedding = runtime.outputs(bundle.model, prepared.images[[one.row for one in prepared.of("train")]], spec)
    assert embedding is not None
    assert np.allclose(Reference.read(bundle.path / "reference.npz").mean, embedding.mean(0), atol=1e-5)
    batch = normalise(np.stack([decode(one.file.read_bytes(), spec) for one in bundle.golden()]), table(spec))
    logits, maps = runtime.session(bundle.model).run(["logits", "maps"], {runtime.INPUT: batch})
    assert np.allclose(maps.mean((2, 3)), logits, atol=1e-4)


@pytest.mark.ci
def test_a_graph_that_is_not_taken_leaves_the_bundle_as_it_was(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    params(Path(), export={"quantize": "auto"})
    monkeypatch.setattr(quantize, "WORTH", 1e9)
    with pytest.raises(StepFailed, match="the evaluation was made without it"):
        export.main()
    evaluate.main()
    export.main()
    assert not Path("models/evaluation/eight_bits.onnx").exists()
    made, before = Path("models/candidate"), trained / "models/candidate"
    assert Bundle.load(made).digest == Bundle.load(before).digest
    assert (made / "golden.json").read_bytes() == (before / "golden.json").read_bytes()
    assert json.loads((made / "manifest.json").read_text())["model"]["quantized"]["taken"] is False
