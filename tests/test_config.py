"""config.yaml: defaults, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ROOT
from plantops.config import Config, find_root, load
from plantops.errors import SetupError


def test_the_shipped_file_holds_the_defaults() -> None:
    assert load(ROOT) == Config(root=ROOT, file=ROOT / "config.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("deploy: {prot: 1}", "unknown key deploy.prot (did you mean deploy.port?)"),
        ("deplo: {}", "unknown key deplo (did you mean deploy?)"),
        ("root: /tmp", "unknown key root"),
        ("deploy: {port: '8000'}", "deploy.port must be int, not '8000'"),
        ("deploy: {port: true}", "deploy.port must be int, not True"),
        ("deploy: {port: 70000}", "deploy.port must lie between 1 and 65535, not 70000"),
        (
            "deploy: {backend: nomad}",
            "deploy.backend must be one of 'auto', 'local', 'compose', 'swarm', 'kubernetes', not 'nomad'",
        ),
        ("deploy: {replicas: 0}", "deploy.replicas must lie between 1 and 50, not 0"),
        ("gate: {min_accuracy: 95}", "gate.min_accuracy must lie between 0 and 1, not 95.0"),
        ("gate: 3", "gate must hold keys and values, not 3"),
        ("watch: {settle_seconds: -1}", "watch.settle_seconds cannot be -1"),
        ("docker: {image: Leaves:latest}", "docker.image is the name of no image"),
        ("docker: {registry: 'https://example.org/team'}", "docker.registry names a registry and a path in it"),
        ("docker: {registry: leaves}", "docker.registry names a registry and a path in it"),
        ("docker: {registry: 5000}", "docker.registry must be str, not 5000"),
        ("kubernetes: {url: leaf.example.org}", "kubernetes.url is where clients reach the API"),
        ("kubernetes: {url: 'https://leaf.example.org:99999'}", "kubernetes.url is where clients reach the API"),
        ("kubernetes: {namespace: Leaves}", "kubernetes.namespace is the name of none: 'Leaves'"),
        ("docker: {api_memory: 2 gigs}", "docker.api_memory must be a size, as 2g or 512m, not '2 gigs'"),
        ("mlflow: {model_name: a/b}", "mlflow.model_name: MLflow takes no name like 'a/b'"),
        ("watch: {interval_s: 0}", "watch.interval_s must be from 0.1 to 86400 seconds, not 0"),
        ("watch: {interval_s: .inf}", "watch.interval_s must be from 0.1 to 86400 seconds, not inf"),
        ("serve: {replay: 1001}", "serve.replay keeps at most 1000 photos, not 1001"),
        ("project: 2026-13-45", "is not valid YAML: month must be in 1..12"),
        ("a: " + "[" * 5000, "is not valid YAML"),
        ("- a", "must hold keys and values, not a list"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_bad_key_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SetupError) as caught:
        load(tmp_path)
    assert says in caught.value.message


def test_whole_numbers_will_do_for_fractions_and_sections_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("gate:\nwatch: {interval_s: 5}\n")
    assert load(tmp_path).watch.interval_s == 5.0


def test_what_docker_takes_is_taken(tmp_path: Path) -> None:
    for image in ("leaves", "ghcr.io/some-one/leaf_api", "localhost:5000/leaves"):
        for memory in ("2g", "1.5GB", "512m", "1073741824"):
            (tmp_path / "config.yaml").write_text(f"docker: {{image: '{image}', api_memory: '{memory}'}}\n")
            assert load(tmp_path).docker.image == image


def test_a_registry_is_a_host_and_a_path_and_no_login_in_it_is_shown(tmp_path: Path) -> None:
    for one in ("registry.example.org/team", "localhost:5000", "localhost", "10.0.0.1:5000/a/b-c", "builder:5000/team"):
        (tmp_path / "config.yaml").write_text(f"docker: {{registry: '{one}'}}\n")
        assert load(tmp_path).docker.registry == one
    (tmp_path / "config.yaml").write_text("docker: {registry: null}\n")
    assert load(tmp_path).docker.registry is None
    (tmp_path / "config.yaml").write_text("docker: {registry: 'ann:hunter2@example.org/team'}\n")
    with pytest.raises(SetupError) as caught:
        load(tmp_path)
    assert "hunter2" not in caught.value.message + (caught.value.hint or "")


def test_numbers_are_read_as_yaml_1_2_has_them(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("watch: {settle_seconds: 5e-1}\ngate: {min_accuracy: 7.e-1}\n")
    config = load(tmp_path)
    assert (config.watch.settle_seconds, config.gate.min_accuracy) == (0.5, 0.7)


def test_root_is_found_from_any_folder_inside(project: Path) -> None:
    assert find_root(project / "data/raw/PlantVillage") == project
    with pytest.raises(SetupError) as caught:
        find_root(project.parent)
    assert caught.value.hint == "plantops init"
