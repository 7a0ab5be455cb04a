"""How long models take for one photo on this machine's CPU, measured in turn so that other work hits all alike.

    python -m plantops.ml.latency --out OUT.json BUNDLE [BUNDLE …]

``--out`` gets ``{"ms": [median of the first bundle, …]}``: normalising and ONNX Runtime on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from plantops.bundle import BadBundle, Bundle
from plantops.errors import StepFailed
from plantops.ml import stage
from plantops.ml.runtime import session
from plantops.photo import normalise, table
from plantops.preprocess import Preprocessing

_WARM_UP, _ROUNDS, _SECONDS = 3, 40, 3.0  # rounds; at most so many, as long as all of them take no longer


def main() -> None:
    """Parse the command line, take the times, write them."""
    parser = argparse.ArgumentParser(prog="plantops.ml.latency", description="How long bundles take for one photo.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("bundles", type=Path, nargs="+")
    given = parser.parse_args()
    given.out.write_text(json.dumps({"ms": medians([_bundle(folder) for folder in given.bundles])}), encoding="utf-8")


def medians(askers: list[Callable[[], object]]) -> list[float]:
    """Median time of each call, milliseconds, all of them called in turn."""
    for asker in askers * _WARM_UP:
        asker()
    spent: list[list[float]] = [[] for _ in askers]
    end = time.monotonic() + _SECONDS
    while len(spent[0]) < _ROUNDS and (not spent[0] or time.monotonic() < end):
        for asker, times in zip(askers, spent, strict=True):
            began = time.perf_counter()
            asker()
            times.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(times) for times in spent]


def _bundle(folder: Path) -> Callable[[], object]:
    try:
        bundle = Bundle.load(folder)
    except BadBundle as error:
        raise StepFailed(f"{folder}: {error}") from None
    return asker(bundle.model, bundle.manifest.preprocessing)


def asker(graph: Path, spec: Preprocessing) -> Callable[[], object]:
    """Has a graph look at one photo of noise."""
    opened, lookup = session(graph, threads=1), table(spec)
    name, logits = opened.get_inputs()[0].name, opened.get_outputs()[0].name
    photo = np.random.default_rng(0).integers(0, 256, (1, spec.size, spec.size, 3), np.uint8)
    return lambda: opened.run([logits], {name: normalise(photo, lookup)})


if __name__ == "__main__":
    stage.run(main)
