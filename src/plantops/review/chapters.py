"""The report as blocks, which know nothing of Markdown or HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops import gate
from plantops.measures import MAIN
from plantops.review.snapshot import Snapshot

GOOD, BAD, WARN, PLAIN = "good", "bad", "warn", ""
_MARKS = {gate.PASSED: GOOD, gate.FAILED: BAD, gate.NOT_ENOUGH: WARN}
_ORDER = [BAD, WARN, GOOD, PLAIN]
_SMALLEST = 0.0005  # a difference that three decimals show
_CONFUSIONS, _WAITING = 8, 6


@dataclass(frozen=True)
class Cell:
    """A value in a table, and whether it is good, bad or worth a warning."""

    text: str
    mark: str = PLAIN


@dataclass(frozen=True)
class Heading:
    """The title of what follows."""

    text: str


@dataclass(frozen=True)
class Line:
    """A sentence."""

    text: str
    mark: str = PLAIN


@dataclass(frozen=True)
class Table:
    """Rows below a head; columns after the first ``words`` hold numbers. ``folded``: what it is called when folded."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1
    folded: str = ""


@dataclass(frozen=True)
class Pictures:
    """Plots, and reports that are files of their own."""

    plots: tuple[Path, ...]
    reports: tuple[Path, ...]


Block = Heading | Line | Table | Pictures


def title(project: str, now: Snapshot) -> str:
    """What the report is about."""
    return f"{project}: {now.title}"


def written(now: Snapshot, then: Snapshot | None, waiting: Sequence[str]) -> list[Block]:
    """All chapters. Without ``then`` they say what is here."""
    blocks: list[Block] = [Line(f"Compared with {then.title}." if then else "There is nothing to compare it with yet.")]
    blocks += _waiting(waiting)
    blocks += [Heading("The gate"), *_verdict(now.verdict)]
    blocks += [Heading("Scores"), *_scores(now, then)]
    blocks += [Heading("Data"), *_data(now, then)]
    blocks += [Heading("Class by class"), *_classes(now, then)]
    blocks += [Heading("Parameters"), *_params(now.params, then.params)] if then else []
    plots = tuple(one for one in now.files if one.suffix == ".png")
    reports = tuple(one for one in now.files if one.suffix != ".png")
    return [*blocks, Heading("Plots and reports"), Pictures(plots, reports)] if now.files else blocks


def _waiting(waiting: Sequence[str]) -> Iterator[Block]:
    """What is in the project and not in the scores."""
    if waiting:
        more = [f"and {len(waiting) - _WAITING} more"] if len(waiting) > _WAITING else []
        yield Line(f"Not done yet: {'; '.join([*waiting[:_WAITING], *more])}.", WARN)


def _verdict(verdict: Mapping[str, Any] | None) -> Iterator[Block]:
    if not verdict:
        yield Line("No verdict on the model that is here: plantops run, or plantops gate.", WARN)
        return
    against = f", against {verdict['against']}" if verdict.get("against") else ""
    yield Line(f"{str(verdict.get('outcome', '')).capitalize()}{against}.", GOOD if verdict.get("accepted") else BAD)
    if anyway := verdict.get("accepted_anyway"):
        yield Line(f"Accepted anyway by {anyway['user']}: {anyway['reason']}", WARN)
    found = sorted(verdict.get("findings", []), key=lambda one: _ORDER.index(_MARKS.get(one["state"], PLAIN)))
    rows = [(Cell(one["state"], _MARKS.get(one["state"], PLAIN)), Cell(one["sentence"])) for one in found]
    if rows:
        yield Table(("rule", ""), tuple(rows), words=2)


def _scores(now: Snapshot, then: Snapshot | None) -> Iterator[Block]:
    new, old = now.numbers(), then.numbers() if then else {}
    if not new:
        yield Line("There are no scores yet: plantops run makes them.", WARN)
    if then and not old:
        yield Line(f"The scores of {then.title} are neither in git nor in DVC's cache or remote.", WARN)
    then = then if old else None
    main = [key for key in MAIN if key in new or key in old]
    if main:
        yield Table(_head("score", then), tuple(_row(MAIN[one].title, one, new, old, then) for one in main))
    rest = [key for key in sorted(new.keys() | old.keys()) if key not in MAIN and new.get(key) != old.get(key)]
    if then and rest:
        rows = tuple(_row(one, "", new, old, then) for one in rest)
        yield Table(_head("score", then), rows, folded=f"{len(rest)} more numbers that changed")


def _head(first: str, then: Snapshot | None) -> tuple[str, ...]:
    return (first, "before", "now", "change") if then else (first, "now")


def _row(
    label: str, key: str, new: Mapping[str, float], old: Mapping[str, float], then: Snapshot | None
) -> tuple[Cell, ...]:
    """A number before and now; with ``key`` of one of the main scores also whether that is good."""
    after, before = new.get(key or label), old.get(key or label)
    if not then:
        return Cell(label), Cell(_number(after))
    change = None if after is None or before is None else after - before
    return Cell(label), Cell(_number(before)), Cell(_number(after)), _change(change, key)


