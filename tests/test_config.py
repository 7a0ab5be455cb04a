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
        ("deploy: {backend: kubernetes}", "deploy.backend must be one of 'auto', 'local', 'compose', not 'kubernetes'"),
        ("gate: {min_accuracy: 95}", "gate.min_accuracy must lie between 0 and 1, not 95.0"),
        ("gate: 3", "gate must hold keys and values, not 3"),
        ("watch: {settle_seconds: -1}", "settle_seconds cannot be -1"),
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


def test_root_is_found_from_any_folder_inside(project: Path) -> None:
    assert find_root(project / "data/raw/PlantVillage") == project
    with pytest.raises(SetupError) as caught:
        find_root(project.parent)
    assert caught.value.hint == "plantops init"
