"""What a random split hides: the same model, trained with `split.group_by: null` and with params.yaml's, on one folder.

Whole groups (the shots of one series, a hundred at a time) are held out first, the same for both; neither training
sees them. Then each model is asked twice: on the test photos of its own split, which is what one would report, and on
the held-out leaves, which is what it can do. Aim: the gap between the two is small with grouped splitting.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import yaml
from common import Bench, table

from plantops.ml import scores
from plantops.ml.model import Model
from plantops.ml.prepared import Prepared
from plantops.photo import decode


@dataclass(frozen=True)
class Score:
    """Of one model on some photos."""

    photos: int
    accuracy: float
    macro_f1: float

    def cells(self) -> list[str]:
        """For the table."""
        return [f"{self.photos:,}", f"{self.accuracy:.3f}", f"{self.macro_f1:.3f}"]


def main() -> None:
    """Print the table."""
    options = _options()
    with common.workplace(options.work) as bench:
        paths = sorted(one.relative_to(options.photos).as_posix() for one in options.photos.glob("*/*.*"))
        group_by = yaml.safe_load((common.ROOT / "params.yaml").read_text())["split"]["group_by"]
        for seed in range(1, options.rounds + 1):
            held = _held_out(paths, group_by, options.photos, seed)
            print(f"seed {seed}: {len(paths):,} photos, {len(held):,} of them held out in whole groups\n")
            rows = []
            for name, rule in (("random", None), ("grouped", group_by)):
                project = _train(bench, f"{name}-{seed}", options, set(paths) - set(held), rule, seed)
                with contextlib.chdir(project):
                    own, fair = _scores(options.photos, held)
                gap = own.macro_f1 - fair.macro_f1
                rows.append([name, *own.cells(), *fair.cells(), f"{gap:+.3f}"])
            print(table(HEAD, rows), "\n", flush=True)


HEAD = [
    "split", "own test photos", "accuracy", "macro-F1", "held-out photos", "accuracy", "macro-F1", "own − held out",
]  # fmt: skip


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--photos", type=Path, required=True, help="real photos, one folder per class")
    parser.add_argument("--size", type=int, default=96, help="side of the model's input, pixels")
    parser.add_argument("--epochs", type=int, default=8)
    return parser.parse_args()


def _held_out(paths: list[str], group_by: str, raw: Path, seed: int) -> list[str]:
    """A fifth of the photos in whole groups, so chosen that each class has some."""
    sides = common.sides(paths, common.groups(paths, group_by, raw), 1000 + seed, 0.0, 0.2)
    return [path for path in paths if sides[path] == "test"]


def _train(
    bench: Bench, name: str, options: argparse.Namespace, paths: set[str], group_by: str | None, seed: int
) -> Path:
    """A project whose stages data and train have run; one that is there already stays."""
    project = bench.folder / name
    if not project.is_dir():
        common.new_project(bench, name)
        for path in paths:
            target = project / common.RAW / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(options.photos / path, target)
        training = {"epochs": options.epochs, "small_epochs": options.epochs // 2, "patience": options.epochs}
        common.change(
            project / "params.yaml",
            seed=seed, split={"group_by": group_by}, model={"size": options.size}, train=training,
        )  # fmt: skip
    if not (project / "models/checkpoint").is_dir():
        for stage in ("data", "train"):
            print(f"{name}: {stage}", file=sys.stderr, flush=True)
            bench.run([sys.executable, "-m", f"plantops.ml.{stage}"], project)
    return project


def _scores(raw: Path, held: list[str]) -> tuple[Score, Score]:
    """Of the project that we are in: on its own test photos, and on those held out."""
    model, prepared = Model.load(), Prepared.load()
    tests = prepared.of("test")
    spec = model.info.preprocessing
    number = {name: at for at, name in enumerate(model.info.classes)}
    pixels = np.stack([decode((raw / path).read_bytes(), spec) for path in held])
    labels = np.array([number[os.path.dirname(path)] for path in held])
    own = _score(model, prepared.images[[one.row for one in tests]], prepared.labels(tests))
    return own, _score(model, pixels, labels)


def _score(model: Model, pixels: np.ndarray, labels: np.ndarray) -> Score:
    predicted = model.probabilities(pixels).argmax(1)
    matrix = scores.confusion(labels, predicted, len(model.info.classes))
    return Score(len(labels), scores.accuracy(matrix), scores.macro_f1(matrix))


if __name__ == "__main__":
    main()
