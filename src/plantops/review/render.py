"""The blocks of a report as Markdown, or as one HTML page that holds its plots."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from functools import singledispatch
from html import escape

from plantops.review.chapters import BAD, GOOD, PLAIN, WARN, Block, Cell, Heading, Line, Pictures, Table

_SIGNS = {GOOD: "✅ ", BAD: "❌ ", WARN: "⚠️ ", PLAIN: ""}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#@~])")
_ROWS = 100  # of a table in Markdown: a comment on GitHub holds 65,536 characters, and is refused above
_STYLE = """
:root { color-scheme: light dark; --ink:#1d2521; --soft:#5d6a63; --paper:#fbfcfa; --card:#fff; --line:#dde3de;
  --good:#2f7d4f; --bad:#b3261e; --warn:#a15c00; }
@media (prefers-color-scheme: dark) { :root { --ink:#e4eae6; --soft:#98a59d; --paper:#141816; --card:#1c221f;
  --line:#323b36; --good:#62b585; --bad:#ff8a80; --warn:#f0b35a; } }
body { font:16px/1.5 system-ui,sans-serif; color:var(--ink); background:var(--paper); margin:2rem auto;
  max-width:64rem; padding:0 1.25rem; overflow-wrap:anywhere; }
h1 { font-size:1.6rem; line-height:1.25; margin:0; } h2 { font-size:1.15rem; margin:2rem 0 .3rem; }
p { margin:.3rem 0; }
.good { color:var(--good); } .bad { color:var(--bad); } .warn { color:var(--warn); }
.good,.bad,.warn { font-weight:600; } .scroll { overflow-x:auto; } summary { color:var(--soft); cursor:pointer; }
table { border-collapse:collapse; font-size:.92rem; min-width:50%; } tr { break-inside:avoid; }
th,td { text-align:left; padding:.25rem .9rem .25rem 0; border-bottom:1px solid var(--line); vertical-align:top; }
th { color:var(--soft); font-size:.82rem; }
.n { text-align:right; white-space:nowrap; font-variant-numeric:tabular-nums; }
figure { margin:1rem 0; } img { max-width:100%; background:#fff; border:1px solid var(--line); border-radius:.5rem; }
figcaption { color:var(--soft); font-size:.85rem; }
@media print { body { margin:0; max-width:none; } }
"""


def markdown(title: str, blocks: list[Block]) -> str:
    """Markdown of GitHub and GitLab; names of classes and files cannot become markup, links or mentions."""
    parts = [f"## {_plain(title)}", *(_markdown(one) for one in blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(title: str, blocks: list[Block]) -> str:
    """A page; nothing in it comes from elsewhere."""
    body = "\n".join(_html(one) for one in blocks)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )
    return os.fsencode(page).decode("utf-8", "replace")  # names of files: in any encoding


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is. A zero-width joiner behind an @ has it name nobody."""
    line = " ".join(os.fsencode(text).decode("utf-8", "replace").split())
    return _SPECIAL.sub(r"\\\1", line).replace("\\@", "@\u200d")


@singledispatch
def _markdown(block: object) -> str:
    raise TypeError(f"no Markdown for {block!r}")


@_markdown.register
def _(block: Heading) -> str:
    return f"### {_plain(block.text)}"


@_markdown.register
def _(block: Line) -> str:
    return _SIGNS[block.mark] + _plain(block.text)


@_markdown.register
def _(block: Table) -> str:
    rule = ["---" if place < block.words else "---:" for place in range(len(block.head))]
    rows = [[_SIGNS[cell.mark] + _plain(cell.text) for cell in row] for row in block.rows[:_ROWS]]
    lines = [f"| {' | '.join(row)} |" for row in ([*map(_plain, block.head)], rule, *rows)]
    table = "\n".join(lines)
    if (left := len(block.rows) - _ROWS) > 0:
        table += f"\n\n… and {left:,} more rows, which the report in HTML has."
    if not block.folded:
        return table
    return f"<details><summary>{escape(block.folded)}</summary>\n\n{table}\n\n</details>"


@_markdown.register
def _(block: Pictures) -> str:
    names = [f"`{one.parent.name}/{one.name}`" for one in (*block.plots, *block.reports)]
    return f"In the project: {', '.join(names)}." if names else ""


@singledispatch
def _html(block: object) -> str:
    raise TypeError(f"no HTML for {block!r}")


@_html.register
def _(block: Heading) -> str:
    return f"<h2>{escape(block.text)}</h2>"


@_html.register
def _(block: Line) -> str:
    return f"<p{_class(block.mark)}>{escape(block.text)}</p>"


@_html.register
def _(block: Table) -> str:
    numeric = ["n" if place >= block.words else "" for place in range(len(block.head))]
    head = "".join(f"<th{_class(kind)}>{escape(text)}</th>" for text, kind in zip(block.head, numeric, strict=True))
    rows = "".join(f"<tr>{''.join(_cells(row, numeric))}</tr>\n" for row in block.rows)
    table = f'<div class="scroll"><table><tr>{head}</tr>\n{rows}</table></div>'
    return f"<details><summary>{escape(block.folded)}</summary>{table}</details>" if block.folded else table


@_html.register
def _(block: Pictures) -> str:
    plots = []
    for one in block.plots:
        data = base64.b64encode(one.read_bytes()).decode()
        plots.append(f'<figure><img alt="{escape(one.stem)}" src="data:image/png;base64,{data}">')
        plots.append(f"<figcaption>{escape(one.stem)}</figcaption></figure>")
    names = ", ".join(escape(f"{one.parent.name}/{one.name}") for one in block.reports)
    return "".join(plots) + (f"<p>In the project: {names}.</p>" if names else "")


def _cells(row: tuple[Cell, ...], numeric: list[str]) -> Iterator[str]:
    for cell, kind in zip(row, numeric, strict=True):
        yield f"<td{_class(f'{kind} {cell.mark}'.strip())}>{escape(cell.text)}</td>"


def _class(names: str) -> str:
    return f' class="{names}"' if names else ""
