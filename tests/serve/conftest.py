"""A real worker process for each set of flags."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api_client import get, until
from bundle_factory import make_release
from serve.by_hand import Running, start

FLAGS = ["--max-upload-mb", "2", "--max-megapixels", "70", "--threads", "2"]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("releases") / "r1")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts workers; none is left at the end."""
    started: list[Running] = []

    def begin(bundle: Path, *flags: str) -> Running:
        started.append(start(bundle, tmp_path / f"worker{len(started)}.log", *flags))
        return started[-1]

    yield begin
    for running in started:
        running.process.kill()
        running.process.wait(10)


@pytest.fixture(scope="session")
def port(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A healthy worker that most tests share."""
    running = start(release, tmp_path_factory.mktemp("worker") / "log", *FLAGS)
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    yield running.port
    assert running.terminate() == 0
    assert not os.path.exists(f"/proc/{running.process.pid}/fd")


@pytest.fixture(scope="session")
def hasty(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A worker with one thread and little patience."""
    flags = ["--request-timeout-s", "0.6", "--keep-alive-s", "0.5", "--threads", "1"]
    running = start(release, tmp_path_factory.mktemp("hasty") / "log", *flags)
    until(lambda: get(running.port, "/health").status == 200)
    yield running.port
    running.process.kill()
    running.process.wait(10)
