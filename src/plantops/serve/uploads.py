"""Photos out of a multipart body, bounded in bytes, number and time, kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import HTTPException, Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from plantops.serve.settings import Settings

_MAX_FIELDS = 20
# Any other is refused: Python's "undefined" and "punycode" raise, and every unknown name would be remembered for good.
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1")


@dataclass(frozen=True)
class Upload:
    """One uploaded file: the client's name for it, and its bytes."""

    filename: str | None
    data: bytes


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


class _Parser(MultiPartParser):
    # Never a temporary file: the body is bounded before it gets here, and a container's root is read-only.
    spool_max_size = 0


async def photos(request: Request, field: str, at_most: int, settings: Settings, share: Share) -> list[Upload]:
    """The files of a form's ``field``, in order.

    Raises HTTPException: 400 broken form or too many files, 408 too slow, 413 too large, 422 no file, 503 too many
    bytes held by others.
    """
    limit = settings.body_limit(at_most)
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise HTTPException(422, f"send multipart/form-data with a file in the field `{field}`")
    if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
        raise HTTPException(400, "the form's charset must be utf-8")
    if _announced(request) > limit:
        raise _too_large(limit)
    parser = _Parser(request.headers, _bounded(request, limit, share), max_files=at_most, max_fields=_MAX_FIELDS)
    try:
        async with asyncio.timeout(settings.request_timeout_s):
            form = await parser.parse()
    except TimeoutError:
        raise HTTPException(408, f"the upload took longer than {settings.request_timeout_s:g} s") from None
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    except ClientDisconnect:
        raise HTTPException(499, "the client went away") from None
    files = [one for one in form.getlist(field) if isinstance(one, UploadFile)]
    if not files:
        raise HTTPException(422, f"no file in the field `{field}`")
    uploads = []
    for one in files:
        uploads.append(Upload(one.filename, await one.read()))
        await one.close()  # not both held until the answer
    return uploads


async def _bounded(request: Request, limit: int, share: Share) -> AsyncGenerator[bytes, None]:
    """The body as it comes, counted (a chunked one announces no length)."""
    async for chunk in request.stream():
        share.take(len(chunk))
        if share.held > limit:
            raise _too_large(limit)
        yield chunk


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdigit() else 0


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the upload is larger than {limit / 1e6:.1f} MB")
