"""Is a plant that the model never saw told from those that it knows? One crop at a time is left out of the training.

For each crop left out: a model is trained on all others, then asked about its own test photos and about all photos of
the crop that it does not know. Printed is how well `distance` (and the confidence) tell the two apart: AUROC, 0.5 is
guessing; and what `unlike`, chosen on validation photos, calls strange of both. Aim: an AUROC well above 0.5.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

import common
import numpy as np
from common import Bench, table

from plantops.ml import examine, measure, reference
from plantops.ml.model import Model
from plantops.ml.params import load
from plantops.ml.prepared import Photo, Prepared
from plantops.photo import decode

HEAD = [
    "left out", "strangers", "test photos", "their accuracy", "AUROC distance", "AUROC confidence",
    "strangers called unlike", "test photos called unlike",
]  # fmt: skip


def main() -> None:
    """Print the table."""
    options = _options()
    folders = sorted(one for one in options.photos.iterdir() if one.is_dir())
    crops = options.crops or sorted({_crop(one) for one in folders})
    if missing := set(crops) - {_crop(one) for one in folders}:
        sys.exit(f"{options.photos} has no crop {sorted(missing)[0]}: it has {', '.join(map(_crop, folders))}")
    rows = []
    with common.workplace(options.work) as bench:
        for seed in range(1, options.rounds + 1):
            for crop in crops:
                known = [one for one in folders if _crop(one) != crop]
                project = _train(bench, f"without-{crop}-{seed}", options, known, seed)
                strangers = [photo for one in folders if _crop(one) == crop for photo in sorted(one.glob("*.*"))]
                with contextlib.chdir(project):
                    rows.append([crop, *_told(strangers)])
    print(table(HEAD, rows))


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument(
        "--photos", type=lambda one: Path(one).resolve(), required=True, help="folders <Crop>___<Class>"
    )
    parser.add_argument("--crops", nargs="+", help="which are left out, each in a training of its own; all in turn")
    parser.add_argument("--size", type=int, default=64, help="side of the model's input, pixels")
    parser.add_argument("--epochs", type=int, default=8)
    return parser.parse_args()


def _crop(folder: Path) -> str:
    """``Pepper,_bell___healthy`` is of Pepper."""
    return folder.name.partition("___")[0].partition("_")[0].rstrip(",")


def _train(bench: Bench, name: str, options: argparse.Namespace, folders: list[Path], seed: int) -> Path:
    """A project whose stages data and train have run on ``folders``; one that is there already stays."""
    project = bench.folder / name
    if not project.is_dir():
        common.new_project(bench, name)
        for folder in folders:
            (project / common.RAW / folder.name).mkdir(parents=True)
            for photo in folder.glob("*.*"):
                os.symlink(photo, project / common.RAW / folder.name / photo.name)
        training = {"epochs": options.epochs, "small_epochs": options.epochs // 2, "patience": options.epochs}
        common.change(project / "params.yaml", seed=seed, model={"size": options.size}, train=training)
    if not (project / "models/checkpoint/model.json").is_file():
        for stage in ("data", "train"):
            print(f"{name}: {stage}", file=sys.stderr, flush=True)
            bench.run([sys.executable, "-m", f"plantops.ml.{stage}"], project)
    return project


def _told(strangers: list[Path]) -> list[str]:
    """Of the project that we are in: the cells after the crop's name."""
    prepared, model = Prepared.load(), Model.load()
    asker = examine.examiner(prepared, model)
    test, val = (asker.ask(some, examine.pixels(prepared, some)) for some in map(prepared.of, ("test", "val")))
    pixels = np.stack([decode(one.read_bytes(), model.info.preprocessing) for one in strangers])
    asked = asker.ask([Photo(at, one.name, "", "", "", "stranger") for at, one in enumerate(strangers)], pixels)
    if test.distances is None or val.distances is None or asked.distances is None:
        sys.exit(f"{model.info.backbone} has no embedding, so no distance")
    unlike = reference.threshold(val.distances, load().evaluate.false_alarms)
    by = (test.distances, asked.distances), (-test.confidence, -asked.confidence)
    auroc = [measure.separation(one, {"strangers": other})["all"] for one, other in by]
    noticed = [float((one.distances > unlike).mean()) for one in (asked, test)]
    return [
        f"{len(strangers):,}", f"{len(test.photos):,}", f"{test.right.mean():.3f}",
        *(f"{one:.3f}" for one in auroc), *(f"{100 * one:.1f} %" for one in noticed),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
