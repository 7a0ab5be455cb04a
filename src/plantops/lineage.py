"""What preparation read, and DVC's record of it made true.

DVC hashes a stage's dependencies when the stage is over, so what came meanwhile would be recorded as read
(treeverse/dvc#11058). prepare_data lists what it read (data/read.csv), and from the list follows the hash that
dvc.lock must hold. Where the folder has moved on, the stage is stale then: what came later is the next change.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

from plantops import artifacts, dirhash, dvc
from plantops.errors import StepFailed

_STAGE = "prepare_data"


def mend(root: Path) -> bool:
    """Have dvc.lock record the photos that prepare_data read; says whether it said something else."""
    entry = dvc.lock_entry(root, _STAGE) or {}
    recorded = {one.get("path"): one.get("md5") for key in ("deps", "outs") for one in entry.get(key) or []}
    raw = dvc.raw_folder(root).relative_to(root).as_posix()
    if recorded.get(artifacts.READ.as_posix()) != _md5(root / artifacts.READ):
        return False  # the list is of another preparation, or there is none
    rows = artifacts.rows(root / artifacts.READ)
    true = _hash(rows)
    if recorded.get(raw) in (true, None):
        return False
    size = sum(int(row["size"]) for row in rows)
    dvc.record_dependency(root, _STAGE, raw, {"md5": true, "size": size, "nfiles": len(rows)})
    return True


def was_read(root: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """Those ``.dvc`` files among ``inputs`` whose photos are exactly what prepare_data read."""
    if not (root / artifacts.READ).is_file():
        return {}
    rows, raw = artifacts.rows(root / artifacts.READ), dvc.raw_folder(root).relative_to(root)
    found = {}
    for name, value in inputs.items():
        outs = value.get("outs") if name.endswith(".dvc") and isinstance(value, dict) else None
        folder = PurePosixPath(name.removesuffix(".dvc"))
        if outs and folder.is_relative_to(raw) and outs[0].get("md5") == _hash(rows, str(folder.relative_to(raw))):
            found[name] = value
    return found


def check_known(root: Path, *inputs: dict[str, Any]) -> None:
    """Raise StepFailed when prepare_data read other photos of a folder than any of ``inputs`` has under DVC."""
    if not (root / artifacts.READ).is_file():
        return
    raw = dvc.raw_folder(root).relative_to(root)
    classes = {row["path"].partition("/")[0] for row in artifacts.rows(root / artifacts.READ) if "/" in row["path"]}
    whole = any(f"{raw}.dvc" in one for one in inputs)
    known = {name for one in inputs for name in was_read(root, one)}
    folders = [raw] if whole else sorted(raw / name for name in classes)
    if found := [str(one) for one in folders if f"{one}.dvc" not in known]:
        said = f"photos came or went while the run began, and DVC does not know them so: {', '.join(found)}"
        raise StepFailed(said, f"dvc add {shlex.join(found)}, then plantops run")


def _hash(rows: list[dict[str, str]], below: str = ".") -> str:
    """DVC's hash of a folder of photos, of what was read there."""
    prefix = "" if below == "." else f"{below}/"
    listed = [(row["path"].removeprefix(prefix), row["md5"]) for row in rows if row["path"].startswith(prefix)]
    return dirhash.directory(listed)


def _md5(path: Path) -> str:
    """Of a file; empty when there is none."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""
