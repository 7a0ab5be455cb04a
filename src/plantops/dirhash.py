"""DVC's hash of a directory, from the hashes of its files (dvc-data: ``hashfile/tree.py``, ``Tree.as_bytes``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable


def directory(files: Iterable[tuple[str, str]]) -> str:
    """md5 of a directory as DVC 3 writes it, with ``.dir``; ``files`` are (path below it with slashes, md5)."""
    listed = [{"md5": md5, "relpath": path} for path, md5 in sorted(files)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
