"""What watch looks at in the release that serves: does it answer as the one before it did, are the photos as usual.

Figures are compared for a day after a run has put a release in service: later on, traffic differs for reasons of its
own. A release that a person, or a rollback, put there is never sent back. While a run trains, what a photo takes in the
model is not judged: the machine is at work.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from plantops import deploy, lock, news, notify, recall, releases
from plantops.behaviour import Figures, broken
from plantops.config import Config
from plantops.console import Console
from plantops.errors import PlantopsError
from plantops.probation import figures
from plantops.store import BEFORE, DRIFTED, MISBEHAVES, RETRAINED, Error, Release, Store

EVERY_S = 10.0
_PROBATION = timedelta(days=1)
_WINDOW = 300  # photos after which figures are taken anew, so that what begins late is not thinned out


class Guard:
    """Of one watch. ``say`` is told what it does."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._looked = 0.0
        self._since: Figures | None = None
        self._said: set[str] = set()
        self._at_work = ""  # the release that served while a run went on, at the last look

    def look(self, config: Config, console: Console) -> None:
        """Every ten seconds at most, and not while a switch goes on. Where the API says nothing, nothing is done:
        others notice that."""
        if time.monotonic() - self._looked < EVERY_S or lock.holder(config.state, lock.SWITCH):
            return
        self._looked = time.monotonic()
        try:
            with recall.look(config) as store:
                current = store.in_service()
                if current is None:
                    return
                self._photos(config, console, store, current)
                wrong = self._answers(config, store, current)
            if wrong:
                self._act(config, console, current, wrong)
        except (PlantopsError, OSError, Error) as error:
            self._say(f"the API cannot be looked at: {(str(error) or repr(error)).splitlines()[0]}")

    @contextmanager
    def beside(self, config: Config, console: Console, more: Callable[[], None]) -> Iterator[None]:
        """Look on from a thread of its own, and do ``more`` each time, while this process is in a run."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(EVERY_S):
                self.look(config, console)
                more()

        thread = threading.Thread(target=look, name="guard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def retrain(self, config: Config, fingerprint: str) -> bool:
        """Whether drift is to force a run on these inputs: once, whatever comes of it."""
        if config.monitor.on_drift != "retrain":
            return False
        with recall.look(config) as store:
            current = store.in_service()
            return bool(current and store.noted(current.id, DRIFTED) and not store.retrained(fingerprint))

    def retraining(self, config: Config, fingerprint: str) -> None:
        """The run that drift forces begins."""
        with Store(config.state) as store:
            if current := store.in_service():
                store.note(current.id, RETRAINED, fingerprint)

    def _photos(self, config: Config, console: Console, store: Store, current: Release) -> None:
        """Tell of drift, once of each release."""
        if store.noted(current.id, DRIFTED):
            return
        serving = deploy.get(config).serving()
        if serving is None or serving.release != current.id or not serving.drift:
            return
        with Store(config.state) as writing:
            writing.note(current.id, DRIFTED, "; ".join(serving.drift))
        self._say(f"the photos have changed: {'; '.join(serving.drift)}")
        then = "a run is forced (monitor.on_drift: retrain)"
        if config.monitor.on_drift == "notify":
            then = "label some of them (plantops inbox), add them, and plantops run"
        notify.post(config, console, news.drifted(config, current.id, serving.drift, then))

    def _answers(self, config: Config, store: Store, current: Release) -> list[str]:
        """What is wrong with the release in service, if it is on probation and nobody was told yet."""
        latest = store.served()[0]
        known, old = store.noted(current.id, BEFORE), datetime.now(UTC) - datetime.fromisoformat(latest.at)
        on_probation = latest.reason.startswith("run ") and old < _PROBATION
        if config.deploy.auto_rollback == "off" or not on_probation or store.noted(current.id, MISBEHAVES):
            return []
        now = figures(deploy.get(config))
        if now is None or now.release != current.id:
            return []
        at_work = bool(lock.holder(config.state))
        if self._at_work == current.id and not at_work:  # what was slow until now says nothing about the release
            self._since = now
        self._at_work = current.id if at_work else ""
        added = now.since(self._since) if self._since else now
        wrong = broken(added, Figures.from_dict(json.loads(known)) if known else None, timed=not at_work)
        if added.photos >= _WINDOW and not wrong:  # what is wrong stays in sight until it is acted on
            self._since = now
        return wrong

    def _act(self, config: Config, console: Console, current: Release, wrong: list[str]) -> None:
        """Go back, or tell people. It is noted only then: what did not work is tried again at the next look."""
        self._say_once(f"{current.id} answers worse than the release before it: {'; '.join(wrong)}", current.id)
        with recall.look(config) as store:
            back = store.previous() if config.deploy.auto_rollback == "on" else None
        if back is None:
            notify.post(config, console, news.misbehaves(config, current.id, wrong))
        else:
            try:
                target = releases.roll_back(config, console, None, wrong, leaving=current.id)
            except PlantopsError as error:
                self._stays(config, console, current, wrong, f"could not go back: {error.message.splitlines()[0]}")
                return
            self._say(f"{target.id} is in service again; {current.id} is not deployed again by itself")
        with Store(config.state) as writing:
            writing.note(current.id, MISBEHAVES, "; ".join(wrong))

    def _stays(self, config: Config, console: Console, current: Release, wrong: list[str], why: str) -> None:
        """Say why there was no way back; where nothing else serves by now, people are told, once."""
        self._say_once(why, f"{current.id} {why}")
        with recall.look(config) as store:
            still = store.in_service()
        if still and still.id == current.id:
            notify.post(config, console, news.misbehaves(config, current.id, [why, *wrong]))

    def _say_once(self, text: str, about: str) -> None:
        """Not every ten seconds anew, while the reason for it stays."""
        if about not in self._said:
            self._said.add(about)
            self._say(text)
