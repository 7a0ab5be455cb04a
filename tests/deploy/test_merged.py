"""The `/metrics` of several replicas as one: what adds up, and what does not."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from plantops.behaviour import Figures
from plantops.deploy.merged import merged


def replica(photos: int, kind: str, began: float, in_work: int) -> str:
    """What one says that answered so many photos with one class."""
    registry = CollectorRegistry()
    answers = Counter("predictions_by_class", "By class.", ["class_name"], registry=registry)
    answers.labels(kind).inc(photos)
    sure = Histogram("prediction_confidence", "How sure.", buckets=(0.5, 1), registry=registry)
    for _ in range(photos):
        sure.observe(0.75)
    Gauge("process_start_time_seconds", "Begun.", registry=registry).set(began)
    Gauge("api_photos_in_work", "Now.", registry=registry).set(in_work)
    Gauge("model_info", "What serves.", ["release"], registry=registry).labels('odd "name" } 7').set(1)
    return generate_latest(registry).decode()


def test_counts_add_up_and_states_do_not() -> None:
    text = merged([replica(3, "rust", 1000.5, 1), replica(2, "rust", 2000.5, 2), replica(4, "blight", 1500, 0)])
    samples = {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
    assert samples["predictions_by_class_total", "rust"] == 5
    assert samples["predictions_by_class_total", "blight"] == 4
    assert samples["prediction_confidence_bucket", "0.5"] == 0
    assert samples["prediction_confidence_bucket", "1.0"] == 9
    assert samples["prediction_confidence_sum",] == 6.75
    assert samples["process_start_time_seconds",] == 2000.5
    assert samples["api_photos_in_work",] == 3
    assert samples["model_info", 'odd "name" } 7'] == 1


def test_of_one_it_is_what_that_one_says() -> None:
    one = replica(3, "rust", 1000.5, 1)
    assert Figures.of(merged([one])) == Figures.of(one)
    assert merged([]) == ""
