"""What one run knows and is asked for, and what a step of it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from plantops import code, deploy, gate, git, training
from plantops.bundle import BadBundle, Bundle
from plantops.config import Config
from plantops.console import Console
from plantops.errors import StepFailed
from plantops.lease import Lease
from plantops.plan import Plan
from plantops.probation import Probation
from plantops.shelf import Shelf
from plantops.store import Release, Store
from plantops.tracking import Tracker

if TYPE_CHECKING:
    from plantops.look import Look  # with NumPy and Pillow: not before there is something to run


@dataclass(frozen=True)
class Options:
    """What the user asked for on the command line."""

    force: bool = False
    skip_dvc: bool = False
    skip_docker: bool = False
    skip_deploy: bool = False
    accept_anyway: str = ""


class Skipped(str):
    """A step's note, when the step had nothing to do or was left out."""


@dataclass
class Work:
    """What one run knows; the steps fill in the second half as they go."""

    config: Config
    store: Store
    console: Console
    options: Options
    run: str
    plan: Plan
    git: git.State
    shelf: Shelf
    tracker: Tracker
    backend: deploy.Backend
    lease: Lease = field(default_factory=Lease)
    undo: ExitStack = field(default_factory=ExitStack)

    left_behind: dict[str, Any] = field(default_factory=dict)
    seen: Look | None = None
    ran: training.Ran = field(default_factory=training.Ran)
    mlflow_run: str | None = None
    took: dict[str, Any] = field(default_factory=dict)
    verdict: gate.Verdict | None = None
    wandered: dict[str, str] = field(default_factory=dict)
    release: Release | None = None
    trial: deploy.Trial | None = None
    switched: bool = False
    probation: Probation | None = None

    def bundle(self) -> Bundle:
        """The candidate. Raises StepFailed when it is not whole."""
        try:
            return Bundle.load(self.shelf.candidate)
        except BadBundle as error:
            raise StepFailed(f"the candidate is not whole: {error}", "plantops run --force") from None

    def chosen(self) -> Release:
        """The release that this run is about."""
        assert self.release, "a step that needs the release runs after it was staged"
        return self.release

    @property
    def serves_already(self) -> bool:
        """Whether the release is in service, answering, by the serving code that is installed."""
        current, running = self.store.in_service(), self.backend.serving()
        return (
            current is not None
            and current.id == self.chosen().id
            and running is not None
            and running.release == current.id
            and self.store.serving_code() == serving(self.config)
            and not deploy.moves(self.backend)
        )


@dataclass(frozen=True)
class Step:
    """A step: returns a note in words (or Skipped), or raises."""

    name: str
    run: Callable[[Work], str]
    skip: Callable[[Options], str] = lambda _: ""
    switches: bool = False


def serving(config: Config, digest: str | None = None) -> str:
    """Digest of what a release is served with: the code (by its own ``digest``, or as installed) and its settings."""
    settings = {**asdict(config.serve), **asdict(config.api), "keep_alive_s": config.deploy.keep_alive_s}
    return code.served_with(code.serving_digest() if digest is None else digest, settings)
