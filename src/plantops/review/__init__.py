"""`plantops report`: what a change does to data, parameters, scores and classes, and what the gate says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plantops import plan, recall
from plantops.bundle import BadBundle, Bundle
from plantops.config import Config
from plantops.review import chapters, render, snapshot
from plantops.review.snapshot import Snapshot
from plantops.shelf import Shelf
from plantops.store import Release, Store


@dataclass(frozen=True)
class Report:
    """What is here, what it is compared with (None where there is nothing yet), and what was not run yet."""

    project: str
    now: Snapshot
    then: Snapshot | None
    waiting: tuple[str, ...]

    def markdown(self) -> str:
        """For a comment on a pull request: GitHub's and GitLab's Markdown."""
        return render.markdown(chapters.title(self.project, self.now), self._blocks())

    def html(self) -> str:
        """One page that needs nothing else, with the plots."""
        return render.html(chapters.title(self.project, self.now), self._blocks())

    def _blocks(self) -> list[chapters.Block]:
        return chapters.written(self.now, self.then, self.waiting)


def make(config: Config, against: str | None) -> Report:
    """What is in the project now beside the release in service, or what git revision ``against`` holds.

    Where the release in service is the model that is here, the one before it is taken. Changes nothing, and never
    moves the working tree. Raises SetupError when there is no such revision.
    """
    shelf = Shelf(config.models)
    with recall.look(config) as store:
        digest = _digest(shelf)
        now = snapshot.of_tree(config, _verdict(shelf, store, digest))
        found = plan.make(config.root, store, going_on=False)
        waiting = tuple(found.sentences()) if found.due or found.undeployed or found.loose else ()
        if against:
            known = store.release(against)
            whole = known is not None and known.id == against
            then = snapshot.of_release(config, known) if known and whole else snapshot.of_revision(config, against)
            return Report(config.project, now, then, waiting)
        rival = _rival(store, digest)
    return Report(config.project, now, snapshot.of_release(config, rival) if rival else None, waiting)


def _rival(store: Store, digest: str) -> Release | None:
    current = store.in_service()
    return store.previous() if current and current.digest == digest else current


def _digest(shelf: Shelf) -> str:
    """Of the newest candidate; empty where there is none, or none that is whole."""
    try:
        return Bundle.load(shelf.candidate).digest
    except BadBundle:
        return ""


def _verdict(shelf: Shelf, store: Store, digest: str) -> dict[str, Any] | None:
    """What the gate said of the candidate: it is kept with the release, or with what was refused."""
    if not digest:
        return None
    if known := store.with_digest(digest):
        return shelf.facts(known.id).get("verdict")
    for folder in sorted(shelf.refused.glob("[!.]*"), reverse=True):
        try:
            if Bundle.load(folder).digest == digest:
                return shelf.refusal(folder.name) or None
        except BadBundle:
            continue
    return None
