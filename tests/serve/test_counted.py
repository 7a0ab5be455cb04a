"""What `/metrics` counts of photos and answers, and drift: said after two windows in a row, never of golden photos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api_client import KIND, form, get, post, predict, request, until
from bundle_factory import photo
from plantops.photo import FORMATS
from serve.by_hand import start
from serve.looking import PLAIN, WINDOW, LookingModel, lighter, looking_release, usual

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("counted")
    centre = LookingModel().seen(PLAIN[0])[0]
    limits = {"unsure": 1.01, "unlike": 1e-9}
    release = looking_release(folder / "r1", centre, more=usual().arrays(), thresholds=limits)
    running = start(release, folder / "log", "--max-waiting", "5", "--threads", "2")
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    yield running.port
    assert running.terminate() == 0


def numbers(port: int) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    text = get(port, "/metrics").body.decode()
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {(one.name, *one.labels.values()): one.value for one in samples}


def test_photos_answers_and_what_is_no_photo_are_counted(counted: int) -> None:
    before = numbers(counted)
    files = [("files", "a.jpg", PLAIN[0]), ("files", "b.png", photo(3, (399, 99), kind="PNG")), ("files", "c", b"no")]
    assert post(counted, "/predict_batch", form(*files)).status == 200
    assert predict(counted, b"neither").status == 400
    now = numbers(counted)

    def more(*key: str) -> float:
        return now[key] - before.get(key, 0)

    assert more("photos_by_format_total", "JPEG") == more("photos_by_format_total", "PNG") == 1
    assert more("photos_refused_total") == 2
    assert more("photo_bytes_count") == more("photo_brightness_count") == more("predictions_unsure_total") == 2
    assert more("photo_bytes_sum") == len(PLAIN[0]) + len(files[1][2])
    assert more("photo_megapixels_sum") == pytest.approx((90 * 60 + 399 * 99) / 1e6)
    assert more("photo_aspect_ratio_sum") == pytest.approx(1.5 + 399 / 99)
    assert more("api_batch_photos_sum") == 4
    assert more("api_batch_photos_count") == 2
    assert 1 <= more("predictions_unlike_total") <= 2
    assert now["api_photos_in_work_limit",] == 7
    assert now["api_photos_in_work",] == 0
    assert {key[1] for key in now if key[0] == "photos_by_format_total"} == set(FORMATS)


def test_a_golden_photo_that_plantops_sends_is_no_traffic(counted: int) -> None:
    before = numbers(counted)
    headers = {"Content-Type": KIND, "X-Plantops-Probe": "1"}
    answer = request(counted, "POST", "/predict", form(("file", "golden.jpg", PLAIN[0])), headers)
    assert answer.status == 200
    now = numbers(counted)
    for name in (
        "prediction_confidence_count",
        "photo_bytes_count",
        "predictions_unsure_total",
        "api_batch_photos_count",
    ):
        assert now[name,] == before[name,]
    asked = [key for key in now if key[0] == "api_requests_total" and "/predict" in key]
    assert [now[key] - before.get(key, 0) for key in asked] == [0] * len(asked)


def test_drift_is_said_in_words_after_two_windows_in_a_row(counted: int) -> None:
    size = str(WINDOW)
    ended = numbers(counted)["plantops_drift_windows_total", size]
    while numbers(counted)["plantops_drift_windows_total", size] < ended + 1:  # what others left is over
        predict(counted, PLAIN[0])
    assert get(counted, "/health").json["drift"] == []
    for round_ in (1, 2):
        for one in PLAIN:
            assert predict(counted, lighter(one)).status == 200
        now = numbers(counted)
        assert now["plantops_drift_ratio", "brightness", size] > 1
        assert now["plantops_drift_ratio", "contrast", size] < 1e-3
        assert now["plantops_drift_windows_in_a_row", "brightness", size] == round_
        told = ["brighter than what it learned from, in 2 times 10 photos"] if round_ == 2 else []
        assert get(counted, "/health").json["drift"] == told
    for one in PLAIN:
        predict(counted, one)
    assert get(counted, "/health").json["drift"] == []
    assert numbers(counted)["plantops_drift_false_alarm_rate",] == 0.01


def test_a_bundle_that_cannot_tell_says_nothing_of_drift(port: int) -> None:
    assert "drift" not in get(port, "/health").json
    assert not [key for key in numbers(port) if key[0].startswith("plantops_drift_ratio")]


def test_a_bundle_with_a_part_of_the_arrays_is_refused(tmp_path: Path) -> None:
    arrays = usual().arrays()
    del arrays["drift_limits"]
    centre = LookingModel().seen(PLAIN[0])[0]
    release = looking_release(tmp_path / "r1", centre, more=arrays, thresholds={"unlike": 1.0})
    running = start(release, tmp_path / "log")
    said = until(lambda: get(running.port, "/health").json["status"] == "failed" and get(running.port, "/health").json)
    assert "drift_limits" in said["reason"]
    running.terminate()
