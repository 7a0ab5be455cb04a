"""Which photos are for training, which for validation, which for the test.

Leak-free first: a group (the photos of one leaf) is never divided, whatever classes it spans. Then stable: a group's
place is a hash of the seed and its name, so new photos move old ones only where a class would lack a split. So nothing
has to be remembered of a group but where a class needed it elsewhere.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePosixPath

from plantops.errors import StepFailed
from plantops.ml.files import open_csv
from plantops.ml.stage import plain
from plantops.ondisk import Sorted

_FEW_TIED = 10
Classes = Mapping[str, int]  # photos by class
Members = Callable[[], Iterable[tuple[str, Classes]]]  # each group once, as often as it is called


class Grouping:
    """The group of each photo, by ``split.group_by``."""

    def __init__(self, group_by: str | None, raw: Path, folder: Path) -> None:
        """``group_by``: a regular expression searched in the file name (its groups, or else the match, name the
        group), the name of a CSV file in ``raw`` with the columns path and group, or None.

        ``folder``: where the CSV file is sorted. Raises StepFailed on one that is away or has other columns.
        """
        by_list = group_by is not None and group_by.endswith(".csv")
        self._listed = _read_groups(raw / group_by, folder) if group_by and by_list else None
        self._pattern = None if group_by is None or by_list else re.compile(group_by)

    def of(self, paths: Iterable[str]) -> Iterator[str | None]:
        """The group of each of ``paths``, which are in order; None for one that is placed nowhere."""
        if self._listed is not None:
            return _looked_up(paths, iter(self._listed))
        if self._pattern is None:
            return (None for _ in paths)
        pattern = self._pattern
        return (_match(pattern, path) for path in paths)


def tied(clusters: Iterable[Collection[str]], sizes: Classes, total: int) -> tuple[dict[str, str], int]:
    """What groups are called that hold one picture twice, and so are one; and how many groups were left divided.

    ``clusters``: the groups in which each picture is; ``sizes``: photos of these; ``total``: groups in all. A united
    group is called as its largest. Pictures so alike that they tie more than a tenth of all groups (and more than ten)
    are no copies: such groups stay as they are.
    """
    root: dict[str, str] = {}

    def find(group: str) -> str:
        while root.setdefault(group, group) != group:
            group = root[group]
        return group

    for cluster in clusters:
        first, *others = sorted({find(group) for group in cluster})
        root |= dict.fromkeys(others, first)
    united: dict[str, list[str]] = defaultdict(list)
    for group in root:
        united[find(group)].append(group)
    most = max(_FEW_TIED, total // 10)
    names = {one: max(groups, key=lambda name: (sizes[name], name)) for groups in united.values()
             for one in groups if len(groups) <= most}  # fmt: skip
    return names, len(root) - len(names)


def members(listed: Iterable[tuple[str, str] | list[str]], names: Mapping[str, str]) -> Iterator[tuple[str, Classes]]:
    """The photos of each group by class; those united under one of ``names`` as one.

    ``listed``: group and class of each photo, sorted by group.
    """
    united: dict[str, Counter[str]] = defaultdict(Counter)
    for group, rows in groupby(listed, key=itemgetter(0)):
        classes = Counter(row[1] for row in rows)
        if group in names:
            united[names[group]].update(classes)
        else:
            yield group, classes
    yield from united.items()


def _match(pattern: re.Pattern[str], path: str) -> str | None:
    match = pattern.search(PurePosixPath(path).name)
    if not match:
        return None
    # A file name holds no slash, so joined groups cannot be mistaken for others.
    return "/".join(part or "" for part in match.groups()) if match.re.groups else match.group()


def _read_groups(path: Path, folder: Path) -> Sorted:
    found = Sorted(folder)
    try:
        with open_csv(path) as file:
            rows = csv.DictReader(file)
            if not {"path", "group"} <= set(rows.fieldnames or ()):
                raise StepFailed(f"{plain(str(path))} should have the columns path and group")
            for row in rows:
                found.add(row["path"] or "", row["group"])
    except FileNotFoundError:
        raise StepFailed(
            f"split.group_by names {plain(str(path))}, which is not there",
            "put the CSV file into the folder of photos: DVC then sees when it changes",
        ) from None
    return found


def _looked_up(paths: Iterable[str], rows: Iterator[list[str]]) -> Iterator[str | None]:
    """What stands beside each path in ``rows``, which are in order, too; of several the last."""
    row = next(rows, None)
    for path in paths:
        group = None
        while row and row[0] <= path:
            group = row[1] if row[0] == path else None
            row = next(rows, None)
        yield group


class Sides:
    """The side of each group: train, val or test. A pure function of its arguments.

    Every class keeps at least one group in train. A class with one group has no more than that; one with two has
    train and test. A class whose test or val would hold less than half its share takes groups from train: as few as it
    takes, class by class, in order of name.
    """

    def __init__(self, members: Members, seed: int, val: float, test: float) -> None:
        self._members, self._seed = members, seed
        self._shares = {"train": 1 - val - test, "val": val, "test": test}
        self._moved: dict[str, str] = {}
        self._photos: Counter[tuple[str, str]] = Counter()
        self._count: Counter[tuple[str, str]] = Counter()
        self._total: Counter[str] = Counter()
        for group, classes in members():
            self._tally(classes, self.of(group), 1)
            self._total.update(classes)
        short = {label for label in self._total for side in self._shares if self._short(label, side)}
        self._groups = self._of_classes(short)
        self._repair()

    def of(self, group: str) -> str:
        """Where a group is: by its hash, if no class needed it elsewhere."""
        if moved := self._moved.get(group):
            return moved
        at = _place(self._seed, group)
        if at < self._shares["test"]:
            return "test"
        return "val" if at < self._shares["test"] + self._shares["val"] else "train"

    def _of_classes(self, labels: Collection[str]) -> dict[str, list[tuple[float, str, Classes]]]:
        """The groups of some classes, in the order of their hashes. Nobody asks for large ones, which lack nothing."""
        found: dict[str, list[tuple[float, str, Classes]]] = {label: [] for label in labels}
        for group, classes in self._members() if labels else ():
            for label in classes:
                if label in found:
                    found[label].append((_place(self._seed, group), group, classes))
        for groups in found.values():
            groups.sort(key=itemgetter(0, 1))
        return found

    def _repair(self) -> None:
        for label in sorted(self._total):
            self._fill(label, "train", [("test", "val")])
        for label in sorted(self._total):
            if self._shares["test"] > 0:
                self._fill(label, "test", [("train",), ("val",)])
        for label in sorted(self._total):
            if self._shares["val"] > 0:
                self._fill(label, "val", [("train",), ("test",)])

    def _fill(self, label: str, to: str, donors: list[tuple[str, ...]]) -> None:
        """Bring groups of ``label`` into ``to`` until it holds half its share, gently at first."""
        if not self._short(label, to):
            return
        if label not in self._groups:  # it lacked nothing until another class took from it
            self._groups |= self._of_classes([label])
        for gentle in (True, False):
            for donor in donors:
                # Nearest to the hash's border first; train takes from its own side of it.
                for _, group, classes in self._groups[label][:: -1 if to == "train" else 1]:
                    if not self._short(label, to) or (not gentle and self._count[label, to]):
                        return
                    side = self.of(group)
                    if side in donor and self._may_leave(classes, side, to, gentle):
                        self._move(group, classes, to)

    def _short(self, label: str, side: str) -> bool:
        return self._photos[label, side] < self._shares[side] * self._total[label] / 2

    def _may_leave(self, classes: Classes, source: str, to: str, gentle: bool) -> bool:
        """Whether every class of a group can spare it; gently means that none falls under half its share."""
        for label, photos in classes.items():
            if to == "train":
                continue
            if source == "train" and self._count[label, source] == 1:
                return False
            if source == "test" and self._count[label, source] == 1:
                return False
            left = self._photos[label, source] - photos
            if gentle and left < self._shares[source] * self._total[label] / 2:
                return False
        return True

    def _move(self, group: str, classes: Classes, to: str) -> None:
        self._tally(classes, self.of(group), -1)
        self._moved[group] = to
        self._tally(classes, to, 1)

    def _tally(self, classes: Classes, side: str, sign: int) -> None:
        for label, photos in classes.items():
            self._photos[label, side] += sign * photos
            self._count[label, side] += sign


def _place(seed: int, group: str) -> float:
    name = f"{seed}:{group}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / 2**64
