"""The rules of Prometheus by its own promtool: read, and each alert proven to come and to stay away."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, sh
from containers.engine import Project, docker, need_engine, need_image
from plantops.config import Config

pytestmark = pytest.mark.ci
RULES = ROOT / "docker/prometheus/rules.yml"
CASES = Path(__file__).with_name("rules") / "alerts.yml"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule]


def promtool(folder: Path, *words: str) -> tuple[int, str]:
    """Run it in ``folder``: the one on the PATH, else that of the stack's image. Skips where there is neither."""
    if shutil.which("promtool"):
        done = sh("promtool", *words, cwd=folder, check=False)
        return done.returncode, done.stdout + done.stderr
    need_engine()
    image = Project(Config(ROOT, ROOT / "config.yaml")).compose("config", "--images", "prometheus")
    need_image(image)
    argv = ["run", "--rm", "--pull", "never", "--network", "none", "--volume", f"{folder}:/rules:ro"]
    inside = docker(
        *argv, "--workdir", "/rules", "--entrypoint", "sh", image, "-c", f"promtool {' '.join(words)} 2>&1; echo $?"
    )
    said, _, code = inside.rpartition("\n")
    return int(code), said


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that Prometheus' own user may read, with the rules and their cases."""
    lay(tmp_path, ALERTS[0], ALERTS[0]["expr"])
    return tmp_path


def lay(folder: Path, alert: dict[str, Any], expr: str) -> None:
    """Put the rules into ``folder``, those of one alert with another expression, and the cases beside them."""
    rules, cases = yaml.safe_load(RULES.read_text()), yaml.safe_load(CASES.read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if rule.get("alert") == alert["alert"]:
            rule["expr"] = expr
    cases["rule_files"] = ["rules.yml"]
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    (folder / "cases.yml").write_text(yaml.safe_dump(cases))


def test_promtool_accepts_the_rules_and_all_cases_hold(place: Path) -> None:
    code, said = promtool(place, "check", "rules", "rules.yml")
    assert (code, "SUCCESS" in said) == (0, True), said
    code, said = promtool(place, "test", "rules", "cases.yml")
    assert code == 0, said


def test_an_alert_that_never_or_always_comes_would_be_found(tmp_path: Path) -> None:
    for alert in ALERTS:
        for name, expr in (("never", "vector(1) > 2"), ("always", "vector(1)")):
            lay(tmp_path / f"{alert['alert']}-{name}", alert, expr)
    tmp_path.chmod(0o755)
    files = sorted(str(one.relative_to(tmp_path)) for one in tmp_path.glob("*/cases.yml"))
    code, said = promtool(tmp_path, "test", "rules", *files)
    assert code != 0
    verdicts = re.findall(r"Unit Testing:\s+(\S+)\s+(SUCCESS|FAILED)", said)
    assert verdicts == [(file, "FAILED") for file in files]


def test_each_alert_says_what_is_wrong_and_what_helps() -> None:
    for alert in ALERTS:
        assert set(alert["annotations"]) == {"summary", "action"}, alert["alert"]
        assert alert["labels"]["severity"] in ("page", "warn", "info")
    told = (ROOT / "docs/monitoring.md").read_text()
    assert [one["alert"] for one in ALERTS if f"| {one['alert']} |" not in told] == []
