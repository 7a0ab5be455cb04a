"""What people say of answers, and photos that the model was unsure of, written where `plantops inbox` finds them.

Several workers may write at once, also from containers: a kernel lock keeps them one after the other. Everything is
bounded; what is oldest makes room.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops.kept import FEEDBACK, PHOTOS

_HALF = 5_000_000  # bytes of feedback.jsonl, and of the older half
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}


@dataclass(frozen=True)
class Keeper:
    """Writes to ``folder``; at most ``most_photos`` photos and ``most_bytes`` for them and their answers."""

    folder: Path
    most_photos: int
    most_bytes: int

    def opinion(self, said: dict[str, Any]) -> None:
        """Append one line; it is on disk when this returns. Raises OSError."""
        line = json.dumps(said, ensure_ascii=False).encode() + b"\n"
        path = self.folder / FEEDBACK
        with self._alone():
            if path.exists() and path.stat().st_size + len(line) > _HALF:
                os.replace(path, f"{path}.1")
            with path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

    def photo(self, name: str, data: bytes | memoryview, kind: str, answer: dict[str, Any]) -> None:
        """Keep a photo of format ``kind``, and its answer, under the request's name. The first of a name stays.

        Raises OSError.
        """
        target = self.folder / PHOTOS / f"{name}.{_ENDINGS.get(kind, kind.lower())}"
        fresh, note = target.with_name(f".{target.name}"), target.with_suffix(".json")
        with self._alone():
            target.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError), note.open("x", encoding="utf-8") as file:
                json.dump(answer, file, ensure_ascii=False)
                fresh.write_bytes(data)
                os.replace(fresh, target)
            self._make_room()

    def _make_room(self) -> None:
        """Remove the oldest, with what a crash has left of them, until the rest is within bounds."""
        sizes: dict[str, int] = {}
        files: dict[str, list[str]] = {}
        with os.scandir(self.folder / PHOTOS) as entries:
            stats = sorted((one.stat().st_mtime_ns, one.stat().st_size, one.path, one.name) for one in entries)
        for _when, size, path, name in stats:
            stem = name.lstrip(".").partition(".")[0]
            sizes[stem] = sizes.get(stem, 0) + size
            files.setdefault(stem, []).append(path)
        left = sum(sizes.values())
        for count, stem in zip(range(len(files), 0, -1), list(files), strict=True):
            if count <= self.most_photos and left <= self.most_bytes:
                return
            left -= sizes[stem]
            for path in files[stem]:
                with suppress(FileNotFoundError):  # `plantops inbox` took it
                    os.unlink(path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
