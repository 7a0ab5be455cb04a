"""The floors of the house: imports point down; heavy things and outside tools stay in their rooms."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from conftest import ROOT

SOURCE = ROOT / "src" / "plantops"
BASE = {
    "errors",
    "preprocess",
    "dirhash",
    "keys",
    "shipped",
    "typed",
    "yamltext",
    "measures",
    "near",
    "ondisk",
    "sections",
}
GROUND = {*BASE, "whole", "photo", "drift", "console", "process", "bundle", "kept", "ahead", "artifacts", "daemon"}
FLOORS = [
    BASE,
    GROUND - BASE - {"daemon"},
    {"daemon"},
    {"archive", "config", "extras", "store", "lock", "shelf"},
    {"behaviour", "code", "postgres", "recall", "written"},
    {"lease"},
    {"remote", "branch"},
    {"dvc", "dvclocks", "cache", "git", "tracking", "deploy", "sample", "service", "detect", "gate", "notify"},
    {"effort", "lineage", "plan", "recover", "scan", "judgement", "views", "project", "share", "follow", "roundtrip"},
    {"prometheus"},
    {"training", "bring", "client", "look", "news", "ci", "existing", "symptoms", "live"},
    {"probation"},
    {"replay", "work"},
    {"switchover"},
    {"steps", "beginning", "upgrade"},
    {"backup", "inbox", "pipeline", "predicting", "releases", "tidy", "doctor"},
    {"checking", "ledger", "verify", "again"},
    {"watch"},
    {"audit", "examples", "report", "review", "uninstall"},
    {"quick"},
    {"records", "notices", "unit", "upkeep"},
    {"cli"},
    {"__main__"},
]
WINGS = {"ml": GROUND, "serve": {"ahead", "bundle", "drift", "kept", "photo", "preprocess"}}


def rooms() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in SOURCE.rglob("*.py"):
        if path.name != "__init__.py" or path.parent != SOURCE:
            inside = path.relative_to(SOURCE)
            found.setdefault(inside.parts[0].removesuffix(".py"), []).append(path)
    return found


@cache
def imported(path: Path) -> set[str]:
    """The plantops rooms, and the outside packages (with a ``!``), that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            names = [f"plantops.{one.name}" for one in node.names] if base == "plantops" else [base]
        for name in names:
            parts = name.split(".")
            found.add(parts[1] if parts[0] == "plantops" and len(parts) > 1 else f"!{parts[0]}")
    return found


ROOMS = rooms()
SUBROOMS = {"sample": {"leaf"}, "tracking": {"spool"}}


def test_every_room_has_a_floor() -> None:
    known = set().union(*FLOORS) | set(WINGS) | set().union(*SUBROOMS.values())
    assert set(ROOMS) <= known
    assert set().union(*FLOORS) - {"daemon"} <= set(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_point_down(room: str) -> None:
    used = {name for path in ROOMS[room] for name in imported(path) if not name.startswith("!")} - {room, "__version__"}
    if room in WINGS:
        assert used <= WINGS[room]
        return
    owner = next((one for one, inner in SUBROOMS.items() if room in inner), room)
    floor = next(i for i, names in enumerate(FLOORS) if owner in names)
    below = set().union(*FLOORS[:floor]) | SUBROOMS.get(owner, set()) | {owner}
    assert used <= below, f"{room} imports {sorted(used - below)}"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("!torch", {"ml"}),
        ("!lightning", {"ml"}),
        ("!timm", {"ml"}),
        ("!mlflow", {"tracking", "spool"}),
        ("!sklearn", {"ml"}),
        ("!pyarrow", {"ml", "artifacts"}),
        ("!jinja2", {"ml"}),
        ("!yaml", {"yamltext", "prometheus"}),
        ("!dvc", {"cache"}),
        ("!subprocess", {"process", "deploy"}),
        ("!apprise", {"notify"}),
        ("!psycopg", {"postgres"}),
        ("!pickle", set()),
        ("!fastapi", {"serve"}),
        ("!fastapi_offline", {"serve"}),
        ("!onnxruntime", {"serve", "ml"}),
        ("!sqlite3", {"store", "tracking"}),
    ],
)
def test_outside_packages_stay_in_their_rooms(package: str, allowed: set[str]) -> None:
    users = {room for room, paths in ROOMS.items() for path in paths if package in imported(path)}
    assert users <= allowed


def test_the_yaml_of_ml_is_read_in_params_alone() -> None:
    assert [path.name for path in ROOMS["ml"] if "yamltext" in imported(path)] == ["params.py"]


def test_no_shell_and_no_module_is_a_knot() -> None:
    for paths in ROOMS.values():
        for path in paths:
            text = path.read_text()
            assert "shell=True" not in text
            assert text.count("\n") <= 400, path
