"""A client of the API for many photos: a connection for each thread, and patience while the API is busy."""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from plantops.deploy.probe import KEY_HEADER, form
from plantops.errors import SetupError, StepFailed

_TIMEOUT_S = 60.0
_PATIENCE_S = 60.0
_PAUSE_S = 0.5
_BUSY = 503


class Client:
    """The API at ``url``; ``key`` where it asks for one."""

    def __init__(self, url: str, key: str = "", top: int = 5) -> None:
        parts = _parts(url)
        path = quote(parts.path.rstrip("/"), safe="/%")
        self._secure, self._host = parts.scheme == "https", parts.netloc.rpartition("@")[2]
        self.url = f"{parts.scheme}://{self._host}{path}"
        self._path = f"{path}/predict?top={top}"
        if not (key.isascii() and key.isprintable()):
            raise SetupError("the key holds what no key of an API has", "plantops key makes one, for api.keys")
        self._headers = {KEY_HEADER: key} if key else {}
        self._own = threading.local()

    def answer(self, path: Path) -> dict[str, Any]:
        """One photo's answer as the API gives it, or ``error``: why there is none.

        Raises StepFailed when the API does not answer, wants a key, or has been busy for a minute.
        """
        try:
            body, kind = form("file", "photo", path.read_bytes())
        except OSError as error:
            return {"error": str(error.strerror)}
        status, said = self._patiently(body, {**self._headers, "Content-Type": kind})
        if status == 200:
            return said
        if status in (400, 413, 422):
            return {"error": str(said.get("detail"))}
        hint = "set PLANTOPS_API_KEY" if status == 401 else f"curl {self.url}/health"
        raise StepFailed(f"{self.url} answered {status}: {said.get('detail')}", hint)

    def _patiently(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Ask again while it is busy, or where the connection went (a release may be changing)."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                answer = self._ask(body, headers)
                if answer[0] != _BUSY or time.monotonic() > deadline:
                    return answer
            except ConnectionRefusedError as error:
                raise self._silent(error) from None
            except (ConnectionError, http.client.HTTPException) as error:
                self._own.connection = None
                if time.monotonic() > deadline:
                    raise self._silent(error) from None
            except OSError as error:
                raise self._silent(error) from None
            time.sleep(_PAUSE_S)

    def _silent(self, error: Exception) -> StepFailed:
        return StepFailed(f"no answer from {self.url}: {type(error).__name__}: {error}", f"curl {self.url}/health")

    def _ask(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            connection = self._own.connection = kind(self._host, timeout=_TIMEOUT_S)
        connection.request("POST", self._path, body, headers)
        response = connection.getresponse()
        data = response.read()
        try:
            said = json.loads(data)
        except ValueError:
            said = {"detail": data[:200].decode(errors="replace")}
        return response.status, said if isinstance(said, dict) else {"detail": str(said)}


def _parts(url: str) -> SplitResult:
    """A URL, ``http`` where it does not say, in parts that can be asked. Raises SetupError."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and " " not in parts.netloc
    except ValueError:  # half an IPv6 address, a port that is no number
        usable = False
    if not usable:
        raise SetupError(f"{url} is no URL of an API", "plantops predict --url http://HOST:PORT PHOTO")
    return parts
