"""Runs the steps, records each, stops at the first failure and undoes what it began; takes up what a dead run left."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from plantops import (
    bring,
    code,
    deploy,
    detect,
    dvc,
    extras,
    git,
    lease,
    lock,
    news,
    notify,
    plan,
    process,
    recover,
    scan,
    share,
    steps,
    store,
    switchover,
)  # fmt: skip
from plantops.config import CODE, PIPELINE, Config
from plantops.console import Console
from plantops.detect import Change
from plantops.errors import ROOM, PlantopsError, Refused, SetupError, StepFailed, in_words
from plantops.shelf import Shelf
from plantops.store import Store
from plantops.tracking import Tracker
from plantops.training import check_installed, check_params
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
    recover.mend(config, console)
    with lock.hold(config.state), lease.hold(config) as held, Store(config.state) as state:
        tracker = Tracker(config.root, config.mlflow)
        backend = deploy.get(config)
        notify.remind(config, console)
        _bury(config, state, tracker, console)
        where = preflight(config, options, backend)
        _catch_up(state, tracker, console)
        _agree(config, state, tracker, backend, console, held)
        _photos_under_dvc(config, options, state, console)
        where = git.state(config.root)  # with what was added just now
        code.write(config.root, dvc.pipeline(config.root))
        todo = due(config, state, backend)
        _readable(todo)
        if not wanted(todo, options):
            _nothing(todo, state, backend, console)
            share.share(config, state, console)
            return Outcome("nothing")
        if not options.skip_dvc:
            check_params(config.root)
            if config.mlflow.required:
                tracker.ping()
        if todo.only_serving and not (options.force or options.accept_anyway):
            options = replace(options, skip_dvc=True)
        if not (options.force or options.skip_dvc):
            bring.outputs(config, state, todo.inputs, console)
        if not options.skip_dvc:
            check_installed(config.root, options.force)
        asked = {**asdict(options), "gate": asdict(config.gate), "champion": _champion(state), "by": lock.user()}
        number = state.begin(trigger, asked, todo.fingerprint, todo.inputs)
        work = steps.Work(
            config, state, console, options, number, todo, where, Shelf(config.models), tracker, backend, held
        )  # fmt: skip
        outcome = _recorded(work)
        share.share(config, state, console)
        return outcome


def _recorded(work: steps.Work) -> Outcome:
    """Run the steps between the run's beginning and its end in the store."""
    log = work.config.state / "logs" / f"{work.run}.log"
    state, error = store.FAILED, "a bug in plantops"
    try:
        work.console.log_to(log)
        for sentence in work.plan.sentences():
            work.console.say(f"  {sentence}")
        notify.post(work.config, work.console, news.started(work.config, work.run, work.plan.sentences()))
        _walk(work)
        state, error = _success(work), ""
    except Refused as refused:
        state, error = store.REFUSED, refused.message
        work.console.log(f"error: {refused.message}\n  try: {refused.hint}")
        raise
    except KeyboardInterrupt:
        state, error = store.INTERRUPTED, "interrupted from the keyboard or by SIGTERM"
        raise
    except Exception as raised:
        failed = raised if isinstance(raised, PlantopsError) else in_words(raised)
        if failed is None:
            raise
        if isinstance(failed, SetupError):  # work has begun: this is no usage error any more
            failed = StepFailed(failed.message, failed.hint)
        state, error = store.INTERRUPTED if isinstance(failed, lease.Lost) else store.FAILED, failed.message
        failed.hint = failed.hint or f"less {log.relative_to(work.config.root)}"
        with suppress(OSError):  # where the disk is full the log is, too
            work.console.log(f"error: {failed.message}\n  try: {failed.hint}")
        raise failed from None
    finally:
        _close_record(work)
        _close(work, state, error)
        _tell(work, state, error)
    release = work.release
    return Outcome(state, work.run, release.id if release else "", bool(release and release.sample_data), log)