def _change(change: float | None, key: str) -> Cell:
    if change is None or abs(change) < _SMALLEST:
        return Cell("" if change is None else "0")
    way = MAIN[key].better * change if key in MAIN else 0
    return Cell(_signed(change), GOOD if way > 0 else BAD if way < 0 else PLAIN)


def _data(now: Snapshot, then: Snapshot | None) -> Iterator[Block]:
    photos = sum(now.counts.values())
    yield Line(f"{photos:,} photos of {len(now.counts):,} classes.")
    if then is None:
        return
    exact = now.members is not None and then.members is not None
    came, went, moved = _moves(then.members or {}, now.members or {}) if exact else (Counter(), Counter(), Counter())
    rows = []
    for name in sorted(now.counts.keys() | then.counts.keys()):
        old, new = then.counts.get(name, 0), now.counts.get(name, 0)
        if old == new and not (came[name] or went[name] or moved[name]):
            continue
        note = "new class" if not old else "class gone" if not new else ""
        detail = [Cell(_count(one[name])) for one in (came, went, moved)] if exact else []
        rows.append((Cell(name), Cell(f"{old:,}"), Cell(f"{new:,}"), *detail, Cell(note, WARN if note else PLAIN)))
    if not rows:
        yield Line("The same photos as before." if exact else "As many photos of each class as before.")
        return
    more = ("came", "went", "from another class") if exact else ()
    yield Table(("class", "photos before", "now", *more, ""), tuple(rows))
    if not exact:
        yield Line(
            "Which photos came and went cannot be told: the lists are not in DVC's cache (dvc fetch brings them)."
        )


def _moves(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """By class: photos that came, that went, and that lay in another class before."""
    came = Counter(name for md5, name in new.items() if md5 not in old)
    went = Counter(name for md5, name in old.items() if md5 not in new)
    moved = Counter(name for md5, name in new.items() if old.get(md5, name) != name)
    return came, went, moved


def _classes(now: Snapshot, then: Snapshot | None) -> Iterator[Block]:
    new, old = now.per_class(), then.per_class() if then else {}
    if not new:
        yield Line("The scores are not told by class.")
        return
    if then and not old:
        yield Line(f"The scores by class of {then.title} are not to be had; these are of the model that is here.")
    rows = sorted((_of_class(name, new.get(name), old.get(name)) for name in new.keys() | old.keys()), key=_worst)
    compared = bool(old)
    recall = ("recall before", "recall now", "change") if compared else ("recall now",)
    yield Table(("class", "test photos", *recall, "F1 now"), tuple(_class_row(one, compared) for one in rows))
    yield from _confusions(now.scores.get("confusions"))


@dataclass(frozen=True)
class _Class:
    name: str
    support: int
    before: float | None
    now: float | None
    f1: float | None

    @property
    def change(self) -> float | None:
        return None if self.before is None or self.now is None else self.now - self.before


def _of_class(name: str, new: Mapping[str, Any] | None, old: Mapping[str, Any] | None) -> _Class:
    new, old = new or {}, old or {}
    return _Class(name, int(new.get("support") or 0), old.get("recall"), new.get("recall"), new.get("f1"))


def _worst(one: _Class) -> tuple[float, float, str]:
    """Those that fell most first, then those that are recognised worst."""
    return (min(one.change or 0.0, 0.0), one.now if one.now is not None else 2.0, one.name)


def _class_row(one: _Class, compared: bool) -> tuple[Cell, ...]:
    change = one.change
    mark = PLAIN if change is None or abs(change) < _SMALLEST else GOOD if change > 0 else BAD
    text = "" if change is None else _signed(change) if mark else "0"
    before, delta = ([Cell(_number(one.before))], [Cell(text, mark)]) if compared else ([], [])
    return Cell(one.name), Cell(_count(one.support)), *before, Cell(_number(one.now)), *delta, Cell(_number(one.f1))


def _confusions(found: Any) -> Iterator[Block]:
    if isinstance(found, list) and found:
        rows = [
            (Cell(str(one["actual"])), Cell(str(one["predicted"])), Cell(f"{one['count']:,} of {one['of']:,}"))
            for one in found[:_CONFUSIONS]
        ]
        yield Table(("is", "was called", "photos"), tuple(rows), words=2, folded="The commonest mistakes")


def _params(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterable[Block]:
    keys = [key for key in sorted(new.keys() | old.keys()) if new.get(key) != old.get(key)]
    if not keys:
        return [Line("The same as before.")]
    rows = [(Cell(key), Cell(_value(old, key)), Cell(_value(new, key))) for key in keys]
    return [Table(("parameter", "before", "now"), tuple(rows), words=3)]


def _value(values: Mapping[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "not set"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def _signed(change: float) -> str:
    return f"{change:+,.0f}" if float(change).is_integer() else f"{change:+.3f}"
