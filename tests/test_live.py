"""The figures of `plantops status --live`: differences of real counters, and none below zero."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plantops.live import Counts, Figures, quantile
from plantops.serve.metrics import Metrics

START = 1_000.0


def look(metrics: Metrics, at: float, began: float = START) -> Counts:
    """What a process that began then says now (the real one's beginning would differ from run to run)."""
    return replace(Counts.of(metrics.text().decode(), at), began=began)


@pytest.fixture
def metrics() -> Metrics:
    """Ten answers, one of them an error, one turned away; three looks of Prometheus."""
    made = Metrics()
    answer(made, 8, "Tomato")
    for status, path in ((500, "/predict"), (503, "/predict"), *3 * [(200, "/metrics")]):
        made.answered("POST", path, status, 0.2)
    return made


def answer(metrics: Metrics, times: int, name: str) -> None:
    for _ in range(times):
        metrics.predicted(name, 0.75, 0.01, (True, None))
        metrics.answered("POST", "/predict", 200, 0.02)


def test_the_first_look_is_since_the_process_began(metrics: Metrics) -> None:
    found = look(metrics, START + 5).since(None)
    assert (found.seconds, found.requests_per_second, found.photos_per_second) == (5, 2, 1.6)
    assert (found.errors, found.turned_away) == (0.1, 0.1)
    assert (found.confidence, found.unsure, found.unlike) == (0.75, 1, 0)
    assert found.classes == {"Tomato": 1}
    assert found.p50_s == pytest.approx(0.01 + 0.015 * 5 / 8)
    assert found.p99_s == pytest.approx(0.1 + 0.15 * 1.9 / 2)
    assert found.drift is None


def test_what_came_since_the_look_before(metrics: Metrics) -> None:
    before = look(metrics, START + 5)
    answer(metrics, 30, "Corn")
    found = look(metrics, START + 15).since(before)
    assert (found.seconds, found.requests_per_second, found.errors) == (10, 3, 0)
    assert found.classes == {"Corn": 1}
    assert "requests    3.0/s   errors 0.0%" in "\n".join(found.lines())


def test_without_traffic_nothing_is_made_up(metrics: Metrics) -> None:
    found = look(metrics, START + 15).since(look(metrics, START + 5))
    assert (found.requests_per_second, found.errors, found.p50_s, found.confidence) == (0, None, None, None)
    assert found.classes == {}
    assert "p50 -   p99 -" in "\n".join(found.lines())


@pytest.mark.parametrize("began", [START + 10, START])
def test_counters_that_begin_anew_give_nothing_below_zero(metrics: Metrics, began: float) -> None:
    before, fresh = look(metrics, START + 9), Metrics()
    answer(fresh, 4, "Corn")
    found = look(fresh, START + 12, began).since(before)
    assert found.requests_per_second == (2 if began > START else 0)
    numbers = [value for value in vars(found).values() if isinstance(value, (int, float))]
    assert min([*numbers, *found.classes.values()]) >= 0


def test_drift_is_named_after_two_windows(metrics: Metrics) -> None:
    for size, aspect, row in ((100, "brightness", 2), (200, "brightness", 0), (100, "colour", 1)):
        metrics.drifting.labels(aspect, str(size)).set(row)
    assert look(metrics, START + 5).since(None).drift == ["brightness"]


def test_quantiles_are_those_of_prometheus() -> None:
    inf = float("inf")
    assert quantile({}, 0.5) is None
    assert quantile({0.1: 0, inf: 0}, 0.5) is None
    assert quantile({0.1: 0, 0.2: 10, inf: 10}, 0.5) == pytest.approx(0.15)
    assert quantile({0.1: 1, inf: 10}, 0.99) == 0.1, "beyond the last bound nothing is known"


def test_a_person_sees_which_release_it_is() -> None:
    one = Figures("r1", 600, 1, None, None, None, None, 1, 9, 0, None, None, None, {"A": 0.5}, [])
    assert one.lines()[0] == "release     r1"
    assert "since it started" in one.lines()[1]
    assert one.lines()[-2:] == ["drift       none", "answers     A 50%"]