def _close(work: steps.Work, state: str, error: str) -> None:
    """The run's end in the store and in its log. Where there is no room for it, the next run says that it died."""
    try:
        release = work.release.id if work.release else None
        work.store.finish(work.run, state, work.left_behind or None, release, error or None)
        if work.left_behind:
            share.remember(work.config.root, work.store)
        work.console.log(f"run {work.run} {state}")
    except Exception as raised:  # noqa: BLE001 - it is raised again, in words where there are some
        raise (in_words(raised) or raised) from None
    finally:
        work.console.log_to(None)


def _tell(work: steps.Work, state: str, error: str) -> None:
    if state == store.REFUSED and work.release and work.store.noted(work.release.id, store.MISBEHAVES):
        return  # told already, with what answers again
    told = news.ended(work.config, work.run, state, work.release, work.verdict, error, work.backend.url)
    if told:
        notify.post(work.config, work.console, told)


def _walk(work: steps.Work) -> None:
    todo = steps.steps(work.options)
    for step in todo:
        if not step.switches:
            _take(work, step)
    with lock.hold(work.config.state, lock.SWITCH, patience=60), work.undo:
        switchover.still_wanted(work)
        for step in todo:
            if step.switches:
                _take(work, step)


def _take(work: steps.Work, step: steps.Step) -> None:
    began = time.monotonic()
    position = work.store.step_begins(work.run, step.name)
    work.lease.check()
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


def _bury(config: Config, state: Store, tracker: Tracker, console: Console) -> None:
    """End what dead runs left going, and say that they are dead."""
    dead = state.bury_dead()
    for one in dead:
        process.end(process.left_over(one.id))
        console.say(f"  run {one.id} died before its end; going on from what it finished", "yellow")
        notify.post(config, console, news.died(config, one))
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
    extras.need(extras.RELEASE, "judging and recording a model")
    where = git.state(config.root)
    dvc.check(config.root)
    free = shutil.disk_usage(config.root).free / 1e9
    if free < config.disk.min_free_gb:
        raise SetupError(
            f"{free:.1f} GB free where {config.root} lies; {config.disk.min_free_gb:g} GB wanted (disk.min_free_gb)",
            ROOM,
        )
    if not options.skip_deploy:
        backend.preflight()
    return where


def _catch_up(state: Store, tracker: Tracker, console: Console) -> None:
    """Log what waited while MLflow was away."""
    try:
        for one in tracker.replay():
            if one.release and one.version:
                state.set_version(one.release, one.version)
            said = one.problem or f"logged to MLflow what had waited: {one.release or one.run_id}"
            console.say(f"  {said}", "yellow" if one.problem else "")
    except PlantopsError as error:
        console.say(f"  records wait for MLflow: {error.message}", "yellow")


def _agree(
    config: Config, state: Store, tracker: Tracker, backend: deploy.Backend, console: Console, held: lease.Lease
) -> None:
    """What a killed run or rollback left behind is made what the store says: production, aliases, the API."""
    current = state.in_service()
    if current is None:
        return
    with held.fence():
        held.serves(current.id, "told late")
        said = show(config, state, tracker, aliases=held.newest())
    for sentence in said:
        console.say(f"  {sentence}", "yellow")
    running, folder = backend.serving(), Shelf(config.models).release(current.id)
    if running is None or deploy.moves(backend):
        return
    process.wait_until(lambda: backend.agrees(folder) or _says_something(backend), _STARTING_S)
    if not backend.agrees(folder):
        with lock.hold(config.state, lock.SWITCH, patience=60):
            if state.in_service() != current:  # a rollback was faster
                return
            _not_of_others(config, state, running)
            backend.up(folder)
        was = (
            "what an earlier command left half done is put right"
            if running.release == current.id
            else (f"{running.release or 'nothing'} was answering")
        )
        console.say(f"  {was}; {current.id} is in service and answers now", "yellow")


def _not_of_others(config: Config, state: Store, running: deploy.Serving) -> None:
    """Raise SetupError where another machine that shares the project has put in its release: one API for two."""
    if not config.share.database or not running.release or state.release(running.release):
        return
    seen = lease.look(config) or lease.Seen()
    for one in seen.elsewhere:
        if one.release == running.release:
            raise SetupError(
                f"{one}, and it answers here, too: two machines would go on replacing each other's release",
                "let one machine release to it, or give this one an API of its own (kubernetes.namespace)",
            )


