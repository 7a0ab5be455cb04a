"""DVC's hash of a directory, from the hashes of its files (dvc-data: ``hashfile/tree.py``, ``Tree.as_bytes``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable


def directory(files: Iterable[tuple[str, str]]) -> str:
    """md5 of a directory as DVC 3 writes it, with ``.dir``; ``files`` are (path below it with slashes, md5)."""
    hashed, comma = hashlib.md5(b"[", usedforsecurity=False), ""
    for path, md5 in sorted(files):  # as JSON of the whole list, which may be long
        hashed.update(f"{comma}{json.dumps({'md5': md5, 'relpath': path})}".encode())
        comma = ", "
    hashed.update(b"]")
    return hashed.hexdigest() + ".dir"
