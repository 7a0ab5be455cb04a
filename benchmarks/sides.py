"""How often photos change sides: held-out photos that the release before had learned from, after some were added.

No training: the split is drawn with and without the added photos, and counted is what `train.finetune_from` leaves out
of test and validation. Aim: few.
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

import common
import yaml
from common import table

from plantops.artifacts import Learned
from plantops.ml.prepared import Meta, Photo, Prepared
from plantops.ml.start import unseen

HEAD = ["photos added", "of", "seeds with any left out", "their share of held-out photos, mean", "most"]


def main() -> None:
    """Print the table."""
    options = _options()
    paths = sorted(one.relative_to(options.photos).as_posix() for one in options.photos.glob("*/*.*"))
    split = yaml.safe_load((common.ROOT / "params.yaml").read_text())["split"]
    names = common.groups(paths, split["group_by"], options.photos)
    rows = []
    for kind, added in (("anywhere", _anywhere), ("whole groups", _groups)):
        for count in options.added:
            found = []
            for seed in range(1, options.rounds + 1):
                new = added(paths, names, count, random.Random(seed))
                found.append(_left_out([one for one in paths if one not in new], paths, names, seed, split))
            hit = f"{sum(one > 0 for one in found)} of {len(found)}"
            rows.append([count, kind, hit, f"{statistics.mean(found):.1%}", f"{max(found):.1%}"])
    print(table(HEAD, rows))


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=40)
    parser.add_argument("--photos", type=Path, required=True, help="one folder per class")
    parser.add_argument("--added", type=int, nargs="+", default=[20, 100, 400])
    return parser.parse_args()


def _anywhere(paths: list[str], names: dict[str, str], count: int, dice: random.Random) -> set[str]:
    return set(dice.sample(paths, count))


def _groups(paths: list[str], names: dict[str, str], count: int, dice: random.Random) -> set[str]:
    order = sorted(set(names.values()))
    dice.shuffle(order)
    new: set[str] = set()
    for group in order:
        if len(new) < count:
            new |= {one for one in paths if names[one] == group}
    return new


def _left_out(old: list[str], now: list[str], names: dict[str, str], seed: int, split: dict[str, float]) -> float:
    """Share of the photos held out ``now`` that a model of the ``old`` ones had learned from, or from their group."""
    learned = {one.md5: Learned(one.split, one.group) for one in _split(old, names, seed, split) if one.split != "test"}
    photos = _split(now, names, seed, split)
    meta = Meta((), 0, "crop", "bilinear", True, len(photos), False, "")
    left_out = len(photos) - len(unseen(Prepared(Path(), meta, photos), learned).photos)
    return left_out / sum(one.split != "train" for one in photos)


def _split(paths: list[str], names: dict[str, str], seed: int, split: dict[str, float]) -> tuple[Photo, ...]:
    sides = common.sides(paths, names, seed, split["val"], split["test"])
    return tuple(Photo(0, one, one, one.partition("/")[0], names[one], sides[one]) for one in paths)


if __name__ == "__main__":
    main()
