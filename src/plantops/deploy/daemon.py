"""Programs that outlive us, found again by a file that names their pid and when they started.

The start time tells a program from another one that was given its pid later, so nothing foreign is ever stopped.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from plantops import process

MLFLOW, PROMETHEUS = "mlflow.json", "prometheus.json"
PAGES = {"mlflow": MLFLOW, "prometheus": PROMETHEUS}  # what notes those that this machine runs without containers
_LOG_LIMIT = 1_000_000
_KILL_PATIENCE = 5.0


def start(argv: Sequence[str], cwd: Path, file: Path, log: Path, env: Mapping[str, str] | None = None) -> int:
    """Start ``argv`` detached and note it in ``file``; returns its pid. One that runs already should be stopped first.

    Its output is appended to ``log``, which is set aside as ``<log>.1`` when it has grown over 1 MB.
    """
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_name(log.name + ".1"))
    pid = process.detach(argv, cwd, log, env)
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(json.dumps({"pid": pid, "started": started(pid), "argv": list(argv)}))
    temporary.replace(file)
    return pid


def find(file: Path) -> int | None:
    """The pid of the program noted in ``file``, if that very program still runs."""
    try:
        noted = json.loads(file.read_text())
        pid, when = int(noted["pid"]), noted["started"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return pid if when and started(pid) == when and process.alive(pid) else None


def stop(file: Path, patience: float = 10.0) -> bool:
    """Stop the program noted in ``file``, and after it what it started; says whether it ran.

    SIGTERM first, SIGKILL after ``patience`` seconds.
    """
    pid = find(file)
    if pid is None:
        file.unlink(missing_ok=True)
        return False
    children = _session(pid)
    with _pinned(pid) as handle:
        if handle is not None and find(file) == pid:
            _end(handle, patience)
    process.end([child for child, when in children if started(child) == when])
    file.unlink(missing_ok=True)
    return True


def started(pid: int) -> str | None:
    """When ``pid`` started, as boot and clock ticks since it; None when there is no such process."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError):
        return None
    return f"{boot}:{ticks}"


def _end(handle: int, patience: float) -> None:
    for signum, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, _KILL_PATIENCE)):
        try:
            signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            return
        if select.select([handle], [], [], wait)[0]:
            return


@contextmanager
def _pinned(pid: int):  # type: ignore[no-untyped-def]
    """A handle on the process that cannot come to mean another one; None when it has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _session(leader: int) -> list[tuple[int, str | None]]:
    """The other processes of the session that ``leader`` leads, with their start times."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != leader:
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                found.append((int(entry.name), started(int(entry.name))))
    return found
