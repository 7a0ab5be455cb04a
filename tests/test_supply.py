"""What is installed from outside: `scripts/audit` and `scripts/sbom`."""

from __future__ import annotations

import json
import runpy
import sys
from importlib import metadata
from pathlib import Path

import pytest

from conftest import ROOT, sh
from plantops.deploy import image

AUDIT = runpy.run_path(str(ROOT / "scripts/audit"))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-2.0-or-later", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("BSD-3-Clause AND AGPL-3.0-only", False),
        ("GNU General Public License v2 (GPLv2)", False),
        ("UNKNOWN", False),
        ("MIT-like", False),
    ],
)
def test_a_licence_is_allowed_by_all_its_parts_or_one_alternative(text: str, right: bool) -> None:
    assert AUDIT["allowed"](text) is right


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("huey", "Permission is hereby granted, free of charge"),
        ("skops", "MIT License"),
        ("grandalf", "either one of the two licenses"),
    ],
)
def test_what_metadata_does_not_say_is_in_the_licence_that_is_installed(package: str, said: str) -> None:
    (licence,) = [one for one in metadata.files(package) or [] if one.name == "LICENSE"]
    assert said in licence.read_text()
    assert package in AUDIT["NAMED"]


def test_what_cannot_be_asked_is_no_pass(capfd: pytest.CaptureFixture[str]) -> None:
    assert AUDIT["unseen"]("vulnerabilities", "no such host") == 2
    assert "COULD NOT BE LOOKED AT" in capfd.readouterr().err


@pytest.mark.ci
@pytest.mark.skipif(not Path(sys.executable).with_name("uv").exists(), reason="no uv beside this Python: scripts/setup")
def test_the_licences_of_all_that_is_installed_are_allowed() -> None:
    said = sh(sys.executable, "scripts/audit", "licences", cwd=ROOT).stdout
    assert ", 0 with one that is not allowed" in said


@pytest.mark.ci
@pytest.mark.skipif(not (ROOT / ".venv/bin/uv").exists(), reason="no uv in .venv: scripts/setup")
def test_the_lists_name_what_is_locked() -> None:
    before = (ROOT / image.LIST).read_text()
    sh("scripts/sbom", cwd=ROOT)
    assert (ROOT / image.LIST).read_text() == before
    for file, wanted, unwanted in (
        ("dist/plantops.cdx.json", {"torch", "mlflow", "fastapi", "dvc"}, {"pytest", "ruff"}),
        (image.LIST, {"fastapi", "onnxruntime"}, {"torch", "mlflow", "dvc"}),
    ):
        listed = json.loads((ROOT / file).read_text())
        assert (listed["bomFormat"], listed["metadata"]["component"]["name"]) == ("CycloneDX", "plantops")
        packages = {one["name"] for one in listed["components"]}
        assert wanted <= packages
        assert not unwanted & packages
