"""reports/data.html: a look at the photos for a person, in one file that needs nothing else; light and dark."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from PIL import Image

from plantops import whole
from plantops.config import Config
from plantops.dvc import raw_folder
from plantops.look import Look
from plantops.look.findings import NOTE, STOP, WARN, Case, Finding
from plantops.look.since import ClassRow
from plantops.photo import LARGEST_FILE, NotAPhoto, open_photo, pixels
from plantops.preprocess import Preprocessing

FILE = Path("reports/data.html")
THUMBNAILS = 24  # of each finding; the file stays under two megabytes
_SIDE, _QUALITY = 112, 70
_THUMB = Preprocessing(_SIDE, "crop", "bilinear", True, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_WORDS = {STOP: "stops a run", WARN: "warning", NOTE: "note"}
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2521; --soft: #5d6a63; --paper: #fbfcfa; --card: #fff; --line: #dde3de;
  --green: #2f7d4f; --stop: #b3261e; --warn: #a15c00; --note: #52665c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4eae6; --soft: #98a59d; --paper: #141816; --card: #1c221f;
  --line: #323b36; --green: #62b585; --stop: #ff8a80; --warn: #f0b35a; --note: #9db3a7; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 70rem; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.15rem; margin: 0; } p { margin: .3rem 0; }
.soft, small, figcaption { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-left: .3rem solid var(--edge, var(--line));
  border-radius: .5rem; padding: 1rem 1.25rem; margin: 1rem 0; break-inside: avoid; }
.stop { --edge: var(--stop); } .warn { --edge: var(--warn); } .note { --edge: var(--note); }
.overview { list-style: none; padding: 0; } .overview .level { display: inline-block; min-width: 6.5rem; }
.overview a { color: inherit; } .level { color: var(--edge); font-weight: 600; font-size: .85rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; } td.bar { width: 30%; }
td.bar i { display: block; height: .6rem; border-radius: .3rem; background: var(--green); }
.cases { display: flex; flex-wrap: wrap; gap: .9rem; margin-top: .8rem; }
figure { margin: 0; max-width: 15rem; flex: 0 1 auto; } figure div { display: flex; gap: .2rem; flex-wrap: wrap; }
figcaption { font-size: .75rem; line-height: 1.35; overflow-wrap: anywhere; min-width: 7rem; }
img { width: 7rem; height: 7rem; border-radius: .3rem; border: 1px solid var(--line); object-fit: cover; }
@media print { body { max-width: none; margin: 0; } section { border-color: #bbb; } }
"""


def write(config: Config, seen: Look) -> Path:
    """Write the page and return where. It appears whole or not at all."""
    text = "".join(_page(seen, raw_folder(config.root)))
    whole.write(config.root / FILE, os.fsencode(text).decode("utf-8", "replace"))  # names of files: in any encoding
    return config.root / FILE


def _page(seen: Look, raw: Path) -> Iterator[str]:
    classes = sum(1 for one in seen.classes if one.photos)
    against = f"against release {escape(seen.release)}" if seen.release else "no release to compare with yet"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>The photos</title><style>{_STYLE}</style>'
    yield '<meta name="viewport" content="width=device-width">'
    yield f'<h1>{len(seen.photos):,} photos of {classes:,} classes</h1><p class="soft">{against}</p>'
    yield from _overview(seen.findings)
    yield from (_finding(one, raw) for one in seen.findings)
    yield _asked(seen)
    yield from _table(seen.classes)


def _overview(findings: tuple[Finding, ...]) -> Iterator[str]:
    """All findings in one list, each a link to its section."""
    yield '<ul class="overview">'
    for one in findings:
        yield f'<li class="{one.level}"><span class="level">{_WORDS[one.level]}</span> '
        yield f'<a href="#{one.rule}">{escape(one.sentence)}</a></li>'
    yield "</ul>" if findings else "<li>nothing found</li></ul>"


def _finding(one: Finding, raw: Path) -> str:
    shown, room = [], THUMBNAILS
    for case in one.cases:
        if room <= 0:
            break
        shown.append(_case(case, raw, room))
        room -= len(case.paths)
    more = len(one.cases) - len(shown)
    rest = f'<p class="soft">and {more:,} more: plantops data --json lists all</p>' if more else ""
    head = f'<span class="level">{_WORDS[one.level]}</span> <small>data.rules.{one.rule}</small>'
    text = f"<h2>{escape(one.sentence)}</h2><p>What helps: {escape(one.help)}.</p>"
    cases = f'<div class="cases">{"".join(shown)}</div>' if shown else ""
    return f'<section id="{one.rule}" class="{one.level}">{head}{text}{cases}{rest}</section>'


def _case(case: Case, raw: Path, room: int) -> str:
    shown = case.paths[:room]
    more = f"<br>and {len(case.paths) - len(shown):,} more" if len(case.paths) > len(shown) else ""
    names = "<br>".join(escape(path) for path in shown)
    note = f"<b>{escape(case.note)}</b><br>" if case.note else ""
    return f"<figure><div>{_thumbnails(shown, raw)}</div><figcaption>{note}{names}{more}</figcaption></figure>"


def _thumbnails(paths: Iterable[str], raw: Path) -> str:
    return "".join(_thumbnail(raw / path) for path in paths)


def _thumbnail(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            return ""
        small = pixels(open_photo(path.read_bytes()), _THUMB)
    except (NotAPhoto, OSError):
        return ""
    data = io.BytesIO()
    Image.fromarray(small).save(data, "JPEG", quality=_QUALITY)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _asked(seen: Look) -> str:
    if not (whom := seen.suspects.whom()):
        said = "No model was asked about labels: none has been trained on these photos yet."
    else:
        said = f"A model was asked about the labels of {whom}."
    return f'<p class="soft">{said}</p>'


def _table(rows: Iterable[ClassRow]) -> Iterator[str]:
    rows = list(rows)
    most = max((one.photos for one in rows), default=1) or 1
    yield '<section><h2>Classes</h2><div class="scroll"><table><tr><th>class<th>photos<th><th>unusable<th>new<th>gone'
    yield "<th>moved<th>came from another<th>went to another<th></tr>"
    for one in rows:
        numbers = "".join(
            f"<td>{number:,}" if number else "<td>"
            for number in (one.unusable, one.new, one.gone, one.moved, one.came_from, one.went_to)
        )
        bar = f'<td class="bar"><i style="width:{100 * one.photos / most:.0f}%"></i>'
        name, note = escape(one.name), escape(one.note)
        yield f'<tr><td>{name}<td>{one.photos:,}{bar}{numbers}<td class="text">{note}</tr>'
    yield "</table></div></section>"
