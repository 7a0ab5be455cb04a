"""The processes that look at photos, when they end, answer, or cannot be had, at the worst moment."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundle_factory import make_release, photo
from plantops.photo import NotAPhoto
from plantops.serve.looked import SMALL, Looked
from plantops.serve.pool import Gone, Pool
from plantops.serve.service import Service
from plantops.serve.settings import Settings
from serve.looking import LookingModel, black, looking_release

PHOTO, BLACK, NO_PHOTO, LIMIT_S = photo(1), black(), b"no photo", 20.0


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose graph takes several photos and answers to the bit as one by one."""
    return looking_release(tmp_path_factory.mktemp("seeing") / "r")


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
def test_one_that_is_about_to_end_is_not_asked(release: Path) -> None:
    async def work(pool: Pool) -> None:
        (ending,) = pool._free
        ending._transport.abort()
        assert (await pool.look(PHOTO, 1, False)).ranked
        pool.freed(ending)
        assert (await pool.look(PHOTO, 1, False)).ranked

    alone(release, work)


def one_by_one(release: Path, photos: list[bytes]) -> list[Looked]:
    """The answers to them, each asked when the one before is answered."""
    found = list[Looked]()

    async def work(pool: Pool) -> None:
        for one in photos:
            found.append(await pool.look(one, 3, False))

    alone(release, work)
    return found


@asynccontextmanager
async def held(pool: Pool) -> AsyncIterator[int]:
    """Its process is not free inside, and may have it all at once afterwards; gives its number."""
    (looker,) = pool._free
    pool._free.clear()
    assert looker._pid
    yield looker._pid
    pool.freed(looker)


@pytest.mark.ci
def test_several_that_wait_are_answered_in_one_pass_to_the_bit(seeing: Path) -> None:
    kinds = [photo(1), photo(2, kind="PNG"), NO_PHOTO, photo(3, turned=True)]
    several = list[Any]()

    async def work(pool: Pool) -> None:
        async with held(pool):
            asking = [asyncio.create_task(pool.look(one, 3, False)) for one in kinds]
            await asyncio.sleep(0)
        several.extend(await asyncio.gather(*asking, return_exceptions=True))

    alone(seeing, work)
    wrong = several.pop(kinds.index(NO_PHOTO))
    assert isinstance(wrong, NotAPhoto)
    assert len({one.seconds for one in several}) == 1, "one pass, of which each has its share"
    single = one_by_one(seeing, [one for one in kinds if one != NO_PHOTO])
    assert [replace(one, seconds=0) for one in several] == [replace(one, seconds=0) for one in single]


@pytest.mark.ci
def test_large_ones_and_heat_maps_are_asked_about_alone(seeing: Path) -> None:
    large = photo(4, (900, 600), kind="PNG")
    assert len(large) > SMALL
    kinds = [(photo(1), False), (large, False), (photo(2), False), (photo(3), True), (photo(5), False)]

    async def work(pool: Pool) -> None:
        async with held(pool):
            asking = [asyncio.create_task(pool.look(one, 3, explain)) for one, explain in kinds]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*asking)
        assert len({one.seconds for one in answers}) == len(kinds)
        assert [one.heatmap is not None for one in answers] == [explain for _, explain in kinds]
        assert [one.photo.bytes for one in answers] == [len(one) for one, _ in kinds]
        assert answers[1].ranked == (await pool.look(large, 3, False)).ranked

    alone(seeing, work)


@pytest.mark.ci
def test_those_that_were_looked_at_with_one_that_ends_the_process_are_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no fault of a photo's, as a model without an answer to black, ends the process."""
    release = make_release(tmp_path / "r", LookingModel(blind_to_black=True))

    async def work(pool: Pool) -> None:
        async with held(pool):
            asking = [asyncio.create_task(pool.look(one, 1, False)) for one in (PHOTO, BLACK, photo(2))]
            await asyncio.sleep(0)
        first, black, last = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(black, Gone)
        assert isinstance(first, Looked)
        assert isinstance(last, Looked)

    alone(release, work)
    assert caplog.text.count("ended while it looked at a photo") == 1


@pytest.mark.ci
def test_who_goes_away_takes_nothing_from_those_he_was_looked_at_with(seeing: Path) -> None:
    async def work(pool: Pool) -> None:
        async with held(pool) as number:
            asking = [asyncio.create_task(pool.look(photo(seed), 1, False)) for seed in range(4)]
            await asyncio.sleep(0)
            os.kill(number, signal.SIGSTOP)
        await asyncio.sleep(0)
        asking[0].cancel()
        asking[2].cancel()
        await asyncio.sleep(0.1)
        os.kill(number, signal.SIGCONT)
        assert (await asking[1]).ranked
        assert (await asking[3]).ranked
        assert [one._pid for one in pool._free] == [number], "it was not ended"
        async with held(pool):
            asking = [asyncio.create_task(pool.look(photo(seed), 1, False)) for seed in range(2)]
            await asyncio.sleep(0)
            os.kill(number, signal.SIGSTOP)
        await asyncio.sleep(0)
        for one in asking:
            one.cancel()
        assert (await pool.look(PHOTO, 1, False)).ranked, "nobody waits for what it does: another is there"

    alone(seeing, work)


def in_memory() -> int:
    """How many pieces of memory that processes share this one holds."""
    with os.scandir("/proc/self/fd") as files:
        return sum(os.readlink(one.path).startswith("/memfd:") for one in files if os.path.lexists(one.path))


@pytest.mark.ci
def test_the_memory_of_one_that_ended_is_let_go(release: Path) -> None:
    large = photo(4, (900, 600), kind="PNG")

    async def work(pool: Pool) -> None:
        before = in_memory()
        for _ in range(5):
            await pool.breathe()
            looking = asyncio.create_task(pool.look(large, 1, False))
            await asyncio.sleep(0)
            looking.cancel()
        assert (await pool.look(large, 1, False)).ranked
        assert in_memory() == before

    gc.disable()
    try:
        alone(release, work)
    finally:
        gc.enable()


@pytest.mark.ci
def test_one_that_ended_is_replaced_when_files_can_be_opened_again(
    release: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(pool: Pool) -> None:
        (looker,) = pool._free
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
