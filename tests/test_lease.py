"""The lease on a real PostgreSQL, with real processes that are killed, paused and told a wrong time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import database
from api_client import until
from conftest import ROOT, sh
from plantops import lease, lock, pipeline
from plantops.config import Config, load
from plantops.deploy import Serving
from plantops.errors import SetupError
from plantops.postgres import Away
from plantops.store import Store

pytestmark = pytest.mark.ci
LEASE_S = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[database.Server]:
    with database.running() as made:
        yield made


class Machine:
    """A folder with the project, and a process in it that holds the lease, or would."""

    def __init__(self, folder: Path, url: str, project: str, *before: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(f"project: {project}\nshare: {{database: '{url}', lease_s: {LEASE_S:g}}}\n")
        self.config = load(folder)
        self._before = before

    def start(self) -> str:
        """Start the process; what it says first."""
        argv = [*self._before, sys.executable, ROOT / "tests/lease_holder.py", self.config.root]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self.heard()

    def heard(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def say(self, what: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def tell(self, what: str) -> str:
        self.say(what)
        return self.heard()

    def end(self) -> None:
        self.say("end")
        assert self.process.wait(20) == 0

    def signal(self, number: signal.Signals) -> None:
        """To the process itself, also where another program started it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]) if self._before and children else self.process.pid, number)

    def gets_it(self, seconds: float) -> float:
        """Try until the process holds the lease; how long that took, seconds."""
        began = time.monotonic()

        def holds() -> bool:
            said = self.start()
            if said != "holds":
                assert said.startswith("Busy: another machine releases: "), said
                self.process.wait(20)
            return said == "holds"

        until(holds, seconds, "the lease")
        return time.monotonic() - began

    def released(self) -> list[str]:
        """What the database says is in service."""
        seen = lease.look(self.config)
        assert seen
        return [one.release for one in seen.served]


@pytest.fixture
def machine(
    server: database.Server, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Machine]]:
    """Makes machines with one project; what they started is ended."""
    made: list[Machine] = []

    def make(name: str, *before: str) -> Machine:
        made.append(Machine(tmp_path / name, server.url, request.node.name, *before))
        return made[-1]

    yield make
    for one in made:
        with suppress(AttributeError, OSError):
            one.signal(signal.SIGCONT)
            one.process.stdin.close()  # type: ignore[union-attr]
            one.process.kill()
            one.process.wait(20)


def test_one_at_a_time_and_the_others_are_told_who(machine: Callable[..., Machine]) -> None:
    here, there = machine("here"), machine("there")
    assert here.start() == "holds"
    said = there.start()
    assert said.startswith("Busy: another machine releases: ")
    seen = lease.look(there.config)
    assert seen
    assert seen.releasing
    assert str(seen.releasing) in said
    assert not seen.releasing.here
    assert lease.look(here.config).releasing.here  # type: ignore[union-attr]
    assert here.tell("serve one") == "ok"
    here.end()
    assert lease.others(there.config) == ""
    assert there.start() == "holds"
    assert [(one.release, one.here) for one in lease.look(there.config).served] == [("one", False)]  # type: ignore[union-attr]
    there.end()


def test_several_at_once_never_overlap(machine: Callable[..., Machine], tmp_path: Path) -> None:
    """Each adds one to a number in a file that nothing else guards."""
    total = tmp_path / "total"
    total.write_text("0")
    script = (
        "import sys, pathlib\nfrom plantops import lease, lock\nfrom plantops.config import load\n"
        "from plantops.errors import Busy\nconfig, total = load(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2])\n"
        "left = 5\nwhile left:\n try:\n  with lock.hold(config.state), lease.hold(config) as held, held.fence():\n"
        "   total.write_text(str(int(total.read_text()) + 1))\n   left -= 1\n except Busy:\n  pass\n"
    )
    four = [machine(f"m{number}").config.root for number in range(4)]
    going = [subprocess.Popen([sys.executable, "-c", script, root, total]) for root in four]
    assert [one.wait(60) for one in going] == [0] * 4
    assert total.read_text() == "20"


def test_a_killed_holder_is_waited_for_no_longer_than_its_lease(machine: Callable[..., Machine]) -> None:
    here, there = machine("here"), machine("there")
    assert here.start() == "holds"
    here.signal(signal.SIGKILL)
    took = there.gets_it(LEASE_S + 5)
    assert took > LEASE_S / 3  # it was renewed a third of it ago at most, and the database cannot know who lives
    there.end()


def test_its_own_machine_need_not_wait(machine: Callable[..., Machine]) -> None:
    here = machine("here")
    assert here.start() == "holds"
    here.signal(signal.SIGKILL)
    here.process.wait(20)
    assert here.start() == "holds"
    here.end()


