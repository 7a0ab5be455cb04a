"""A tiny model whose graph says, beside its logits, what it saw and where it looked."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bundle_factory import CLASSES, SIZE, SPEC, TinyModel, make_release, photo
from plantops.bundle import EMBEDDING, LOGITS, MAPS, REFERENCE
from plantops.drift import ASPECTS, SINGLE, Usual, picture
from plantops.photo import decode, normalise, table

CELL = 8
CELLS = SIZE // CELL
WINDOW = 10
PLAIN, LIGHT = [photo(seed) for seed in range(WINDOW)], 60.0
EVERYTHING_UNSURE = {"unsure": 1.01}


@dataclass(frozen=True)
class LookingModel(TinyModel):
    """``maps``: one convolution over cells of 8 x 8 pixels; ``logits``: their mean; ``embedding``: the mean colour.

    ``blind_to_black``: it makes no numbers of a photo that is all black. ``crowded``: photos of one pass mix.
    ``lone``: more than one photo in a pass is an error, and its input does not say so.
    """

    blind_to_black: bool = False
    crowded: bool = False
    lone: bool = False

    @property
    def kernel(self) -> np.ndarray:
        shape = (len(self.classes), 3, CELL, CELL)
        return (np.random.default_rng(self.seed).normal(size=shape) * 0.2).astype(np.float32)

    def seen(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Embedding (3,) and maps (classes, 4, 4), computed with numpy alone."""
        batch = normalise(decode(data, SPEC)[None], table(SPEC))[0]
        cells = batch.reshape(3, CELLS, CELL, CELLS, CELL)
        return batch.mean(axis=(1, 2)), np.einsum("cixjy,kcxy->kij", cells, self.kernel)

    def answer(self, photo: bytes) -> dict[str, float]:
        logits = self.seen(photo)[1].mean(axis=(1, 2)).astype(np.float64) / self.temperature
        powers = np.exp(logits - logits.max())
        return dict(zip(self.classes, (powers / powers.sum()).tolist(), strict=True))

    def graph(self) -> onnx.ModelProto:
        several = len(self.classes)
        shapes = {LOGITS: ["n", several], EMBEDDING: ["n", 3], MAPS: ["n", several, CELLS, CELLS]}
        outputs = [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one, shape in shapes.items()]
        nodes = [
            helper.make_node("GlobalAveragePool", ["photos"], ["colour"]),
            helper.make_node("Flatten", ["colour"], [EMBEDDING]),
            helper.make_node("Conv", ["photos", "kernel"], [MAPS], strides=[CELL, CELL]),
            helper.make_node("GlobalAveragePool", [MAPS], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["plain"]),
            *self._faults(),
        ]
        inputs = helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
        darkest = normalise(np.zeros((1, 1, 1, 3), np.uint8), table(SPEC)) + 1e-3
        constants = {
            "kernel": self.kernel,
            "darkest": darkest,
            "nothing": np.zeros((), np.float32),
            "last": np.array([1]),
            "one": np.array([1, len(self.classes)]),
        }
        given = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        graph = helper.make_graph(nodes, "looking", [inputs], outputs, given)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _faults(self) -> list[onnx.NodeProto]:
        if self.crowded:
            middle = helper.make_node("ReduceMean", ["plain"], ["middle"], axes=[0])
            away = helper.make_node("Sub", ["plain", "middle"], ["away"])
            return [middle, away, helper.make_node("Add", ["plain", "away"], [LOGITS])]
        if self.lone:
            return [helper.make_node("Reshape", ["plain", "one"], [LOGITS])]
        if not self.blind_to_black:
            return [helper.make_node("Identity", ["plain"], [LOGITS])]
        return [
            helper.make_node("Sub", ["colour", "darkest"], ["above"]),
            helper.make_node("Relu", ["above"], ["light"]),
            helper.make_node("Log", ["light"], ["steps"]),  # minus infinity where all is black
            helper.make_node("Mul", ["steps", "nothing"], ["zero"]),
            helper.make_node("ReduceMean", ["zero"], ["shift"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["shift", "last"], ["column"]),
            helper.make_node("Add", ["plain", "column"], [LOGITS]),
        ]


def black() -> bytes:
    """A photo without light."""
    out = io.BytesIO()
    Image.new("RGB", (90, 60)).save(out, "PNG")
    return out.getvalue()


def looking_release(
    folder: Path, centre: np.ndarray | None = None, more: Mapping[str, Any] = MappingProxyType({}), **changes: Any
) -> Path:
    """A release of the model; ``centre``: the mean embedding that its reference has, beside ``more`` arrays."""
    if centre is None:
        return make_release(folder, LookingModel(), **changes)
    return with_reference(
        folder, reference(mean=centre.astype(np.float32), whiten=np.eye(3, dtype=np.float32), **more), **changes
    )


def reference(**arrays: np.ndarray) -> bytes:
    """A file of arrays."""
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def with_reference(folder: Path, data: bytes, **changes: Any) -> Path:
    """A release of the model whose reference is ``data``, whatever that is."""
    made = make_release(folder, LookingModel(), reference=hashlib.sha256(data).hexdigest(), **changes)
    (made / REFERENCE).write_bytes(data)
    return made


def usual() -> Usual:
    """As if the photos above had been held out: only brightness has a limit that anything could exceed."""
    looks = np.stack([picture(decode(one, SPEC)) for one in PLAIN]).mean(0)
    means = np.zeros((len(CLASSES), len(SINGLE) + 2), np.float32)
    means[:, : len(looks)] = looks
    limits = np.full((1, len(ASPECTS)), 1e9, np.float32)
    limits[0, 0] = LIGHT / 2
    share = np.full(len(CLASSES), 1 / len(CLASSES), np.float32)
    spread = np.ones((1, len(CLASSES)), np.float32)
    return Usual(np.eye(3, 2, dtype=np.float32), means, share, np.array([WINDOW]), spread, limits, 0.01)


def lighter(data: bytes) -> bytes:
    """The photo, but LIGHT brighter."""
    pixels = np.asarray(Image.open(io.BytesIO(data)), np.int16)
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels // 2 + 64 + LIGHT, 0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
