"""The verbs that plantops needs of MLflow."""

from __future__ import annotations

import hashlib
import os
import pwd
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from plantops.config import MlflowConfig
from plantops.errors import PlantopsError, SetupError
from plantops.tracking import reach, record, registry, runs
from plantops.tracking.ping import ping
from plantops.tracking.reach import Away
from plantops.tracking.record import KEY, ORIGIN, RUN, Page, log_epochs, log_params, source_tags
from plantops.tracking.spool import Replayed, Spool, Training, Wish

_PLACE = "plantops.place"


class Tracker:
    """MLflow for one project. Its verbs raise Away when MLflow cannot be reached or written.

    With ``required: false``, :meth:`record`, :meth:`register` and :meth:`promote` then keep their wish in the
    spool instead, and :meth:`replay` fulfils it later.
    """

    def __init__(self, root: Path, config: MlflowConfig) -> None:
        self.root, self.config = root.absolute(), config
        self.uri = reach.resolve(config.tracking_uri, self.root)
        self.artifacts = self.root / "mlruns" / "artifacts"
        self._spool = Spool(self.root / ".plantops" / "spool")
        self._lock = threading.Lock()
        self._known_client: Any = None
        self._known_experiment: str | None = None

    @property
    def database(self) -> Path | None:
        """The SQLite file that MLflow is; None when it is something else."""
        return Path(self.uri.removeprefix(reach.SQLITE)) if self.uri.startswith(reach.SQLITE) else None

    def ping(self) -> str:
        """Raise Away within seconds when MLflow cannot be written; returns what was seen of it, in words.

        Does not import mlflow.
        """
        return ping(self.uri, self.config.experiment, self.artifacts)

    def begin(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Open a run for a training that starts now; returns its id."""
        started = int(time.time() * 1000)
        with self._speaking() as client:
            run = client.create_run(self._experiment(client), started, self._tags(tags), name)
            log_params(client, run.info.run_id, params, {})
            return str(run.info.run_id)

    def started(self, run_id: str) -> float:
        """When the run began, seconds since 1970."""
        with self._speaking() as client:
            return float(client.get_run(run_id).info.start_time) / 1000

    def log_epochs(self, run_id: str, rows: Sequence[dict[str, str]]) -> None:
        """Log rows of the CSV of epochs, the epoch as step."""
        with self._speaking() as client:
            log_epochs(client, run_id, rows)

    def trained(self, run_id: str, key: str) -> None:
        """The training of this run is done: :meth:`record` finds it by its key, even after a crash in between."""
        with self._speaking() as client:
            client.set_tag(run_id, KEY, key)
            client.set_tag(run_id, ORIGIN, "trained")

    def fail(self, run_id: str, reason: str) -> None:
        """The training died: the run is FAILED, and says why."""
        with self._speaking() as client:
            runs.fail(client, run_id, reason)

    def close_dead(self, alive_runs: Collection[str]) -> list[str]:
        """Mark this project's RUNNING runs FAILED whose plantops run is not going any more; returns their ids."""
        with self._speaking() as client:
            wanted = f"attributes.status = 'RUNNING' AND tags.`{_PLACE}` = '{self._place}'"
            open_runs = client.search_runs([self._experiment(client)], wanted)
            dead = [run for run in open_runs if run.data.tags.get(RUN) not in alive_runs]
            for run in dead:
                runs.fail(client, run.info.run_id, f"plantops run {run.data.tags.get(RUN)} ended in the middle of it")
            return [str(run.info.run_id) for run in dead]

    def record(self, training: Training, run_id: str | None) -> str | None:
        """Write a training into one FINISHED run and return its id.

        The FINISHED run with this key is found again and completed; else ``run_id`` (from :meth:`begin`) is
        used, or a run that an earlier, killed call left behind, or a new one. Returns None when MLflow is away
        and not required: then the training waits in the spool.
        """
        try:
            self.ping()
            return self._record(training, run_id)
        except Away:
            if self.config.required:
                raise
            self._spool.keep(training, run_id)
            return None

    def judged(self, run_id: str | None, digest: str, verdict: dict[str, Any]) -> None:
        """Write the gate's verdict on the bundle with this digest into its run: a JSON artifact and short tags.

        ``run_id`` None: the training waits in the spool, and the verdict with it, as where MLflow is away.
        """
        try:
            if run_id is None:
                raise Away("the training is not in MLflow yet", "plantops run")
            self.ping()
            with self._speaking() as client:
                record.log_verdict(client, run_id, verdict)
        except Away:
            if self.config.required:
                raise
            self._spool.judged(digest, run_id, verdict)

    def register(self, run_id: str | None, release: str, digest: str = "") -> int | None:
        """The registered version for a release; one for each bundle digest, found again.

        ``run_id`` None with the bundle's ``digest``: the training waits in the spool. Returns None when MLflow
        is away and not required: the release waits too.
        """
        try:
            if run_id is None:
                raise Away(f"the training of {release} is not in MLflow yet", "plantops run")
            self.ping()
            with self._speaking() as client:
                return registry.register(client, self.config.model_name, run_id, release)
        except Away:
            if self.config.required:
                raise
            self._spool.wish(Wish(release, digest, run_id))
            return None

    def promote(self, version: int, previous: int | None) -> bool:
        """Set the aliases champion and previous; False where MLflow is away."""
        try:
            self.ping()
            with self._speaking() as client:
                registry.promote(client, self.config.model_name, version, previous)
        except Away:
            if self.config.required:
                raise
            return False
        return True

    def aliases(self) -> dict[str, int]:
        """Alias to version; empty when nothing is registered."""
        with self._speaking() as client:
            return registry.aliases(client, self.config.model_name)

    def versions(self) -> dict[str, int]:
        """Release, and digest of a bundle, to version, as the registry has them."""
        with self._speaking() as client:
            return registry.versions(client, self.config.model_name)

    def replay(self) -> Iterator[Replayed]:
        """Log what waits in the spool: trainings, then releases. Raises Away; what is left stays.

        Each is yielded once it is logged and leaves the spool when the next one is asked for: a caller that dies
        before it has remembered a version is told it again. What MLflow does not take is yielded with its problem,
        stays, and holds up nothing behind it. Call only while holding the run lock.
        """
        trainings, wishes, verdicts = [*self._spool.trainings()], [*self._spool.wishes()], [*self._spool.verdicts()]
        if not (trainings or wishes or verdicts):
            return
        self.ping()
        for training, run_id in trainings:
            yield (one := self._late(training.name, partial(self._replay_training, training, run_id)))
            if not one.problem:
                self._spool.drop(training)
        for digest, waiting, verdict in verdicts:
            late = partial(self._replay_verdict, digest, waiting, verdict)
            yield (one := self._late(f"the verdict on {digest[:12]}", late))
            if not one.problem:
                self._spool.told(digest)
        for wish in wishes:
            yield (one := self._late(wish.release, partial(self._replay_wish, wish)))
            if not one.problem:
                self._spool.fulfil(wish)

    def ui_argv(self, port: int) -> list[str] | None:
        """The command that serves MLflow's pages on 127.0.0.1; None when a server does so already.

        Start it with :meth:`ui_environment`.
        """
        if reach.is_server(self.uri):
            return None
        return [
            sys.executable, "-m", "mlflow", "server",
            "--default-artifact-root", str(self.artifacts),
            "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        ]  # fmt: skip

    def ui_environment(self) -> dict[str, str]:
        """Variables for :meth:`ui_argv`: quiet, without a second process for jobs, and where MLflow is.

        That may hold a password, and everybody may read a command.
        """
        return {
            **reach.ENVIRONMENT,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_BACKEND_STORE_URI": self.uri,
        }

    @property
    def _place(self) -> str:
        """Names this project on this machine, for servers that several share."""
        return hashlib.sha256(f"{os.uname().nodename}:{self.root}".encode()).hexdigest()[:16]

    @contextmanager
    def _speaking(self) -> Iterator[Any]:
        reach.quieten()
        with reach.speaking(self.uri):
            yield self._client()

    def _client(self) -> Any:
        from mlflow.tracking import MlflowClient

        with self._lock:
            if self._known_client is None:
                reach.prepare(self.uri, self.artifacts)
                self._known_client = MlflowClient(self.uri, self.uri)
            return self._known_client

    def _experiment(self, client: Any) -> str:
        """The id of our experiment; made unless it exists."""
        if self._known_experiment is None:
            found = client.get_experiment_by_name(self.config.experiment)
            if found is None:
                place = None if reach.is_server(self.uri) else str(self.artifacts)
                self._known_experiment = str(client.create_experiment(self.config.experiment, place))
            else:
                self._known_experiment = self._usable(found)
        return self._known_experiment

    def _usable(self, experiment: Any) -> str:
        if experiment.lifecycle_stage == "deleted":
            raise SetupError(
                f"the MLflow experiment {experiment.name!r} was deleted",
                f"mlflow experiments restore --experiment-id {experiment.experiment_id}, "
                "or another mlflow.experiment in config.yaml",
            )
        if not reach.is_server(self.uri):
            reach.check_place(experiment.name, experiment.artifact_location, self.artifacts)
        return str(experiment.experiment_id)

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {**source_tags(tags), _PLACE: self._place, "mlflow.user": _user()}

    def _record(self, training: Training, run_id: str | None) -> str:
        with self._speaking() as client:
            known = client.search_runs([self._experiment(client)], f"tags.`{KEY}` = '{training.key}'")
            finished = [run for run in known if run.info.status == "FINISHED"]
            if finished:
                runs.drop_second(client, run_id, finished[0].info.run_id)
                page = Page(client, finished[0], new=False)
            else:
                page = Page(client, self._open(client, training, run_id, known), new=True)
            page.write(training)
            return page.id

    def _open(self, client: Any, training: Training, run_id: str | None, known: Sequence[Any]) -> Any:
        """The run to write into: the one that was begun, one that a killed call left behind, or a new one."""
        run = runs.active(client, run_id) or next(iter(known), None)
        if run is None:
            tags = {**self._tags(training.tags), KEY: training.key}
            return client.create_run(self._experiment(client), None, tags, training.name)
        client.update_run(run.info.run_id, "RUNNING")
        return run

    def _late(self, name: str, log: Callable[[], Replayed]) -> Replayed:
        """What ``log`` gives, or why it does not. Raises Away."""
        try:
            return log()
        except PlantopsError as error:
            self.ping()  # where MLflow is away the rest waits as well; else it is this one alone
            return Replayed(problem=f"{name} is not in MLflow yet: {error.message}")

    def _replay_training(self, training: Training, run_id: str | None) -> Replayed:
        from plantops.bundle import Bundle

        return Replayed(self._record(training, run_id), Bundle.load(training.bundle).digest, key=training.key)

    def _replay_verdict(self, digest: str, run_id: str | None, verdict: dict[str, Any]) -> Replayed:
        with self._speaking() as client:
            run_id = run_id or runs.with_model(client, self._experiment(client), digest)
            record.log_verdict(client, run_id, verdict)
            return Replayed(run_id, digest)

    def _replay_wish(self, wish: Wish) -> Replayed:
        with self._speaking() as client:
            run_id = wish.run_id or runs.with_model(client, self._experiment(client), wish.digest)
            version = registry.register(client, self.config.model_name, run_id, wish.release)
            return Replayed(run_id, wish.digest, release=wish.release, version=version)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return str(os.getuid())
