"""A look in words, for a terminal: a table of classes and short sentences."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from plantops import look, recall
from plantops.config import Config
from plantops.console import Console
from plantops.look import Look, page
from plantops.look.findings import NOTE, STOP, WARN, Finding
from plantops.look.since import ClassRow
from plantops.store import FILE, Store

_COLOURS = {STOP: "red", WARN: "yellow", NOTE: "grey"}
_COLUMNS: dict[str, Callable[[ClassRow], str]] = {
    "photos": lambda row: f"{row.photos:,}",
    "unusable": lambda row: _number(row.unusable, "−"),
    "new": lambda row: _number(row.new, "+"),
    "gone": lambda row: _number(row.gone, "−"),
    "moved": lambda row: _number(row.moved),
    "relabelled": lambda row: " ".join(filter(None, (_number(row.came_from, "+"), _number(row.went_to, "−")))),
}


def show(config: Config, console: Console, as_json: bool) -> None:
    """Look, and say what was seen; write the page. Raises StepFailed where a rule would stop a run.

    What was seen is remembered where the state database can be written.
    """
    kept = _can_remember(config) and not recall.lost(config)
    with Store(config.state) if kept else recall.look(config) as store:
        seen = look.at(config, store, remember=kept, console=None if as_json else console)
    where = page.write(config, seen)
    if as_json:
        console.json(seen.to_dict())
    else:
        for line, colour in lines(seen):
            console.say(line, colour)
        console.say(f"with pictures: {os.path.relpath(where)}")
    look.check(seen.findings)


def _can_remember(config: Config) -> bool:
    """Whether the state database can be written, or made."""
    there = [path for path in (config.state / FILE, config.state) if path.exists()]
    return all(os.access(path, os.W_OK) for path in there or [config.root])


def lines(seen: Look) -> Iterator[tuple[str, str]]:
    """(line, colour)."""
    against = f"against release {seen.release}" if seen.release else "no release to compare with yet"
    yield f"{len(seen.photos):,} photos of {sum(1 for one in seen.classes if one.photos):,} classes, {against}", "bold"
    yield from ((line, "") for line in _table(seen.classes))
    for one in seen.findings:
        yield from said(one)
    if not seen.findings:
        yield "nothing found", "green"
    if seen.suspects.whom() and not seen.suspects.found:
        yield f"the model agrees with the folders (asked about {seen.suspects.whom()})", ""


def said(one: Finding) -> Iterator[tuple[str, str]]:
    """A finding in one to three lines."""
    yield f"{one.level}: {one.sentence}  [{one.rule}]", _COLOURS[one.level]
    if one.cases:
        yield f"      {one.named()}", ""
    yield f"      {one.help}", "grey"


def _table(rows: tuple[ClassRow, ...]) -> Iterator[str]:
    """Aligned; columns in which nothing stands are left out."""
    cells = {name: [cell(row) for row in rows] for name, cell in _COLUMNS.items()}
    cells = {name: column for name, column in cells.items() if any(column)}
    widths = {name: max(len(name), *map(len, column)) for name, column in cells.items()}
    name_width = max((len(row.name) for row in rows), default=0)
    yield "  " + " " * name_width + "".join(f"  {name:>{width}}" for name, width in widths.items())
    for at, row in enumerate(rows):
        numbers = "".join(f"  {column[at]:>{widths[name]}}" for name, column in cells.items())
        yield f"  {row.name:<{name_width}}{numbers}  {row.note}".rstrip()


def _number(count: int, sign: str = "") -> str:
    return f"{sign}{count:,}" if count else ""
