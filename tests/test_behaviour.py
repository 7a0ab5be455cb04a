"""What counts as broken, on figures as the API gives them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from plantops.behaviour import FEWEST_PHOTOS, Figures, alike, broken
from plantops.serve.metrics import Input, Metrics

MIX = {"Tomato___healthy": 40.0, "Corn (maize)___rust": 30.0, 'odd "name"\\': 30.0, "x": 0.0}
BEFORE = Figures("r1", 100, MIX, 80, 0.9, 5, 1, 110, 1)
AFTER = replace(BEFORE, release="r2")


def changed(**values: object) -> Figures:
    return replace(AFTER, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (
            changed(classes={"Corn (maize)___rust": 97.0, "Tomato___healthy": 3.0}),
            "97% of 100 photos are answered Corn",
        ),
        (changed(classes={"Tomato___healthy": 0.0, "Corn (maize)___rust": 10.0, "x": 90.0}), "another mix of answers"),
        (changed(unsure=60.0), "60% of the answers are unsure (5% before)"),
        (changed(unlike=52.0), "52% of the answers are of photos unlike those it learned from (1% before)"),
        (changed(confidence=50.0), "confidence fell from 0.80 to 0.50"),
        (changed(seconds=3.0), "3.3 times slower: 30 ms a photo in the model, 9 ms before"),
        (changed(errors=9.0), "9 of 110 requests ended in a server error"),
    ],
)
def test_what_is_broken_is_said(after: Figures, said: str) -> None:
    assert said in " / ".join(broken(after, BEFORE))


@pytest.mark.parametrize(
    "after",
    [
        AFTER,
        changed(classes={"Tomato___healthy": 10.0, "Corn (maize)___rust": 60.0, 'odd "name"\\': 30.0}),
        changed(confidence=60.0, seconds=2.5, errors=4.0),
        changed(seconds=0.9 * FEWEST_PHOTOS / 100, photos=FEWEST_PHOTOS - 1.0, confidence=1.0, classes={"x": 49.0}),
        changed(requests=19.0, errors=19.0),
        changed(unsure=50.0, unlike=45.0),
        changed(classes={"Tomato": 40.0, "Corn": 30.0, 'odd "name"\\': 30.0, "x": 0.0}),
        changed(classes={"Tomato": 40.0, "Corn (maize)___rust": 30.0, 'odd "name"\\': 30.0, "x": 0.0}),
    ],
    ids=[
        "the same",
        "as traffic differs",
        "a little worse",
        "too few photos",
        "too few requests",
        "some more doubts",
        "too much was renamed",
        "a class was renamed",
    ],
)
def test_what_is_not_broken_is_left_alone(after: Figures) -> None:
    assert broken(after, BEFORE) == []


def test_traffic_that_was_of_one_class_before_may_stay_so() -> None:
    one = {**dict.fromkeys(MIX, 0.0), "Tomato___healthy": 100.0}
    assert broken(changed(classes=one), replace(BEFORE, classes=one)) == []


@pytest.mark.parametrize("photos", [50, 300, 1000])
def test_photos_that_come_in_series_are_no_other_mix(photos: int) -> None:
    """Of 38 classes as many: five series of ten photos are of five classes at most, whoever answers."""
    names = [f"class {number}" for number in range(38)]

    def came(release: str, photos: int, seed: int) -> Figures:
        counts = 10 * np.random.default_rng(seed).multinomial(photos // 10, np.full(38, 1 / 38))
        classes = dict(zip(names, map(float, counts), strict=True))
        return Figures(release, photos, classes, 0.8 * photos, 0.01 * photos, requests=photos)

    wrong = [broken(came("r2", photos, seed), came("r1", 1000, 100 + seed)) for seed in range(100)]
    assert wrong == [[]] * 100


def test_what_is_slow_while_the_machine_has_other_work_is_not_judged() -> None:
    slow = changed(seconds=3.0, errors=50.0)
    assert [len(broken(slow, BEFORE, timed)) for timed in (True, False)] == [2, 1]


def test_without_the_release_before_only_errors_are_judged() -> None:
    assert broken(changed(confidence=0.0, classes={"x": 100.0}), None) == []
    assert broken(changed(errors=50.0), None) == ["50 of 110 requests ended in a server error (0% before)"]


def test_the_metrics_of_the_api_are_read() -> None:
    metrics = Metrics()
    named = [name for name, count in MIX.items() if count]
    for name in named:
        for confidence in (0.25, 0.75):
            metrics.predicted(name, confidence, 0.5, (confidence < 0.5, None))
    metrics.read(Input("JPEG", 5, (3, 4), 2.0))
    for status, path in ((200, "/predict"), (500, "/predict_batch"), (503, "/predict"), (500, "/health")):
        metrics.answered("POST", path, status, 0.1)
    found = Figures.of(metrics.text().decode())
    assert found == Figures("", 6, dict.fromkeys(named, 2.0), 3, 3, 3, 0, 3, 1)
    assert Figures.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_an_api_that_counts_none_of_it_gives_no_figures() -> None:
    registry = CollectorRegistry()
    Counter("api_requests", "", ("endpoint", "status"), registry=registry).labels("/predict", "200").inc()
    assert Figures.of(generate_latest(registry).decode()) == Figures(requests=1)


def test_what_was_added_and_a_counting_that_began_anew() -> None:
    later = Figures("r1", 150, {**MIX, "x": 50.0}, 100, 1.9, 6, 1, 160, 3)
    assert later.since(BEFORE) == Figures(
        "r1", 50, {**dict.fromkeys(MIX, 0.0), "x": 50.0}, 20, pytest.approx(1.0), 1, 0, 50, 2
    )
    assert BEFORE.since(later) is BEFORE
    assert AFTER.since(BEFORE) is AFTER
    assert alike(AFTER, BEFORE) == "100 photos, confidence 0.80 → 0.80, 0% of the answers moved"