def test_a_paused_holder_finds_out(machine: Callable[..., Machine]) -> None:
    here, there = machine("here"), machine("there")
    assert here.start() == "holds"
    here.signal(signal.SIGSTOP)
    there.gets_it(LEASE_S + 5)
    here.signal(signal.SIGCONT)
    for order in ("serve stale", "check"):
        said = here.tell(order)
        assert said.startswith("Lost: this run has lost its turn to release"), said
        assert str(lease.look(there.config).releasing) in said  # type: ignore[union-attr]
    assert there.tell("serve fresh") == "ok"
    here.end()
    assert there.tell("check") == "ok", "the stale one gave back what was not its own"
    assert there.released() == ["fresh"]
    there.end()


def test_a_holder_that_is_paused_in_the_middle_of_a_fence_is_thrown_out(machine: Callable[..., Machine]) -> None:
    here, there = machine("here"), machine("there")
    assert here.start() == "holds"
    assert here.tell("enter stale") == "ok"
    here.signal(signal.SIGSTOP)
    there.gets_it(3 * LEASE_S + 5)
    assert there.tell("serve fresh") == "ok"
    here.signal(signal.SIGCONT)
    said = here.tell("leave")
    assert said.startswith("Away: the shared database"), said
    assert here.tell("check").startswith("Lost: ")
    assert there.released() == ["fresh"]
    there.end()


def test_nobody_gets_it_while_something_is_changed(machine: Callable[..., Machine]) -> None:
    """A fence may take longer than the lease: it is kept up inside."""
    here, there = machine("here"), machine("there")
    assert here.start() == "holds"
    assert here.tell("enter slow") == "ok"
    began = time.monotonic()
    while time.monotonic() - began < 2 * LEASE_S:
        assert there.start() != "holds"
    assert here.tell("leave") == "ok"
    assert there.released() == ["slow"]
    here.end()


def test_what_waits_for_a_fence_or_makes_one_wait_gets_its_turn(machine: Callable[..., Machine]) -> None:
    """As after a rollback: its views, and a run elsewhere, may take longer than the lease."""
    here, there = machine("here"), machine("there")
    assert here.start() == "holds"
    assert here.tell("enter slow") == "ok"
    later = threading.Timer(1.5 * LEASE_S, here.say, ["leave"])
    later.start()
    with lease.between(there.config) as told:
        assert here.heard() == "ok"
        told.serves("older", "rollback")
        here.say("check")
        time.sleep(1.5 * LEASE_S)
    assert here.heard() == "ok"
    assert sorted(here.released()) == ["older", "slow"]
    here.end()


def test_the_aliases_are_those_of_the_newest_release(machine: Callable[..., Machine]) -> None:
    here, there = machine("here").config, machine("there").config

    def asked(config: Config, serves: str) -> bool:
        with lock.hold(config.state), lease.hold(config) as held, held.fence():
            held.serves(serves, "a test")
            return held.newest()

    assert asked(here, "one")
    assert asked(there, "two")
    assert not asked(here, "one")
    assert asked(here, "three")


def test_an_api_that_another_machine_releases_to_is_left_alone(machine: Callable[..., Machine]) -> None:
    here, there = machine("here").config, machine("there").config
    with lock.hold(there.state), lease.hold(there) as held, held.fence():
        held.serves("theirs", "a test")
    with Store(here.state) as store:
        running = Serving("from-before", None, "healthy", None, "", 0, "", None)
        pipeline._not_of_others(here, store, running)
        with pytest.raises(SetupError, match=r"/there has theirs in service since .*, and it answers here, too"):
            pipeline._not_of_others(here, store, replace(running, release="theirs"))


def test_a_pause_that_nobody_used_does_no_harm(machine: Callable[..., Machine]) -> None:
    here = machine("here")
    assert here.start() == "holds"
    here.signal(signal.SIGSTOP)
    until(lambda: lease.look(here.config).releasing is None, LEASE_S + 5, "the end of the lease")  # type: ignore[union-attr]
    here.signal(signal.SIGCONT)
    assert here.tell("serve late") == "ok"
    assert here.released() == ["late"]
    here.end()


@pytest.mark.skipif(shutil.which("faketime") is None, reason="no faketime (apt install faketime)")
@pytest.mark.parametrize("there_is", ["+400d", "-400d"])
def test_clocks_that_are_wrong_are_not_asked(machine: Callable[..., Machine], there_is: str) -> None:
    wrong = (
        "env",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "faketime",
        "-f",
    )  # the clock on the wall is wrong, not the stopwatch
    here = machine("here", *wrong, "-30d" if there_is[0] == "+" else "+30d")
    there = machine("there", *wrong, there_is)
    assert here.start() == "holds"
    assert there.start().startswith("Busy: ")
    seen = lease.look(there.config)
    assert seen
    assert seen.releasing
    assert abs(datetime.fromisoformat(seen.releasing.since) - datetime.now(UTC)) < timedelta(minutes=2)
    began = time.monotonic()
    while time.monotonic() - began < 1.5 * LEASE_S:  # kept up, by a clock that runs as fast as any
        assert there.start().startswith("Busy: ")
    here.signal(signal.SIGSTOP)
    there.gets_it(LEASE_S + 10)
    here.signal(signal.SIGCONT)
    assert here.tell("serve stale").startswith("Lost: ")
    there.end()


