"""The name of a request, as `edge.py` gives it to each; the answer carries it, and `/feedback` asks for it."""

from __future__ import annotations

from fastapi import Request


async def request_id(request: Request) -> str:
    """The request's name, which can name files, too. A coroutine: FastAPI has a thread run what is none."""
    return str(request.state.request_id)
