"""The page for people: one file without anything from elsewhere, and headers that let nothing else in."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from html import escape
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse

_FILE = Path(__file__).with_name("page.html")


def add_page(app: FastAPI, title: str) -> None:
    """Add `/`: the page for whoever asks for HTML, the API's description for all others.

    With a ``title`` of its own the page speaks of photos, without one of leaves.
    """
    text = _FILE.read_text(encoding="utf-8")
    html, headers = _named(text, title).encode(), page_headers(text)

    @app.get("/", include_in_schema=False)
    async def front(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return Response(html, media_type="text/html", headers=headers)
        return RedirectResponse("/docs", headers={"Vary": "Accept"})


def _named(html: str, title: str) -> str:
    """The page with a title; its style and script, whose digests are known, stay as they are."""
    return html.replace('<html lang="en">', f'<html lang="en" data-named="{escape(title)}">', 1) if title else html


@cache
def page_headers(html: str) -> dict[str, str]:
    """A Content-Security-Policy that lets the page's own style and script run, by their digests, and nothing else.

    (w3.org/TR/CSP3, 8.3 "Usage of hash sources")
    """
    allowed = {kind: _digest(html, kind) for kind in ("style", "script")}
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Vary": "Accept",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _digest(html: str, kind: str) -> str:
    found = re.search(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
    assert found, f"page.html has no <{kind}>"
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"
