"""Runs the steps, records each, stops at the first failure and undoes what it began; takes up what a dead run left."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from plantops import code, deploy, dvc, git, lock, plan, process, scan, steps, store
from plantops.config import Config
from plantops.console import Console
from plantops.detect import Change
from plantops.errors import PlantopsError, Refused, SetupError, StepFailed
from plantops.shelf import Shelf
from plantops.store import Store
from plantops.tracking import Tracker
from plantops.views import show

_STARTING_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``state`` as the store has it, or ``nothing`` when there was none to do."""

    state: str
    run: str = ""
    release: str = ""
    sample_data: bool = False
    log: Path | None = None


def run(config: Config, options: steps.Options, console: Console, trigger: str = "by hand") -> Outcome:
    """Do what is due (everything with ``force``). Raises PlantopsError; what was in service then still is."""
    with lock.hold(config.state), Store(config.state) as state:
        tracker = Tracker(config.root, config.mlflow)
        backend = deploy.get(config)
        _bury(state, tracker, console)
        where = preflight(config, options, backend)
        _catch_up(state, tracker, console)
        _agree(config, state, tracker, backend, console)
        _photos_under_dvc(config, options, state, console)
        code.write(config.root, dvc.pipeline(config.root))
        todo = due(config, state, backend)
        if not (todo.due or todo.undeployed or options.force or options.skip_dvc):
            _nothing(todo, state, backend, console)
            return Outcome("nothing")
        if not options.skip_dvc and config.mlflow.required:
            tracker.ping()
        number = state.begin(trigger, {**asdict(options), "gate": asdict(config.gate)}, todo.fingerprint, todo.inputs)
        work = steps.Work(
            config, state, console, options, number, todo, where, Shelf(config.models), tracker, backend
        )  # fmt: skip
        return _recorded(work)


def _recorded(work: steps.Work) -> Outcome:
    """Run the steps between the run's beginning and its end in the store."""
    log = work.config.state / "logs" / f"{work.run}.log"
    work.console.log_to(log)
    for sentence in work.plan.sentences():
        work.console.say(f"  {sentence}")
    state, error = store.FAILED, "a bug in plantops"
    try:
        _walk(work)
        state, error = _success(work), ""
    except Refused as refused:
        state, error = store.REFUSED, refused.message
        work.console.log(f"error: {refused.message}\n  try: {refused.hint}")
        raise
    except PlantopsError as failed:
        if isinstance(failed, SetupError):  # work has begun: this is no usage error any more
            failed = StepFailed(failed.message, failed.hint)
        error = failed.message
        failed.hint = failed.hint or f"less {log.relative_to(work.config.root)}"
        work.console.log(f"error: {failed.message}\n  try: {failed.hint}")
        raise failed from None
    except KeyboardInterrupt:
        state, error = store.INTERRUPTED, "interrupted from the keyboard or by SIGTERM"
        raise
    finally:
        _close_record(work)
        release = work.release.id if work.release else None
        work.store.finish(work.run, state, work.left_behind or None, release, error or None)
        work.console.log(f"run {work.run} {state}")
        work.console.log_to(None)
    drawn = work.release.sample_data if work.release else False
    return Outcome(state, work.run, release or "", drawn, log)


def _walk(work: steps.Work) -> None:
    todo = steps.steps(work.options)
    for step in todo:
        if not step.switches:
            _take(work, step)
    with lock.hold(work.config.state, lock.SWITCH, patience=60), work.undo:
        steps.still_wanted(work)
        for step in todo:
            if step.switches:
                _take(work, step)


def _take(work: steps.Work, step: steps.Step) -> None:
    began = time.monotonic()
    position = work.store.step_begins(work.run, step.name)
    left_out = step.skip(work.options)
    note = steps.Skipped(left_out) if left_out else step.run(work)
    skipped = isinstance(note, steps.Skipped)
    work.store.step_ends(work.run, position, "skipped" if skipped else "done", note)
    seconds = time.monotonic() - began
    mark = "skipped" if skipped else f"{seconds:7.1f} s"
    work.console.say(f"  {step.name:<10} {mark:>9}  {note}".rstrip(), "grey" if skipped else "")


def _close_record(work: steps.Work) -> None:
    """A training whose run ended before its record: FAILED in MLflow, until the next run finds it by its key."""
    if work.ran.mlflow_run and not work.mlflow_run:
        try:
            work.tracker.fail(work.ran.mlflow_run, f"plantops run {work.run} ended before the training was recorded")
        except PlantopsError as error:
            work.console.say(f"  MLflow: {error.message}", "yellow")


def _success(work: steps.Work) -> str:
    if work.options.skip_deploy:
        return store.ACCEPTED
    return store.RELEASED if work.trial else store.UNCHANGED


def _bury(state: Store, tracker: Tracker, console: Console) -> None:
    """End what dead runs left going, and say that they are dead."""
    dead = state.bury_dead()
    for one in dead:
        process.end(process.left_over(one.id))
        console.say(f"  run {one.id} died before its end; going on from what it finished", "yellow")
    last = state.last_run()
    if last and not dead and last.state in store.OWED:
        process.end(process.left_over(last.id))  # a second Ctrl-C can leave something behind
    if dead:
        try:
            tracker.close_dead(())
        except PlantopsError as error:
            console.say(f"  their MLflow runs stay open: {error.message}", "yellow")


