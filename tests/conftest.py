"""Real, tiny projects: git and DVC for real, photos drawn by Pillow. No test may touch the real home."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT.parent / "shared" / "data" / "plantvillage"
# Programs of this Python first, also where the test runner was started without the venv on the PATH.
# Ctrl-C and SIGHUP work in what the tests start, also where the runner itself was started with them ignored (as in the
# background, or by nohup).
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


_OF_CI = re.compile(r"^pytestmark = \[?pytest\.mark\.ci\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The fast ring does not even import a file that is of the ci ring as a whole."""
    fast = "not ci" in config.option.markexpr and collection_path.name.startswith("test_")
    return True if fast and _OF_CI.search(collection_path.read_text()) else None


class _ByFile(LoadScopeScheduling):
    """A file's tests run in one process and in order; so do all that use Docker, which share a project that serves."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "containers" if "containers/" in file else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Not xdist's own ``loadgroup``: the names that it gives to tests are lost in pytest 9.2."""
    return _ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of our own, with a name for git and nothing else."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\n name = Tester\n email = tester@localhost\n[init]\n defaultBranch = main\n"
    )
    before = {key: os.environ.get(key) for key in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    os.environ |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_CACHE_HOME": str(home / ".cache")}
    yield
    for key, value in before.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


def sh(*argv: str | Path, cwd: Path, check: bool = True, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would; its output is shown when it fails."""
    done = subprocess.run([str(one) for one in argv], cwd=cwd, capture_output=True, text=True, timeout=seconds)
    if check and done.returncode:
        raise AssertionError(f"{argv} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def plantops(*argv: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The real command."""
    return sh(sys.executable, "-m", "plantops", *argv, cwd=cwd, check=check)


def photo(path: Path, colour: tuple[int, int, int], size: int = 40) -> None:
    """A small picture that differs from all others by its colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), colour).save(path, quality=95)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """What ``make`` lays out in a folder, made by the first of our processes that wants it, and shared by all."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (base / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (base / name).exists():
            shutil.rmtree(base / f"{name}.new", ignore_errors=True)
            (base / f"{name}.new").mkdir()
            make(base / f"{name}.new/project")
            (base / f"{name}.new").rename(base / name)
    return base / name / "project"


def _two_classes(folder: Path) -> None:
    plantops("init", str(folder), cwd=folder.parent)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("backend: auto", "backend: local"))
    raw = folder / "data/raw/PlantVillage"
    for number, name in enumerate(("Pepper,_bell___healthy", "Potato___Late_blight")):
        for shot in range(3):
            photo(raw / name / f"{shot}___S {number}{shot}00.jpg", (60 * number + 20, 40 * shot + 30, 90))
    sh("dvc", "add", "--quiet", *sorted(raw.glob("*/")), cwd=folder)
    sh("git", "add", ".", cwd=folder)
    sh("git", "commit", "-q", "-m", "Add two classes", cwd=folder)


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory, _own_home: None) -> Path:
    """A project as `plantops init` makes it, with two classes of three photos under DVC."""
    return once(tmp_path_factory, "template", _two_classes)


@pytest.fixture
def project(_template: Path, tmp_path: Path) -> Path:
    """A fresh copy of a real, tiny project; clean in git."""
    folder = tmp_path / "project"
    shutil.copytree(_template, folder, symlinks=True)
    return folder


@pytest.fixture(scope="session")
def photos() -> Path:
    """Real leaf photos, one folder per class; skipped plainly where they are absent."""
    if not PHOTOS.is_dir():
        pytest.skip(f"no real photos beside the project ({PHOTOS})")
    return PHOTOS
