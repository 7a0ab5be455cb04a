"""What README and `/docs` show is true: the commands as they stand there, asked of a real API."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from api_client import get, predict, until
from bundle_factory import photo
from conftest import ROOT, sh
from plantops import kept
from plantops.serve import schema
from serve.looking import EVERYTHING_UNSURE, looking_release

pytestmark = pytest.mark.ci

README = (ROOT / "README.md").read_text()
API = README[README.index("## The API") : README.index("## With Docker")]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", API, re.DOTALL)


@pytest.fixture
def here(worker: Any, tmp_path: Path) -> tuple[int, Path]:
    """An API, and a folder with the photos that the README names."""
    release = looking_release(tmp_path / "r1", thresholds=EVERYTHING_UNSURE)
    running = worker(release, "--kept", str(tmp_path / "kept"))
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    for name in ("leaf.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(photo(1))
    return running.port, tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_each_curl_of_the_readme_is_answered(here: tuple[int, Path]) -> None:
    port, folder = here
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("curl")]
    assert len(lines) >= 6
    for line in lines:
        said = sh(
            "bash", "-c", line.replace("curl", "curl -sS --fail-with-body", 1).replace("8000", str(port)), cwd=folder
        )
        assert said.stdout
    assert "explanation" in sh("bash", "-c", lines[1].replace("8000", str(port)), cwd=folder).stdout


def test_the_python_of_the_readme_works(here: tuple[int, Path]) -> None:
    port, folder = here
    (snippet,) = blocks("python")
    said = sh(sys.executable, "-c", snippet.replace("8000", str(port)), cwd=folder).stdout
    assert said.startswith("not sure; the best guess would be ")
    assert kept.opinions(folder / "kept")[0]["class"] == kept.NOT_A_LEAF


@pytest.mark.parametrize("model", [schema.Prediction, schema.Batch, schema.Opinion, schema.Thanks, schema.Classes])
def test_an_example_is_one(model: type[schema.Shape]) -> None:
    (example,) = model.model_json_schema(by_alias=True)["examples"]
    read = model.model_validate(example)
    assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == example


def test_the_example_of_an_answer_has_the_fields_of_an_answer(here: tuple[int, Path]) -> None:
    answer = predict(here[0], photo(1), "?explain=true").json
    (example,) = schema.Prediction.model_json_schema()["examples"]
    assert example.keys() == answer.keys()
    assert example["model_info"].keys() == answer["model_info"].keys()
    assert example["explanation"].keys() == answer["explanation"].keys()
    shown = get(here[0], "/openapi.json").json["components"]["schemas"]
    assert shown["Prediction"]["examples"] == [example]
