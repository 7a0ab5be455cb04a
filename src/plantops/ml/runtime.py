"""ONNX Runtime's answers: what serving will say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from plantops.bundle import EMBEDDING
from plantops.ml.scores import softmax
from plantops.photo import normalise, table
from plantops.preprocess import Preprocessing

INPUT = "image"
_BATCH = 64


def session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A graph opened on the CPU, with as many threads (0: as many as cores)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def batches(pixels: NDArray[np.uint8], spec: Preprocessing) -> Iterator[NDArray[np.float32]]:
    """uint8 (n, size, size, 3), normalised, some at a time: float32 (at most 64, 3, size, size)."""
    lookup = table(spec)
    for start in range(0, len(pixels), _BATCH):
        yield normalise(pixels[start : start + _BATCH], lookup)


def answers(path: Path, pixels: NDArray[np.uint8], spec: Preprocessing, temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, classes) for uint8 (n, size, size, 3), by ONNX Runtime on the CPU."""
    return softmax(outputs(path, pixels, spec)[0], temperature)


def outputs(
    path: Path, pixels: NDArray[np.uint8], spec: Preprocessing
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Logits (n, classes), and the embedding (n, d) where the graph has it, for uint8 (n, size, size, 3)."""
    opened = session(path)
    # A champion may come from other code than ours: its graph has one input, and its first output are the logits,
    # whatever their names.
    logits, *others = [one.name for one in opened.get_outputs()]
    names = [logits, *(one for one in others if one == EMBEDDING)]
    place = opened.get_inputs()[0].name
    found = [opened.run(names, {place: batch}) for batch in batches(pixels, spec)]
    whole = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return whole[0], whole[1] if len(whole) > 1 else None
