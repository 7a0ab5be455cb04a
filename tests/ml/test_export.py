"""export_model and compare: the bundle answers as the checkpoint, and its golden photos notice any slip."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet
import pytest
from PIL import Image

from conftest import sh
from plantops.bundle import Bundle, worst_difference
from plantops.errors import StepFailed
from plantops.ml import export
from plantops.ml.export import check_parity
from plantops.ml.frameworks import torch
from plantops.ml.golden import slips
from plantops.ml.model import Model, make
from plantops.ml.onnxfile import write_onnx
from plantops.ml.prepared import Photo, Prepared, write_index
from plantops.ml.runtime import answers
from plantops.photo import decode
from plantops.preprocess import Preprocessing

from . import photos

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def bundle(trained: Path) -> Bundle:
    return Bundle.load(trained / "models/candidate")


def worst(bundle: Bundle, spec: Preprocessing, classes: tuple[str, ...]) -> float:
    """The furthest that serving would be off the golden answers with ``spec`` and ``classes``."""
    golden = bundle.golden()
    pixels = np.stack([decode(one.file.read_bytes(), spec) for one in golden])
    shares = answers(bundle.model, pixels, spec, bundle.manifest.temperature).tolist()
    told = [dict(zip(classes, row, strict=True)) for row in shares]
    return max(worst_difference(one, row) for one, row in zip(golden, told, strict=True))


def test_all_golden_photos_are_answered_as_by_the_checkpoint(bundle: Bundle) -> None:
    assert len(bundle.golden()) == 16
    assert worst(bundle, bundle.manifest.preprocessing, bundle.manifest.classes) < 1e-4


@pytest.mark.parametrize("field", ["fit", "filter", "turn", "mean", "std"])
def test_a_slip_in_the_preprocessing_is_noticed(bundle: Bundle, field: str) -> None:
    wrong = slips(bundle.manifest.preprocessing)[field]
    assert worst(bundle, wrong, bundle.manifest.classes) > 1e-3


def test_another_size_and_permuted_classes_are_noticed(bundle: Bundle, trained: Path) -> None:
    spec, classes = bundle.manifest.preprocessing, bundle.manifest.classes
    assert worst(bundle, spec, (*classes[1:], classes[0])) > 1e-3
    # The graph takes one size only, so another one cannot even be asked.
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        worst(bundle, replace(spec, size=spec.size * 2), classes)
    model = Model.load(trained / "models/checkpoint")
    larger = replace(spec, size=spec.size * 2)
    pixels = np.stack([decode(golden.file.read_bytes(), larger) for golden in bundle.golden()])
    shares = replace(model, info=replace(model.info, preprocessing=larger)).probabilities(pixels)
    told = [
        worst_difference(g, dict(zip(classes, row, strict=True)))
        for g, row in zip(bundle.golden(), shares, strict=True)
    ]
    assert max(told) > 1e-3


def test_made_photos_exercise_what_they_are_meant_for(bundle: Bundle) -> None:
    images = [Image.open(golden.file) for golden in bundle.golden()]
    assert {image.getexif().get(0x0112) for image in images} >= {3, 6}
    assert (1024, 768) in {image.size for image in images}
    assert "RGBA" in {image.mode for image in images}


def test_the_manifest_tells_where_the_model_came_from(bundle: Bundle, trained: Path) -> None:
    manifest, prepared = bundle.manifest, Prepared.load(trained / "data/prepared")
    assert manifest.data["digest"] == prepared.meta.digest
    assert manifest.data["photos"] == 72
    evaluation = json.loads((trained / "metrics/evaluation.json").read_text())
    assert manifest.metrics["macro_f1"] == evaluation["macro_f1"]
    assert not manifest.sample_data


def test_exporting_again_gives_the_same_bytes(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    export.main()
    again = {p.relative_to(tmp_path / "p"): p.read_bytes() for p in Path(tmp_path, "p/models/candidate").rglob("*.*")}
    assert again == {path: (trained / path).read_bytes() for path in again}
    assert len(again) == 5 + 16  # model, checkpoint, manifest, reference, golden answers; golden photos


def test_the_graph_takes_any_number_of_photos(bundle: Bundle) -> None:
    spec = bundle.manifest.preprocessing
    pixels = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    one_by_one = np.concatenate([answers(bundle.model, pixels[[n]], spec, 1.0) for n in range(5)])
    assert np.allclose(answers(bundle.model, pixels, spec, 1.0), one_by_one, atol=1e-6)


def test_a_graph_that_answers_otherwise_is_refused(trained: Path, tmp_path: Path) -> None:
    model = Model.load(trained / "models/checkpoint")
    pixels = Prepared.load(trained / "data/prepared").images[:8]
    with torch.no_grad():
        model.network.fc.bias[0] += 0.01
    write_onnx(model.network, 32, tmp_path / "model.onnx")
    assert check_parity(tmp_path / "model.onnx", model, pixels) < 1e-5
    with pytest.raises(StepFailed, match=r"differ by 0\.00"):
        check_parity(tmp_path / "model.onnx", Model.load(trained / "models/checkpoint"), pixels)


def ask(trained: Path, folder: Path, some: Sequence[Photo], out: Path, *more: str | Path, check: bool = True) -> str:
    listed = out.with_suffix(".csv")
    write_index(listed, some)
    command = [sys.executable, "-m", "plantops.ml.compare", "--bundle", folder, "--photos", listed, "--raw", "raw"]
    return sh(*command, "--prepared", "data/prepared", "--out", out, *more, cwd=trained, check=check).stdout


def held_out(trained: Path) -> tuple[Photo, ...]:
    return Prepared.load(trained / "data/prepared").of("test")


def rows(path: Path) -> list[dict[str, Any]]:
    """Answers on test photos, with the probabilities by class."""
    table = pyarrow.parquet.read_table(path)
    classes = json.loads(table.schema.metadata[b"classes"])
    told = [row for row in table.to_pylist() if row["split"] == "test"]
    return [{**row, "shares": dict(zip(classes, row["probabilities"], strict=True))} for row in told]


def test_compare_answers_as_the_evaluation_did(trained: Path, tmp_path: Path) -> None:
    expected = rows(trained / "models/evaluation/predictions.parquet")
    ask(trained, trained / "models/candidate", held_out(trained), tmp_path / "out.parquet")
    found = rows(tmp_path / "out.parquet")
    assert [list(row) for row in found] == [list(row) for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one["path"], one["md5"], one["actual"]) == (other["path"], other["md5"], other["actual"])
        assert float(one["confidence"]) == pytest.approx(float(other["confidence"]), abs=1e-4)


def test_compare_uses_the_preprocessing_of_the_bundle(trained: Path, bundle: Bundle, tmp_path: Path) -> None:
    """A champion that squashes reads the raw photos again; prepared ones were cropped."""
    folder = shutil.copytree(bundle.path, tmp_path / "champion")
    spec = replace(bundle.manifest.preprocessing, fit="squash")
    manifest = replace(bundle.manifest, preprocessing=spec)
    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()))
    photo = held_out(trained)[0]
    ask(trained, folder, [photo], tmp_path / "out.parquet")
    pixels = np.stack([decode((trained / "raw" / photo.path).read_bytes(), spec)])
    expected = answers(bundle.model, pixels, spec, manifest.temperature).max()
    assert float(rows(tmp_path / "out.parquet")[0]["confidence"]) == pytest.approx(expected, abs=1e-5)


def test_compare_answers_with_the_given_classes_alone(trained: Path, bundle: Bundle, tmp_path: Path) -> None:
    expected = rows(trained / "models/evaluation/predictions.parquet")
    wanted = bundle.manifest.classes[1:]
    (tmp_path / "classes").write_bytes(b"\0".join(name.encode(errors="surrogateescape") for name in wanted))
    given = trained, bundle.path, held_out(trained), tmp_path / "out.parquet", "--classes", tmp_path / "classes"
    ask(*given)
    for one, other in zip(rows(tmp_path / "out.parquet"), expected, strict=True):
        assert one["predicted"] == max(wanted, key=lambda name: other["shares"][name])
    (tmp_path / "classes").write_text("no such class")
    assert "names no class" in ask(*given, check=False)


def test_latency_is_measured_in_turn(bundle: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "plantops.ml.latency", "--out", tmp_path / "out.json"]
    sh(*command, bundle.path, bundle.path, cwd=tmp_path)
    one, other = json.loads((tmp_path / "out.json").read_text())["ms"]
    assert 0 < one < 1000
    assert one / other == pytest.approx(1, abs=0.9)
    assert "manifest.json is missing" in sh(*command, tmp_path, cwd=tmp_path, check=False).stdout


def test_compare_answers_about_photos_that_were_not_prepared(trained: Path, bundle: Bundle, tmp_path: Path) -> None:
    """As those from the field are: read from where they lie, unless they are others by now."""
    path = tmp_path / photos.CLASSES[0] / "field.jpg"
    path.parent.mkdir()
    path.write_bytes(photos.jpeg(photos.leaf(4711)))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    one = Photo(0, f"{photos.CLASSES[0]}/field.jpg", md5, photos.CLASSES[0], "", "test")
    given = trained, bundle.path, [one], tmp_path / "out.parquet", "--raw", tmp_path
    ask(*given)
    manifest = bundle.manifest
    pixels = decode(path.read_bytes(), manifest.preprocessing)[None]
    expected = answers(bundle.model, pixels, manifest.preprocessing, manifest.temperature)[0]
    (found,) = rows(tmp_path / "out.parquet")
    assert found["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6)
    path.write_bytes(photos.jpeg(photos.leaf(4712)))
    assert "field.jpg is not the photo that the model was asked about" in ask(*given, check=False)


def test_compare_refuses_what_it_cannot_read(trained: Path, tmp_path: Path) -> None:
    away = Photo(0, "no/such.jpg", "", "no", "", "test")
    said = ask(trained, trained / "models/candidate", [away], tmp_path / "out.parquet", check=False)
    assert said.startswith("error: no/such.jpg: ")
    assert "lists no photo" in ask(trained, trained / "models/candidate", [], tmp_path / "out.parquet", check=False)
    assert "manifest.json is missing" in ask(trained, tmp_path, [away], tmp_path / "out.parquet", check=False)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("backbone", "outputs"),
    [
        ("resnet10t", ["logits", "embedding", "maps"]),
        ("convnextv2_atto", ["logits", "embedding"]),  # its head normalises after pooling
        ("mobilenetv3_small_050", ["logits", "embedding"]),  # its head has another layer after pooling
    ],
)
def test_the_graph_also_says_what_it_saw_and_where(backbone: str, outputs: list[str], tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = make(backbone, 3, 64).eval()
    write_onnx(network, 64, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [one.name for one in session.get_outputs()] == outputs
    images = np.random.default_rng(1).normal(size=(3, 3, 64, 64)).astype(np.float32)
    said = dict(zip(outputs, session.run(None, {"image": images}), strict=True))
    with torch.inference_mode():
        assert np.allclose(said["logits"], network(torch.from_numpy(images)).numpy(), atol=1e-4)
    assert said["embedding"].shape == (3, network.get_classifier().in_features)
    if "maps" in outputs:
        assert said["maps"].shape == (3, 3, 2, 2)
        assert np.allclose(said["maps"].mean((2, 3)), said["logits"], atol=1e-4)
