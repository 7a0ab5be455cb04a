"""The graph with its convolutions in whole numbers of eight bits, where that costs no score and saves time.

Weights and activations are scaled to eight bits by what photos for training give (Jacob et al. 2018, arXiv:1712.05877),
weights by channel. The last layer, and what explains it, stay as they are, so the maps' means are the logits still.

A CPU without VNNI adds two products in sixteen bits and clips the sum, so there the same graph may answer otherwise:
the golden photos notice, and the bundle is not served. Weights of seven bits would end that, but cost a point and a
half of accuracy where it was tried.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from plantops.bundle import MAPS, UNLIKE, UNSURE
from plantops.ml import latency, reference, runtime, scores
from plantops.ml.params import Export
from plantops.ml.prepared import Prepared
from plantops.photo import normalise, table
from plantops.preprocess import Preprocessing

WORTH = 1.3  # times as fast, or it is not worth another graph
DOUBTS = 0.02  # share of photos by which those called unsure, or unlike, may become more or fewer
_CALIBRATED, _TOGETHER = 128, 16  # photos, and how many go through the graph at once

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Answered:
    """A graph's scores on photos, shares of them 0..1, and its time for one, milliseconds on one thread."""

    accuracy: float
    macro_f1: float
    unsure: float
    unlike: float
    ms: float


@dataclass(frozen=True)
class Judge:
    """Asks graphs about photos whose classes (n,) are known, as serving would."""

    pixels: Pixels
    actual: NDArray[np.int64]
    classes: int
    spec: Preprocessing
    temperature: float
    thresholds: dict[str, float]
    known: reference.Reference | None

    def ask(self, graph: Path) -> tuple[Answered, NDArray[np.int64]]:
        """Its scores, without the time, and its answers (n,)."""
        logits, embedding = runtime.outputs(graph, self.pixels, self.spec)
        probabilities = scores.softmax(logits, self.temperature)
        matrix = scores.confusion(self.actual, probabilities.argmax(1), self.classes)
        unsure = float((probabilities.max(1) < self.thresholds.get(UNSURE, 0)).mean())
        far = 0.0
        if self.known is not None and embedding is not None:
            far = float((self.known.distances(embedding) > self.thresholds[UNLIKE]).mean())
        return Answered(scores.accuracy(matrix), scores.macro_f1(matrix), unsure, far, 0.0), probabilities.argmax(1)


@dataclass(frozen=True)
class Decision:
    """Whether the eight bits are taken, why in a sentence, and both graphs' numbers on validation photos."""

    taken: bool
    why: str
    before: dict[str, float]
    after: dict[str, float]
    agree: float
    photos: int

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def decide(before: Answered, after: Answered, agree: float, photos: int, tolerance: float) -> Decision:
    """Take it where no score falls by more than ``tolerance``, doubts stay as rare, and it is worth it."""
    fall = max(before.accuracy - after.accuracy, before.macro_f1 - after.macro_f1)
    doubts = max(abs(before.unsure - after.unsure), abs(before.unlike - after.unlike))
    faster = before.ms / after.ms
    told = (
        f"on {photos:,} validation photos accuracy {before.accuracy:.4f} -> {after.accuracy:.4f}, macro-F1 "
        f"{before.macro_f1:.4f} -> {after.macro_f1:.4f}, {100 * agree:.1f} % answered alike; {before.ms:.2f} -> "
        f"{after.ms:.2f} ms a photo"
    )
    refused = [
        (fall > tolerance, f"a score falls by {fall:.4f}, at most {tolerance} is allowed"),
        (
            doubts > DOUBTS,
            f"those called unsure or unlike become {doubts:.3f} more or fewer, at most {DOUBTS} is allowed",
        ),
        (faster < WORTH, f"it is {faster:.2f} times as fast here, {WORTH} is wanted"),
    ]
    why = "; ".join(reason for no, reason in refused if no)
    numbers, others = ({key: round(value, 6) for key, value in asdict(one).items()} for one in (before, after))
    said = f"not taken: {why} ({told})" if why else f"taken: {told}"
    return Decision(not why, said, numbers, others, round(agree, 6), photos)


def attempt(graph: Path, wanted: Export, prepared: Prepared, judge: Judge) -> Decision:
    """Make the graph of eight bits and measure it beside ``graph``, which it replaces where it is taken."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "int8.onnx")
        write(graph, made, _calibration(prepared, judge.spec))
        (before, said), (after, says) = judge.ask(graph), judge.ask(made)
        times = latency.medians([latency.asker(one, judge.spec) for one in (graph, made)])
        timed = replace(before, ms=times[0]), replace(after, ms=times[1])
        decision = decide(*timed, float((said == says).mean()), len(said), wanted.tolerance)
        if decision.taken:
            graph.write_bytes(made.read_bytes())
    return decision


def write(graph: Path, path: Path, batches: list[NDArray[np.float32]]) -> None:
    """Write ``graph`` in eight bits to ``path``, scaled by what ``batches`` of normalised photos give."""
    quiet = logging.getLogger()
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # it advises what is done here anyway
    try:
        with tempfile.TemporaryDirectory() as folder:
            ready = Path(folder, "ready.onnx")
            quant_pre_process(str(graph), str(ready), skip_symbolic_shape=True)
            nodes = onnx.load(ready).graph.node
            quantize_static(
                str(ready), str(path), _Reader(runtime.INPUT, iter(batches)), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"], nodes_to_exclude=[one.name for one in nodes if MAPS in one.output],
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
            )  # fmt: skip
    finally:
        quiet.setLevel(level)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, batches: Iterator[NDArray[np.float32]]) -> None:
        self._name, self._batches = name, batches

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch by the input's name."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def _calibration(prepared: Prepared, spec: Preprocessing) -> list[NDArray[np.float32]]:
    """Photos for training, evenly spread."""
    rows = [photo.row for photo in prepared.of("train")]
    rows = rows[:: max(1, len(rows) // _CALIBRATED)][:_CALIBRATED]
    lookup = table(spec)
    return [normalise(prepared.images[rows[at : at + _TOGETHER]], lookup) for at in range(0, len(rows), _TOGETHER)]
