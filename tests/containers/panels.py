"""The queries of Grafana's dashboards, as Grafana would send them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conftest import ROOT

DASHBOARDS = sorted((ROOT / "docker/grafana/dashboards").glob("*.json"))
# What Grafana puts in their place: four scrapes, and what the dashboard shows.
_VARIABLES = {"$__rate_interval": "20s", "$__range": "5m"}
_SELECTOR = re.compile(r"([a-z_:]+)\{([^}]*)\}")
_MATCHER = re.compile(r"""(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*\"""")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Query:
    """One query of a panel, or of an annotation: what that returns passes."""

    title: str
    expr: str
    labels: tuple[str, ...]
    passes: bool = False

    @property
    def selectors(self) -> list[str]:
        """The series it reads, `metric{matchers}`."""
        return [one.group() for one in _SELECTOR.finditer(self.expr)]

    @property
    def metrics(self) -> list[str]:
        """The names of the series it reads."""
        return [one.group(1) for one in _SELECTOR.finditer(self.expr)]

    @property
    def named_labels(self) -> set[str]:
        """Labels that it matches or groups by."""
        matched = {name for one in _SELECTOR.finditer(self.expr) for name in _MATCHER.findall(one.group(2))}
        grouped = {name.strip() for one in _GROUPING.finditer(self.expr) for name in one.group(1).split(",")}
        return (matched | grouped) - {""}


def read(path: Path) -> dict[str, Any]:
    """A dashboard."""
    return dict(json.loads(path.read_text()))


def queries(dashboard: dict[str, Any]) -> Iterator[Query]:
    """All of a dashboard's queries; ``labels`` are those of the answer that it shows by name."""
    for note in dashboard["annotations"]["list"]:
        labels = _in_braces(note["titleFormat"])
        yield replace(_query(f"annotation {note['name']}", note["expr"], labels), passes=True)
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            legend = _in_braces(target["legendFormat"])
            yield _query(f"{panel['title']} {target['refId']}", target["expr"], (*legend, *_columns(panel)))


def _query(title: str, expr: str, labels: tuple[str, ...]) -> Query:
    for name, value in _VARIABLES.items():
        expr = expr.replace(name, value)
    return Query(title, expr, labels)


def _in_braces(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\{\{\s*(\w+)\s*\}\}", text))


def _columns(panel: dict[str, Any]) -> tuple[str, ...]:
    """Columns that a table renames."""
    renamed = [one["options"]["renameByName"] for one in panel.get("transformations", ()) if one["id"] == "organize"]
    return tuple(name for names in renamed for name in names)
