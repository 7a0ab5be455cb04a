"""What is judged is what is served: the checkpoint, which its graph equals, or the graph in eight bits if it is taken.

The float graph is proved against the checkpoint to 1e-4 when it is exported. The one in eight bits answers otherwise
now and then, so where ``export.quantize`` takes it, all that an evaluation says is asked of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plantops.bundle import UNLIKE, UNSURE
from plantops.ml import examine, files, quantize, runtime
from plantops.ml.model import Info, Model, Seen, gathered
from plantops.ml.onnxfile import write_onnx
from plantops.ml.params import Params
from plantops.ml.prepared import Prepared


@dataclass(frozen=True)
class Served:
    """A graph asked as serving asks it, by ONNX Runtime on the CPU."""

    info: Info
    graph: Path

    def see(self, pixels: NDArray[np.uint8]) -> Seen:
        """All that the graph says of uint8 (n, size, size, 3); n is 1 or more."""
        return gathered(self._batches(pixels))

    def _batches(self, pixels: NDArray[np.uint8]) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        opened = runtime.session(self.graph)
        names = [one.name for one in opened.get_outputs()]
        for batch in runtime.batches(pixels, self.info.preprocessing):
            yield dict(zip(names, opened.run(names, {runtime.INPUT: batch}), strict=True))


def choose(params: Params, prepared: Prepared, model: Model) -> examine.Sees:
    """``model``, or its graph in eight bits where ``export.quantize`` is auto and it is worth it.

    That graph is left in ``models/evaluation`` with the decision, for the bundle.
    """
    if params.export.quantize != "auto":
        return model
    decision = _decide(params, prepared, model)
    print(f"eight bits: {decision.why}")
    files.write_json(files.EIGHT_BITS_DECISION, decision.to_dict())
    if decision.taken:
        return Served(model.info, files.EIGHT_BITS)
    files.EIGHT_BITS.unlink(missing_ok=True)
    return model


def _decide(params: Params, prepared: Prepared, model: Model) -> quantize.Decision:
    """On validation photos, with the confidence and the thresholds that the checkpoint would have."""
    photos, spec = prepared.of("val"), model.info.preprocessing
    if not photos:
        return quantize.Decision(False, "not taken: there are no validation photos to compare on", {}, {}, 0.0, 0)
    asker = examine.examiner(prepared, model)
    asked = asker.ask(photos, examine.pixels(prepared, photos))
    limits = dict(zip((UNSURE, UNLIKE), examine.thresholds(params.evaluate, asked), strict=True))
    judge = quantize.Judge(
        asked.pixels, asked.actual, len(model.info.classes), spec, asker.temperature,
        {name: one for name, one in limits.items() if one is not None}, asker.known if limits[UNLIKE] else None,
    )  # fmt: skip
    write_onnx(copy.deepcopy(model.network), spec.size, files.EIGHT_BITS)
    return quantize.attempt(files.EIGHT_BITS, params.export, prepared, judge)
