"""A signed webhook, as https://www.standardwebhooks.com has it: libraries for most languages verify it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import time
from urllib.parse import urlsplit

from plantops.errors import SetupError
from plantops.notify.letter import News

_PREFIX = "whsec_"


def body(news: News) -> bytes:
    """The JSON that is sent."""
    data = {
        "project": news.project, "title": news.title, "lines": news.lines, "run": news.run, "release": news.release,
        "numbers": news.numbers, "links": news.links,
    }  # fmt: skip
    return json.dumps({"type": news.event, "timestamp": news.at, "data": data}, ensure_ascii=False).encode()


def headers(news: News, content: bytes, secret: str, at: int) -> dict[str, str]:
    """Id, time (seconds since 1970) and HMAC-SHA256 over ``id.time.body``. The id is the same at each try."""
    signed = b".".join([news.name.encode(), str(at).encode(), content])
    digest = base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": "plantops",
        "Webhook-Id": news.name,
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": f"v1,{digest}",
    }


def send(url: str, secret: str, news: News, timeout_s: float) -> tuple[bool, str]:
    """POST it once, following no redirect; whether the answer was 2xx, and what it was. Raises SetupError."""
    try:
        parts = urlsplit(url)
    except ValueError:  # as of http://[
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SetupError("notify.webhooks: an address begins with http:// or https://", "mend it in config.yaml")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    content = body(news)
    connection = None
    try:
        connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        where = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("POST", where, content, headers(news, content, secret, int(time.time())))
        answer = connection.getresponse()
        return 200 <= answer.status < 300, f"{answer.status} {answer.reason}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, f"{type(error).__name__}: {error}"
    finally:
        if connection:
            connection.close()


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise SetupError(f"notify.webhook_secret: what follows {_PREFIX} is no base64", "make it anew") from None
