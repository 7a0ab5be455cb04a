"""The folders under docker/ that containers mount: their content as a digest, and open to the containers' own users."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from plantops.errors import StepFailed


def digest(folder: Path) -> str:
    """Of the files in a folder: a label by it has compose make the container anew when one changes."""
    found = [one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()]
    return hashlib.sha256(b"\0".join(found)).hexdigest()[:16]


def let_all_read(folder: Path) -> None:
    """As `chmod -R a+rX` does: under a strict umask only we could read what was checked out. Raises StepFailed."""
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | 0o444 | (0o111 if path.is_dir() or mode & 0o111 else 0)
        try:
            if wanted != mode:
                path.chmod(wanted)
        except PermissionError:
            raise StepFailed(f"containers cannot read {path}, and it is not yours", f"chmod -R a+rX {folder}") from None
