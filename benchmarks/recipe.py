"""What does a recipe give, and in what time? The stages data, train and evaluate on real photos, with other settings.

A variant is a word of settings: ``train.epochs=20,train.precision=32``; ``as-shipped`` is params.yaml as it is. Printed
for each: processor and wall seconds of the training, the share of it that reading the batches takes (timed alone on one
core), and the scores on the test photos. The photos are prepared once. Aim: macro-F1 0.97 in 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import common
import yaml
from common import Bench, table

from plantops.ml.batches import loader
from plantops.ml.params import load
from plantops.ml.prepared import Prepared
from plantops.ml.train import photos

SHIPPED = "as-shipped"
HEAD = [
    "settings", "training, wall s", "processor s", "reading", "best epoch", "val macro-F1",
    "test macro-F1", "test accuracy", "evaluation, wall s",
]  # fmt: skip


def main() -> None:
    """Print the table."""
    options = _options()
    rows = []
    with common.workplace(options.work) as bench:
        prepared = _prepared(bench, options.photos)
        for variant in options.variants:
            rows.append([f"`{variant}`", *_told(bench, prepared, variant)])
            print(rows[-1], file=sys.stderr, flush=True)
    print(table(HEAD, rows))


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.add_argument("variants", nargs="+", metavar="SETTINGS", help=f"{SHIPPED}, or section.key=value,…")
    parser.add_argument("--photos", type=lambda one: Path(one).resolve(), required=True, help="one folder per class")
    return parser.parse_args()


def _prepared(bench: Bench, photos: Path) -> Path:
    """A project whose photos are prepared; one that is there already stays."""
    project = bench.folder / "prepared"
    if not (project / "data/prepared/index.csv").is_file():
        shutil.rmtree(project, ignore_errors=True)
        common.new_project(bench, project.name)
        for photo in photos.glob("*/*.*"):
            (project / common.RAW / photo.parent.name).mkdir(parents=True, exist_ok=True)
            os.symlink(photo, project / common.RAW / photo.parent.name / photo.name)
        _stage(bench, project, "data")
    return project


def _told(bench: Bench, prepared: Path, variant: str) -> list[str]:
    project = bench.folder / variant.replace("/", "_")
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(prepared, project, symlinks=True)
    settings: dict[str, dict[str, Any]] = {}
    for one in [] if variant == SHIPPED else variant.split(","):
        key, _, value = one.partition("=")
        section, _, name = key.partition(".")
        settings.setdefault(section, {})[name] = yaml.safe_load(value)
    common.change(project / "params.yaml", **settings)
    wall, processor = _stage(bench, project, "train")
    trained = json.loads((project / "metrics/train.json").read_text())
    reading = _reading(project) * trained["epochs"]
    asking, _ = _stage(bench, project, "evaluate")
    asked = json.loads((project / "metrics/evaluation.json").read_text())
    return [
        f"{wall:,.0f}", f"{processor:,.0f}", f"{reading / wall:.1%}", f"{trained['best_epoch']} of {trained['epochs']}",
        f"{trained['val_macro_f1']:.4f}", f"{asked['macro_f1']:.4f}", f"{asked['accuracy']:.4f}", f"{asking:,.0f}",
    ]  # fmt: skip


def _reading(project: Path) -> float:
    """Seconds in which one epoch's batches are read and moved, as in the training, with nobody to learn from them."""
    with contextlib.chdir(project):
        params, prepared = load(), Prepared.load()
        batches = loader(photos(prepared, "train", params.seed), params.train.batch_size, params.seed)
        began = time.monotonic()
        for _ in batches:
            pass
        return time.monotonic() - began


def _stage(bench: Bench, project: Path, name: str) -> tuple[float, float]:
    """Run a stage; returns its wall and processor seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    bench.run([sys.executable, "-m", f"plantops.ml.{name}"], project)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
