"""A worker started by hand, as a person or a container would."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from api_client import until


@dataclass
class Running:
    """A worker started by hand, with what it says going to ``log``."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0

    def said(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.log.read_text())

    def memory(self) -> int:
        """Bytes that it and its children hold, what they share counted once (Pss).

        Without what comes from files, which is less whenever something else on the machine runs the same libraries.
        """
        return sum(_pss(pid) for pid in family(self.process.pid))

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def start(bundle: Path, log: Path, *flags: str) -> Running:
    argv = [sys.executable, "-m", "plantops.serve", "--bundle", str(bundle), "--port", "0", *flags]
    with log.open("wb") as out:
        running = Running(subprocess.Popen(argv, stdout=out, stderr=out), log)
    found = until(lambda: running.said(r"listening on http://127\.0\.0\.1:(\d+)"), what="listening")
    running.port = int(found[1])
    return running


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(one for child in children for one in family(int(child)))]
    return []


def _pss(pid: int) -> int:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        counted = [line.split() for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
        return sum(int(size) for _, size, _ in counted) * 1024
    return 0
