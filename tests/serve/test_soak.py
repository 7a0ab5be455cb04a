"""An hour of photos, small ones and some of 12 megapixels: no answer fails, and the memory does not grow."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from api_client import get, predict, until
from bundle_factory import photo
from serve.by_hand import Running

EVERY_S = 0.2
LARGE = 10  # every tenth photo has 12 megapixels
SAMPLE_S = 10.0
MOST_MB = 5.0  # more than at first, by the line through what was held


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_memory_is_flat(worker: Callable[..., Running], release: Path) -> None:
    """``SOAK_BUNDLE``: another bundle than the tiny one."""
    running = worker(Path(os.environ.get("SOAK_BUNDLE", release)))
    until(lambda: get(running.port, "/health").status == 200, 60)
    small = [photo(number, (255, 255)) for number in range(32)]
    large = [photo(number, (4_002, 3_000)) for number in range(8)]
    began, samples, statuses, slow = time.monotonic(), [], [], []
    end = began + 60 * float(os.environ.get("SOAK_MINUTES", "60"))
    for number in itertools.count():
        now = time.monotonic()
        if now >= end:
            break
        kind = large if number % LARGE == 0 else small
        answer = predict(running.port, kind[number // LARGE % len(kind)])
        statuses.append(answer.status)
        slow.append(time.monotonic() - now)
        if not samples or now - samples[-1][0] >= SAMPLE_S:
            samples.append((now, running.memory()))
            print(f"{now - began:.0f} s, {len(statuses)} photos, {samples[-1][1] / 1e6:.1f} MB", flush=True)
        time.sleep(max(0.0, now + EVERY_S - time.monotonic()))
    settled = samples[len(samples) // 5 :]  # first the allocator and the caches fill
    hours, megabytes = zip(*(((when - began) / 3600, held / 1e6) for when, held in settled), strict=True)
    slope = float(np.polyfit(hours, megabytes, 1)[0])
    print(f"{len(statuses)} photos in {60 * hours[-1]:.0f} minutes, median {1e3 * statistics.median(slow):.0f} ms")
    print(f"{megabytes[0]:.1f} MB, at last {megabytes[-1]:.1f}, at most {max(megabytes):.1f}: {slope:+.2f} MB an hour")
    assert set(statuses) == {200}
    assert slope * hours[-1] < MOST_MB
