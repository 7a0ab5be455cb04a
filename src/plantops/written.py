"""The files in git that plantops wrote itself. Where they still hold just that, they are nobody's local work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from plantops.store import Store

_VIEW = "written"


def remember(root: Path, store: Store, names: Iterable[str]) -> None:
    """Remember what files, named relative to ``root``, hold now. It is in the lineage.json of the release, too."""
    known = json.loads(store.shown(_VIEW) or "{}")
    now = {name: _md5(root / name) for name in names}
    store.set_shown(_VIEW, json.dumps({**known, **{name: md5 for name, md5 in now.items() if md5}}))


def is_mine(root: Path, store: Store) -> Callable[[Path], bool]:
    """A function that says of a file whether it holds exactly what plantops wrote there."""
    known = {(root / name).resolve(): md5 for name, md5 in json.loads(store.shown(_VIEW) or "{}").items()}
    return lambda path: _md5(path) == known.get(path.resolve(), "nothing")


def _md5(path: Path) -> str:
    """Of a file; empty when there is none."""
    try:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError:
        return ""