def _says_something(backend: deploy.Backend) -> bool:
    """Whether what runs is over its start, as after a reboot."""
    now = backend.serving()
    return now is not None and now.status != "starting"


def _photos_under_dvc(config: Config, options: steps.Options, state: Store, console: Console) -> None:
    """Photos that DVC does not know as they are: refused or added, as config says; never trained on by accident."""
    if options.skip_dvc:
        return
    raw = dvc.raw_folder(config.root)
    classes = scan.classes(raw)
    if len(classes) < 2 and not dvc.covered(raw) and len(list(raw.glob("*.dvc"))) < 2:
        where = raw.relative_to(config.root)
        raise SetupError(
            f"{len(classes)} classes of photos in {where}: there is one folder per class, and at least two",
            f"copy photos there and dvc add {where}/*/, or plantops sample",
        )
    found = bring.photos(config, state, console)
    check_loose(config, found)
    for one in found:
        console.say(f"  {one.what}")
    if found:
        dvc.add(config.root, [one.folder for one in found], console.log)
        share.remember(config.root, state, [one.folder for one in found])


def check_loose(config: Config, found: list[scan.Loose]) -> None:
    """Raise SetupError unless there are no photos that DVC does not know as they are, or they may be added."""
    if not found or (config.data.untracked == "add" and all(one.add for one in found)):
        return
    listed = "\n".join(f"    {one.what}" for one in found)
    raise SetupError(
        f"photos that DVC does not know as they are:\n{listed}",
        "the command at each line's end, then plantops run (or data.untracked: add in config.yaml)",
    )


def _readable(todo: plan.Plan) -> None:
    """Raise SetupError when a file that DVC reads as YAML is none, as with git's marks of a conflict in it."""
    broken = [one for one in todo.broken if one.endswith((".yaml", ".yml", ".lock", ".dvc"))]
    if broken:
        named = " ".join(shlex.quote(one) for one in broken)
        raise SetupError(f"{', '.join(broken)} {detect.UNREADABLE}", f"git checkout {named}, or resolve the conflict")


def wanted(todo: plan.Plan, options: steps.Options) -> bool:
    """Whether a run has something to do, for itself or because the user asks for it."""
    overrules = bool(options.accept_anyway) and todo.refused
    return todo.due or bool(todo.undeployed) or options.force or options.skip_dvc or overrules


def due(config: Config, state: Store, backend: deploy.Backend, going_on: bool = False) -> plan.Plan:
    """What a run has to do. ``going_on``: another one is at it."""
    todo = plan.make(config.root, state, going_on)
    return replace(todo, changes=[*todo.changes, *_more_changes(config, state, backend, todo)])


def _more_changes(config: Config, state: Store, backend: deploy.Backend, todo: plan.Plan) -> list[Change]:
    """What only a run and a deep check look at: code, the gate's rules after a refusal, the serving code."""
    found = scan.moved_code(config.root, todo.inputs)
    fresh = {CODE: code.digests(todo.inputs.get(PIPELINE))}
    if todo.settled and todo.inputs.get(CODE) and todo.inputs.get(PIPELINE):
        found += detect.changes({CODE: todo.inputs[CODE]}, fresh)
    if todo.refused and todo.settled:
        asked = todo.settled.options
        if asked.get("gate") != json.loads(json.dumps(asdict(config.gate))):
            found.append(Change("config.yaml", "gate: the rules changed since the refusal"))
        if asked.get("champion", _champion(state)) != _champion(state):
            found.append(Change("releases", "another release is in service than at the refusal"))
    if state.in_service() and state.serving_code() != steps.serving(config):
        said = "the serving code or its settings changed since the release went into service"
        found.append(Change("serve", said, serves=True))
    if way := deploy.moves(backend):
        found.append(Change("config.yaml", way, serves=True))
    return found


def _champion(state: Store) -> str | None:
    current = state.in_service()
    return current.id if current else None


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
