"""The steps of a run: each a name and a function. The only place where hands and judgement meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from plantops import (
    artifacts,
    code,
    deploy,
    detect,
    dvc,
    effort,
    gate,
    git,
    judgement,
    lineage,
    lock,
    news,
    notify,
    plan,
    replay,
    training,
)  # fmt: skip
from plantops.bundle import BadBundle, Bundle
from plantops.config import LOCK, Config
from plantops.console import Console
from plantops.errors import PlantopsError, Refused, StepFailed
from plantops.plan import Plan
from plantops.probation import Probation, figures, look_on, remember
from plantops.shelf import Shelf
from plantops.store import Release, Store, now
from plantops.tracking import Tracker
from plantops.views import recount, show

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


def still_wanted(work: Work) -> None:
    """Raise Refused when the release was withdrawn while this run was on its way to it."""
    now = work.store.release(work.release.id) if work.release else None
    if now and now.withdrawn and not work.options.force:
        raise Refused(f"{now.id} was withdrawn at {now.withdrawn}", f"plantops rollback {now.id} brings it back")


def look_at_photos(work: Work) -> str:
    """What changed and what is wrong with the photos, before training. Raises StepFailed where a rule says stop."""
    from plantops import look
    from plantops.look import page, words
    from plantops.look.findings import WARN

    work.seen = look.at(work.config, work.store, split=False, console=work.console)
    for one in work.seen.at(WARN):
        for line, colour in words.said(one):
            work.console.say(f"    {line}", colour)
    page.write(work.config, work.seen)
    look.check(work.seen.findings)
    return work.seen.sentence()


def reproduce(work: Work) -> str:
    """``dvc repro``: prepare_data, train, evaluate, export_model, as far as they are stale."""
    try:
        current = work.store.in_service()
        champion = work.shelf.release(current.id) if current else None
        work.ran = training.reproduce(work.config, work.console, work.tracker, work.run, work.options.force, champion)
    finally:
        now = dvc.inputs(work.config.root)
        work.left_behind = plan.left_behind(work.plan.inputs, now, lineage.was_read(work.config.root, now))
    if work.config.data.untracked == "refuse":
        lineage.check_known(work.config.root, work.plan.inputs, now)
    _look_for_leaks(work)
    return work.ran.sentence()


def _look_for_leaks(work: Work) -> None:
    """In the split that training made; its scores are known by now, and not yet believed."""
    from plantops import look
    from plantops.look import words

    found = look.leaks(work.config, work.seen) if work.seen else []
    for one in found:
        for line, colour in words.said(one):
            work.console.say(f"    {line}", colour)
    look.check(found)


def record(work: Work) -> str:
    """One MLflow run for the training behind this candidate."""
    bundle, networks = work.bundle(), int(dvc.params(work.config.root, "evaluate").get("repeats", 1))
    work.took = effort.record(work.shelf, bundle.manifest, work.ran.train_seconds, networks)
    work.mlflow_run = training.record(work.config, work.tracker, work.run, work.ran, bundle, work.git, work.took)
    logged = f"MLflow run {work.mlflow_run[:8]}" if work.mlflow_run else "MLflow is away: kept to be logged later"
    return "; ".join(filter(None, (effort.sentence(work.took), logged)))


def judge(work: Work) -> str:
    """The floors, and the release in service on photos that neither learned from."""
    bundle = work.bundle()
    verdict = judgement.verdict(work.config, work.store, work.shelf, bundle, work.options.force)
    if not verdict.accepted and work.options.accept_anyway and not verdict.binding:
        verdict = replace(verdict, overruled=gate.Overruled(lock.user(), work.options.accept_anyway, now()))
    work.verdict = verdict
    work.tracker.judged(work.mlflow_run, bundle.digest, verdict.to_dict())
    work.wandered = judgement.wandered(work.config, work.store, work.shelf)
    for way, count in sorted(Counter(work.wandered.values()).items()):
        work.console.say(f"    {count} photos went from {way} since the release in service (in lineage.json)", "grey")
    for sentence in verdict.unjudged:
        work.console.say(f"    {sentence}", "grey")
    reasons = "\n".join(f"    {reason}" for reason in verdict.reasons)
    if not verdict.accepted:
        raise _refused(work, verdict, reasons)
    if verdict.overruled:
        work.console.say(f"    accepted anyway by {verdict.overruled.user}, although:\n{reasons}", "yellow")
    return judgement.summary(verdict)


def _refused(work: Work, verdict: gate.Verdict, reasons: str) -> Refused:
    """Keep the candidate with the verdict; the error says why, and what may be done."""
    kept = work.shelf.refuse(work.run, verdict.to_dict(), work.config.root / artifacts.REPORTS)
    where = kept.relative_to(work.config.root)
    why = "cannot accept the model" if verdict.binding else "did not accept the model"
    more = "" if verdict.binding else '; plantops run --accept-anyway "why" releases it on your word'
    return Refused(
        f"the gate {why}{'' if verdict.outcome == gate.REFUSED else f' ({verdict.outcome})'}; "
        f"what was in service stays:\n{reasons}",
        f"look at {where}/, change data or params.yaml (or gate: in config.yaml), then plantops run{more}",
    )


def stage(work: Work) -> str:
    """The accepted model on the shelf as a release, and one version in the registry."""
    bundle = work.bundle()
    recount(work.store, work.tracker)
    known = work.store.with_digest(bundle.digest)
    name = known.id if known else f"{work.git.short}-{bundle.digest[:12]}"
    version = known.version if known else None
    if version is None:
        version = work.tracker.register(work.mlflow_run, name, bundle.digest)
    split, reports = work.config.root / artifacts.INDEX, work.config.root / artifacts.REPORTS
    work.shelf.stage(name, _facts(work, name, bundle, version), _lineage(work), split, reports)
    work.store.add_release(
        Release(name, now(), work.run, bundle.digest, bundle.manifest.sample_data, work.mlflow_run, version, None)
    )
    if known and known.version is None and version is not None:
        work.store.set_version(name, version)
    work.release = work.store.release(name)
    return f"same model as release {name}" if known else f"release {name}" + (f", version {version}" if version else "")


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
        work.store.put_in_service(release.id, serving(work.config, work.backend.serving_code()), f"run {work.run}")
        deploy.remember(work.store, work.backend.name)
        work.undo.pop_all()
        for sentence in work.backend.settle():
            work.console.say(f"    {sentence}", "yellow")
    for sentence in show(work.config, work.store, work.tracker):
        work.console.say(f"    {sentence}", "grey")
    _open_pages(work)
    return f"{release.id} is in service" if work.trial else Skipped(f"{release.id} was in service already")


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


def _facts(work: Work, name: str, bundle: Bundle, version: int | None) -> dict[str, Any]:
    """What release.json says: where the model comes from and why it was accepted."""
    return {
        "release": name,
        "digest": bundle.digest,
        "created": now(),
        "run": work.run,
        "sample_data": bundle.manifest.sample_data,
        "commit": work.git.commit,
        "branch": work.git.branch,
        "fingerprint": detect.fingerprint(work.left_behind),
        "mlflow": {"run": work.mlflow_run, "version": version, "model": work.config.mlflow.model_name},
        "serving_code": serving(work.config),
        "training": work.took,
        "verdict": work.verdict.to_dict() if work.verdict else None,
    }


def _lineage(work: Work) -> dict[str, Any]:
    """What lineage.json says: the inputs in full, and what was not committed. It may hold what is nobody else's."""
    return {
        "diff": work.git.diff,
        "inputs": work.left_behind,
        "dvc_lock": (work.config.root / LOCK).read_text(encoding="utf-8"),
        "went_to_another_split": work.wandered,
    }


def _no_dvc(options: Options) -> str:
    return "left out by --skip-dvc" if options.skip_dvc else ""


def _no_deploy(options: Options) -> str:
    return "left out by --skip-deploy" if options.skip_deploy else ""


def steps(options: Options) -> list[Step]:
    """The steps of a run, in order."""
    taken = [Step("take", take_accepted)] if options.skip_dvc else []
    return [
        Step("look", look_at_photos, _no_dvc),
        Step("reproduce", reproduce, _no_dvc),
        Step("record", record, _no_dvc),
        Step("gate", judge, _no_dvc),
        Step("stage", stage, _no_dvc),
        *taken,
        Step("build", build, _no_deploy),
        Step("try", try_, _no_deploy, switches=True),
        Step("switch", switch, _no_deploy, switches=True),
        Step("watch", watch, _no_deploy, switches=True),
        Step("promote", promote, _no_deploy, switches=True),
    ]
