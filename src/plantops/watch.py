"""When to look: file events, an interval, and growing pauses after a failure. And the loop over it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from plantops import detect, dvc, plan
from plantops.config import Config
from plantops.console import Console
from plantops.errors import PlantopsError, Refused
from plantops.store import Store

LONGEST_PAUSE_S = 3600.0


def wakes(config: Config, interval_s: float, stop: threading.Event) -> Iterator[None]:
    """Yield at once, then whenever a file that matters moved (once it is quiet), and every ``interval_s`` seconds."""
    import watchfiles

    yield
    raw = dvc.raw_folder(config.root)
    folders = [folder for folder in (config.root, raw) if folder.is_dir()]
    for moved in watchfiles.watch(
        *folders, watch_filter=_matters, recursive=False, yield_on_timeout=True, stop_event=stop,
        rust_timeout=round(interval_s * 1000), raise_interrupt=True, debounce=200,
    ):  # fmt: skip
        if moved:
            _settle(config, stop)
        yield


def loop(
    config: Config, console: Console, interval_s: float, run: Callable[[str], object], stop: threading.Event
) -> None:
    """Run whenever there is something to do; a failed run is retried with growing pauses, a few times.

    ``run`` is called with what triggered it. Ends when ``stop`` is set.
    """
    console.say(f"watching {config.root} every {interval_s:g} s; not looked at: {plan.NOT_LOOKED_AT}")
    tries, told = _Tries(config.watch.max_retries, interval_s), ""
    for _ in wakes(config, interval_s, stop):
        todo = _look(config)
        tries.about(todo)
        if "; ".join(todo.sentences()) != told and tries.failed == 0:
            told = "; ".join(todo.sentences())
            console.say(f"{time.strftime('%H:%M:%S')} {told}")
        if todo.due and tries.may():
            tries.ended(_try(run, console, quiet_after=tries.said))


@dataclass
class _Tries:
    """Consecutive failures on the same inputs, and when the next try is due."""

    most: int
    interval_s: float
    failed: int = 0
    not_before: float = 0.0
    inputs: str = ""
    said: str = ""

    def about(self, todo: plan.Plan) -> None:
        """Start counting anew when the inputs changed; what a run writes itself is no change."""
        given = detect.fingerprint(detect.given(todo.inputs))
        if given != self.inputs:
            self.inputs, self.failed, self.not_before, self.said = given, 0, 0.0, ""

    def may(self) -> bool:
        """Whether it is time."""
        return self.failed <= self.most and time.monotonic() >= self.not_before

    def ended(self, error: str) -> None:
        """A try came to its end: ``error`` is empty when it was a good one."""
        self.said = error
        self.failed = self.failed + 1 if error else 0
        self.not_before = time.monotonic() + min(LONGEST_PAUSE_S, self.interval_s * 2.0**self.failed) if error else 0.0


def _try(run: Callable[[str], object], console: Console, quiet_after: str) -> str:
    """Run; returns the error of a run that came to no end. The same error is not told twice in a row."""
    try:
        run("watch")
    except Refused as error:
        console.error(error)
    except PlantopsError as error:
        if error.message != quiet_after:
            console.error(error)
            console.say("trying again with growing pauses, or as soon as something changes", "grey")
        return error.message
    return ""


def _look(config: Config) -> plan.Plan:
    with Store(config.state, readonly=True) as store:
        return plan.make(config.root, store)


def _matters(_: object, path: str) -> bool:
    name = Path(path).name
    return name.endswith((".dvc", ".yaml", ".yml", ".json", ".toml", ".py")) or name == "dvc.lock"


def _settle(config: Config, stop: threading.Event) -> None:
    """Wait until the inputs have not moved for ``watch.settle_seconds``, at most ``watch.max_wait_seconds``."""
    deadline = time.monotonic() + config.watch.max_wait_seconds
    before = dvc.inputs(config.root)
    while time.monotonic() < deadline and not stop.wait(config.watch.settle_seconds):
        now = dvc.inputs(config.root)
        if now == before:
            return
        before = now
