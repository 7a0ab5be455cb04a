"""The images that a cluster can pull, by release: their digests, and what was read from them when they were pushed.

So a rollback asks neither the engine nor the registry.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """``reference`` by digest, ``code``: digest of what serves in it."""

    reference: str
    code: str


class Pushed:
    """A file of the project's state. ``registry``: images of another one do not count."""

    def __init__(self, file: Path, registry: str | None) -> None:
        self._file = file
        self._registry = registry

    def all(self) -> dict[str, Image]:
        """By release."""
        try:
            noted = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        images = {release: Image(**one) for release, one in noted.items()}
        return {release: one for release, one in images.items() if one.reference.startswith(f"{self._registry}/")}

    def add(self, release: str, image: Image) -> None:
        """Note one. The file appears whole or not at all."""
        noted = {name: asdict(one) for name, one in {**self.all(), release: image}.items()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(noted, indent=1), encoding="utf-8")
        os.replace(fresh, self._file)

    def release_of(self, reference: str) -> str:
        """The release that an image holds; empty where it is none of ours."""
        return next((release for release, one in self.all().items() if one.reference == reference), "")
