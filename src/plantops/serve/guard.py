"""Who may ask: by the host that was meant, the page that sends, and the key that is shown. Before a body is read."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from plantops.serve.settings import Settings

ANY = "*"
KEY_HEADER = "X-API-Key"
OPEN = frozenset({"/", "/health", "/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"})
_DOCS_OWN = "/static-offline-docs/"  # scripts and styles of /docs
_EXPOSED = ("X-Request-ID", "X-Plantops-Release", "Retry-After")
_PLAIN = re.compile(r"[a-z0-9_-]+|(?:[a-z0-9_-]+\.)+localhost")
_DEFAULT_PORT = re.compile(r":(?:80|443)?$")


def guarded(app: ASGIApp, settings: Settings) -> ASGIApp:
    """``app`` behind what ``settings`` ask for."""
    if settings.keys:
        app = Keys(app, settings.listed("keys"))
    if settings.cors:
        app = CORSMiddleware(
            app, allow_origins=settings.listed("cors"), allow_methods=["GET", "POST"], expose_headers=_EXPOSED,
            allow_headers=["Authorization", "Content-Type", KEY_HEADER, "X-Request-ID"],
        )  # fmt: skip
    return Callers(app, settings.listed("hosts"), settings.listed("cors"))


class Callers:
    """Refuses requests that a hostile page has a browser send.

    By the name that the browser thinks it speaks to: a page whose own name was made to lead here (DNS rebinding) says
    that name as ``Host``. And by the page that sends: a browser names it as ``Origin`` with every request that can do
    something, and with none of a page's own that only reads.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        self.app = app
        self._hosts = hosts
        self._origins = origins
        self._known: str | None = None  # most requests name the same host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        refusal = self._refusal(Headers(raw=scope["headers"])) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        named = headers.getlist("host")
        host = named[0] if named else ""
        if len(named) > 1:
            return JSONResponse({"detail": "more than one Host header"}, 400)
        if host != self._known:
            if not host_allowed(host, self._hosts):
                return JSONResponse({"detail": f"this API does not answer for the host {host!r}: see api.hosts"}, 421)
            self._known = host
        origin = headers.get("origin")
        if origin is not None and not origin_allowed(origin, host, self._origins):
            return JSONResponse({"detail": f"pages of {origin!r} may not use this API: see api.cors"}, 403)
        return None


class Keys:
    """Asks for a key, everywhere but on the paths of ``OPEN``; knows only the keys' hashes."""

    def __init__(self, app: ASGIApp, hashes: Collection[str]) -> None:
        self.app = app
        self._hashes = [one.encode() for one in hashes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it with 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN and not scope["path"].startswith(_DOCS_OWN):
            known = self._hash_of(Headers(raw=scope["headers"]))
            if known is None:
                said = f"a key is needed: Authorization: Bearer KEY, or {KEY_HEADER}: KEY"
                await JSONResponse({"detail": said}, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
            scope["state"]["key"] = known[:8]  # of its hash: whose request it was, for the access log
        await self.app(scope, receive, send)

    def _hash_of(self, headers: Headers) -> str | None:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        key = headers.get(KEY_HEADER) or (bearer.strip() if kind.lower() == "bearer" else "")
        shown = hashlib.sha256(key.encode("latin-1")).hexdigest()
        # Each is compared whole, and all are: how long it takes says nothing about which was nearly right.
        right = [hmac.compare_digest(shown.encode(), one) for one in self._hashes]
        return shown if any(right) else None


def host_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a ``Host`` header may be answered: addresses, names without a dot and ``localhost`` always.

    None of these can be a name that a stranger's DNS server answers for. Others by ``allowed``: whole names,
    ``*.example.org`` for those below it, ``*`` for all. Without a header no browser asks.
    """
    name = _name(host)
    if not host or ANY in allowed or _PLAIN.fullmatch(name) or _is_address(name):
        return True
    return any(name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in map(str.lower, allowed))


def origin_allowed(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Whether a page of ``origin`` may send: the API's own page, by whatever scheme, or one that is listed."""
    if ANY in allowed or origin in allowed:
        return True
    own = _DEFAULT_PORT.sub("", host.lower())
    try:
        return bool(own) and own == _DEFAULT_PORT.sub("", urlsplit(origin.lower()).netloc)
    except ValueError:  # half an IPv6 address
        return False


def _name(host: str) -> str:
    """A ``Host`` header without its port, in lower case, without the dot at a name's end."""
    return re.sub(r":\d*$", "", host.lower()).removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
