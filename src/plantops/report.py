"""What commands tell a person: the end of a run, the state of things, releases, findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from plantops import (
    deploy,
    detect,
    gate,
    lease,
    lock,
    news,
    notify,
    pipeline,
    plan,
    prometheus,
    recall,
    scan,
    steps,
    store,
    training,
)  # fmt: skip
from plantops import dvc as dvc_files
from plantops import releases as shelf
from plantops.config import PIPELINE, Config
from plantops.console import Console
from plantops.errors import PlantopsError, SetupError, StepFailed
from plantops.shelf import Shelf
from plantops.tracking import Tracker
from plantops.watch import heartbeat

if TYPE_CHECKING:
    from plantops.pipeline import Outcome
    from plantops.symptoms import Finding

_SENTENCES = 6
_DRAWN = " (drawn sample data: it knows nothing about real plants)"


def dry_run(config: Config, options: steps.Options, console: Console) -> None:
    """What a run would do: changes, photos that are not as DVC knows them, stages, steps. Refuses what a run would."""
    backend = deploy.get(config)
    pipeline.preflight(config, options, backend)
    with recall.look(config) as state:
        todo = pipeline.due(config, state, backend, going_on=bool(lock.holder(config.state)))
        loose = scan.loose(config.root, dvc_files.raw_folder(config.root), state, remember=False)
    for one in [*todo.sentences(), *(one.what for one in loose)]:
        console.say(one)
    if not options.skip_dvc:
        pipeline.check_loose(config, loose)
    if not pipeline.wanted(todo, options) and not loose:
        console.say("nothing would run")
        return
    if not options.skip_dvc:
        training.check_params(config.root)
        if config.mlflow.required:
            Tracker(config.root, config.mlflow).ping()
    everything = detect.stage_names(todo.inputs.get(PIPELINE))
    console.say(f"stages: {', '.join(everything if options.force else todo.stages) or 'none'}")
    for step in steps.steps(options):
        console.say(f"  {step.name:<10} {step.skip(options)}".rstrip())
    console.say("dry run: nothing was changed")


def summary(config: Config, outcome: Outcome, console: Console) -> None:
    """How a run ended, and what to open next."""
    if outcome.state == "nothing":
        return
    drawn = _DRAWN if outcome.sample_data else ""
    console.log_to(outcome.log)
    said = {
        store.RELEASED: f"released: {outcome.release}{drawn}",
        store.ACCEPTED: f"accepted: {outcome.release}{drawn} (not deployed; plantops run deploys it)",
        store.UNCHANGED: f"nothing new: {outcome.release} stays in service",
    }
    console.say(said.get(outcome.state, outcome.state), "green")
    if outcome.state == store.RELEASED:
        backend = deploy.get(config)
        pages = {"mlflow": shelf.mlflow_page(config, backend), **backend.pages()}
        shown = [f"{shelf.TITLES[name]} {url}" for name, url in pages.items() if url]
        if not pages["mlflow"]:
            shown.append(f"plantops up starts MLflow on http://127.0.0.1:{config.mlflow.ui_port}")
        console.say(f'  predict:  curl -X POST {backend.url}/predict -F "file=@leaf.jpg"')
        console.say(f"  open:     {'    '.join([f'{backend.url}/docs', *shown])}")
        with recall.look(config) as state:
            if state.previous():
                console.say("  go back:  plantops rollback")
    console.say(f"  log:      .plantops/logs/{outcome.run}.log", "grey")
    console.log_to(None)


def verdict(verdict: gate.Verdict, console: Console, as_json: bool) -> None:
    """All findings of the gate, and what follows."""
    if as_json:
        console.json(verdict.to_dict())
        return
    colours = {gate.PASSED: "green", gate.FAILED: "red", gate.NOT_ENOUGH: "yellow", gate.NOT_JUDGED: "grey"}
    for one in verdict.findings:
        console.say(f"{console.paint(f'{one.state:<19}', colours[one.state])}  {one.sentence}")
    then = "a run would release it" if verdict.accepted else "a run would not release it"
    console.say(f"{verdict.outcome}: {then}", "green" if verdict.accepted else "red")


def rolled_back(target: store.Release, named: bool, console: Console) -> None:
    """What is in service after a rollback; plainly so where nobody asked for a model of drawn leaves."""
    console.say(f"{target.id} is in service{_DRAWN if target.sample_data else ''}", "green")
    if target.sample_data and not named:
        console.say("  plantops releases lists the others; plantops rollback RELEASE goes to one of them", "yellow")


def status(config: Config, console: Console, as_json: bool) -> None:
    """What is in service, what is going on, and what waits."""
    holder = lock.holder(config.state)
    with recall.look(config) as state:
        todo, last = plan.make(config.root, state, bool(holder)), state.last_run(bool(holder))
        current, previous = state.in_service(), state.previous()
    backend = deploy.get(config)
    running, page = _looked_at(config, backend)
    shared, elsewhere = _shared(config)
    anyway = Shelf(config.models).accepted_anyway(current.id) if current else None
    if as_json:
        console.json(
            {
                "in_service": {**current.__dict__, "accepted_anyway": anyway} if current else None,
                "previous": previous.id if previous else None,
                "answering": running.__dict__ if running else None,
                "mlflow": page,
                "prometheus": prometheus.page(config),
                "going_on": holder or None,
                "shared": shared,
                "watch": heartbeat.to_dict(config.state),
                "last_run": _brief(last) if last else None,
                "waiting": todo.to_dict(),
            }
        )
        return
    drawn = " (drawn sample data)" if current and current.sample_data else ""
    console.say(f"in service  {current.id + drawn if current else 'nothing yet: plantops run'}")
    if anyway:
        console.say(f"            {_anyway(anyway)}", "yellow")
    console.say(f"answering   {_answering(running) if current else 'no'}")
    for one in (running.drift or ()) if running else ():
        console.say(f"drift       the photos are {one}", "yellow")
    console.say(f"mlflow      {page or 'not running: plantops up'}")
    if own := prometheus.page(config):
        console.say(f"prometheus  {own}")
    console.say(f"going on    {holder or 'nothing'}")
    for said in elsewhere:
        console.say(said)
    console.say(f"watch       {heartbeat.said(config.state)}")
    if last:
        console.say(f"last run    {last.id} {last.state}{_why(last, todo)}")
    for sentence in _shortened(todo.sentences()):
        console.say(f"waiting     {sentence}")


def _shared(config: Config) -> tuple[dict[str, Any] | None, list[str]]:
    """What other machines with this project do, as values and in lines; None where it is shared with none."""
    try:
        seen = lease.look(config)
    except PlantopsError as error:
        return {"error": error.message}, [f"shared      {error.message} ({error.hint})"]
    if seen is None:
        return None, []
    lines = [f"elsewhere   {one}" for one in seen.elsewhere]
    if seen.releasing and not seen.releasing.here:
        lines.insert(0, f"releasing   {seen.releasing}")
    return asdict(seen), lines


def _why(last: store.Run, todo: plan.Plan) -> str:
    """Why the last run ended as it did, and where it is told in full; not what waits for the same reason anyway."""
    said = f": {plan.first_line(last.error)}" if last.error and last.id not in [one.id for one in todo.owed] else ""
    return f"{said} (less .plantops/logs/{last.id}.log)" if last.error else said


def _shortened(sentences: list[str]) -> list[str]:
    """The last ones say what is owed."""
    left_out = len(sentences) - _SENTENCES
    if left_out <= 1:
        return sentences
    return [*sentences[: _SENTENCES - 1], f"… and {left_out} more: plantops check", sentences[-1]]


def _anyway(one: Mapping[str, str]) -> str:
    return f"accepted anyway by {one['user']}: {one['reason']}"


def _looked_at(config: Config, backend: deploy.Backend) -> tuple[deploy.Serving | None, str | None]:
    """What answers, and where MLflow's pages are. What cannot be asked, as an engine that is away, is told so."""
    try:
        return backend.serving(), shelf.mlflow_page(config, backend)
    except PlantopsError as error:
        return deploy.Serving(None, None, "unknown", error.message, "", 0, backend.url, None), None


