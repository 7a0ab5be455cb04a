"""What the routes share: the bundle once it is proven, the processes that look at photos, and the queue before them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException

from plantops.bundle import BadBundle
from plantops.photo import NotAPhoto
from plantops.serve.explain import explain as explained
from plantops.serve.keeper import Keeper
from plantops.serve.looked import Looked, Served
from plantops.serve.metrics import Metrics
from plantops.serve.pool import Gone, NotServed, Pool
from plantops.serve.recent import MOST_BYTES, Recent, forget
from plantops.serve.schema import ClassScore, Health, ModelInfo, Prediction
from plantops.serve.settings import Settings
from plantops.serve.uploads import Budget
from plantops.serve.windows import Windows

log = logging.getLogger(__name__)
_MOST_REMEMBERING = 16


class Service:
    """One worker's state. ``status`` goes from ``starting`` to ``healthy`` or ``failed``, once."""

    def __init__(self, settings: Settings, kept: Path | None = None) -> None:
        self.settings = settings
        self.keeper = Keeper(kept, settings.keep_photos, int(settings.keep_mb * 1e6)) if kept else None
        self._recent = Recent(kept, settings.replay) if kept and settings.replay else None
        if kept:
            forget(kept, settings.replay)
        self.metrics = Metrics()
        self._most = settings.workers + settings.max_waiting
        self.budget = Budget(settings.max_held_bytes)
        self.pool = Pool(settings)
        self.status = "starting"
        self.reason: str | None = "the model is being loaded"
        self.since = now()
        self._served: Served | None = None
        self._windows: Windows | None = None
        self._remembering = 0
        self.metrics.most.set(self._most)
        self._photos = 0
        self.metrics.working.set_function(lambda: self._photos)

    async def load(self, path: Path) -> None:
        """Set up the bundle and prove it. Whatever goes wrong becomes ``failed`` with its reason."""
        try:
            self._served = await self.pool.start(path)
        except (NotServed, BadBundle, OSError, ValueError) as error:
            self.status, self.reason = "failed", str(error)
            log.error("the bundle in %s cannot be served: %s", path, self.reason)
        else:
            self.metrics.loaded(self._served)
            if self._served.usual:
                self._windows = Windows(self._served.usual, self._served.manifest.classes)
            self.status, self.reason = "healthy", None
        self.since = now()

    def predictor(self) -> Served:
        """The proven bundle. Raises HTTPException 503 before there is one."""
        if self._served is None:
            raise HTTPException(503, f"no model is ready: {self.reason}", {"Retry-After": "1"})
        return self._served

    def admit(self) -> None:
        """Turn new photos away, 503, while too many wait."""
        if self._photos >= self._most:
            raise HTTPException(503, f"busy: {self._photos} photos are waiting, try again", {"Retry-After": "1"})

    async def answer(
        self, data: memoryview, top: int, request_id: str, explain: bool = False, counts: bool = True
    ) -> Prediction:
        """The answer for one photo, which ``counts`` as traffic. Raises NotAPhoto, or HTTPException 503 when it takes
        too long."""
        predictor = self.predictor()
        self._photos += 1
        try:
            looked = await self._in_time(self.pool.look(data, max(top, 1), explain))
        except NotAPhoto:
            self.metrics.refused.inc()
            raise
        finally:
            self._photos -= 1
        name, confidence = looked.ranked[0]
        if counts:
            asyncio.get_running_loop().call_soon(self._count, looked)  # nobody waits for that
            self._remember(data, predictor.identity.release, name, confidence)
        answer = Prediction(
            request_id=request_id,
            prediction=name,
            confidence=confidence,
            unsure=looked.unsure,
            unlike=looked.unlike,
            inference_time=looked.seconds,
            top5_predictions=[ClassScore(name=one, confidence=share) for one, share in looked.ranked],
            model_info=self.model_info,
            timestamp=now(),
        )
        if explain:
            answer.explanation = explained(looked.heatmap, name, predictor.manifest.preprocessing)
        if counts and self.keeps_photos and (answer.unsure or answer.unlike):
            await self._keep(data, looked.photo.format, answer)
        return answer

    def _count(self, looked: Looked) -> None:
        name, confidence = looked.ranked[0]
        self.metrics.read(looked.photo)
        self.metrics.predicted(name, confidence, looked.seconds, (looked.unsure, looked.unlike))
        if self._windows and looked.odd is not None:
            classes = self.predictor().manifest.classes
            for window in self._windows.add(np.array(looked.odd), classes.index(name)):
                self.metrics.full(window, classes)

    async def _in_time(self, looking: Awaitable[Looked]) -> Looked:
        limit = self.settings.request_timeout_s
        try:
            async with asyncio.timeout(limit):
                return await looking
        except TimeoutError:
            raise HTTPException(503, f"no answer within {limit:g} s, try again", {"Retry-After": "1"}) from None
        except Gone:
            raise HTTPException(503, "what looked at this photo ended, try again", {"Retry-After": "1"}) from None

    @property
    def keeps_photos(self) -> bool:
        """Whether photos that the model is unsure of are kept for `plantops inbox`."""
        return self.settings.keep and self.keeper is not None

    async def _keep(self, data: memoryview, kind: str, answer: Prediction) -> None:
        assert self.keeper
        told = answer.model_dump(mode="json", by_alias=True, exclude={"explanation"})
        try:
            await self.on_disk(self.keeper.photo, answer.request_id, data, kind, told)
        except OSError as error:  # the client has no part in it
            log.error("the photo of %s cannot be kept: %s", answer.request_id, error)

    async def on_disk(self, write: Callable[..., None], *what: Any) -> None:
        """Have a thread write it. Raises OSError, also when it takes too long: no request waits for ever."""
        try:
            async with asyncio.timeout(self.settings.request_timeout_s):
                await asyncio.get_running_loop().run_in_executor(None, write, *what)
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, "the disk takes too long") from None

    def _remember(self, data: memoryview, *answer: Any) -> None:
        """Keep a photo for the next release. What waits for a slow disk is held in memory, so only a few do."""
        if self._recent and self._remembering < _MOST_REMEMBERING and len(data) <= MOST_BYTES:
            self._remembering += 1
            written = asyncio.get_running_loop().run_in_executor(None, self._recent.add, bytes(data), *answer)
            written.add_done_callback(self._remembered)

    def _remembered(self, _: object) -> None:
        self._remembering -= 1

    async def breathe(self) -> None:
        """Return when a process for photos is free: never, while all of them hang. Before there are any, at once."""
        if self._served:
            await self.pool.breathe()

    def health(self) -> Health:
        """What `/health` says."""
        health = Health(
            status=self.status,
            model_loaded=self._served is not None,
            pid=os.getpid(),
            since=self.since,
            reason=self.reason,
            golden_difference=self._served.golden_difference if self._served else None,
        )
        if self._served:
            identity = self._served.identity
            health.release, health.digest = identity.release, identity.digest
            health.model_version, health.sample_data = identity.model_version, identity.sample_data
            health.classes = len(self._served.manifest.classes)
            health.drift = self._windows.words() if self._windows else None
        return health

    @cached_property
    def model_info(self) -> ModelInfo:
        """What every answer says about the model. Raises HTTPException 503 before there is one."""
        served = self.predictor()
        return ModelInfo(
            release=served.identity.release,
            digest=served.identity.digest,
            sample_data=served.identity.sample_data,
            model_version=served.identity.model_version,
            backbone=served.manifest.model.get("backbone"),
        )

    @property
    def release(self) -> str | None:
        """The release that answers, once there is one."""
        return self._served.identity.release if self._served else None


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
