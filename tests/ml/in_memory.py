"""The split as it is told with all groups in memory: what :mod:`plantops.ml.split` has to agree with."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

Members = Mapping[str, Mapping[str, int]]  # group -> class -> photos


def assign(members: Members, seed: int, val: float, test: float) -> dict[str, str]:
    """The split of each group: train, val or test."""
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
