"""Only what a command needs is installed: from the index into a venv of its own, and the rest is said by name."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_client import free_port, get, predict, until
from bundle_factory import CLASSES, make_release, photo
from conftest import plantops, sh
from runs import cheap
from runs.installed import run

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("extras") / "venv"
    sh(sys.executable, "-m", "venv", "--without-pip", made, cwd=made.parent)
    return made


def install(folder: Path, wheel: Path, extra: str) -> Path:
    """By uv, as `scripts/setup` has it; its cache is that of the machine. Returns the bin folder."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("no uv beside this Python: scripts/setup")
    named = f"plantops[{extra}] @ {wheel.as_uri()}"
    sh(uv, "pip", "install", "-q", "--python", folder / "bin/python", named, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def serving(folder: Path, wheel: Path) -> Path:
    return install(folder, wheel, "serve")


@pytest.fixture(scope="module")
def releasing(serving: Path, folder: Path, wheel: Path) -> Path:
    return install(folder, wheel, "release")


def has(programs: Path, module: str) -> bool:
    asked = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return run(programs, "python", "-c", asked, module, cwd=programs, check=False).returncode == 0


@pytest.fixture
def served(serving: Path, tmp_path: Path) -> Iterator[int]:
    """The port of an API that serves a tiny bundle."""
    port, bundle = free_port(), make_release(tmp_path / "bundle")
    argv = [serving / "python", "-m", "plantops.serve", "--bundle", bundle, "--port", str(port)]
    with subprocess.Popen([str(one) for one in argv], cwd=tmp_path, stderr=subprocess.DEVNULL) as api:
        try:
            until(lambda: api.poll() is not None or _healthy(port), 30, "the API")
            yield port
        finally:
            api.send_signal(signal.SIGTERM)
            api.wait(20)


def _healthy(port: int) -> bool:
    try:
        return get(port, "/health").status == 200
    except OSError:
        return False


def test_serve_alone_answers_and_looks(serving: Path, served: int, tmp_path: Path, ready: Path) -> None:
    assert not any(has(serving, one) for one in ("torch", "lightning", "timm", "mlflow", "sklearn", "pyarrow"))
    assert predict(served, photo(1)).json["prediction"] in CLASSES
    (tmp_path / "leaf.jpg").write_bytes(photo(2))
    for source in (("--url", f"http://127.0.0.1:{served}"), ("--bundle", str(tmp_path / "bundle"))):
        said = run(serving, "plantops", "predict", tmp_path / "leaf.jpg", *source, "--json", cwd=tmp_path).stdout
        assert any(name in said for name in CLASSES)
    assert "check" in run(serving, "plantops", "--help", cwd=tmp_path).stdout
    for command in ("check", "check --deep", "status", "data", "releases", "history", "gc", "sample --help"):
        run(serving, "plantops", *command.split(), cwd=ready)


def test_what_is_missing_is_named_before_work_begins(serving: Path, project: Path) -> None:
    asked = run(serving, "plantops", "run", cwd=project, check=False)
    assert asked.returncode == 2
    assert "pip install 'plantops[release]'" in asked.stderr
    assert "nothing was run yet" in run(serving, "plantops", "history", cwd=project).stdout
    found = json.loads(run(serving, "plantops", "doctor", "--json", cwd=project, check=False).stdout)
    parts = next(one for one in found if one["what"] == "parts")
    assert parts["remedy"] == "pip install 'plantops[train]'"


def test_release_takes_up_what_another_machine_trained(releasing: Path, project: Path, tmp_path: Path) -> None:
    """Trained here, with all of plantops; released there, without torch."""
    sh("dvc", "remote", "add", "-q", "-d", "store", tmp_path / "remote", cwd=project)
    plantops("run", "--skip-deploy", cwd=project)
    sh("dvc", "push", "-q", cwd=project)
    sh("git", "add", ".", cwd=project)
    sh("git", "commit", "-qm", "Train", cwd=project)
    there = tmp_path / "there"
    sh("git", "clone", "-q", project, there, cwd=tmp_path)
    assert not any(has(releasing, one) for one in ("torch", "lightning", "timm"))
    try:
        assert "released: " in run(releasing, "plantops", "run", cwd=there).stdout
        assert cheap.answering(there)
        forced = run(releasing, "plantops", "run", "--force", cwd=there, check=False)
        assert forced.returncode == 2
        assert "stage prepare_data takes torch" in forced.stderr
        assert "pip install 'plantops[train]'" in forced.stderr
        assert cheap.answering(there)
    finally:
        run(releasing, "plantops", "down", cwd=there, check=False)
