"""What an image is built from, as files: no engine is needed to see that they agree."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from conftest import ROOT
from plantops import code
from plantops.deploy import image

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(lock: Path) -> set[tuple[str, str]]:
    """Packages with their versions; the host's lock may have two of one package, for two Pythons."""
    return set(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def name(requirement: str) -> str:
    found = re.match(r"[\w-]+", requirement)
    assert found
    return found[0]


def test_the_image_holds_a_few_of_the_hosts_packages_at_its_versions() -> None:
    ours, hosts = pinned(ROOT / image.PACKAGES), pinned(ROOT / "requirements.lock")
    assert ours <= hosts
    packages = {package for package, _ in ours}
    serving = set(PROJECT["dependency-groups"]["serving"])
    assert serving <= packages
    extra = {name(one) for one in PROJECT["project"]["optional-dependencies"]["serve"]}
    assert extra <= serving <= extra | {name(one) for one in PROJECT["project"]["dependencies"]}
    assert not {"torch", "mlflow", "dvc", "lightning", "onnx"} & packages
    text = (ROOT / image.PACKAGES).read_text()
    assert all(f"{package}=={version} \\\n    --hash=sha256:" in text for package, version in ours)


def test_the_list_for_the_builder_allows_the_serving_code_alone() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if line and not line.startswith("#")) == "*"
    allowed = {line.removeprefix("!src/plantops/") for line in lines if line.startswith("!src/")}
    assert allowed == {path.parts[0] for path in code.serving_files()}


def test_the_recipe_asks_for_nothing_from_elsewhere() -> None:
    recipe = (ROOT / image.DOCKERFILE).read_text()
    assert not re.search(r"^#\s*syntax", recipe, re.MULTILINE)
    assert "--mount" not in recipe
    assert re.findall(r"^FROM (.+)$", recipe, re.MULTILINE) == ["python:3.11-slim"]


def test_the_code_is_written_whole_and_anew(tmp_path: Path) -> None:
    app = tmp_path / "docker/app"
    for _ in range(2):
        image.write_code(tmp_path)
        found = sorted(path.relative_to(app / "plantops") for path in app.rglob("*") if path.is_file())
        assert found == code.serving_files()
        assert [path.name for path in (tmp_path / "docker").iterdir()] == ["app"]
        (app / "plantops/stale.py").touch()


def test_a_clone_has_the_code_already(tmp_path: Path) -> None:
    (tmp_path / "src/plantops").mkdir(parents=True)
    image.write_code(tmp_path)
    assert not (tmp_path / "docker").exists()


def test_the_list_of_what_the_image_holds_is_that_of_its_lock() -> None:
    listed = json.loads((ROOT / image.LIST).read_text())["components"]
    assert {(one["name"], one["version"]) for one in listed} == pinned(ROOT / image.PACKAGES)
