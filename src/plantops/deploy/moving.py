"""From one backend to another: the port can have one owner, so this is the one switch with a gap. It is measured.

The new backend is tried without the public port first; when it then does not come up on it, the old one comes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from plantops.deploy import probe
from plantops.deploy.protocol import Backend, Movable, Serving, Trial
from plantops.deploy.switching import switch_to
from plantops.errors import PlantopsError, StepFailed


class Moving:
    """The new backend, as long as the old one serves."""

    def __init__(self, old: Backend, new: Movable, in_service: Path) -> None:
        self._old, self._new, self._in_service = old, new, in_service
        self.name = new.name
        self.gap_s: float | None = None

    @property
    def what(self) -> str:
        """In words."""
        return f"deploy.backend: {self._old.name} → {self._new.name}"

    @property
    def url(self) -> str:
        """Where clients will reach the API."""
        return self._new.url

    def preflight(self) -> None:
        """What would stop the new backend, but for the port, which the old one holds."""
        self._new.preflight_without_port()

    def build(self, release: Path, say: Callable[[str], None]) -> str:
        """What the new backend needs."""
        return self._new.build(release, say)

    def start(self, release: Path) -> Trial:
        """Start it on the new backend, without the public port."""
        return self._new.rehearse(release)

    def try_golden(self, trial: Trial) -> float:
        """The largest difference of the trial's golden answers. Raises StepFailed."""
        return probe.golden(trial.address, trial.folder)

    def switch(self, trial: Trial) -> None:
        """The port changes hands; when the new backend does not take it, the old one does again."""
        began = time.monotonic()
        self._old.down()
        try:
            self._new.take_over(trial)
        except PlantopsError as error:
            self._return(error.message)
            raise
        except BaseException:  # whatever it is: something must serve
            self._return()
            raise
        self.gap_s = time.monotonic() - began

    def back(self) -> None:
        """The old backend serves what it served."""
        self._return()

    def serving_code(self) -> str:
        """Digest of the code that serves on the new backend."""
        return self._new.serving_code()

    def labelled(self) -> str | None:
        """Of the old one, which serves."""
        return self._old.labelled()

    def settle(self) -> list[str]:
        """The old one is gone already."""
        gap = [] if self.gap_s is None else [f"{self.what}: the port changed hands in {self.gap_s:.1f} s"]
        return [*gap, *self._new.settle()]

    def abandon(self, trial: Trial) -> None:
        """End the trial; the old one serves on."""
        self._new.abandon(trial)

    def serving(self) -> Serving | None:
        """What answers now."""
        return self._old.serving() or self._new.serving()

    def agrees(self, release: Path) -> bool:
        """Whether the new one serves this release alone."""
        return self._old.serving() is None and self._new.agrees(release)

    def up(self, release: Path) -> None:
        """Serve this release on the new backend. Raises StepFailed, and then the old one serves again."""
        self.build(release, lambda _: None)
        switch_to(self, release)

    def down(self) -> list[str]:
        """Stop both."""
        return [*self._old.down(), *self._new.down()]

    def watch(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """Look at the public port for that long. Raises StepFailed when what it says or does is wrong."""
        self._new.watch(seconds, look)

    def metrics(self) -> str:
        """Of the one that serves now. Raises StepFailed when it says nothing."""
        return (self._old if self._old.serving() else self._new).metrics()

    def pages(self) -> dict[str, str]:
        """What else is served."""
        return self._new.pages()

    def open_pages(self, say: Callable[[str], None]) -> dict[str, str]:
        """Start what else is served."""
        return self._new.open_pages(say)

    def built(self) -> set[str] | None:
        """What the new one has built."""
        return self._new.built()

    def logs_argv(self, service: str, follow: bool) -> list[str]:
        """Of the old one, which serves."""
        return self._old.logs_argv(service, follow)

    def _return(self, why: str = "") -> None:
        """The old backend again, also where the new one does not let go of all that it has.

        Raises StepFailed when either failed; ``why`` it was needed is said then, too.
        """
        left = said = ""
        try:
            self._new.down()
        except PlantopsError as error:
            left = f"{self._new.name} could not be stopped: {error.message}"
        try:
            self._old.up(self._in_service)
        except PlantopsError as error:
            said = f"{self._old.name} did not come back, nothing serves: {error.message}"
        if left or said:
            raise StepFailed("\n".join(filter(None, (why, left, said))), "plantops up")
