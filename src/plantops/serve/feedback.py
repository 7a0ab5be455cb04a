"""`POST /feedback`: what a person says of an answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from plantops.kept import NOT_A_LEAF, unsafe
from plantops.serve.ids import request_id
from plantops.serve.keeper import Keeper
from plantops.serve.schema import Opinion, Problem, Thanks
from plantops.serve.service import Service, now

log = logging.getLogger(__name__)
_MOST_BYTES = 4096
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "this API takes no feedback"},
    408: {"model": Problem, "description": "it came too slowly"},
    413: {"model": Problem, "description": "too large"},
    422: {"model": Problem, "description": "no such form, or no name for a class"},
    503: {"model": Problem, "description": "no model ready, or the feedback cannot be written"},
}
_BODY = {"required": True, "content": {"application/json": {"schema": Opinion.model_json_schema()}}}


def add_feedback(app: FastAPI, service: Service) -> None:
    """Add the route."""

    @app.post(
        "/feedback", response_model=Thanks, status_code=201, responses=_PROBLEMS, openapi_extra={"requestBody": _BODY}
    )
    async def feedback(request: Request, _: Annotated[str, Depends(request_id)]) -> Thanks:
        """Say what a photo really shows: one of the classes, a new one, or `not a leaf`. People read it later."""
        predictor, keeper = service.predictor(), _keeper(service)
        said = _opinion(await _body(request, service.settings.request_timeout_s))
        known = said.class_name in (*predictor.manifest.classes, NOT_A_LEAF)
        if not known and (why := unsafe(said.class_name)):
            raise HTTPException(422, why)
        line = {**said.model_dump(by_alias=True), "release": service.release, "at": now()}
        try:
            await service.on_disk(keeper.opinion, line)
        except OSError as error:
            log.error("feedback cannot be written: %s", error)
            raise HTTPException(503, f"feedback cannot be kept: {error.strerror}") from None
        return Thanks(request_id=said.request_id, class_name=said.class_name, new_class=not known)


def _keeper(service: Service) -> Keeper:
    if service.keeper is None:
        raise HTTPException(404, "this API takes no feedback: it was started without --kept DIR")
    return service.keeper


def _opinion(body: bytes) -> Opinion:
    try:
        return Opinion.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise HTTPException(422, f"{where}: {first['msg']}") from None


async def _body(request: Request, seconds: float) -> bytes:
    """The body, bounded in bytes and time."""
    body = b""
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise HTTPException(413, f"feedback has at most {_MOST_BYTES} bytes")
    except TimeoutError:
        raise HTTPException(408, f"the request took longer than {seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(499, "the client went away") from None
    return body
