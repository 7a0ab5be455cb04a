"""`dvc repro` with its output followed: epochs reach MLflow while training goes on, and one record is made after it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plantops import artifacts, code, detect, dvc, extras, git, lineage, process
from plantops.bundle import Bundle
from plantops.config import CODE, LOCK, PARAMS, Config
from plantops.console import Console
from plantops.errors import MOVED, PlantopsError, SetupError, StepFailed
from plantops.tracking import Tail, Tracker, Training

_RACED_AT_MOST = 3
# What DVC says around the stages' own words; all of it is in the log.
_DVC_CHATTER = re.compile(
    r"> |Stage '|'.*' didn't change|Updating lock|Use `dvc|To (track|enable)|\s*(git add|dvc config)"
)


@dataclass
class Ran:
    """What `dvc repro` did: the stages that ran, those restored from DVC's run cache, and the training's MLflow run.

    ``train_seconds``: what the stage train took, where it ran.
    """

    stages: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    mlflow_run: str | None = None
    train_seconds: float | None = None
    _began: float = 0.0

    def starts(self, stage: str) -> None:
        """A stage begins, so the one before it is done."""
        now = time.monotonic()
        if self.stages and self.stages[-1] == "train":
            self.train_seconds = now - self._began
        self.stages.append(stage)
        self._began = now

    def sentence(self) -> str:
        """In words."""
        said = [f"ran {', '.join(self.stages)}"] if self.stages else []
        said += [f"from DVC's cache: {', '.join(self.cached)}"] if self.cached else []
        return "; ".join(said) or "DVC found nothing to run"


def check_params(root: Path) -> None:
    """Raise SetupError naming what the stages would refuse in params.yaml; where none is ours, it may hold anything."""
    if set(code.digests(dvc.pipeline(root)).values()) <= {code.FOREIGN}:
        return
    answer = process.capture(["python", "-m", "plantops.ml.check"], root)
    if answer.status == 2:
        raise SetupError(**json.loads(answer.out))
    if not answer.ok:
        raise SetupError(f"the stages cannot start:\n{answer.err.strip()}", "scripts/setup, or install plantops anew")


def check_installed(root: Path, force: bool) -> None:
    """Raise SetupError where a stage of ours would run, and what it takes is not installed."""
    if extras.missing(extras.TRAIN):
        ours = {name for name, digest in code.digests(dvc.pipeline(root)).items() if digest != code.FOREIGN}
        if would := [stage for stage in dvc.would_run(root, force) if stage in ours]:
            extras.need(extras.TRAIN, f"stage {would[0]}")


def reproduce(config: Config, console: Console, tracker: Tracker, run: str, force: bool, champion: Path | None) -> Ran:
    """Run the stale stages (all with ``force``). Raises StepFailed naming the stage that failed.

    ``champion``: the folder of the release in service, for a training that goes on from it. DVC does not know of it.

    DVC hashes what a stage read after the stage has run (treeverse/dvc#11058). Photos that came meanwhile are the
    next change (see ``lineage``); where what was read moved, its stage is repeated. So nothing is recorded as
    trained on that was not read.
    """
    code.write(config.root, dvc.pipeline(config.root))
    if any(path == artifacts.FIELD.as_posix() for _, path in detect.plain_deps(dvc.pipeline(config.root))):
        (config.root / artifacts.FIELD).mkdir(parents=True, exist_ok=True)  # empty, but DVC must find it
    env = {process.RUN_VARIABLE: run, process.CHAMPION_VARIABLE: str(champion or "")}
    ran = Ran()
    with _following(config, console, tracker, run, ran) as on_line:
        lineage.mend(config.root)  # of a run that was killed before it did
        moved = ""
        for _ in range(1 + _RACED_AT_MOST):
            read = dvc.inputs(config.root)
            done = _repro(config.root, on_line, env, force, moved)
            moved, force = (_raced(config.root, read, ran.stages), False) if done else ("", force)
            if done and not moved:
                return ran
            console.say(f"    what {moved or 'prepare_data'} read moved while it ran: doing it again")
            code.write(config.root, dvc.pipeline(config.root))
        raise StepFailed(
            "photos or parameters keep moving while they are read", "wait until they rest, then plantops run"
        )


def _repro(root: Path, on_line: Callable[[str], None], env: dict[str, str], force: bool, moved: str) -> bool:
    """`dvc repro`, first of the stage ``moved`` by itself; False when photos moved while they were read."""
    try:
        if moved:
            dvc.repro(root, on_line, env, force=True, only=moved)
        dvc.repro(root, on_line, env, force=force)
    except StepFailed as failed:
        if MOVED not in failed.message:
            raise
        return False
    lineage.mend(root)
    return True


def record(
    config: Config, tracker: Tracker, run: str, ran: Ran, bundle: Bundle, state: git.State, took: dict[str, Any]
) -> str | None:
    """Log the training behind the candidate; returns its MLflow run, or None when it waits in the spool.

    ``took``: what it took (see ``effort``). A stage that came from DVC's cache finds its run again; one from a
    colleague's lock gets a ``restored`` run.
    """
    root = config.root
    entry = dvc.lock_entry(root, "train")
    if entry is None:
        raise StepFailed(f"{LOCK} does not record the stage train", "plantops run --force")
    data = artifacts.values(root / artifacts.DATA)
    origin = "trained" if "train" in ran.stages else "cached" if "train" in ran.cached else "restored"
    return tracker.record(
        Training(
            key=digest(entry),
            name=run,
            origin=origin,
            params=_params(root),
            epochs=root / artifacts.EPOCHS,
            metrics=_numbers(artifacts.values(root / artifacts.EVALUATION)),
            artifacts=[
                path
                for pattern in ("plots/*", "metrics/*.json", f"{artifacts.REPORTS}/*")
                for path in sorted(root.glob(pattern))
                if path.is_file()
            ],
            bundle=bundle.path,
            dataset={
                "name": config.project,
                "digest": bundle.manifest.data.get("digest", ""),
                "source": str(dvc.raw_folder(root).relative_to(root)),
                "counts": {name: sum(sides.values()) for name, sides in data["per_class"].items()},
            },
            tags={
                "plantops.run": run,
                "plantops.digest": bundle.digest,
                "plantops.sample_data": str(bundle.manifest.sample_data).lower(),
                "git.commit": state.commit,
                "git.branch": state.branch,
                "git.dirty": str(bool(state.diff)).lower(),
                "dvc.lock": hashlib.md5((root / LOCK).read_bytes(), usedforsecurity=False).hexdigest(),
                **{f"plantops.training.{key}": str(value) for key, value in took.items() if value is not None},
            },
        ),
        ran.mlflow_run,
    )


def digest(entry: Any) -> str:
    """sha256 (first 32 hex) of a stage's entry in dvc.lock: command, dependencies, parameters, outputs."""
    return hashlib.sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()[:32]


@contextmanager
def _following(config: Config, console: Console, tracker: Tracker, run: str, ran: Ran) -> Iterator[Any]:
    live = _Live(config.root, tracker, run)

    def on_line(line: str) -> None:
        if console.relay(line):
            return
        console.log(line)
        if running := re.match(r"Running stage '([^']+)'", line):
            console.say(f"    {running[1]}", "grey")
            live.train_done()
            ran.starts(running[1])
            if running[1] == "train":
                live.begin()
        elif cached := re.match(r"Stage '([^']+)' is cached", line):
            ran.cached.append(cached[1])
        elif line.strip() and not _DVC_CHATTER.match(line):
            console.say(f"    {line.rstrip()}", "grey")

    try:
        yield on_line
    except BaseException as error:
        live.fail(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise
    ran.mlflow_run = live.end()
    for problem in live.problems:
        console.say(f"    MLflow: {problem}", "yellow")


class _Live:
    """The MLflow run of a training that is going on; never able to fail or hold up the training."""

    def __init__(self, root: Path, tracker: Tracker, run: str) -> None:
        self.root, self.tracker, self.run = root, tracker, run
        self.problems: list[str] = []
        self._id: str | None = None
        self._tail: Tail | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """The train stage starts: open a run beside it; one of an earlier attempt here came to nothing."""
        self.fail("training was started again: photos had moved")
        self._id, self._tail = None, None
        self._thread = threading.Thread(target=self._open, daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            self._id = self.tracker.begin(self.run, _params(self.root), {"plantops.run": self.run})
            self._tail = Tail(self.tracker, self._id, self.root / artifacts.EPOCHS)
            self._tail.start()
        except PlantopsError as error:
            self.problems.append(error.message)

    def train_done(self) -> None:
        """A later stage starts: dvc.lock holds the training now, so a crash from here on loses no record of it."""
        run = self.end()
        entry = dvc.lock_entry(self.root, "train")
        if run and entry:
            self._say(lambda: self.tracker.trained(run, digest(entry)))

    def end(self) -> str | None:
        """The training is over; returns the run that was opened, if any."""
        if self._thread:
            self._thread.join(timeout=60)
            self._thread = None
        if self._tail:
            self._tail.stop()
            self.problems += self._tail.problems
            self._tail = None
        return self._id

    def fail(self, reason: str) -> None:
        """The training died."""
        run = self.end()
        if run:
            self._say(lambda: self.tracker.fail(run, reason))

    def _say(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except PlantopsError as error:
            self.problems.append(error.message)


def _raced(root: Path, read: dict[str, Any], stages: list[str]) -> str:
    """The first stage for which DVC recorded other parameters or code than it ran by; empty when there is none."""
    now = {**dvc.inputs(root), CODE: code.digests(dvc.pipeline(root))}
    return next((stage for stage in stages if _params_moved(dvc.lock_entry(root, stage) or {}, read, now)), "")


def _params_moved(entry: dict[str, Any], read: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether parameters of a stage are others ``now`` than when it began, and not those that dvc.lock holds.

    Code is asked only for having moved: its digest in the lock is the one from before the stages ran.
    """
    return any(
        detect.differ(_lookup(read.get(file), key), _lookup(now.get(file), key))
        and (file == CODE or detect.differ(_lookup(read.get(file), key), value))
        for file, keys in (entry.get("params") or {}).items()
        for key, value in (keys.items() if isinstance(keys, dict) else ())
    )


def _lookup(values: Any, key: str) -> Any:
    """``a.b`` of nested dicts; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _params(root: Path) -> dict[str, Any]:
    return detect.flatten(dvc.inputs(root).get(PARAMS) or {})


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    flat = detect.flatten(values)
    return {key: float(v) for key, v in flat.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
