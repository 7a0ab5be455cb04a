"""Programs of a venv that plantops was installed into as a wheel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run(programs: Path, *argv: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program of the venv, as after `source bin/activate`."""
    env = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(one) for one in argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0 or not check, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done