def preflight(config: Config, options: steps.Options, backend: deploy.Backend) -> git.State:
    """What must hold before work begins. Raises SetupError with the command that helps."""
    where = git.state(config.root)
    dvc.check(config.root)
    free = shutil.disk_usage(config.root).free / 1e9
    if free < config.disk.min_free_gb:
        raise SetupError(
            f"{free:.1f} GB free where {config.root} lies; {config.disk.min_free_gb:g} GB wanted (disk.min_free_gb)",
            "make room; du -sh .dvc/cache models mlruns shows what takes it",
        )
    if not options.skip_deploy:
        backend.preflight()
    return where


def _catch_up(state: Store, tracker: Tracker, console: Console) -> None:
    """Log what waited while MLflow was away."""
    try:
        caught_up = tracker.replay()
        for one in caught_up:
            if one.release and one.version:
                state.set_version(one.release, one.version)
            console.say(f"  logged to MLflow what had waited: {one.release or one.run_id}")
    except PlantopsError as error:
        console.say(f"  records wait for MLflow: {error.message}", "yellow")


def _agree(config: Config, state: Store, tracker: Tracker, backend: deploy.Backend, console: Console) -> None:
    """What a killed run or rollback left behind is made what the store says: production, aliases, the API."""
    current = state.in_service()
    if current is None:
        return
    for sentence in show(config, state, tracker):
        console.say(f"  {sentence}", "yellow")
    running, folder = backend.serving(), Shelf(config.models).release(current.id)
    if running is None or deploy.moves(backend):
        return
    process.wait_until(lambda: backend.agrees(folder) or _says_something(backend), _STARTING_S)
    if not backend.agrees(folder):
        with lock.hold(config.state, lock.SWITCH, patience=60):
            backend.up(folder)
        was = (
            "what an earlier command left half done is put right"
            if running.release == current.id
            else (f"{running.release or 'nothing'} was answering")
        )
        console.say(f"  {was}; {current.id} is in service and answers now", "yellow")


def _says_something(backend: deploy.Backend) -> bool:
    """Whether what runs is over its start, as after a reboot."""
    now = backend.serving()
    return now is not None and now.status != "starting"


def _photos_under_dvc(config: Config, options: steps.Options, state: Store, console: Console) -> None:
    """Photos that DVC does not know as they are: refused or added, as config says; never trained on by accident."""
    if options.skip_dvc:
        return
    raw = dvc.raw_folder(config.root)
    classes = [one.name for one in os.scandir(raw) if one.is_dir()] if raw.is_dir() else []
    if len(classes) < 2 and not dvc.covered(raw) and len(list(raw.glob("*.dvc"))) < 2:
        where = raw.relative_to(config.root)
        raise SetupError(
            f"{len(classes)} classes of photos in {where}: there is one folder per class, and at least two",
            f"copy photos there and dvc add {where}/*/, or plantops sample",
        )
    found = scan.loose(config.root, raw, state)
    if found and config.data.untracked == "add" and all(one.add for one in found):
        for one in found:
            console.say(f"  {one.what}")
        dvc.add(config.root, [one.folder for one in found], console.log)
    elif found:
        listed = "\n".join(f"    {one.what}" for one in found)
        raise SetupError(
            f"photos that DVC does not know as they are:\n{listed}",
            "the command at each line's end, then plantops run (or data.untracked: add in config.yaml)",
        )


def due(config: Config, state: Store, backend: deploy.Backend) -> plan.Plan:
    """What a run has to do."""
    todo = plan.make(config.root, state)
    return replace(todo, changes=[*todo.changes, *_more_changes(config, state, backend, todo)])


def _more_changes(config: Config, state: Store, backend: deploy.Backend, todo: plan.Plan) -> list[Change]:
    """What only a run looks at: code named in dvc.yaml, the gate's rules after a refusal, the serving code."""
    found = scan.moved_code(config.root, todo.inputs)
    if todo.refused and todo.settled and todo.settled.options.get("gate") != asdict(config.gate):
        found.append(Change("config.yaml", "gate: the rules changed since the refusal"))
    if state.in_service() and state.serving_code() != steps.serving(config):
        found.append(Change("serve", "the serving code or its settings changed since the release went into service"))
    if way := deploy.moves(backend):
        found.append(Change("config.yaml", way))
    return found


def _nothing(todo: plan.Plan, state: Store, backend: deploy.Backend, console: Console) -> None:
    for sentence in todo.sentences():
        console.say(sentence)
    current, running = state.in_service(), backend.serving()
    if current and running and running.status == "healthy":
        console.say(f"in service: {running.release} on {backend.url}")
    elif current and running:
        console.say(f"in service: {current.id}, but the API is {running.status}: {running.reason}", "yellow")
    elif current:
        console.say(f"in service: {current.id}, but the API is not running: plantops up", "yellow")
