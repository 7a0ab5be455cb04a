"""`plantops data` as a person types it, its page, and the step of a run that may stop it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from conftest import plantops, sh
from look.scenes import ONE, RAW, fill, scene


def stop(project: Path, rule: str) -> None:
    """Have a rule stop what it finds."""
    config = project / "config.yaml"
    text = re.sub(rf"(\n    {rule}: )\w+", r"\1stop", config.read_text())
    assert f"{rule}: stop" in text
    config.write_text(text)


def test_a_table_sentences_and_a_page(garden: Path) -> None:
    (garden / RAW / ONE / "<b>&.jpg").write_bytes(b"")
    said = plantops("data", cwd=garden).stdout
    assert "17 photos of 2 classes, no release to compare with yet" in said
    assert re.search(rf"{re.escape(ONE)} +9 +−1\n", said)
    assert f"warn: empty: 1 photo  [empty]\n      {ONE}/<b>&.jpg (empty file)" in said
    page = (garden / "reports/data.html").read_text()
    assert "&lt;b&gt;&amp;.jpg" in page
    assert "<b>&.jpg" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page), "the page needs another file"


def test_json_and_the_exit_code_of_a_rule_that_stops(garden: Path) -> None:
    (garden / RAW / ONE / "empty.jpg").write_bytes(b"")
    stop(garden, "empty")
    done = plantops("data", "--json", cwd=garden, check=False)
    assert done.returncode == 1
    (finding,) = [one for one in json.loads(done.stdout)["findings"] if one["level"] == "stop"]
    assert finding["cases"] == [{"paths": [f"{ONE}/empty.jpg"], "note": "empty file"}]
    assert f"{ONE}/empty.jpg" in done.stderr
    assert "data.rules.empty: warn" in done.stderr


def test_the_page_is_bounded_and_says_how_many_more(garden: Path) -> None:
    for number in range(60):
        scene(3000 + number).convert("L").save(garden / RAW / ONE / f"grey{number}.jpg")
    plantops("data", cwd=garden)
    page = (garden / "reports/data.html").read_text()
    assert page.count("<img") == 24
    assert "and 36 more" in page


def test_names_in_any_encoding(garden: Path) -> None:
    (garden / RAW / ONE / "caf\udce9.jpg").write_bytes(b"")
    assert "warn: empty: 1 photo" in plantops("data", cwd=garden).stdout
    assert json.loads(plantops("data", "--json", cwd=garden).stdout)["photos"] == 17
    assert "caf" in (garden / "reports/data.html").read_text()


def test_numpy_stays_off_the_way_to_check_and_to_a_run_with_nothing_to_do() -> None:
    code = "import sys, plantops.cli, plantops.checking, plantops.pipeline; print({'numpy', 'PIL'} & set(sys.modules))"
    assert sh(sys.executable, "-c", code, cwd=Path.cwd()).stdout == "set()\n"


@pytest.mark.ci
def test_a_run_stops_before_training_and_goes_on_when_the_photo_is_gone(project: Path) -> None:
    from api_client import free_port

    raw = project / RAW
    fill(raw)
    (raw / ONE / "empty.jpg").write_bytes(b"")
    stop(project, "empty")
    config = project / "config.yaml"
    config.write_text(config.read_text().replace("port: 8000", f"port: {free_port()}"))
    sh("dvc", "add", "--quiet", *sorted(raw.glob("*/")), cwd=project)
    done = plantops("run", cwd=project, check=False)
    assert done.returncode == 1
    assert "the look at the photos stops the run" in done.stderr + done.stdout
    assert f"{ONE}/empty.jpg" in done.stderr + done.stdout
    assert not (project / "data/prepared").exists()
    (raw / ONE / "empty.jpg").unlink()
    sh("dvc", "add", "--quiet", *sorted(raw.glob("*/")), cwd=project)
    pipeline = project / "dvc.yaml"
    assert "python -m plantops.ml.data" in pipeline.read_text()
    pipeline.write_text(pipeline.read_text().replace("python -m plantops.ml.data", "false"))
    done = plantops("run", cwd=project, check=False)
    assert re.search(r"look +[\d.]+ s  22 photos, \d+ of them new to the look", done.stdout)
    assert "prepare_data" in done.stdout + done.stderr
