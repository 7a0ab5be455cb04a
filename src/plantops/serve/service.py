"""What the routes share: the predictor once it is proven, the threads, and the queue before them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from plantops.photo import NotAPhoto, footprint, open_photo, pixels
from plantops.preprocess import Preprocessing
from plantops.serve import predictor as loader
from plantops.serve.explain import explain as explained
from plantops.serve.keeper import Keeper
from plantops.serve.metrics import Metrics
from plantops.serve.predictor import Predictor, Seen
from plantops.serve.room import Room
from plantops.serve.schema import ClassScore, Health, ModelInfo, Prediction
from plantops.serve.settings import Settings
from plantops.serve.uploads import Budget

log = logging.getLogger(__name__)
T = TypeVar("T")


class Service:
    """One worker's state. ``status`` goes from ``starting`` to ``healthy`` or ``failed``, once."""

    def __init__(self, settings: Settings, kept: Path | None = None) -> None:
        self.settings = settings
        self.keeper = Keeper(kept, settings.keep_photos, int(settings.keep_mb * 1e6)) if kept else None
        self.metrics = Metrics()
        self._most = settings.workers + settings.max_waiting
        self.budget = Budget(settings.max_held_bytes)
        self.room = Room(settings.max_decoding_bytes)
        self.status = "starting"
        self.reason: str | None = "the model is being loaded"
        self.since = now()
        self.golden_difference: float | None = None
        self._predictor: Predictor | None = None
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="photo")
        self._photos = 0

    async def load(self, path: Path) -> None:
        """Set up the bundle and prove it. Whatever goes wrong becomes ``failed`` with its reason."""
        loading = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(None, self._prove, path))
        await asyncio.wait([loading])
        error = loading.exception()
        self.since = now()
        if error:
            self.status, self.reason = "failed", f"{type(error).__name__}: {error}"
            log.error("the bundle in %s cannot be served: %s", path, self.reason)
        else:
            self._predictor, self.golden_difference = loading.result()
            self.metrics.loaded(self._predictor)
            self.status, self.reason = "healthy", None

    def _prove(self, path: Path) -> tuple[Predictor, float]:
        predictor = loader.load(path)
        return predictor, predictor.prove()

    def predictor(self) -> Predictor:
        """The proven predictor. Raises HTTPException 503 before there is one."""
        if self._predictor is None:
            raise HTTPException(503, f"no model is ready: {self.reason}", {"Retry-After": "1"})
        return self._predictor

    def admit(self) -> None:
        """Turn new photos away, 503, while too many wait."""
        if self._photos >= self._most:
            raise HTTPException(503, f"busy: {self._photos} photos are waiting, try again", {"Retry-After": "1"})

    async def answer(self, data: bytes, top: int, request_id: str, explain: bool = False) -> Prediction:
        """The answer for one photo. Raises NotAPhoto, or HTTPException 503 when it takes too long."""
        predictor = self.predictor()
        work = self._pool.submit(self._work, predictor, data, top, explain)
        self._photos += 1
        try:
            seen, ranked, seconds = await self._in_time(work)
        finally:
            self._leave(work)
        name, confidence = ranked[0]
        self.metrics.predicted(name, confidence, seconds)
        answer = Prediction(
            request_id=request_id,
            prediction=name,
            confidence=confidence,
            unsure=predictor.doubts.unsure(confidence),
            unlike=seen.unlike,
            inference_time=seconds,
            top5_predictions=[ClassScore(name=one, confidence=share) for one, share in ranked],
            model_info=model_info(predictor),
            timestamp=now(),
        )
        if explain:
            manifest = predictor.manifest
            answer.explanation = explained(seen.maps, manifest.classes, name, manifest.preprocessing)
        if self.keeps_photos and (answer.unsure or answer.unlike):
            await asyncio.get_running_loop().run_in_executor(self._pool, self._keep, data, answer)
        return answer

    async def _in_time(self, work: Future[T]) -> T:
        limit = self.settings.request_timeout_s
        try:
            async with asyncio.timeout(limit):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise HTTPException(503, f"no answer within {limit:g} s, try again", {"Retry-After": "1"}) from None

    def _leave(self, work: Future[T]) -> None:
        """Work that nobody waits for any more counts until its thread is free."""
        if work.done():
            self._photos -= 1
        else:
            loop = asyncio.get_running_loop()
            work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free))

    def _free(self) -> None:
        self._photos -= 1

    @property
    def keeps_photos(self) -> bool:
        """Whether photos that the model is unsure of are kept for `plantops inbox`."""
        return self.settings.keep and self.keeper is not None

    def _keep(self, data: bytes, answer: Prediction) -> None:
        assert self.keeper
        told = answer.model_dump(mode="json", by_alias=True, exclude={"explanation"})
        try:
            self.keeper.photo(answer.request_id, data, told)
        except OSError as error:  # the client has no part in it
            log.error("the photo of %s cannot be kept: %s", answer.request_id, error)

    def _work(
        self, predictor: Predictor, data: bytes, top: int, explain: bool
    ) -> tuple[Seen, list[tuple[str, float]], float]:
        """All that NumPy has a part in: each time it lets go of Python's lock, the event loop would wait for it."""
        square = self._decode(data, predictor.manifest.preprocessing)
        began = time.perf_counter()
        seen = predictor.look(square, explain)
        took = time.perf_counter() - began
        return seen, predictor.ranked(seen.probabilities, max(top, 1)), took

    def _decode(self, data: bytes, spec: Preprocessing) -> NDArray[np.uint8]:
        """A stranger's photo to pixels, uint8, shape (size, size, 3), when there is room for it. Raises NotAPhoto."""
        photo = open_photo(data, self.settings.max_pixels)
        with self.room.take(footprint(photo, spec)):
            try:
                return pixels(photo, spec)
            except NotAPhoto as error:
                reason = str(error)
            finally:
                del photo  # what was decoded goes before the room does
        raise NotAPhoto(reason)  # not that error itself: its traceback would keep the picture

    async def breathe(self) -> None:
        """Return when a thread for photos is free: never, while all of them hang."""
        await asyncio.get_running_loop().run_in_executor(self._pool, int)

    def health(self) -> Health:
        """What `/health` says."""
        health = Health(
            status=self.status,
            model_loaded=self._predictor is not None,
            pid=os.getpid(),
            since=self.since,
            reason=self.reason,
            golden_difference=self.golden_difference,
        )
        if self._predictor:
            identity = self._predictor.identity
            health.release, health.digest = identity.release, identity.digest
            health.model_version, health.sample_data = identity.model_version, identity.sample_data
            health.classes = len(self._predictor.manifest.classes)
        return health

    @property
    def release(self) -> str | None:
        """The release that answers, once there is one."""
        return self._predictor.identity.release if self._predictor else None


def model_info(predictor: Predictor) -> ModelInfo:
    """What every answer says about the model."""
    identity = predictor.identity
    return ModelInfo(
        release=identity.release,
        digest=identity.digest,
        sample_data=identity.sample_data,
        model_version=identity.model_version,
        backbone=predictor.manifest.model.get("backbone"),
    )


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
