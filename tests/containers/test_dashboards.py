"""Grafana's files, without Grafana: its own types read the dashboards, and the parts name each other rightly."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from conftest import ROOT
from containers.panels import DASHBOARDS, Query, queries, read

GRAFANA = ROOT / "docker" / "grafana"
COMPOSE = yaml.safe_load((ROOT / "docker/docker-compose.yml").read_text())
# Annotations of Prometheus have more fields than the types know.
UNTYPED = {"step", "titleFormat", "textFormat"}

every_dashboard = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


@pytest.fixture(scope="module", autouse=True)
def _types() -> None:
    register_default_plugins()


@every_dashboard
def test_grafanas_types_know_every_field(path: Path) -> None:
    """A field that they drop is one that Grafana does not have."""
    loaded = read(path)
    assert _lost(loaded, _through_types(loaded)) == []


def test_a_misspelt_field_would_be_found() -> None:
    loaded = read(DASHBOARDS[0])
    loaded["panels"][0]["fieldConfig"]["defaults"]["units"] = "s"
    loaded["panels"][0]["targets"][0]["query"] = "up"
    assert [one.rpartition("/")[2] for one in _lost(loaded, _through_types(loaded))] == ["query", "units"]


@every_dashboard
def test_all_of_it_asks_the_provisioned_datasource(path: Path) -> None:
    (source,) = _yaml("datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in COMPOSE["services"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    dashboard = read(path)
    panels = dashboard["panels"]
    asked = [one["datasource"] for one in [*panels, *dashboard["annotations"]["list"]]]
    asked += [target["datasource"] for panel in panels for target in panel["targets"]]
    assert asked
    assert all(one == wanted for one in asked)


def test_the_datasource_knows_how_often_prometheus_looks() -> None:
    (source,) = _yaml("datasources/prometheus.yml")["datasources"]
    scraped = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


def test_grafana_finds_what_compose_mounts() -> None:
    grafana = COMPOSE["services"]["grafana"]
    mounts = dict(one.removesuffix(":ro").split(":") for one in grafana["volumes"])
    assert (ROOT / "docker" / "grafana/provisioning").is_dir()
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = _yaml("dashboards/plantops.yml")["providers"]
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (GRAFANA / "dashboards" / home.relative_to(provider["options"]["path"])).is_file()


@every_dashboard
def test_panels_have_their_own_place_and_number(path: Path) -> None:
    panels = read(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@every_dashboard
def test_panels_say_what_they_show(path: Path) -> None:
    """A title of its own, a sentence, and a unit on what is a number."""
    panels = read(path)["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"].endswith(".") for panel in panels)
    for panel in panels:
        unit = panel["fieldConfig"]["defaults"].get("unit") or panel["options"].get("yAxis", {}).get("unit")
        assert unit or panel["type"] == "table", panel["title"]


def test_queries_are_taken_apart() -> None:
    expr = 'sum by (le, a) (rate(some_total{job="x",kind!~"y|z"}[20s])) / on (b) other{}'
    query = Query("", expr, ())
    assert query.metrics == ["some_total", "other"]
    assert query.named_labels == {"le", "a", "b", "job", "kind"}
    assert query.selectors == ['some_total{job="x",kind!~"y|z"}', "other{}"]


@every_dashboard
def test_every_series_is_of_a_job(path: Path) -> None:
    """So that another project's API in the same Prometheus is not added to ours."""
    jobs = {
        one["job_name"]
        for one in yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())["scrape_configs"]
    }
    for query in queries(read(path)):
        assert query.selectors
        assert all(any(f'job="{job}"' in one for job in jobs) for one in query.selectors), query.title


def _yaml(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((GRAFANA / "provisioning" / name).read_text()))


def _through_types(dashboard: dict[str, Any]) -> Any:
    return json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard)))


def _lost(before: Any, after: Any, place: str = "") -> list[str]:
    """Places whose value is not the same any more."""
    if isinstance(before, dict) and isinstance(after, dict):
        known = {key: value for key, value in before.items() if key not in UNTYPED}
        return [lost for key, value in known.items() for lost in _lost(value, after.get(key), f"{place}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [lost for n, value in enumerate(before) for lost in _lost(value, after[n], f"{place}/{n}")]
    return [] if before == after else [place]
