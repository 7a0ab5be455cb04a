"""The photos of the last requests, for the next release to be asked the same before it gets any traffic.

Slots that are written over and over, so that no more than so many are ever kept: `<slot>.photo`, as it came, and
`<slot>.json`, what was answered. Several workers may write at once; the last one stays.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from plantops.kept import RECENT

log = logging.getLogger(__name__)
MOST_BYTES = 2_000_000  # larger photos are not kept


@dataclass
class Recent:
    """Keeps the last ``most`` photos under ``folder``."""

    folder: Path
    most: int
    _next: int = -1
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, data: bytes, release: str, prediction: str, confidence: float) -> None:
        """Keep a photo and its answer in place of the oldest. What stands in the way is logged."""
        place = self.folder / RECENT
        try:
            note = {"release": release, "prediction": prediction, "confidence": round(confidence, 4)}
            with self._lock:
                place.mkdir(parents=True, exist_ok=True)
                self._next = (self._newest(place) if self._next < 0 else self._next) + 1
                name = f"{self._next % self.most:05d}"
                (place / f"{name}.json").unlink(missing_ok=True)  # a photo without an answer is not asked about
                for suffix, content in ((".photo", data), (".json", json.dumps(note).encode())):
                    (place / f".{name}{suffix}").write_bytes(content)
                    os.replace(place / f".{name}{suffix}", place / f"{name}{suffix}")
        except OSError as error:
            log.error("a photo cannot be kept for replay: %s", error)

    def _newest(self, place: Path) -> int:
        """The slot written last, by whichever worker; -1 when there is none."""
        found = max(place.glob("[!.]*.json"), key=lambda one: one.stat().st_mtime_ns, default=None)
        return -1 if found is None else int(found.stem)


def forget(folder: Path, most: int) -> None:
    """Remove the photos that an earlier setting had kept beyond ``most``. What stands in the way is logged."""
    try:
        for one in (folder / RECENT).glob("*"):
            if int(one.stem.lstrip(".")) >= most:
                one.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        log.error("what was kept for replay cannot be removed: %s", error)
