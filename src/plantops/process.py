"""The one place that starts a program: streamed and logged for long work, captured for short answers."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from plantops.errors import StepFailed

RUN_VARIABLE = "PLANTOPS_RUN"
CHAMPION_VARIABLE = "PLANTOPS_CHAMPION"  # the folder of the release in service, resolved once in a run
_TAIL = 30
_PATIENCE = 4.0


@dataclass(frozen=True)
class Answer:
    """What a short command gave: exit status and text."""

    status: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.status == 0


class Failed(StepFailed):
    """A program ended with another status than 0; ``tail`` holds its last lines."""

    def __init__(self, argv: Sequence[str], status: int, tail: Sequence[str]) -> None:
        shown = "\n".join(f"    {line}" for line in tail)
        super().__init__(f"`{shlex.join(argv)}` ended with status {status}" + (f":\n{shown}" if shown else ""))
        self.status = status
        self.tail = list(tail)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment with this Python's programs first on the PATH, so stages run under the same Python."""
    scripts = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{scripts}{os.pathsep}{path}", **(extra or {})}


def capture(argv: Sequence[str], cwd: Path, timeout: float = 60, env: Mapping[str, str] | None = None) -> Answer:
    """Run a short command and return what it said, in English, whatever its status.

    Raises StepFailed after ``timeout`` s, or where ``cwd`` is gone.
    """
    english = {"LC_ALL": "C.UTF-8", **(env or {})}  # what it says is looked at, and people are told it in our words
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=environment(english), capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=timeout, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        if not cwd.is_dir():
            said = f"{cwd} is gone, and `{shlex.join(argv)}` was to run in it"
            raise StepFailed(said, "cd into the project") from None
        return Answer(127, "", f"{argv[0]}: command not found")
    except subprocess.TimeoutExpired:
        raise StepFailed(f"`{shlex.join(argv)}` gave no answer within {timeout:.0f} s") from None
    return Answer(done.returncode, done.stdout, done.stderr)


def stream(
    argv: Sequence[str],
    cwd: Path,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
) -> None:
    """Run long work, handing over each line of its output as it comes.

    Raises Failed with the last lines when it ends with another status than 0. When we are interrupted or
    fail ourselves, the program and all it started are stopped: politely, then for good.
    """
    tail: deque[str] = deque(maxlen=_TAIL)
    with _started(argv, cwd, env) as child:
        assert child.stdout is not None
        for raw in child.stdout:
            line = raw.rstrip("\n")
            on_line(line)
            if not line.startswith("@"):
                tail.append(line)
        status = child.wait()
    if status:
        raise Failed(argv, status, tail)


@contextmanager
def _started(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None) -> Iterator[subprocess.Popen[str]]:
    # A session of its own: Ctrl-C reaches us alone, and one signal to the group reaches all that it started.
    child = subprocess.Popen(
        argv, cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        stop_group(child)


def stop_group(child: subprocess.Popen[str]) -> None:
    """Stop a child that leads its own session, and everything in it: SIGINT, SIGTERM, then SIGKILL.

    Whoever interrupts this waiting, too, wants it killed at once.
    """
    try:
        for signum, patience in ((signal.SIGINT, _PATIENCE), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
            if _gone(child):
                break
            _signal_group(child.pid, signum)
            wait_until(lambda: _gone(child), patience)
    except KeyboardInterrupt:
        _signal_group(child.pid, signal.SIGKILL)
        raise
    finally:
        if child.stdout:
            child.stdout.close()


def _gone(child: subprocess.Popen[str]) -> bool:
    return child.poll() is not None and not _group_lives(child.pid)


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Ask until it holds, every so many seconds; False when it did not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def become(argv: Sequence[str], cwd: Path) -> NoReturn:
    """Have another program take our place, with our terminal. Raises StepFailed when there is no such program."""
    os.chdir(cwd)
    try:
        os.execvpe(argv[0], list(argv), environment())
    except FileNotFoundError:
        raise StepFailed(f"{argv[0]}: command not found") from None


def detach(argv: Sequence[str], cwd: Path, log: Path, env: Mapping[str, str] | None = None) -> int:
    """Start a program that outlives us, its output appended to ``log``; returns its process id."""
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = environment(env)
    variables.pop(RUN_VARIABLE, None)
    with log.open("ab") as out:
        child = subprocess.Popen(
            argv, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    return child.pid


# Our end of the first program's input closes however we end, also by SIGKILL. $1: a file to remove at the end.
# A program that ended by itself is not killed later: its number may be another's by then.
_COMPANION = """
made=$1; shift
exec 3<&0
"$@" 3<&- &
child=$!
{ cat <&3 >/dev/null; kill "$child" 2>/dev/null; } &
watcher=$!
wait "$child"
kill "$watcher" 2>/dev/null
rm -f "$made"
"""


class Companion:
    """A program that ends when we do, or when this is collected. Ctrl-C does not reach it.

    Its output goes to ``log``; ``made``: what it leaves behind, removed then.
    """

    def __init__(self, argv: Sequence[str], cwd: Path, log: Path, made: Path) -> None:
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                ["sh", "-c", _COMPANION, "sh", str(made), *argv], cwd=cwd, env=environment(), stdin=subprocess.PIPE,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._child.poll() is not None

    def __del__(self) -> None:
        # Not left to Popen: that keeps itself, and so the pipe, until its child has ended.
        if self._child.stdin:
            self._child.stdin.close()


def limited(argv: Sequence[str], cwd: Path, log: Path, seconds: float, env: Mapping[str, str]) -> int:
    """Run a program to its end, its output appended to ``log``; returns its status.

    Raises StepFailed when it does not end within ``seconds``: it and all that it started are stopped then.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:  # a file: a pipe that a grandchild keeps open would have us wait for that
        child = subprocess.Popen(
            argv, cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True, text=True,
        )  # fmt: skip
    try:
        return child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise StepFailed(f"`{shlex.join(argv)}` did not end within {seconds:g} s") from None
    finally:
        stop_group(child)


def left_over(run: str) -> list[int]:
    """Processes that run ``run`` started and that outlived it (their environment names it). Linux only."""
    mark = f"{RUN_VARIABLE}={run}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def end(pids: Sequence[int], patience: float = 5.0) -> None:
    """Stop processes that are not our children: SIGTERM, and SIGKILL after ``patience`` seconds."""
    for signum, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 2.0)):
        for pid in pids:
            _signal(pid, signum)
        if wait_until(lambda: not any(alive(pid) for pid in pids), wait):
            return


def alive(pid: int) -> bool:
    """Whether process ``pid`` runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def working_in(folder: Path, word: str) -> list[int]:
    """Processes other than this of a program called ``word`` whose folder is ``folder`` or below. Linux only."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            here = (entry / "cwd").resolve().is_relative_to(folder.resolve())
            if here and _program((entry / "cmdline").read_bytes().split(b"\0")) == word.encode():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _program(words: list[bytes]) -> bytes:
    """What a command line runs: of Python its script or module (`python /bin/dvc`, `python -u -m dvc`)."""
    if os.path.basename(words[0]).startswith(b"python"):
        words = [one for one in words[1:] if not one.startswith(b"-")]
    return os.path.basename(words[0])


def _signal(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return


def _signal_group(group: int, signum: signal.Signals) -> None:
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        return


def _group_lives(group: int) -> bool:
    """Whether a process of the group still runs; zombies nobody has waited for do not count."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                return True
    return False
