"""A project with the cheap stages, a port of its own, and what a user does in it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from api_client import free_port
from conftest import plantops, sh
from plantops import code, dvc

RAW = Path("data/raw/PlantVillage")
CLASSES = {
    "Pepper,_bell___healthy": (40, 160, 60),
    "Potato___Late_blight": (150, 110, 40),
    "Tomato (x)___Rust": (60, 60, 170),
}
_STAGES = {"train": "train", "evaluate": "evaluate", "export": "export_model"}


def leaves(folder: Path, colour: tuple[int, int, int], count: int, seed: int = 0) -> None:
    """Noisy pictures around a colour, each its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng([seed, number, *colour])
        pixels = np.clip(rng.normal(colour, 25, (48, 48, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}-{number}___S {number:02d}00.jpg", quality=90)


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new))


def make(folder: Path) -> Path:
    """The project, three classes of twenty photos under DVC, committed; nothing run yet."""
    empty(folder)
    for name, colour in CLASSES.items():
        leaves(folder / RAW / name, colour, 20)
    commit(folder, "Add three classes")
    return folder


def empty(folder: Path) -> None:
    """The project without photos, its settings not committed."""
    plantops("init", str(folder), cwd=folder.parent)
    shutil.copyfile(Path(__file__).with_name("cheap_stages.py"), folder / "cheap_stages.py")
    for stage in _STAGES:
        edit(folder / "dvc.yaml", f"python -m plantops.ml.{stage}", f"python cheap_stages.py {stage}")
    text = (folder / "dvc.yaml").read_text()
    start, end = text.index("    plots:\n      - plots/confusion.csv"), text.index("\n  export_model")
    (folder / "dvc.yaml").write_text(text[:start] + text[end:])
    code.write(folder, dvc.pipeline(folder))
    edit(folder / "params.yaml", "size: 128", "size: 32")
    edit(folder / "params.yaml", "\n  epochs: 45", "\n  epochs: 3")
    edit(folder / "params.yaml", "small_epochs: 24", "small_epochs: 0")
    edit(folder / "params.yaml", "group_by: '___(.+ \\d*?)\\d{0,2}(?:\\.\\d+)?(?: copy)?\\.\\w+$'", "group_by: null")
    edit(folder / "params.yaml", "val: 0.10", "val: 0.1")
    edit(folder / "params.yaml", "test: 0.15", "test: 0.4")
    edit(folder / "config.yaml", "backend: auto", "backend: local")
    edit(folder / "config.yaml", "port: 8000", f"port: {free_port()}")
    edit(folder / "config.yaml", "ui_port: 5000", f"ui_port: {free_port()}")
    edit(folder / "config.yaml", "watch_seconds: 5", "watch_seconds: 0.5")
    edit(folder / "config.yaml", "min_support: 10", "min_support: 5")
    edit(folder / "config.yaml", "min_compared: 30", "min_compared: 10")


def commit(folder: Path, message: str) -> None:
    """`dvc add` every class, `git add`, `git commit`: as the guide types it."""
    sh("dvc", "add", "--quiet", *sorted(one for one in (folder / RAW).iterdir() if one.is_dir()), cwd=folder)
    sh("git", "add", ".", cwd=folder)
    sh("git", "commit", "-q", "-m", message, cwd=folder)


def url(folder: Path) -> str:
    """Where the API of the project answers."""
    from plantops.config import load

    return f"http://127.0.0.1:{load(folder).deploy.port}"


def get(address: str) -> dict[str, Any]:
    """The JSON that GET gives, whatever the status."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def answering(folder: Path) -> str:
    """The release that the API names, or an empty string when nothing answers."""
    try:
        return str(get(url(folder) + "/health").get("release", ""))
    except OSError:
        return ""


def state(folder: Path) -> dict[str, Any]:
    """`plantops status --json`."""
    return json.loads(plantops("status", "--json", cwd=folder).stdout)


def aliases(folder: Path) -> dict[str, int]:
    """The aliases in the registry of the project, read from its database.

    Not by MLflow: in this process it would keep an open file of a database that a test has deleted.
    """
    with sqlite3.connect(f"file:{folder}/mlruns/mlflow.db?mode=ro", uri=True) as database:
        return dict(database.execute("SELECT alias, version FROM registered_model_aliases"))
