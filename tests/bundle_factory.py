"""Tiny real bundles: an ONNX graph that looks at every pixel, photos of noise, answers computed with numpy.

The graph is one matrix, so its answers can be computed here without ONNX Runtime, and a change in any field of the
preprocessing moves them.
"""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from plantops.bundle import GOLDEN, MANIFEST, MODEL, Manifest, sha256
from plantops.photo import decode, normalise, table
from plantops.preprocess import Preprocessing

SIZE = 32
CLASSES = ("Tomato___healthy", "Tomato___Late_blight", "Pepper,_bell___healthy", "Corn (maize)___rust", "Apple scab")
SPEC = Preprocessing(SIZE, "crop", "bilinear", True, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class TinyModel:
    """``logits = pixels @ weights``: weights (3 * SIZE * SIZE, classes), drawn from ``seed``."""

    seed: int = 1
    classes: tuple[str, ...] = CLASSES
    temperature: float = 1.5

    @property
    def weights(self) -> np.ndarray:
        shape = (3 * SIZE * SIZE, len(self.classes))
        return (np.random.default_rng(self.seed).normal(size=shape) * 0.05).astype(np.float32)

    def answer(self, photo: bytes) -> dict[str, float]:
        """Probability by class name, computed with numpy alone."""
        batch = normalise(decode(photo, SPEC)[None], table(SPEC))
        logits = (batch.reshape(1, -1) @ self.weights)[0].astype(np.float64) / self.temperature
        powers = np.exp(logits - logits.max())
        return dict(zip(self.classes, (powers / powers.sum()).tolist(), strict=True))

    def graph(self) -> onnx.ModelProto:
        """The same for ONNX Runtime."""
        return _graph(self)


def photo(seed: int, size: tuple[int, int] = (90, 60), turned: bool = False, kind: str = "JPEG") -> bytes:
    """Noise in blocks of a few pixels, not square, optionally with an EXIF orientation."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (size[1] // 3, size[0] // 3, 3), dtype=np.uint8)
    image = Image.fromarray(np.kron(blocks, np.ones((3, 3, 1), np.uint8)))
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, kind, quality=95, exif=exif)
    return out.getvalue()


def make_bundle(folder: Path, model: TinyModel | None = None, **changes: Any) -> Path:
    """Write a whole bundle; ``changes`` replace fields of the manifest (as a fault would, the answers stay)."""
    model = model or TinyModel()
    (folder / "golden").mkdir(parents=True)
    onnx.save(model.graph(), folder / MODEL)
    manifest = Manifest(
        classes=model.classes,
        preprocessing=SPEC,
        sample_data=True,
        model={"backbone": "tiny", "sha256": sha256(folder / MODEL)},
        data={"photos": 12},
        metrics={"accuracy": 0.5},
        temperature=model.temperature,
    )
    (folder / MANIFEST).write_text(json.dumps(dataclasses.replace(manifest, **changes).to_dict()))
    listed = []
    for number in range(4):
        data = photo(100 + number, turned=number % 2 == 1)
        (folder / "golden" / f"{number}.jpg").write_bytes(data)
        listed.append({"file": f"golden/{number}.jpg", "probabilities": model.answer(data)})
    (folder / GOLDEN).write_text(json.dumps({"photos": listed}))
    return folder


def make_release(folder: Path, model: TinyModel | None = None, **changes: Any) -> Path:
    """A bundle with a ``release.json``; the release is named after the folder."""
    make_bundle(folder, model, **changes)
    release = {"release": folder.name, "commit": "abc1234", "created": "2025-01-01T00:00:00+00:00"}
    (folder / "release.json").write_text(json.dumps({**release, "mlflow": {"run": "r1", "version": 3}}))
    return folder


def _graph(model: TinyModel) -> onnx.ModelProto:
    inputs = helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
    outputs = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(model.classes)])
    nodes = [
        helper.make_node("Flatten", ["photos"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    weights = numpy_helper.from_array(model.weights, "weights")
    graph = helper.make_graph(nodes, "tiny", [inputs], [outputs], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
