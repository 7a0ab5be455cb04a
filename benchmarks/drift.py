"""How often a window of ordinary photos is called drifted, and how many photos it takes to find real changes.

A small model learns from some of the photos; the rest, in whole groups, is divided anew in each round: from three
quarters what is usual is learned, from the last quarter windows are drawn, as they are and changed. Aim: ordinary
windows are over a limit in about the stated rate (1 %), and what a person would call another kind of photo is found
within some hundred photos.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
from common import Bench, table
from PIL import Image, ImageEnhance, ImageFilter

from plantops import drift
from plantops.ml import examine, start
from plantops.ml.drawn import Grouped
from plantops.ml.drift import SIZES, Held, learn
from plantops.ml.examine import Examiner
from plantops.ml.model import Model
from plantops.ml.prepared import Prepared

Change = Callable[[Image.Image], Image.Image]
AS_THEY_ARE, ONE_CLASS, HALF_A_CLASS = "as they are", "photos of one class only", "half of the photos of one class"


def main() -> None:
    """Print the tables."""
    options = _options()
    with common.workplace(options.work) as bench, contextlib.chdir(options.project or _train(bench, options)):
        asker = examine.examiner(Prepared.load(), Model.load())
        held = _held(asker)
        groups = len(np.unique(held.groups))
        print(f"{len(held.answers):,} held-out photos in {groups} groups, {options.windows} windows a round\n")
        found: dict[tuple[str, int], list[np.ndarray]] = {}
        for seed in range(1, options.rounds + 1):
            for key, over in _round(asker, held, seed, options):
                found.setdefault(key, []).append(over)
            print(f"round {seed}", file=sys.stderr, flush=True)
        _print({key: np.concatenate(each) for key, each in found.items()})


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--photos", type=Path, help="real photos, one folder per class")
    parser.add_argument("--project", type=Path, help="a project whose stages data and train have run, instead")
    parser.add_argument("--size", type=int, default=64, help="side of the model's input, pixels")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--windows", type=int, default=200, help="of each size, in each round")
    parser.add_argument("--changed", type=int, default=2, help="rounds in which changed photos are asked, too")
    return parser.parse_args()


def _train(bench: Bench, options: argparse.Namespace) -> Path:
    """A project whose stages data and train have run, with many photos held out; one that is there already stays."""
    project = bench.folder / "drift"
    if not project.is_dir():
        common.new_project(bench, "drift")
        shutil.copytree(options.photos, project / common.RAW, dirs_exist_ok=True)
        training = {"epochs": options.epochs, "small_epochs": options.epochs // 2, "patience": options.epochs}
        common.change(project / "params.yaml", split={"test": 0.35}, model={"size": options.size}, train=training)
    if not (project / "models/checkpoint").is_dir():
        for stage in ("data", "train"):
            print(stage, file=sys.stderr, flush=True)
            bench.run([sys.executable, "-m", f"plantops.ml.{stage}"], project)
    return project


def _held(asker: Examiner) -> Held:
    prepared = start.held_out()
    sides = [photos for photos in (prepared.of("test"), prepared.of("val")) if photos]
    asked = [asker.ask(photos, examine.pixels(prepared, photos)) for photos in sides]
    return examine.held(asked, len(asker.model.info.classes))


@dataclass(frozen=True)
class Judge:
    """What is usual, and the windows that are drawn from photos of the last quarter."""

    usual: drift.Usual
    classes: int
    windows: int

    def over(self, held: Held, size: int, seed: int) -> np.ndarray:
        """Of each window and aspect its statistic as a share of the limit: (windows, 10)."""
        each = zip(held.pixels, held.embeddings, held.confidence, held.distances, held.answers, strict=True)
        odd = np.stack([self.usual.odd(self.usual.photo(*one[:4]), int(one[4])) for one in each])
        values = np.concatenate([odd, np.eye(self.classes)[held.answers]], 1)
        groups = np.unique(held.groups, return_inverse=True)[1]
        drawn = Grouped.of(values, groups).windows(size, self.windows, np.random.default_rng(seed))
        cut = odd.shape[1]
        return np.stack([self.usual.over(size, one[:cut], one[cut:]) for some, _ in drawn for one in some])


def _round(
    asker: Examiner, held: Held, seed: int, options: argparse.Namespace
) -> Iterator[tuple[tuple[str, int], np.ndarray]]:
    names = np.random.default_rng(seed).permutation(np.unique(held.groups))
    apart = np.isin(held.groups, names[: len(names) // 4])
    usual = learn(_some(held, ~apart))
    if usual is None:
        sys.exit("too few held-out photos")
    judge, rest = Judge(usual, held.classes, options.windows), _some(held, apart)
    sides = {AS_THEY_ARE: rest}
    if seed <= options.changed:
        sides |= {name: _asked(asker, rest, change) for name, change in CHANGES.items()}
        most = np.bincount(rest.answers).argmax()
        one = rest.answers == most
        sides[ONE_CLASS] = _some(rest, one)
        kept = np.flatnonzero(~one)[: int(one.sum())]
        sides[HALF_A_CLASS] = _some(rest, np.isin(np.arange(len(one)), [*np.flatnonzero(one), *kept]))
    for name, side in sides.items():
        for size in usual.sizes:
            yield (name, int(size)), judge.over(side, int(size), seed)


def _some(held: Held, wanted: np.ndarray) -> Held:
    return Held(
        held.pixels[wanted], held.embeddings[wanted], held.distances[wanted], held.confidence[wanted],
        held.answers[wanted], held.groups[wanted], held.classes,
    )  # fmt: skip


def _asked(asker: Examiner, held: Held, change: Change) -> Held:
    """The same photos, changed and asked again."""
    pixels = np.stack([np.asarray(change(Image.fromarray(one))) for one in held.pixels])
    seen = asker.ask(Prepared.load().photos[: len(pixels)], pixels)
    assert seen.seen.embedding is not None
    assert seen.distances is not None
    return Held(pixels, seen.seen.embedding, seen.distances, seen.confidence, seen.predicted, held.groups, held.classes)


def _cropped(photo: Image.Image) -> Image.Image:
    edge = photo.width // 6
    return photo.crop((edge, edge, photo.width - edge, photo.height - edge)).resize(
        photo.size, Image.Resampling.BICUBIC
    )


def _phone(photo: Image.Image) -> Image.Image:
    """Warm light, dark corners, a little noise, hard compression."""
    side = photo.width
    y, x = np.mgrid[:side, :side] / (side - 1) - 0.5
    light = (1 - 0.5 * (x**2 + y**2))[..., None] * [1.08, 1.0, 0.88]
    noise = np.random.default_rng(side).normal(0, 6, (side, side, 3))
    shot = Image.fromarray((np.asarray(photo) * light + noise).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    shot.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Change] = {
    "15 % brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.15),
    "30 % darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.7),
    "blurred by 1 pixel in 128": lambda photo: photo.filter(ImageFilter.GaussianBlur(photo.width / 128)),
    "blurred by 3 pixels in 128": lambda photo: photo.filter(ImageFilter.GaussianBlur(3 * photo.width / 128)),
    "the middle two thirds only": _cropped,
    "as by a phone": _phone,
}


def _print(found: dict[tuple[str, int], np.ndarray]) -> None:
    """Shares of windows over a limit, and what is over most."""
    rows = []
    for name in dict.fromkeys(name for name, _ in found):
        each = {size: found[name, size] for size in SIZES if (name, size) in found}
        shares = {size: float((over > 1).any(1).mean()) for size, over in each.items()}
        enough = next((size for size, share in shares.items() if share >= 0.9), None)
        last = (list(each.values())[-1] > 1).mean(0)
        aspects = [drift.ASPECTS[at] for at in np.argsort(-last)[:3] if last[at] >= 0.1]
        needed = "" if name == AS_THEY_ARE else f"{2 * enough}" if enough else f"more than {2 * max(each)}"
        shown = [f"{shares[size]:.1%}" if size in shares else "" for size in SIZES]
        rows.append([name, *shown, needed, ", ".join(aspects)])
    head = ["photos", *[f"windows of {size}" for size in SIZES], "photos until it is said", "mostly by"]
    print(table(head, rows), end="\n\n")
    usual = {size: found[AS_THEY_ARE, size] > 1 for size in SIZES if (AS_THEY_ARE, size) in found}
    alarms = ", ".join(f"{(one[:-1:2] & one[1::2]).any(1).mean():.2%} of {size}" for size, one in usual.items())
    print(f"as they are, the same aspect in two windows in a row, which is what is said: {alarms}")


if __name__ == "__main__":
    main()
