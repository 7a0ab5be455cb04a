"""How a worker is told who may ask, and the tower's own key: it asks golden photos where keys are needed, too."""

from __future__ import annotations

import os
from pathlib import Path

from plantops.config import ApiConfig
from plantops.keys import hash_of, new_key


class TowerKey:
    """A key in a file of the project's state that only its owner can read; made when it is first needed."""

    def __init__(self, state: Path, api: ApiConfig) -> None:
        self._file = state / "api.key"
        self._api = api

    @property
    def value(self) -> str:
        """The key; empty where the API asks for none."""
        if not self._api.keys:
            return ""
        try:
            return self._file.read_text()
        except FileNotFoundError:
            return self._make()

    def flags(self) -> dict[str, str]:
        """Who may ask and what the page is called, as flags of ``python -m plantops.serve``. Hashes, no key."""
        own = [hash_of(self.value)] if self._api.keys else []
        return {
            "keys": ",".join([*self._api.keys, *own]),
            "hosts": ",".join(self._api.hosts),
            "cors": ",".join(self._api.cors),
            "access_log": str(int(self._api.access_log)),
            "title": self._api.title,
        }

    def _make(self) -> str:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_name(f"api.key.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(new_key())
        try:
            os.link(fresh, self._file)  # the first one's stays
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return self._file.read_text()
