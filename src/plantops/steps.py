"""The steps of a run, in order, and its first half: look, train, record, judge, put on the shelf.

The only place, with `switchover.py`, where hands and judgement meet.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from plantops import artifacts, detect, dvc, effort, gate, judgement, lineage, lock, plan, switchover, training
from plantops.bundle import Bundle
from plantops.config import LOCK
from plantops.errors import Refused
from plantops.store import Release, now
from plantops.views import recount
from plantops.work import Options, Skipped, Step, Work, serving

__all__ = ["Options", "Skipped", "Step", "Work", "serving", "steps"]


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
    taken = [Step("take", switchover.take_accepted)] if options.skip_dvc else []
    return [
        Step("look", look_at_photos, _no_dvc),
        Step("reproduce", reproduce, _no_dvc),
        Step("record", record, _no_dvc),
        Step("gate", judge, _no_dvc),
        Step("stage", stage, _no_dvc),
        *taken,
        Step("build", switchover.build, _no_deploy),
        Step("try", switchover.try_, _no_deploy, switches=True),
        Step("switch", switchover.switch, _no_deploy, switches=True),
        Step("watch", switchover.watch, _no_deploy, switches=True),
        Step("promote", switchover.promote, _no_deploy, switches=True),
    ]
