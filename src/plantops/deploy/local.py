"""Serving on this machine without containers: a supervisor that outlives us, and workers that it swaps."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from plantops import code, extras, process
from plantops.config import ApiConfig, Config, DeployConfig, ServeConfig
from plantops.deploy import daemon, ports, probe, unix
from plantops.deploy.address import Address, reached
from plantops.deploy.protocol import Serving, Trial
from plantops.deploy.switching import switch_to
from plantops.deploy.towerkey import TowerKey
from plantops.errors import SetupError, StepFailed
from plantops.shelf import release_of

_PROTOCOL = 1
_ASK_S = 60.0
_SUPERVISOR_S = 20.0
_POLL_S = 0.02


class Local:
    """The local backend of one project."""

    name = "local"

    def __init__(
        self,
        root: Path,
        deploy: DeployConfig,
        serve: ServeConfig,
        folder: str = "local",
        api: ApiConfig = ApiConfig(),  # noqa: B008  frozen
    ) -> None:
        self._root = root
        self._deploy = deploy
        self._serve = serve
        self._api = api
        self._key = TowerKey(root.resolve() / ".plantops", api)
        self._folder = root.resolve() / ".plantops" / folder
        self._kept = root.resolve() / ".plantops" / "feedback"
        self._rehearsal: Local | None = None
        self._pid_file = self._folder / "supervisor.json"
        self._log = self._folder / "supervisor.log"

    @property
    def public(self) -> Address:
        """Where clients on this machine reach the API."""
        return reached(self._deploy.bind, self._deploy.port)

    @property
    def url(self) -> str:
        """Where clients on this machine reach the API, as a URL."""
        return self.public.url

    def preflight(self) -> None:
        """Raises SetupError when the port is taken, or our own supervisor serves another address."""
        running = self._status()
        wanted = (self._deploy.bind, self._deploy.port)
        if running is not None:
            if running["protocol"] != _PROTOCOL:
                raise SetupError("the API was started by another version of plantops", "plantops down, then up")
            if tuple(running["address"]) != wanted:
                host, port = running["address"]
                raise SetupError(
                    f"the API serves on {host}:{port}, and config.yaml now says {wanted[0]}:{wanted[1]}",
                    "plantops down, then plantops up (the address cannot move without a pause)",
                )
            return
        extras.need(extras.SERVE, "the API without Docker")
        if obstacle := ports.obstacle(*wanted):
            raise SetupError(obstacle, "stop it, or set deploy.port in config.yaml")

    def preflight_without_port(self) -> None:
        """Nothing can be in the way."""

    def rehearse(self, release: Path) -> Trial:
        """Start it under a supervisor of its own on a free port; :meth:`take_over` ends that."""
        port = ports.free()
        self._rehearsal = Local(
            self._root, replace(self._deploy, bind="127.0.0.1", port=port), self._serve, "rehearsal", self._api
        )
        return self._rehearsal.start(release)

    def take_over(self, trial: Trial) -> None:
        """The rehearsal ends, and a worker of the same release takes the public port. Raises StepFailed."""
        self._end_rehearsal()
        switch_to(self, trial.folder)

    def build(self, release: Path, say: Callable[[str], None]) -> str:
        """Nothing to do."""
        return "the local backend serves the release's folder as it is: nothing to build"

    def start(self, release: Path) -> Trial:
        """Start a worker on the release, healthy on its private socket. Raises StepFailed with what it said."""
        self._supervisor()
        made = self._order("start", bundle=str(release.resolve()), flags=self._flags())
        address = Address(socket=Path(made["socket"]), key=self._key.value)
        try:
            said = probe.wait_healthy(address, self._deploy.start_timeout_s, self._still_there)
        except StepFailed as error:
            told = self._status() or {}
            tail = (told.get("trial") or {}).get("tail") or []
            self._give_up(made["number"])
            shown = "".join(f"\n    {line}" for line in tail)
            raise StepFailed(error.message + shown, f"see {self._folder / 'worker.log'}") from None
        except KeyboardInterrupt:
            self._give_up(made["number"])
            raise
        return Trial(str(made["number"]), said["release"], release, said["since"], address)

    def try_golden(self, trial: Trial) -> float:
        """The largest difference of the trial's golden answers. Raises StepFailed."""
        return probe.golden(trial.address, trial.folder)

    def switch(self, trial: Trial) -> None:
        """New connections go to the trial; the old worker finishes those it has, and stands by.

        When the public port does not prove it, the trial should be abandoned: that takes the traffic back.
        """
        self._order("switch", number=int(trial.id))
        probe.prove(self.public, trial)

    def back(self) -> None:
        """The old worker takes the traffic again; where there was none, everything stops."""
        if self._order("back").get("none"):
            self.down()

    def serving_code(self) -> str:
        """The installed one's: workers are started from it."""
        return code.serving_digest()

    def labelled(self) -> str | None:
        """There is no image."""
        return None

    def settle(self) -> list[str]:
        """The old worker may end when its connections have."""
        self._order("settle")
        return []

    def pages(self) -> dict[str, str]:
        """Nothing else."""
        return {}

    def open_pages(self, _: Callable[[str], None]) -> dict[str, str]:
        """Nothing else."""
        return {}

    def built(self) -> set[str] | None:
        """It builds nothing."""
        return None

    def logs_argv(self, service: str, follow: bool) -> list[str]:
        """The command that shows the log of the API, of who asked it, or of the pages beside it.

        Raises SetupError for another service.
        """
        state = self._folder.parent
        files = {
            "plant-disease-api": self._folder / "worker.log",
            "access": self._folder / "access.log",
            **{name: state / "logs" / f"{name}.log" for name in daemon.PAGES},
        }
        if service not in files:
            raise SetupError(f"there is no service {service} here", f"plantops logs {' | '.join(files)}")
        if not files[service].is_file():
            raise SetupError(f"{service} has not been started yet", "plantops up")
        return ["tail", "-n", "200", *(["-f"] if follow else []), str(files[service])]

    def abandon(self, trial: Trial) -> None:
        """End a trial, and where it has the traffic, take that back; where nothing else serves, stop everything."""
        if self._rehearsal is not None:
            self._end_rehearsal()
            return
        self._give_up(int(trial.id))

    def serving(self) -> Serving | None:
        """What answers on the public port, as it says itself."""
        running = self._status()
        if running is None or running["serving"] is None:
            return None
        # Where it listens: config.yaml may have come to name a port on which somebody else answers.
        return probe.serving(reached(*running["address"]))

    def agrees(self, release: Path) -> bool:
        """Whether this release answers, where config.yaml has it."""
        now = self.serving()
        return now is not None and (now.status, now.url, now.release) == ("healthy", self.url, release_of(release))

    def up(self, release: Path) -> None:
        """Serve this release, unless it already does."""
        if self.agrees(release):
            return
        self._end_rehearsal()
        switch_to(self, release)
        self.settle()

    def _end_rehearsal(self) -> None:
        if self._rehearsal is not None:
            self._rehearsal.down()
            self._rehearsal = None

    def down(self) -> list[str]:
        """Stop the API; it answers what it is being asked."""
        now, running = self.serving(), self._status()
        patience = self._serve.request_timeout_s + 20
        if running is not None:
            self._ask(do="stop")
            process.wait_until(lambda: not process.alive(running["pid"]), patience, _POLL_S)
        if not daemon.stop(self._pid_file, patience) and running is None:
            return []
        return [
            f"the API on {now.url if now else self.url}" + (f" (release {now.release})" if now and now.release else "")
        ]

    def watch(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        """Look at the public port for that long. Raises StepFailed when what it says or does is wrong."""
        probe.watch(self.public, seconds, look)

    def metrics(self) -> str:
        """What `/metrics` says on the public port. Raises StepFailed when it says nothing."""
        return probe.metrics(self.public)

    def _flags(self) -> list[str]:
        values = {
            **asdict(self._serve),
            "keep_alive_s": self._deploy.keep_alive_s,
            "kept": self._kept,
            **self._key.flags(),
        }
        return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]

    def _supervisor(self) -> None:
        """Start the supervisor unless it runs."""
        self.preflight()
        if self._status() is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        argv = [sys.executable, "-m", "plantops.deploy.supervisor", str(self._folder)]
        daemon.start([*argv, self._deploy.bind, str(self._deploy.port)], self._folder, self._pid_file, self._log)

        def decided() -> bool:
            return self._status() is not None or daemon.find(self._pid_file) is None

        process.wait_until(decided, _SUPERVISOR_S, _POLL_S)
        if self._status() is None:
            last = self._log.read_text(errors="replace").splitlines()[-5:]
            raise StepFailed("the supervisor of the API did not start: " + " / ".join(last), f"see {self._log}")

    def _still_there(self) -> None:
        trial = (self._status() or {}).get("trial")
        if trial is None or trial["status"] == "ended":
            raise StepFailed(f"the new API ended while starting (status {trial and trial['exit']})")

    def _give_up(self, number: int) -> None:
        running = self._status()
        if running is None:
            return
        serving = running["serving"]
        if serving and serving["number"] == number:
            self.back()
            return
        self._order("abandon", number=number)
        if serving is None:
            self.down()

    def _status(self) -> dict[str, Any] | None:
        """What the supervisor says; None when there is none."""
        return self._ask(do="status")

    def _order(self, verb: str, **values: Any) -> dict[str, Any]:
        """Have the supervisor do something. Raises StepFailed when it cannot."""
        answer = self._ask(do=verb, **values)
        if answer is None:
            raise StepFailed("the API is not running", "plantops up")
        if "error" in answer:
            raise StepFailed(f"the supervisor could not {verb}: {answer['error']}", f"see {self._log}")
        return answer

    def _ask(self, **request: Any) -> dict[str, Any] | None:
        try:
            connection = unix.connect(self._folder / "control.sock", _ASK_S)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            with connection, connection.makefile("rwb") as stream:
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                line = stream.readline()
        except OSError as error:
            raise StepFailed(f"the supervisor of the API does not answer: {error}", f"see {self._log}") from None
        answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None  # else it died in the middle
        return answer


def connect(config: Config) -> Local:
    """The local backend of a project."""
    return Local(config.root, config.deploy, config.serve, api=config.api)
