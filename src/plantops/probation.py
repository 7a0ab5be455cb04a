"""The release that has the traffic, looked at beside what the one before it did with it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from plantops import deploy, news, notify
from plantops.behaviour import Figures, alike, broken
from plantops.config import Config
from plantops.console import Console
from plantops.errors import Refused, StepFailed
from plantops.store import BEFORE, MISBEHAVES, Store

_EVERY_S = 1.0


@dataclass
class Probation:
    """``before``: figures of the release that was replaced, as far as they are known. ``wrong``: what was found."""

    backend: deploy.Backend
    release: str
    before: Figures | None
    wrong: list[str] = field(default_factory=list)
    _looked: float = 0.0

    def look(self, at_once: bool = False) -> list[str]:
        """What is wrong with the new one, in words; asked of it once a second, or ``at_once``, until something is."""
        if self.wrong or (time.monotonic() - self._looked < _EVERY_S and not at_once):
            return self.wrong
        self._looked = time.monotonic()
        now = figures(self.backend)
        if now and now.release == self.release:
            self.wrong = broken(now, self.before)
        return self.wrong

    def sentence(self) -> str:
        """How the two compare, in words; empty where there is nothing to compare."""
        now = figures(self.backend)
        known = now and self.before and min(now.photos, self.before.photos) > 0
        return f": {alike(now, self.before)}" if known and now and self.before else ""


def figures(backend: deploy.Backend) -> Figures | None:
    """Of what answers on the public port; None when it says nothing."""
    try:
        return Figures.of(backend.metrics())
    except StepFailed:
        return None


def remember(store: Store, one: Probation | None) -> None:
    """Note the figures of the release that is being replaced, for watch to go on comparing with."""
    current = store.in_service()
    if one and one.before and current and current.id != one.release:
        store.note(one.release, BEFORE, json.dumps(one.before.to_dict()))


def look_on(config: Config, store: Store, console: Console, one: Probation | None, at_once: bool = False) -> None:
    """Look; what is wrong is noted with the release. Raises Refused or StepFailed where it is to go back."""
    if one is None or one.wrong or not one.look(at_once):
        return
    store.note(one.release, MISBEHAVES, "; ".join(one.wrong))
    if config.deploy.auto_rollback == "on":
        raise sent_back(config, store, console, one)


def sent_back(config: Config, store: Store, console: Console, probation: Probation) -> Refused | StepFailed:
    """What ends the run, so that the old release answers (again); the new one does not come back by itself."""
    said = "".join(f"\n    {one}" for one in probation.wrong)
    current, release = store.in_service(), store.release(probation.release)
    if current is None or release is None or current == release:  # the same model, served by other code or settings
        return StepFailed(f"{probation.release} answers worse than before, what served before serves again:{said}")
    store.note(release.id, MISBEHAVES, "; ".join(probation.wrong))
    store.withdraw(release.id)
    told = news.rolled_back(config, current, release, probation.backend.url, probation.wrong)
    notify.post(config, console, told)
    return Refused(
        f"{release.id} answers worse than {current.id}, which serves:{said}",
        f"plantops rollback {release.id} deploys it all the same",
    )
