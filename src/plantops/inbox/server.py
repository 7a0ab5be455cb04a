"""The inbox as a local page, by the standard library's server: FastAPI stays in `serve/`, whose process is another.

It listens on 127.0.0.1 alone, on a free port. Who has the address printed in the terminal has the page: its token works
once and becomes a cookie. Host and Origin are checked, so that no page of another site can have a browser ask.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from plantops import kept
from plantops.errors import SetupError
from plantops.inbox.box import Inbox

HOST = "127.0.0.1"
_PAGE = Path(__file__).with_name("page.html")
_MOST_BYTES = 10_000
_KINDS = {".jpg": "image/jpeg", ".tif": "image/tiff"}


@dataclass
class Session:
    """One call of `plantops inbox`: the inbox, and who may see it."""

    box: Inbox
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    finished: threading.Event = field(default_factory=threading.Event)
    alone: threading.Lock = field(default_factory=threading.Lock)

    def finish(self) -> bool:
        """Have the server end."""
        self.finished.set()
        return True

    def use(self, token: str) -> bool:
        """Whether the token is right; it works once."""
        with self.alone:
            right = bool(self.token) and secrets.compare_digest(token.encode(), self.token.encode())
            if right:
                self.token = ""
            return right


class Server(ThreadingHTTPServer):
    """Serves one session."""

    daemon_threads = True

    def __init__(self, box: Inbox) -> None:
        super().__init__((HOST, 0), Handler)
        self.session = Session(box)

    @property
    def url(self) -> str:
        """The address to open, once."""
        return f"http://{HOST}:{self.server_port}/?token={self.session.token}"

    def run(self) -> None:
        """Serve until somebody finishes, here or with Ctrl-C."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            self.session.finished.wait()
        finally:
            self.shutdown()
            self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away: the terminal is for the person."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = 30
    server_version, sys_version = "plantops", ""

    def do_GET(self) -> None:
        """The page, what waits, and its photos."""
        path, session = urlsplit(self.path), self.server.session
        if not self._host_is_ours():
            return self._say(HTTPStatus.MISDIRECTED_REQUEST, "not the address that was printed")
        if token := parse_qs(path.query).get("token"):
            return self._enter() if session.use(token[0]) else self._locked()
        if not self._known():
            return self._locked()
        if path.path == "/":
            return self._page()
        if path.path == "/list":
            waiting = [one.to_dict() for one in session.box.waiting()]
            return self._json({"photos": waiting, "classes": session.box.classes()})
        return self._photo(path.path.removeprefix("/photo/"))

    def do_POST(self) -> None:
        """A decision."""
        own = {f"http://{host}" for host in self._hosts()}
        if not self._host_is_ours() or self.headers.get("Origin") not in own or not self._known():
            return self._locked()
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            return self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large")
        try:
            said = json.loads(self.rfile.read(int(length)))
            with self.server.session.alone:
                return self._json(self._verbs()[urlsplit(self.path).path](said))
        except SetupError as error:
            return self._say(HTTPStatus.CONFLICT, f"{error.message} ({error.hint})" if error.hint else error.message)
        except (KeyError, TypeError, ValueError):
            return self._say(HTTPStatus.BAD_REQUEST, "not understood")

    def _verbs(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        session = self.server.session
        return {
            "/label": lambda said: {"made": str(session.box.label(str(said["id"]), str(said["class"])))},
            "/reject": lambda said: {"rejected": session.box.reject(str(said["id"]))},
            "/undo": lambda _: {"id": session.box.undo()},
            "/finish": lambda _: {"finished": session.finish()},
        }

    def _photo(self, name: str) -> None:
        for one in kept.photos(self.server.session.box.folder):
            if one.id == name:
                with suppress(FileNotFoundError):  # it had to make room for another one meanwhile
                    kind = _KINDS.get(one.path.suffix, f"image/{one.path.suffix[1:]}")
                    return self._send(HTTPStatus.OK, one.path.read_bytes(), kind)
        return self._say(HTTPStatus.NOT_FOUND, "no such photo")

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        html = _PAGE.read_text(encoding="utf-8").replace("NONCE", nonce)
        self._send(HTTPStatus.OK, html.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy})

    def _enter(self) -> None:
        cookie = f"{self._cookie_name}={self.server.session.cookie}; HttpOnly; SameSite=Strict; Path=/"
        self._send(HTTPStatus.SEE_OTHER, b"", "text/plain", {"Location": "/", "Set-Cookie": cookie})

    @property
    def _cookie_name(self) -> str:
        return f"plantops_{self.server.server_port}"  # cookies do not know ports

    def _known(self) -> bool:
        # By hand: SimpleCookie fails where another program on this machine has set a cookie of an odd name.
        shown = dict(one.strip().partition("=")[::2] for one in self.headers.get("Cookie", "").split(";"))
        return secrets.compare_digest(shown.get(self._cookie_name, "").encode(), self.server.session.cookie.encode())

    def _hosts(self) -> set[str]:
        return {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}

    def _host_is_ours(self) -> bool:
        return self.headers.get_all("Host", [])[:2] in [[one] for one in self._hosts()]

    def _locked(self) -> None:
        self._say(HTTPStatus.FORBIDDEN, "open the address that plantops inbox printed; it works once, in one browser")

    def _json(self, value: dict[str, Any]) -> None:
        self._send(HTTPStatus.OK, json.dumps(value).encode(), "application/json")

    def _say(self, status: HTTPStatus, detail: str) -> None:
        self._send(status, json.dumps({"detail": detail}).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        always = {
            "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
        }  # fmt: skip
        for name, value in {**always, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the person."""
