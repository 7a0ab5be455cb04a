"""The processes that look at photos, when they end, answer, or cannot be had, at the worst moment."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bundle_factory import photo
from plantops.serve.pool import Pool
from plantops.serve.service import Service
from plantops.serve.settings import Settings

PHOTO, LIMIT_S = photo(1), 20.0


@asynccontextmanager
async def started(release: Path) -> AsyncIterator[Pool]:
    """A pool of one process, which is free."""
    pool = Pool(Settings(threads=1))
    try:
        await pool.start(release)
        await pool.breathe()
        yield pool
    finally:
        pool.close()


def alone(release: Path, work: Callable[[Pool], Awaitable[Any]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(LIMIT_S), started(release) as pool:
            await work(pool)

    asyncio.run(run())


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.ci
def test_who_goes_away_as_the_answer_comes_ends_nothing(release: Path) -> None:
    async def work(pool: Pool) -> None:
        first = asyncio.create_task(pool.look(PHOTO, 1, False))
        await asyncio.sleep(0)
        await pool.breathe()  # its answer is there, and it has not gone on yet
        assert first.cancel()
        assert (await pool.look(PHOTO, 1, False)).ranked
        assert first.cancelled()

    alone(release, work)


@pytest.mark.ci
def test_who_gets_his_turn_from_one_that_ended_gets_the_next(release: Path) -> None:
    async def work(pool: Pool) -> None:
        ended = await pool._next()
        asking = asyncio.create_task(pool.look(PHOTO, 1, False))
        await asyncio.sleep(0)
        ended._transport.abort()  # type: ignore[attr-defined]
        pool.freed(ended)
        assert (await asking).ranked
        pool.freed(ended)
        assert (await pool.look(PHOTO, 1, False)).ranked

    alone(release, work)


@pytest.mark.ci
def test_one_that_ended_is_replaced_when_files_can_be_opened_again(
    release: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(pool: Pool) -> None:
        looker = await pool._next()
        with no_more_files():
            looker.end()
            while "Too many open files" not in caplog.text:
                await asyncio.sleep(0.01)
        assert (await pool.look(PHOTO, 1, False)).ranked

    alone(release, work)


def test_a_start_that_fails_is_said(tmp_path: Path) -> None:
    async def load() -> Service:
        service = Service(Settings(threads=1))
        with no_more_files():
            await service.load(tmp_path)
        return service

    health = asyncio.run(load()).health()
    assert (health.status, health.reason) == ("failed", "[Errno 24] Too many open files")
