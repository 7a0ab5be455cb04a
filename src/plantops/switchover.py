"""The second half of a run: an accepted release is started, tried, given the traffic, looked at, and promoted."""

from __future__ import annotations

from functools import partial

from plantops import deploy, judgement, lock, news, notify, replay
from plantops.bundle import BadBundle, Bundle
from plantops.errors import PlantopsError, Refused, StepFailed
from plantops.lease import Lost
from plantops.postgres import Away
from plantops.probation import Probation, figures, look_on, remember
from plantops.views import show
from plantops.work import Skipped, Work, serving


def still_wanted(work: Work) -> None:
    """Raise Refused when the release was withdrawn while this run was on its way to it."""
    now = work.store.release(work.release.id) if work.release else None
    if now and now.withdrawn and not work.options.force:
        raise Refused(f"{now.id} was withdrawn at {now.withdrawn}", f"plantops rollback {now.id} brings it back")


def take_accepted(work: Work) -> str:
    """Without DVC: the newest candidate if it was accepted, else the release in service."""
    try:
        found = work.store.with_digest(Bundle.load(work.shelf.candidate).digest)
    except BadBundle:
        found = None
    work.release = found if found and not found.withdrawn else work.store.in_service()
    if work.release is None:
        raise StepFailed("there is no accepted model yet", "plantops run")
    return f"release {work.release.id}"


def build(work: Work) -> str:
    """What the backend needs before it can start the release."""
    if work.options.skip_docker:
        return Skipped(_no_image(work))
    if _nothing_to_switch(work):
        return Skipped(f"{work.chosen().id} serves already")
    return work.backend.build(work.shelf.release(work.chosen().id), work.console.log)


def try_(work: Work) -> str:
    """Start it beside the old one and ask it the golden photos through HTTP, before any traffic."""
    if _nothing_to_switch(work):
        return Skipped("")
    work.trial = work.backend.start(work.shelf.release(work.chosen().id))
    work.undo.callback(_give_up, work)
    worst = work.backend.try_golden(work.trial)
    names = judgement.renaming(work.store, work.shelf, work.chosen().id)
    more = replay.before_switch(work.config, work.store, work.console, work.backend, work.trial, names)
    return f"golden photos answered, off by {worst:.1e} at most{more}"


def switch(work: Work) -> str:
    """Traffic moves to it; the old one still stands."""
    if work.trial is None:
        return Skipped("")
    if work.config.deploy.auto_rollback != "off":
        before = figures(work.backend) if work.store.in_service() else None
        names = judgement.renaming(work.store, work.shelf, work.chosen().id)
        work.probation = Probation(work.backend, work.chosen().id, before and before.called(names))
    with work.lease.fence():
        work.backend.switch(work.trial)
        work.switched = True
    return f"{work.chosen().id} answers on {work.backend.url}"


def watch(work: Work) -> str:
    """Look on for a while, the old one standing by. Raises Refused when it answers worse than that one did."""
    if work.trial is None:
        return Skipped("")
    seconds, one = work.config.deploy.watch_seconds, work.probation
    look = partial(look_on, work.config, work.store, work.console, one)
    work.backend.watch(seconds, look)
    look(at_once=True)
    if one and one.wrong:
        notify.post(work.config, work.console, news.misbehaves(work.config, one.release, one.wrong))
        return f"looked on for {seconds:g} s: {'; '.join(one.wrong)}"
    return f"well for {seconds:g} s{one.sentence() if one else ''}"


def promote(work: Work) -> str:
    """The store says that it is in service; production, aliases and the rest follow."""
    release = work.chosen()
    if work.trial is not None:
        remember(work.store, work.probation)
        with work.lease.fence():
            work.lease.serves(release.id, f"run {work.run}")
        work.store.put_in_service(release.id, serving(work.config, work.backend.serving_code()), f"run {work.run}")
        deploy.remember(work.store, work.backend.name)
        work.undo.pop_all()
        for sentence in work.backend.settle():
            work.console.say(f"    {sentence}", "yellow")
    for sentence in _shown(work):
        work.console.say(f"    {sentence}", "grey")
    _open_pages(work)
    return f"{release.id} is in service" if work.trial else Skipped(f"{release.id} was in service already")


def _shown(work: Work) -> list[str]:
    """Write the views of what is in service; what to tell of it. They fail no release that is in service by then."""
    try:
        with work.lease.fence():
            return show(work.config, work.store, work.tracker, aliases=work.lease.newest())
    except (Lost, Away) as error:
        with lock.hold(work.config.state, lock.VIEWS, patience=60):
            work.shelf.produce(work.chosen().id)
        return [f"the aliases in MLflow will follow: {error.message}"]


def _open_pages(work: Work) -> None:
    """What stands beside the API: it must not fail a release."""
    try:
        work.backend.open_pages(lambda sentence: work.console.say(f"    {sentence}", "grey"))
    except PlantopsError as error:
        said = "".join(f"    {line}\n" for line in error.message.splitlines())
        work.console.say(f"{said}      try: {error.hint}", "yellow")


def _no_image(work: Work) -> str:
    builds = work.backend.built() is not None
    return "left out by --skip-docker" if builds else "nothing to skip: the local backend builds no image"


def _nothing_to_switch(work: Work) -> bool:
    return not work.options.force and work.serves_already


def _give_up(work: Work) -> None:
    """A release that was not promoted leaves; the old one answers as before."""
    if work.trial is None:
        return
    try:
        if work.switched:
            work.backend.back()
        else:
            work.backend.abandon(work.trial)
    except PlantopsError as error:
        work.console.error(error)
