"""Photos out of a multipart body, bounded in bytes, number and time, kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from plantops.serve.form import BadForm, Upload, boundary_of, files
from plantops.serve.settings import Settings


class Budget:
    """Bytes of uploads that all requests together hold."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A request's share, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.held


class Share:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0

    def take(self, amount: int) -> None:
        """Hold that many bytes more. Raises HTTPException 503 when all requests together hold too many."""
        if self._budget.held + amount > self._budget.limit:
            raise HTTPException(503, "busy: too many uploads at once, try again", {"Retry-After": "1"})
        self._budget.held += amount
        self.held += amount


async def photos(request: Request, field: str, at_most: int, settings: Settings, share: Share) -> list[Upload]:
    """The files of a form's ``field``, in order.

    Raises HTTPException: 400 broken form or too many files, 408 too slow, 413 too large, 422 no file, 503 too many
    bytes held by others.
    """
    limit = settings.body_limit(at_most)
    try:
        boundary = boundary_of(request.headers.get("content-type"))
        if boundary is None:
            raise HTTPException(422, f"send multipart/form-data with a file in the field `{field}`")
        if _announced(request) > limit:
            raise _too_large(limit)
        async with asyncio.timeout(settings.request_timeout_s):
            body = await _body(request, limit, share)
        found = files(body, boundary, field, at_most)
    except BadForm as error:
        raise HTTPException(400, str(error)) from None
    except TimeoutError:
        raise HTTPException(408, f"the upload took longer than {settings.request_timeout_s:g} s") from None
    except ClientDisconnect:
        raise HTTPException(499, "the client went away") from None
    if not found:
        raise HTTPException(422, f"no file in the field `{field}`")
    return found


async def _body(request: Request, limit: int, share: Share) -> bytearray:
    """All of it, counted as it comes (a chunked one announces no length)."""
    body = bytearray()
    async for chunk in request.stream():
        share.take(len(chunk))
        if share.held > limit:
            raise _too_large(limit)
        body += chunk
    return body


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdigit() else 0


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the upload is larger than {limit / 1e6:.1f} MB")
