"""What `train.finetune_from: champion` saves, and what it costs in score: photos are added to a trained model's data.

A model is trained on nine photos in ten and stands for the release in service. Then the tenth is added, and a model is
trained on all of them twice: from nothing, and going on from the release. Both are asked about the same test photos,
those that the release had not learned from either. Aim: no score lost, most of the time saved.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import sys
from pathlib import Path

import common
from common import Bench, table

from plantops import artifacts
from plantops.ml import scores, start
from plantops.ml.model import Model
from plantops.process import CHAMPION_VARIABLE

HEAD = ["training", "epochs", "processor seconds", "test photos", "left out", "accuracy", "macro-F1"]


def main() -> None:
    """Print the table."""
    options = _options()
    folders = sorted(one for one in options.photos.iterdir() if one.is_dir())[: options.classes]
    every = sorted(photo for folder in folders for photo in folder.glob("*.*"))
    rows = []
    with common.workplace(options.work) as bench:
        for seed in range(1, options.rounds + 1):
            few = random.Random(seed).sample(every, round(0.9 * len(every)))
            first = _project(bench, f"release-{seed}", options, few, seed)
            _stages(bench, first, ("data", "train", "evaluate", "export"))
            release = _release(first, bench.folder / f"champion-{seed}")
            anew = _project(bench, f"anew-{seed}", options, every, seed)
            on = _project(bench, f"on-{seed}", options, every, seed, finetune_from="champion")
            took = {}
            for name, project in (("from nothing", anew), ("going on", on)):
                _stages(bench, project, ("data",))
                bench.env[CHAMPION_VARIABLE] = str(release)
                took[name] = _seconds(bench, project)
            rows += [[name, *_told(project, on, took[name])] for name, project in
                     (("from nothing", anew), ("going on", on))]  # fmt: skip
    print(table(HEAD, rows))


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--photos", type=lambda one: Path(one).resolve(), required=True, help="one folder per class")
    parser.add_argument("--classes", type=int, help="take only the first so many")
    parser.add_argument("--size", type=int, default=64, help="side of the model's input, pixels")
    parser.add_argument("--epochs", type=int, default=10, help="of a training from nothing")
    parser.add_argument("--more", type=int, default=3, help="epochs of one that goes on")
    return parser.parse_args()


def _project(
    bench: Bench, name: str, options: argparse.Namespace, photos: list[Path], seed: int, **train: object
) -> Path:
    project = common.new_project(bench, name)
    for photo in photos:
        target = project / common.RAW / photo.parent.name / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(photo, target)
    epochs = {"epochs": options.epochs, "small_epochs": options.epochs // 2, "patience": options.epochs}
    section = {**epochs, "finetune_epochs": options.more, **train}
    common.change(project / "params.yaml", seed=seed, model={"size": options.size}, train=section)
    return project


def _stages(bench: Bench, project: Path, stages: tuple[str, ...]) -> None:
    for stage in stages:
        print(f"{project.name}: {stage}", file=sys.stderr, flush=True)
        bench.run([sys.executable, "-m", f"plantops.ml.{stage}"], project)


def _seconds(bench: Bench, project: Path) -> float:
    """Of the processor, for the stage train, its start included: a busy machine changes less about them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _stages(bench, project, ("train",))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _release(project: Path, folder: Path) -> Path:
    """The candidate of a project, as a release on the shelf is."""
    shutil.copytree(project / "models/candidate", folder)
    shutil.copyfile(project / artifacts.INDEX, folder / artifacts.SPLIT_FILE)
    (folder / artifacts.RELEASE_FILE).write_text(f'{{"release": "{folder.name}"}}')
    return folder


def _told(project: Path, judge: Path, seconds: float) -> list[str]:
    """The model of ``project`` on the test photos that may judge the one of ``judge``."""
    with contextlib.chdir(judge):
        prepared = start.held_out()
        tests, images = prepared.of("test"), prepared.images
    model = Model.load(project / "models/checkpoint")
    answers = model.probabilities(images[[one.row for one in tests]]).argmax(1)
    matrix = scores.confusion(prepared.labels(tests), answers, len(model.info.classes))
    epochs = artifacts.values(project / "metrics/train.json")["epochs"]
    left_out = prepared.meta.count - len(prepared.photos)
    score = (f"{scores.accuracy(matrix):.3f}", f"{scores.macro_f1(matrix):.3f}")
    return [str(epochs), f"{seconds:.0f}", f"{len(tests):,}", f"{left_out:,}", *score]


if __name__ == "__main__":
    main()
