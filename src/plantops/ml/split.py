"""Which photos are for training, which for validation, which for the test.

Leak-free first: a group (the photos of one leaf) is never divided, whatever classes it spans. Then stable: a group's
place is a hash of the seed and its name, so new photos move old ones only where a class would lack a split.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from plantops import near
from plantops.errors import StepFailed
from plantops.ml.files import open_csv
from plantops.ml.stage import plain

_FEW_TIED = 10
Grouping = Mapping[str, str]
Members = Mapping[str, Mapping[str, int]]  # group -> class -> photos


def group_names(paths: Iterable[str], group_by: str | None, raw: Path) -> tuple[dict[str, str], int]:
    """The group of each path, and how many paths ``group_by`` did not place; those are groups of their own.

    ``group_by``: a regular expression searched in the file name (its groups, or else the match, name the group), the
    name of a CSV file in ``raw`` with the columns path and group, or None. Raises StepFailed on a CSV without them.
    """
    paths = list(paths)
    if group_by is None:
        return {path: path for path in paths}, len(paths)
    if group_by.endswith(".csv"):
        listed = _read_groups(raw / group_by)
        found = {path: listed.get(path) for path in paths}
    else:
        found = {path: _match(re.compile(group_by), path) for path in paths}
    loose = sum(name is None for name in found.values())
    return {path: path if name is None else name for path, name in found.items()}, loose


def together(names: Mapping[str, str], hashes: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """The group of each path, groups united that hold one picture twice; and how many groups were left divided.

    ``names``: path -> group; ``hashes``: path -> what it shows (:mod:`plantops.near`), empty where nothing. A united
    group is called as its largest. Pictures so alike that they tie more than a tenth of all groups (and more than ten)
    are no copies: such groups stay as they are.
    """
    paths = [path for path, one in hashes.items() if one]
    root = {group: group for group in names.values()}

    def find(group: str) -> str:
        while root[group] != group:
            group = root[group]
        return group

    for cluster in near.clusters([hashes[path] for path in paths], near.RADIUS):
        first, *others = sorted({find(names[paths[at]]) for at in cluster})
        root |= dict.fromkeys(others, first)
    united: dict[str, list[str]] = defaultdict(list)
    for group in root:
        united[find(group)].append(group)
    sizes, most = Counter(names.values()), max(_FEW_TIED, len(root) // 10)
    tied = {one: max(groups, key=lambda name: (sizes[name], name)) for groups in united.values()
            for one in groups if len(groups) <= most}  # fmt: skip
    return {path: tied.get(group, group) for path, group in names.items()}, len(root) - len(tied)


def _match(pattern: re.Pattern[str], path: str) -> str | None:
    match = pattern.search(PurePosixPath(path).name)
    if not match:
        return None
    # A file name holds no slash, so joined groups cannot be mistaken for others.
    return "/".join(part or "" for part in match.groups()) if match.re.groups else match.group()


def _read_groups(path: Path) -> dict[str, str]:
    try:
        with open_csv(path) as file:
            rows = csv.DictReader(file)
            if not {"path", "group"} <= set(rows.fieldnames or ()):
                raise StepFailed(f"{plain(str(path))} should have the columns path and group")
            return {row["path"]: row["group"] for row in rows}
    except FileNotFoundError:
        raise StepFailed(
            f"split.group_by names {plain(str(path))}, which is not there",
            "put the CSV file into the folder of photos: DVC then sees when it changes",
        ) from None


def assign(members: Members, seed: int, val: float, test: float) -> dict[str, str]:
    """The split of each group: train, val or test. A pure function of its arguments.

    Every class keeps at least one group in train. A class with one group has no more than that; one with two has
    train and test. A class whose test or val would hold less than half its share takes groups from train.
    """
    place = {group: _place(seed, group) for group in members}
    splits = {group: _by_hash(at, val, test) for group, at in place.items()}
    return _Repair(members, place, splits, {"train": 1 - val - test, "val": val, "test": test}).done()


def _place(seed: int, group: str) -> float:
    name = f"{seed}:{group}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / 2**64


def _by_hash(at: float, val: float, test: float) -> str:
    if at < test:
        return "test"
    return "val" if at < test + val else "train"


class _Repair:
    """Moves as few groups as it takes for every class to have its splits; works class by class, in order of name."""

    def __init__(
        self, members: Members, place: Mapping[str, float], splits: dict[str, str], shares: Mapping[str, float]
    ) -> None:
        self.members, self.splits, self.shares = members, splits, shares
        self.groups: dict[str, list[str]] = defaultdict(list)
        for group in sorted(members, key=lambda group: (place[group], group)):
            for label in members[group]:
                self.groups[label].append(group)
        self.photos: Counter[tuple[str, str]] = Counter()
        self.count: Counter[tuple[str, str]] = Counter()
        for group in members:
            self._tally(group, splits[group], 1)
        self.total = {label: sum(members[group][label] for group in groups) for label, groups in self.groups.items()}

    def done(self) -> dict[str, str]:
        for label in sorted(self.groups):
            self._fill(label, "train", [("test", "val")])
        for label in sorted(self.groups):
            if self.shares["test"] > 0:
                self._fill(label, "test", [("train",), ("val",)])
        for label in sorted(self.groups):
            if self.shares["val"] > 0:
                self._fill(label, "val", [("train",), ("test",)])
        return self.splits

    def _fill(self, label: str, to: str, donors: list[tuple[str, ...]]) -> None:
        """Bring groups of ``label`` into ``to`` until it holds half its share, gently at first."""
        for gentle in (True, False):
            for donor in donors:
                # Nearest to the hash's border first; train takes from its own side of it.
                for group in self.groups[label][:: -1 if to == "train" else 1]:
                    if not self._short(label, to) or (not gentle and self.count[label, to]):
                        return
                    if self.splits[group] in donor and self._may_leave(group, to, gentle):
                        self._move(group, to)

    def _short(self, label: str, split: str) -> bool:
        return self.photos[label, split] < self.shares[split] * self.total[label] / 2

    def _may_leave(self, group: str, to: str, gentle: bool) -> bool:
        """Whether every class of ``group`` can spare it; gently means that none falls under half its share."""
        source = self.splits[group]
        for label, photos in self.members[group].items():
            if to == "train":
                continue
            if source == "train" and self.count[label, source] == 1:
                return False
            if source == "test" and self.count[label, source] == 1:
                return False
            left = self.photos[label, source] - photos
            if gentle and left < self.shares[source] * self.total[label] / 2:
                return False
        return True

    def _move(self, group: str, to: str) -> None:
        self._tally(group, self.splits[group], -1)
        self.splits[group] = to
        self._tally(group, to, 1)

    def _tally(self, group: str, split: str, sign: int) -> None:
        for label, photos in self.members[group].items():
            self.photos[label, split] += sign * photos
            self.count[label, split] += sign