def test_a_database_that_comes_back_in_time_is_waited_for(tmp_path: Path) -> None:
    with database.running() as own:
        here = Machine(tmp_path / "here", own.url, "restarted")
        assert here.start() == "holds"
        own.stop(signal.SIGQUIT)
        here.say("serve one")
        own.start()
        assert here.heard() == "ok"
        assert here.released() == ["one"]
        own.stop()
        said = here.tell("check")
        assert said.startswith(f"Away: the shared database postgresql://[redacted]@127.0.0.1:{own.port}"), said
        here.end()
        with pytest.raises(Away, match="onnection refused"):
            lease.look(here.config)


def test_a_database_that_stands_still_is_away(tmp_path: Path) -> None:
    with database.running() as own, ExitStack() as left:
        here = Machine(tmp_path / "here", own.url, "still")
        assert here.start() == "holds"
        assert own.process
        its = [own.process.pid, *map(int, sh("pgrep", "-P", str(own.process.pid), cwd=tmp_path).stdout.split())]
        for pid in its:
            os.kill(pid, signal.SIGSTOP)
            left.callback(os.kill, pid, signal.SIGCONT)
        began = time.monotonic()
        assert here.tell("check").startswith("Away: ")
        assert time.monotonic() - began < 60
        here.process.kill()


def shared(config: Config, **changes: object) -> Config:
    return replace(config, share=replace(config.share, **changes))


def test_what_is_wrong_is_said_without_the_password(
    machine: Callable[..., Machine], server: database.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = machine("here").config
    with pytest.raises(SetupError, match="holds a password") as caught:
        lease.look(shared(config, database=server.url.replace("plantops@", "plantops:hush-hush@")))
    assert "hush" not in caught.value.message + caught.value.hint
    for url in ("mysql://ada@127.0.0.1/x", "host=127.0.0.1"):
        with pytest.raises(SetupError, match="must be postgresql://"):
            lease.look(shared(config, database=url))
    with pytest.raises(SetupError, match=r"share.lease_s must be from 1 to 3600 seconds, not 0\.5"):
        lease.look(shared(config, lease_s=0.5))
    assert lease.others(shared(config, database="mysql://ada@127.0.0.1/x")) == "", "watch goes on"
    with pytest.raises(SetupError, match="Invalid IPv6"):
        lease.look(shared(config, database="postgresql://ada@[::1/x"))
    monkeypatch.setenv("PGPASSWORD", "hush-hush")
    with pytest.raises(Away, match="password authentication failed") as refused:
        lease.look(config)
    assert "PGPASSWORD" in refused.value.hint
    assert "hush" not in str(refused.value)


def test_the_password_may_be_in_libpqs_own_file(
    machine: Callable[..., Machine], server: database.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    kept = tmp_path / "pgpass"
    kept.touch(mode=0o600)
    secret = database.PASSWORD.replace(":", "\\:")
    kept.write_text(f"127.0.0.1:{server.port}:*:{database.USER}:{secret}\n")
    monkeypatch.setenv("PGPASSFILE", str(kept))
    assert lease.look(machine("here").config) == lease.Seen()


def test_without_a_database_nothing_is_imported_and_nothing_refused(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom plantops import lease\nfrom plantops.config import Config\n"
        "config = Config(pathlib.Path('.'), pathlib.Path('config.yaml'))\n"
        "with lease.hold(config) as one, one.fence():\n one.check(); one.serves('r', 'why')\n"
        "assert lease.look(config) is None and lease.others(config) == ''\n"
        "sys.exit('psycopg' in sys.modules)"
    )
    sh(sys.executable, "-c", script, cwd=tmp_path)


def test_tables_are_made_by_whoever_is_first(machine: Callable[..., Machine], server: database.Server) -> None:
    """Eight at once, on a database without any."""
    url = server.url
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DROP TABLE IF EXISTS plantops_lease, plantops_service")
    eight = [machine(f"m{number}") for number in range(8)]
    script = (
        "import sys, pathlib\nfrom plantops import lease, lock\nfrom plantops.config import load\n"
        "from plantops.errors import Busy\nconfig = load(pathlib.Path(sys.argv[1]))\n"
        "try:\n with lock.hold(config.state), lease.hold(config) as held:\n  held.check()\nexcept Busy:\n pass\n"
    )
    going = [subprocess.Popen([sys.executable, "-c", script, one.config.root]) for one in eight]
    assert [one.wait(60) for one in going] == [0] * 8
