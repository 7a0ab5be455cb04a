"""The bounds of one worker, as flags of ``python -m plantops.serve``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from plantops.photo import MOST_BYTES_PER_PIXEL

_FORM_OVERHEAD = 4096
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Settings:
    """Every field is a flag: ``max_upload_mb`` is ``--max-upload-mb``.

    ``max_upload_mb``: bytes of one photo. ``max_megapixels``: pixels of one photo, and what decoding may hold at once
    (``max_decoding_bytes``). ``max_batch``: photos in one request. ``request_timeout_s``: a request's header, then its
    body, then its answer must be there within it. ``threads``: photos worked on at once, each in a process, 0 for one a
    core. ``max_waiting``: photos that may wait for one before new ones are turned away with 503. ``keep_alive_s``: how
    long an idle connection is kept. ``keep``: keep photos that the model is unsure of, at most ``keep_photos`` and
    ``keep_mb`` of them. ``replay``: photos of the last requests that are kept for the next release.

    ``keys`` (SHA-256 in hexadecimal), ``hosts``, ``cors`` (origins): with commas between, see `guard.py`.
    ``access_log``: a JSON line on standard output for each request. ``title``: of the page for people.
    """

    max_upload_mb: float = 20
    max_megapixels: float = 40
    max_batch: int = 16
    request_timeout_s: float = 30
    threads: int = 0
    max_waiting: int = 64
    keep_alive_s: float = 75
    keep: bool = False
    keep_photos: int = 500
    keep_mb: float = 500
    replay: int = 0
    keys: str = ""
    hosts: str = ""
    cors: str = ""
    access_log: bool = True
    title: str = ""

    def listed(self, name: str) -> list[str]:
        """A field with commas as a list."""
        return [one.strip() for one in str(getattr(self, name)).split(",") if one.strip()]

    @property
    def max_bytes(self) -> int:
        """Bytes of one photo."""
        return int(self.max_upload_mb * 1e6)

    @property
    def max_pixels(self) -> int:
        """Pixels of one photo."""
        return int(self.max_megapixels * 1e6)

    @property
    def max_held_bytes(self) -> int:
        """Bytes of uploads held at once by all requests together: two batches of the largest photos.

        A photo on its way to the process that looks at it is held once more.
        """
        return 2 * self.body_limit(self.max_batch)

    @property
    def max_decoding_bytes(self) -> int:
        """Bytes held at once by all that decode: one photo of the most pixels, as costly as photos come."""
        return self.max_pixels * MOST_BYTES_PER_PIXEL

    @property
    def unasked_bytes(self) -> int:
        """Bytes of those that each process may hold for decoding without asking: an eighth of all, shared out."""
        return self.max_decoding_bytes // (8 * self.workers)

    def body_limit(self, photos: int) -> int:
        """Bytes that a request with that many photos may have, the form around them included."""
        return photos * (self.max_bytes + _FORM_OVERHEAD)

    @property
    def workers(self) -> int:
        """Photos worked on at once."""
        return self.threads or cores()


def cores() -> int:
    """Cores we may use: the scheduler's answer, or a container's quota (cgroup v2) where that is less."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_QUOTA.read_text().split()
    except OSError:
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, round(int(quota) / int(period))))
