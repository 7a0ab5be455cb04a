"""How often the gate errs against the release in service: drawn answers of two models whose true scores are known.

Aim: a model that is truly worse than `gate.max_fall` allows is accepted in at most 5 % of the rounds; one that is as
good is refused as rarely.

Both models err on one photo more easily than on another, and on one leaf more than on another: an error happens where
a normal number, made of parts for the group, the group in this model's eyes, the photo, and chance, is beyond the
quantile that gives the wanted share of errors. So the true accuracy is exact, and photos of a group hang together.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import NormalDist

import numpy as np
from common import table

from plantops import gate
from plantops.config import GateConfig
from plantops.gate import Answer, Champion, Verdict

SIZES = ("24/24", "60/60", "150/40", "777/40", "777/104", "3000/400")
FALLS = (-0.01, 0.0, 0.01, 0.02, 0.04, 0.06)
ERRORS, CLASSES = 0.03, 17
# Shares of what makes a photo hard: its group, its group for this model, the photo itself; chance makes the rest.
GROUP, GROUP_AND_MODEL, PHOTO = 0.30, 0.15, 0.25


def main() -> None:
    """Print the table."""
    options = _arguments()
    rules = GateConfig(0, 0, 0, max_fall=options.max_fall, confidence=options.confidence, min_compared=1)
    rows = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for size in options.sizes:
            photos, groups = map(int, size.split("/"))
            for fall in options.falls:
                one = partial(_round, photos, groups, fall, rules)
                rows.append(_row(size, fall, list(pool.map(one, range(options.rounds), chunksize=10))))
    print(table(HEAD, rows))


HEAD = ["photos/groups", "true fall", "accepted", "not enough evidence", "refused", "released by default"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="for each line of the table")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="photos/groups")
    parser.add_argument("--falls", nargs="+", type=float, default=FALLS, help="of the true accuracy")
    parser.add_argument("--max-fall", type=float, default=GateConfig.max_fall)
    parser.add_argument("--confidence", type=float, default=GateConfig.confidence)
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def _round(photos: int, groups: int, fall: float, rules: GateConfig, seed: int) -> Verdict:
    """The verdict on one drawn pair of models."""
    dice = np.random.default_rng([seed, photos, groups, round(1000 * (fall + 1))])
    classes = min(CLASSES, max(3, groups // 6))
    group = np.sort(np.concatenate([np.arange(groups), _favoured(dice, groups, photos - groups)]))
    kind = (np.arange(groups) % classes)[group]
    shared = math.sqrt(GROUP) * dice.normal(size=groups)[group] + math.sqrt(PHOTO) * dice.normal(size=photos)
    old, new = (_answers(dice, shared, group, kind, classes, rate) for rate in (ERRORS, ERRORS + fall))
    return gate.judge(new, False, Champion("old", False, tuple(old)), rules)


def _favoured(dice: np.random.Generator, among: int, many: int) -> np.ndarray:
    """Numbers drawn unevenly, as series of photos are: the largest a few times the smallest."""
    weights = dice.gamma(4, size=among)
    return dice.choice(among, many, p=weights / weights.sum())


def _answers(
    dice: np.random.Generator, shared: np.ndarray, group: np.ndarray, kind: np.ndarray, classes: int, errors: float
) -> list[Answer]:
    own = math.sqrt(GROUP_AND_MODEL) * dice.normal(size=group.max() + 1)[group]
    chance = math.sqrt(1 - GROUP - GROUP_AND_MODEL - PHOTO) * dice.normal(size=len(group))
    wrong = shared + own + chance > NormalDist().inv_cdf(1 - errors)
    said = (kind + wrong * dice.integers(1, classes, len(kind))) % classes
    return [Answer(str(n), str(kind[n]), str(said[n]), str(group[n])) for n in range(len(kind))]


def _row(size: str, fall: float, verdicts: list[Verdict]) -> list[object]:
    outcomes = Counter(one.outcome for one in verdicts)
    shares = [outcomes[name] / len(verdicts) for name in ("accepted", "not enough evidence", "refused")]
    released = sum(one.accepted for one in verdicts) / len(verdicts)
    return [size, f"{fall:+.2f}", *(f"{share:.1%}" for share in [*shares, released])]


if __name__ == "__main__":
    main()
