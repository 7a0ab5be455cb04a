"""`plantops watch` as a process, with real runs of cheap stages: what starts one, what does not, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api_client import free_port, until
from conftest import plantops, sh
from plantops import detect, dvc
from plantops.store import ACCEPTED, Run, Store
from runs.cheap import RAW, answering, edit, leaves, state

pytestmark = pytest.mark.ci


class Watching:
    """A watch in the background, and what it has said so far."""

    def __init__(self, folder: Path, argv: list[str]) -> None:
        self.log = folder / ".plantops/test.log"
        self.log.parent.mkdir(exist_ok=True)
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with self.log.open("w") as out:
            self.process = subprocess.Popen(argv, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=env)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def says(self, text: str, seconds: float = 60) -> None:
        """Wait for it to say ``text``."""
        until(lambda: text in self.said or self.process.poll() is not None, seconds, repr(text))
        assert text in self.said, self.said

    def ends(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; its exit code, which comes within ten seconds."""
        self.process.send_signal(signum)
        return self.process.wait(timeout=10)


@contextmanager
def watching(folder: Path, *options: str, wrap: tuple[str, ...] = ()) -> Iterator[Watching]:
    """`plantops watch`, killed in the end if it still goes."""
    one = Watching(folder, [*wrap, sys.executable, "-m", "plantops", "watch", *(options or ("--interval", "3600"))])
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(timeout=20)


def runs(folder: Path) -> list[Run]:
    """All runs, newest first."""
    with Store(folder / ".plantops", readonly=True) as store:
        return store.runs(100)


def states(folder: Path) -> list[str]:
    return [run.state for run in runs(folder)]


def beat(folder: Path) -> dict[str, str]:
    return json.loads((folder / ".plantops/watch.json").read_text())


def setting(folder: Path, **values: object) -> None:
    """Set keys of config.yaml's watch section."""
    text = (folder / "config.yaml").read_text()
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^  {key}: \S+", f"  {key}: {value}", text)
        assert count == 1, key
    (folder / "config.yaml").write_text(text)


@pytest.fixture
def quick(project: Path) -> Path:
    """The project; a burst is over after 0.3 s."""
    setting(project, settle_seconds=0.3)
    return project


@pytest.fixture
def quiet(quick: Path) -> Path:
    """The same, with a store that says its inputs are settled; no stage has run."""
    inputs = dvc.inputs(quick)
    with Store(quick / ".plantops") as store:
        store.finish(store.begin("by hand", {}, detect.fingerprint(inputs), inputs), ACCEPTED, inputs)
    return quick


def seed(folder: Path, number: int) -> None:
    """A parameter change."""
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(re.sub(r"(?m)^seed: \d+", f"seed: {number}", text))


def test_what_the_guide_types_is_released_and_then_there_is_peace(quick: Path) -> None:
    with watching(quick) as watch:
        until(lambda: answering(quick), 120, "the first release")
        one = answering(quick)
        leaves(quick / RAW / "NewClass", (220, 220, 60), 20)
        watch.says("20 photos not under DVC: dvc add data/raw/PlantVillage/NewClass")
        sh("dvc", "add", "data/raw/PlantVillage/NewClass", cwd=quick)
        sh("git", "add", "data/raw/PlantVillage/NewClass.dvc", "dvc.lock", cwd=quick)
        sh("git", "commit", "-m", "Add NewClass", cwd=quick)
        until(lambda: answering(quick) not in ("", one), 120, "the second release")
        until(lambda: states(quick) == ["released", "released"], what="the run's end")
        assert json.loads((quick / ".plantops/watch.json").read_text())["pid"] == watch.process.pid
        until(lambda: state(quick)["watch"]["state"] == "watching", what="the look after the run")
        assert re.search(r"watch +alive, looked \d+ s ago", plantops("status", cwd=quick).stdout)
        again = plantops("watch", cwd=quick, check=False)
        assert (again.returncode, f"pid {watch.process.pid}" in again.stderr) == (5, True)

        # A rollback is a person's word: what was left does not come back, not with a new watch either.
        plantops("rollback", cwd=quick)
        seen = state(quick)["watch"]["checked"]
        (quick / "dvc.yaml").write_text((quick / "dvc.yaml").read_text() + "# a comment\n")
        until(lambda: state(quick)["watch"]["checked"] > seen, what="a look")
        assert watch.ends() == 0
    assert "watch       stopped" in plantops("status", cwd=quick).stdout
    with watching(quick, "--interval", "0.5") as watch:
        watch.says("no changes")
        seen = state(quick)["watch"]["checked"]
        until(lambda: state(quick)["watch"]["checked"] > seen, what="a look")
        assert watch.ends(signal.SIGINT) == 130
    assert answering(quick) == one
    assert len(runs(quick)) == 2


