"""Folders that may not be written, for root too."""

from __future__ import annotations

import os
from pathlib import Path


def bar(folder: Path) -> list[str]:
    """Bar writing in ``folder``; returns what stands before a command for it to hold.

    Root may write everywhere: its command gives that power up, and the folder belongs to another user.
    """
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    if os.geteuid() != 0:
        return []
    os.chown(folder, 65534, 65534)
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
