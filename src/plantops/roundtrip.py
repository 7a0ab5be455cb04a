"""Whether DVC's remote can be used from here: one small file there and back, or the reason in words."""

from __future__ import annotations

import threading
from pathlib import Path

from plantops import cache, remote
from plantops.errors import StepFailed

_PATIENCE_S = 30.0


def tried(root: Path) -> str:
    """What was done with the default remote, in words; empty when there is none. Raises StepFailed with the reason."""
    where = remote.default(root)
    if where is None:
        return ""
    failed: list[StepFailed] = []
    going = threading.Thread(target=_go, args=(root, failed), daemon=True)
    going.start()
    going.join(_PATIENCE_S)
    if going.is_alive():
        failed = [StepFailed(f"no answer within {_PATIENCE_S:g} s")]
    if failed:
        raise remote.explained(where, failed[0].message, "dvc push")
    return f"{where}: a small file was written, read and removed"


def _go(root: Path, failed: list[StepFailed]) -> None:
    try:
        cache.round_trip(root)
    except StepFailed as error:
        failed.append(error)