def test_tries_are_counted_through_restarts_and_a_change_begins_anew(quick: Path) -> None:
    edit(quick / "dvc.yaml", "python cheap_stages.py train", "exit 3")
    setting(quick, max_retries=2)
    with watching(quick, "--interval", "0.5") as watch:
        watch.says("trying again at")
        assert watch.ends() == 0
    assert len(runs(quick)) < 3
    with watching(quick, "--interval", "0.5") as watch:
        watch.says("tried 3 times on these inputs (watch.max_retries)")
        assert states(quick) == ["failed"] * 3
        assert watch.said.count("stage train failed; its last lines") <= 2, "the error is told once, retries are quiet"
    with watching(quick, "--interval", "0.5") as watch:
        watch.says("tried 3 times")
        assert "waits: tried 3 times" in plantops("status", cwd=quick).stdout
        once = plantops("watch", "--once", cwd=quick, check=False)
        assert (once.returncode, "tried 3 times" in once.stderr) == (1, True)
        assert len(runs(quick)) == 3
        edit(quick / "dvc.yaml", "exit 3", "python cheap_stages.py train")
        until(lambda: states(quick)[0] == "released", 60, "the release after the mending")


def test_what_hinders_a_run_is_told_once_and_over_when_config_says_so(quiet: Path) -> None:
    port = free_port()
    edit(quiet / "config.yaml", "sqlite:///mlruns/mlflow.db", f"http://127.0.0.1:{port}")
    with watching(quiet, "--interval", "0.2") as watch:
        watch.says("no changes")
        seed(quiet, 5)
        watch.says("does not answer")
        checked = until(lambda: state(quiet)["watch"]["why"] and state(quiet)["watch"], what="the heartbeat")[
            "next_try"
        ]
        until(lambda: state(quiet)["watch"]["next_try"] not in (None, checked), 20, "another try")
        assert watch.said.count("does not answer") == 1
        assert len(runs(quiet)) == 1
        edit(quiet / "config.yaml", f"http://127.0.0.1:{port}", "sqlite:///mlruns/mlflow.db")
        until(lambda: len(runs(quiet)) == 2 and states(quiet)[0] != "running", 60, "the run")


def test_uploads_that_rename_and_links_that_loop_end_no_watch(quiet: Path) -> None:
    upload = "import itertools, os, sys, time\nos.makedirs(sys.argv[1])\nfor n in itertools.count():\n"
    upload += "  half = f'{sys.argv[1]}/{\".\" * (n % 2)}{n}.part'\n  open(half, 'w').write(str(n))\n"
    upload += "  time.sleep(.01)\n  os.replace(half, f'{sys.argv[1]}/{n}.jpg')"
    setting(quiet, max_wait_seconds=0.5)
    with watching(quiet, "--interval", "0.2") as watch:
        watch.says("no changes")
        (quiet / "loop.dvc").symlink_to("loop.dvc")
        with subprocess.Popen([sys.executable, "-c", upload, quiet / RAW / "Upload"]) as uploading:
            try:
                watch.says("not under DVC: dvc add data/raw/PlantVillage/Upload")
                looks = set()
                until(lambda: looks.add(beat(quiet)["checked"]) or len(looks) > 8, 60, "looks meanwhile")
            finally:
                uploading.kill()
        assert "error" not in watch.said
        assert watch.ends() == 0


def test_what_the_machine_refuses_for_a_moment_ends_no_watch(quiet: Path) -> None:
    full = quiet / "training_code.tmp"  # what plantops writes first
    with watching(quiet, "--interval", "0.2") as watch:
        watch.says("no changes")
        full.symlink_to("/dev/full")
        (quiet / "training_code.yaml").unlink()
        seed(quiet, 5)
        watch.says("error: the disk is full")
        watch.says("trying again with growing pauses")
        full.unlink()
        until(lambda: len(runs(quiet)) == 2, 60, "the run when there is room")
        assert watch.said.count("the disk is full") == 1