def _answering(running: deploy.Serving | None) -> str:
    if running is None:
        return "no: plantops up"
    if running.status != "healthy":
        return f"{running.status} on {running.url}: {running.reason}"
    return f"{running.release} on {running.url}"


def _brief(run: store.Run) -> dict[str, str | None]:
    return {"id": run.id, "state": run.state, "started": run.started, "ended": run.ended, "error": run.error}


def releases(config: Config, console: Console, as_json: bool) -> None:
    """The releases, newest first."""
    with recall.look(config) as state:
        found = shelf.listed(config, state)
    if as_json:
        console.json([one.to_dict() for one in found])
        return
    if not found:
        console.say("no release yet: plantops run makes one")
    for one in found:
        version = f"version {one.release.version}" if one.release.version else "no version"
        notes = [one.state, "drawn sample data" if one.release.sample_data else "", "" if one.there else "bundle gone"]
        notes.append("no image" if one.image is False else "")
        notes.append(_anyway(one.anyway) if one.anyway else "")
        text = f"{one.release.id:<30} {one.release.created[:16].replace('T', ' ')}  {version:<11} "
        console.say(
            (text + ", ".join(note for note in notes if note)).rstrip(), "green" if one.state == "in service" else ""
        )


def notifications(config: Config, console: Console, test: bool, as_json: bool) -> None:
    """Who is told of what; with ``test`` what each said to a message sent now. Raises StepFailed when one failed."""
    if not test:
        lines = notify.listed(config)
        if as_json:
            console.json(lines)
        else:
            console.say("\n".join(lines))
        return
    answers = dict(notify.test(config, news.trial(config)))
    if not answers:
        raise SetupError("nobody to tell: neither notify.targets nor notify.webhooks nor hooks", "edit config.yaml")
    if as_json:
        console.json({label: {"ok": one.ok, "said": one.said} for label, one in answers.items()})
    else:
        for label, one in answers.items():
            mark = console.paint("ok   ", "green") if one.ok else console.paint("wrong", "red")
            console.say(f"{mark}  {label}: {one.said}")
    if failed := [label for label, one in answers.items() if not one.ok]:
        raise StepFailed(f"not told: {', '.join(failed)}", "mend notify in config.yaml, or what it names")


def findings(found: list[Finding], console: Console, as_json: bool) -> None:
    """What the doctor found. Raises SetupError when something is wrong."""
    if as_json:
        console.json([one.__dict__ for one in found])
    else:
        for one in found:
            colour = {"ok": "green", "note": "yellow", "wrong": "red"}[one.state]
            console.say(f"{console.paint(f'{one.state:<5}', colour)}  {one.what:<10}  {one.says}")
            if one.remedy and one.state != "ok":
                console.say(f"                   try: {one.remedy}")
    wrong = [one.what for one in found if one.state == "wrong"]
    if wrong:
        raise SetupError(f"{len(wrong)} thing{'s' if len(wrong) > 1 else ''} wrong: {', '.join(wrong)}")
