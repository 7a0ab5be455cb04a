"""The routes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from plantops.photo import NotAPhoto
from plantops.serve import schema
from plantops.serve.edge import PROBE
from plantops.serve.feedback import add_feedback
from plantops.serve.form import Upload
from plantops.serve.ids import request_id
from plantops.serve.page import add_page
from plantops.serve.schema import Batch, BatchError, BatchItem, Classes, Health, ModelDetails, Prediction, Problem
from plantops.serve.service import Service
from plantops.serve.uploads import photos

Top = Annotated[int, Query(ge=1, le=1000, description="how many of the likeliest classes to list")]
Explain = Annotated[bool, Query(description="also say where the model looked")]
Id = Annotated[str, Depends(request_id)]

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "not a photo, or a broken form"},
    401: {"model": Problem, "description": "no key, or a wrong one (where the API asks for keys)"},
    403: {"model": Problem, "description": "sent by a page of another site"},
    408: {"model": Problem, "description": "the upload came too slowly"},
    413: {"model": Problem, "description": "too large"},
    422: {"model": Problem, "description": "no file, or a wrong parameter"},
    503: {"model": Problem, "description": "no model ready, or too busy; try again"},
}


class Direct:
    """Takes a POST without parameters to its endpoint; with parameters it goes FastAPI's way.

    FastAPI would find the same endpoint, with nothing to check, and take a fifth of this process's time for a photo.
    """

    def __init__(self, app: ASGIApp, path: str, endpoint: Callable[[Request, str], Awaitable[Response]]) -> None:
        self.app, self._path, self._endpoint = app, path, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope.get("path") != self._path or scope["method"] != "POST" or scope["query_string"]:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request, request.state.request_id)
        except HTTPException as error:
            response = await http_exception_handler(request, error)
        await response(scope, receive, send)


def make_app(service: Service) -> FastAPI:
    """The API over ``service``."""
    title = service.settings.title
    app = FastAPIOffline(title="plantops", description=title or "Which disease has this leaf?", redoc_url=None)
    app.add_exception_handler(Exception, _bug)
    app.exception_handler(RequestValidationError)(_wrong)
    _add_predictions(app, service)
    _add_descriptions(app, service)
    add_feedback(app, service)
    add_page(app, title)
    return app


def _add_predictions(app: FastAPI, service: Service) -> None:
    settings = service.settings

    @app.post("/predict", response_model=Prediction, responses=_PROBLEMS, openapi_extra=_form("file", many=False))
    async def predict(request: Request, name: Id, top: Top = 5, explain: Explain = False) -> Response:
        """Which class does the photo in the field `file` show?"""
        _ready(service)
        with service.budget.share() as share:
            (photo,) = await photos(request, "file", 1, settings, share)
            service.admit()
            counts = PROBE.decode() not in request.headers
            if counts:
                service.metrics.batch.observe(1)
            try:
                return _json(await service.answer(photo.data, top, name, explain, counts))
            except NotAPhoto as error:
                raise HTTPException(400, str(error)) from None

    app.add_middleware(Direct, path="/predict", endpoint=predict)

    @app.post("/predict_batch", response_model=Batch, responses=_PROBLEMS, openapi_extra=_form("files", many=True))
    async def predict_batch(request: Request, name: Id, top: Top = 5, explain: Explain = False) -> Response:
        """The same for several photos, in the field `files`."""
        _ready(service)
        with service.budget.share() as share:
            uploads = await photos(request, "files", settings.max_batch, settings, share)
            service.admit()
            service.metrics.batch.observe(len(uploads))
            each = (_one_of_many(service, one, top, f"{name}-{n}", explain) for n, one in enumerate(uploads, 1))
            results = await asyncio.gather(*each)
            return _json(Batch(results=list(results), total=len(results)))


async def _one_of_many(service: Service, upload: Upload, top: int, name: str, explain: bool) -> BatchItem | BatchError:
    if len(upload.data) > service.settings.max_bytes:
        limit = service.settings.max_bytes / 1e6
        return BatchError(filename=upload.filename, error=f"larger than {limit:.1f} MB")
    try:
        answer = await service.answer(upload.data, top, name, explain)
    except NotAPhoto as error:
        return BatchError(filename=upload.filename, error=str(error))
    return BatchItem(filename=upload.filename, **{one: getattr(answer, one) for one in answer.model_fields_set})


def _json(answer: BaseModel) -> Response:
    """Written by pydantic at once: FastAPI would check first what was checked when it was made.

    Unset is left out: an explanation that nobody asked for.
    """
    text = answer.__pydantic_serializer__.to_json(answer, by_alias=True, exclude_unset=True)
    return Response(text, media_type="application/json")


def _add_descriptions(app: FastAPI, service: Service) -> None:
    async def health(response: Response) -> Health:
        """200 when the bundle is loaded and proven, else 503 with the reason."""
        response.status_code = 200 if service.status == "healthy" else 503
        return service.health()

    app.add_api_route(
        "/health", health, response_model=Health, response_model_exclude_none=True,
        responses={503: {"model": Health, "description": "starting or failed"}},
    )  # fmt: skip
    app.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)

    @app.get("/health/live")
    async def live() -> schema.Liveness:
        """200 as long as the process answers, whatever the model does."""
        return schema.Liveness(status="alive")

    @app.get("/health/ready", responses={503: {"model": Problem, "description": "no model ready"}})
    async def ready() -> schema.Liveness:
        """200 when photos can be sent."""
        service.predictor()
        return schema.Liveness(status="ready")

    @app.get("/classes")
    async def classes() -> Classes:
        """The classes that the model can tell apart."""
        names = list(service.predictor().manifest.classes)
        return Classes(classes=names, num_classes=len(names))

    @app.get("/model/info")
    async def details() -> ModelDetails:
        """Where the model comes from and how good it was in evaluation."""
        return _details(service)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _details(service: Service) -> ModelDetails:
    predictor = service.predictor()
    manifest, identity = predictor.manifest, predictor.identity
    return ModelDetails(
        **dict(service.model_info),
        created=identity.created,
        commit=identity.commit,
        mlflow_run=identity.mlflow_run,
        num_classes=len(manifest.classes),
        preprocessing=manifest.preprocessing.to_dict(),
        temperature=manifest.temperature,
        thresholds=manifest.thresholds,
        model=manifest.model,
        data=manifest.data,
        metrics=manifest.metrics,
        feedback=service.keeper is not None,
        keeps_photos=service.keeps_photos,
    )


def _ready(service: Service) -> None:
    """Turn away before the body is read what cannot be answered."""
    service.predictor()
    service.admit()


async def _wrong(request: Request, error: RequestValidationError) -> JSONResponse:
    """422 in words, as every other refusal."""
    said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"detail": "; ".join(said)}, 422)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"internal error: {type(error).__name__}"}, 500)


def _form(field: str, many: bool) -> dict[str, Any]:
    """The form, for `/docs`: the body is read by hand, so that it can be bounded while it comes."""
    file = {"type": "string", "format": "binary"}
    schema = {
        "type": "object",
        "required": [field],
        "properties": {field: {"type": "array", "items": file} if many else file},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