def test_a_run_goes_by_the_config_that_came_with_its_inputs(quiet: Path) -> None:
    setting(quiet, settle_seconds=1.5)
    with watching(quiet) as watch:
        watch.says("no changes")
        seed(quiet, 5)
        time.sleep(0.7)  # within the settling
        edit(quiet / "config.yaml", "max_model_mb: ", "max_model_mb: 0.00001 # was ")
        until(lambda: states(quiet)[0] == "refused", 60, "the verdict by the new rule")
    assert len(runs(quiet)) == 2


def test_a_config_that_is_empty_for_a_moment_changes_nothing(quiet: Path) -> None:
    text = (quiet / "config.yaml").read_text()
    with watching(quiet, "--interval", "0.2") as watch:
        watch.says("no changes")
        (quiet / "config.yaml").write_text("")
        watch.says("config.yaml is empty; the settings from before hold")
        (quiet / "config.yaml").write_text(text)
        looked = beat(quiet)["checked"]
        until(lambda: beat(quiet)["checked"] > looked, 20, "a look")
        assert "read again" not in watch.said


def test_a_lock_that_nobody_can_read_hinders_a_run_until_it_is_mended(quiet: Path) -> None:
    lock = (quiet / "dvc.lock").read_text()
    with watching(quiet, "--interval", "0.5") as watch:
        watch.says("no changes")
        (quiet / "dvc.lock").write_text(f"<<<<<<< HEAD\n{lock}=======\n")
        watch.says("error: dvc.lock cannot be read as YAML")
        watch.says("try: git checkout dvc.lock, or resolve the conflict")
        seed(quiet, 4)
        assert len(runs(quiet)) == 1, "no try is used up"
        (quiet / "dvc.lock").write_text(lock)
        until(lambda: states(quiet)[0] == "released", 60, "the run")
    assert len(runs(quiet)) == 2


def test_a_new_lock_is_one_more_try_after_giving_up(quiet: Path) -> None:
    setting(quiet, max_retries=0)
    edit(quiet / "dvc.yaml", "python cheap_stages.py train", "test -e ok && python cheap_stages.py train")
    with watching(quiet, "--interval", "0.2") as watch:
        watch.says("tried once on these inputs")
        (quiet / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
        watch.says("tried 2 times on these inputs")
        (quiet / "ok").touch()
        (quiet / "dvc.lock").write_text("schema: '2.0'\nstages: {gone: {cmd: x}}\n")
        until(lambda: states(quiet)[0] == "released", 60, "the run on the mended lock")
    assert len(runs(quiet)) == 4


def test_breaker_stops_what_would_run_without_end(quiet: Path) -> None:
    setting(quiet, max_runs_per_hour=1)
    with watching(quiet) as watch:
        watch.says("no changes")
        seed(quiet, 5)
        until(lambda: states(quiet)[0] == "released", 60, "the run")
        seed(quiet, 6)
        watch.says("1 runs within an hour (watch.max_runs_per_hour): starting none before")
        assert len(runs(quiet)) == 2
        assert watch.ends() == 0
    with watching(quiet) as watch:
        watch.says("starting none before")
        setting(quiet, max_runs_per_hour=2)
        until(lambda: len(runs(quiet)) == 3, 60, "the run that the new setting allows")


def test_watch_waits_for_another_run_and_says_whose(quiet: Path) -> None:
    waits = "touch trains && until [ -e go ]; do sleep 0.1; done && python cheap_stages.py train"
    edit(quiet / "dvc.yaml", "python cheap_stages.py train", waits)
    other = subprocess.Popen([sys.executable, "-m", "plantops", "run", "--skip-deploy"], cwd=quiet)
    until((quiet / "trains").exists, 60, "the training to begin")
    with watching(quiet) as watch:
        watch.says(f"waiting: another run is going: pid {other.pid}")
        once = plantops("watch", "--once", cwd=quiet, check=False)
        assert (once.returncode, f"pid {other.pid}" in once.stderr) == (5, True)
        seed(quiet, 7)
        (quiet / "go").touch()
        assert other.wait(timeout=60) == 0
        until(lambda: states(quiet)[0] == "released", 60, "the run for what changed meanwhile")
        assert watch.said.count("waiting: another run") == 1
    assert len(runs(quiet)) == 3


def test_in_a_run_the_metrics_go_on(quiet: Path) -> None:
    """Their age tells a watch that was killed in it."""
    waits = "touch trains && until [ -e go ]; do sleep 0.1; done && python cheap_stages.py train"
    edit(quiet / "dvc.yaml", "python cheap_stages.py train", waits)

    def told() -> float:
        text = (quiet / ".plantops/metrics/plantops.prom").read_text()
        assert "\nplantops_watch_running 1\n" in text
        return float(re.findall(r"(?m)^plantops_watch_last_check_timestamp_seconds (\S+)", text)[0])

    with watching(quiet):
        until((quiet / "trains").exists, 60, "the training to begin")
        first = told()
        until(lambda: told() > first, 30, "fresh metrics")
        (quiet / "go").touch()
        until(lambda: states(quiet)[0] == "released", 60, "the run's end")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_ends_within_ten_seconds_in_the_middle_of_a_training(quick: Path, signum: signal.Signals, code: int) -> None:
    """Also of one that will not hear of it. (An MLflow database that is being made just then is finished first.)"""
    plantops("run", "--skip-deploy", cwd=quick)
    deaf = (
        "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; open('trains', 'w'); time.sleep(60)"
    )
    (quick / "deaf.py").write_text(deaf)
    edit(quick / "dvc.yaml", "python cheap_stages.py train", "python deaf.py")
    with watching(quick) as watch:
        until((quick / "trains").exists, 60, "the training to begin")
        assert watch.ends(signum) == code
        assert states(quick) == ["interrupted", "accepted"]
        assert runs(quick)[0].ended
        assert "watch       stopped" in plantops("status", cwd=quick).stdout


def test_sighup_reads_config_again_and_a_bad_one_changes_nothing(quiet: Path) -> None:
    with watching(quiet) as watch:
        watch.says("no changes")
        watch.process.send_signal(signal.SIGHUP)
        watch.says("config.yaml read again: nothing changed")
        edit(quiet / "config.yaml", "  max_retries: 3", "  max_retrys: 3")
        watch.says("unknown key watch.max_retrys (did you mean watch.max_retries?); the settings from before hold")
        edit(quiet / "config.yaml", "  max_retrys: 3", "  max_retries: 0")
        watch.process.send_signal(signal.SIGHUP)
        until(lambda: watch.said.count("config.yaml read again") >= 2, what="the new config")
        edit(quiet / "dvc.yaml", "python cheap_stages.py train", "exit 3")
        watch.says("tried once on these inputs")


def test_once_looks_once_with_the_codes_of_run(quick: Path) -> None:
    edit(quick / "dvc.yaml", "python cheap_stages.py train", "exit 3")
    assert plantops("watch", "--once", cwd=quick, check=False).returncode == 1
    paused = plantops("watch", "--once", cwd=quick)
    assert "trying again at" in paused.stdout
    assert len(runs(quick)) == 1
    edit(quick / "dvc.yaml", "exit 3", "python cheap_stages.py train")
    assert "released" in plantops("watch", "--once", cwd=quick).stdout
    assert "no changes" in plantops("watch", "--once", cwd=quick).stdout
    assert len(runs(quick)) == 2
    assert "--once looked" in plantops("status", cwd=quick).stdout
    assert "plantops_runs_total" in (quick / ".plantops/metrics/plantops.prom").read_text()
    edit(quick / "params.yaml", "label_smoothing: 0.1", "label_smoothing: 0.95")
    assert plantops("watch", "--once", cwd=quick, check=False).returncode == 4
    assert "settled: the gate refused" in plantops("watch", "--once", cwd=quick).stdout
    edit(quick / "config.yaml", "max_retries: 3", "max_retrys: 3")
    assert plantops("watch", "--once", cwd=quick, check=False).returncode == 2
    edit(quick / "config.yaml", "max_retrys: 3", "max_retries: 3")  # or nothing can be stopped


def test_photos_are_added_where_config_says_so(quiet: Path) -> None:
    edit(quiet / "config.yaml", "untracked: refuse", "untracked: add")
    known = sorted(one for one in (quiet / RAW).iterdir() if one.is_dir())[0]
    with watching(quiet) as watch:
        watch.says("no changes")
        leaves(known, (40, 160, 60), 5, seed=9)
        until(lambda: len(runs(quiet)) == 2 and states(quiet)[0] == "released", 60, "the run")
        assert "nfiles: 25" in known.with_name(f"{known.name}.dvc").read_text()
        leaves(quiet / RAW / "NewClass", (220, 220, 60), 20)
        until(lambda: len(runs(quiet)) == 3 and states(quiet)[0] == "released", 60, "the run")
        assert "nfiles: 20" in (quiet / RAW / "NewClass.dvc").read_text()
        until(lambda: state(quiet)["watch"]["state"] == "watching", what="the look after the run")
        assert watch.ends() == 0
    assert len(runs(quiet)) == 3


def test_two_hundred_changes_are_one_run_on_the_last(quiet: Path) -> None:
    setting(quiet, settle_seconds=1)
    with watching(quiet) as watch:
        watch.says("no changes")
        for number in range(100, 300):
            seed(quiet, number)
            time.sleep(0.03)
        until(lambda: states(quiet)[0] == "released", 60, "the run")
        assert watch.ends() == 0
    assert runs(quiet)[0].inputs["params.yaml"]["seed"] == 299
    assert len(runs(quiet)) == 2


def test_a_killed_watch_is_found_dead_and_the_next_one_goes_on(quiet: Path) -> None:
    with watching(quiet) as watch:
        watch.says("no changes")
        watch.process.kill()
        watch.process.wait()
        assert "not running: it died" in plantops("status", cwd=quiet).stdout
        seed(quiet, 3)
    with watching(quiet):
        until(lambda: states(quiet)[0] == "released", 60, "the run")


def test_of_two_that_start_at_the_same_moment_one_goes(quiet: Path) -> None:
    argv = [sys.executable, "-m", "plantops", "watch", "--interval", "3600"]
    both = [subprocess.Popen(argv, cwd=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        until(lambda: any(one.poll() is not None for one in both), 60, "the end of one")
        (other,) = [one for one in both if one.poll() is not None]
        (going,) = [one for one in both if one is not other]
        assert other.returncode == 5
        assert f"watch is going here already: pid {going.pid} " in other.communicate()[1].decode()
    finally:
        for one in both:
            one.terminate()
            one.wait(timeout=20)


def test_a_closed_terminal_ends_it(quiet: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(quiet)
        os.execv(sys.executable, [sys.executable, "-m", "plantops", "watch"])
    beat = quiet / ".plantops/watch.json"
    until(lambda: beat.exists() and json.loads(beat.read_text())["state"] == "watching", 60, "the first look")
    os.kill(pid, signal.SIGHUP)  # the terminal is there: a wish to read the config again
    heard = b""
    while b"read again: nothing changed" not in heard:
        heard += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert json.loads(beat.read_text())["state"] == "stopped"


def no_file_events(folder: Path) -> tuple[str, ...]:
    """What to begin a command with so that it gets none; skips where that cannot be."""
    wrap = ("unshare", "--user", "--map-root-user", "sh", "-c",
            'echo 1 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh")  # fmt: skip
    if not shutil.which("unshare") or sh(*wrap, "true", cwd=folder, check=False).returncode:
        pytest.skip("no user namespaces here, where the limit of inotify can be lowered")
    return wrap


def test_without_file_events_the_interval_finds_it(quiet: Path) -> None:
    with watching(quiet, "--interval", "0.5", wrap=no_file_events(quiet)) as watch:
        watch.says("looking by the interval alone")
        watch.says("no changes")
        seed(quiet, 8)
        until(lambda: states(quiet)[0] == "released", 60, "the run")
        assert watch.said.count("looking by the interval alone") == 1


def test_once_waits_for_a_slow_remote_as_no_look_follows(quiet: Path, tmp_path: Path) -> None:
    sh("git", "clone", "-q", "--bare", quiet, tmp_path / "origin", cwd=tmp_path)
    sh("git", "clone", "-q", tmp_path / "origin", tmp_path / "other", cwd=tmp_path)
    sh("git", "commit", "-q", "--allow-empty", "-m", "Say hello", cwd=tmp_path / "other")
    sh("git", "push", "-q", cwd=tmp_path / "other")
    sh("git", "remote", "add", "origin", tmp_path / "origin", cwd=quiet)
    sh("git", "config", "remote.origin.uploadpack", "sleep 6 && git-upload-pack", cwd=quiet)
    sh("git", "update-index", "--assume-unchanged", "config.yaml", cwd=quiet)  # no local work that stops it
    edit(quiet / "config.yaml", 'remote: "" ', 'remote: "origin" ')
    assert "took up 1 commit of origin/main: Say hello" in plantops("watch", "--once", cwd=quiet).stdout
