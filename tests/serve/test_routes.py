"""Every route of a healthy worker, over HTTP."""

from __future__ import annotations

import http.client
import re
import time

import pytest

from api_client import HOST, KIND, form, get, post, predict, probabilities, read, request
from bundle_factory import CLASSES, TinyModel, photo


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_predict_answers_what_numpy_computes(port: int, kind: str) -> None:
    data = photo(7, turned=kind == "JPEG", kind=kind)
    answer = predict(port, data, "?top=1000")
    assert answer.status == 200
    assert probabilities(answer) == pytest.approx(TinyModel().answer(data), abs=1e-5)


def test_predict_has_the_shape_of_the_guide(port: int) -> None:
    answer = predict(port, photo(8))
    expected = TinyModel().answer(photo(8))
    best = max(expected, key=expected.__getitem__)
    assert answer.json["prediction"] == best
    assert answer.json["confidence"] == pytest.approx(expected[best], abs=1e-5)
    assert answer.json.keys() == {
        "request_id", "prediction", "confidence", "unsure", "unlike", "inference_time", "top5_predictions",
        "model_info", "timestamp",
    }  # fmt: skip
    assert answer.json["model_info"]["release"] == "r1"
    assert answer.json["model_info"]["model_version"] == "3"
    assert answer.json["model_info"]["sample_data"] is True
    confidences = [one["confidence"] for one in answer.json["top5_predictions"]]
    assert confidences == sorted(confidences, reverse=True)


@pytest.mark.parametrize(("query", "listed"), [("", 5), ("?top=1", 1), ("?top=3", 3), ("?top=1000", len(CLASSES))])
def test_top_says_how_many_classes_come_back(port: int, query: str, listed: int) -> None:
    assert len(predict(port, photo(1), query).json["top5_predictions"]) == listed


@pytest.mark.parametrize(
    "body",
    [
        form(("file", "leaf.jpg", photo(1))),
        form(("file", "leaf.jpg", b"nothing")),
        form(("other", "a", b"b")),
        b"--broken",
    ],
)
def test_without_parameters_it_answers_as_with_them(port: int, body: bytes) -> None:
    """Which is another way through the app: see `Direct`."""
    direct, routed = post(port, "/predict", body), post(port, "/predict?top=5", body)
    own = ("request_id", "timestamp", "inference_time")
    assert direct.status == routed.status
    assert {**direct.json, **dict.fromkeys(own)} == {**routed.json, **dict.fromkeys(own)}
    assert direct.headers.keys() == routed.headers.keys()


@pytest.mark.parametrize("query", ["?top=0", "?top=1001", "?top=many"])
def test_a_senseless_top_is_refused(port: int, query: str) -> None:
    assert predict(port, photo(1), query).status == 422


def test_batch_answers_in_order_and_names_what_it_cannot_read(port: int) -> None:
    good = [photo(seed) for seed in (1, 2)]
    files = [("files", "a.jpg", good[0]), ("files", "notes.txt", b"not a photo"), ("files", "b.jpg", good[1])]
    answer = post(port, "/predict_batch?top=1000", form(*files)).json
    assert answer["total"] == 3
    assert [one["filename"] for one in answer["results"]] == ["a.jpg", "notes.txt", "b.jpg"]
    assert "not an image" in answer["results"][1]["error"]
    assert "prediction" not in answer["results"][1]
    for item, data in zip((answer["results"][0], answer["results"][2]), good, strict=True):
        got = {one["class"]: one["confidence"] for one in item["top5_predictions"]}
        assert got == pytest.approx(TinyModel().answer(data), abs=1e-5)


def test_a_batch_has_a_limit_of_sixteen(port: int) -> None:
    files = [("files", f"{number}.jpg", photo(1)) for number in range(17)]
    assert post(port, "/predict_batch", form(*files[:16])).json["total"] == 16
    answer = post(port, "/predict_batch", form(*files))
    assert answer.status == 400
    assert "16" in answer.json["detail"]


def test_a_photo_too_large_spoils_only_itself(port: int) -> None:
    files = [("files", "big.jpg", b"\xff" * 2_100_000), ("files", "ok.jpg", photo(1))]
    results = post(port, "/predict_batch", form(*files)).json["results"]
    assert "larger than 2.0 MB" in results[0]["error"]
    assert results[1]["prediction"]


def test_classes(port: int) -> None:
    assert get(port, "/classes").json == {"classes": list(CLASSES), "num_classes": len(CLASSES)}


def test_model_info(port: int) -> None:
    answer = get(port, "/model/info").json
    assert (answer["release"], answer["commit"], answer["mlflow_run"]) == ("r1", "abc1234", "r1")
    assert answer["preprocessing"]["size"] == 32
    assert answer["metrics"] == {"accuracy": 0.5}
    assert len(answer["digest"]) == 64


def test_health_names_the_release(port: int) -> None:
    answer = get(port, "/health")
    assert answer.status == 200
    assert answer.json["status"] == "healthy"
    assert (answer.json["release"], answer.json["model_loaded"], answer.json["classes"]) == ("r1", True, 5)
    assert answer.json["sample_data"] is True
    assert 0 < answer.json["golden_difference"] < 1e-4
    assert request(port, "HEAD", "/health").status == 200


def test_docs_need_no_other_host(port: int) -> None:
    page = get(port, "/docs")
    assert page.status == 200
    named = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(named) == 3, "script, style, icon"
    for one in named:
        assert one.startswith("/")
        assert len(get(port, one).body) > 1000


def test_docs_show_the_form(port: int) -> None:
    assert get(port, "/").headers["location"] == "/docs"
    paths = get(port, "/openapi.json").json["paths"]
    body = paths["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert body["properties"]["file"]["format"] == "binary"
    assert {
        "/predict",
        "/predict_batch",
        "/classes",
        "/model/info",
        "/health",
        "/health/live",
        "/health/ready",
        "/feedback",
    } <= set(paths)


def test_metrics_have_the_names_of_the_guide(port: int) -> None:
    predict(port, photo(1))
    text = get(port, "/metrics").body.decode()
    for sample in (
        r'api_requests_total\{endpoint="/predict",method="POST",status="200"\} \d',
        r'api_request_duration_seconds_bucket\{endpoint="/predict",le="0.1",method="POST"\} \d',
        r"api_active_requests 1\.0",
        r'inference_latency_seconds_bucket\{le="0.1"\} \d',
        r'prediction_confidence_bucket\{le="0.5"\} \d',
        r'predictions_by_class_total\{class_name="Pepper,_bell___healthy"\} \d',
        r'model_info\{[^}]*release="r1"[^}]*\} 1\.0',
    ):
        assert re.search(f"^{sample}", text, re.MULTILINE), sample


def test_metrics_count_what_was_asked(port: int) -> None:
    def count(line: str) -> float:
        found = re.search(f"^{re.escape(line)} (.+)$", get(port, "/metrics").body.decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    name = predict(port, photo(3)).json["prediction"]
    lines = [
        f'predictions_by_class_total{{class_name="{name}"}}',
        'api_requests_total{endpoint="/predict",method="POST",status="200"}',
        'api_requests_total{endpoint="other",method="GET",status="404"}',
    ]
    before = [count(line) for line in lines]
    predict(port, photo(3))
    for path in ("/admin.php", "/.env"):
        assert get(port, path).status == 404
    assert [count(line) - was for line, was in zip(lines, before, strict=True)] == [1, 1, 2]
    assert b"admin.php" not in get(port, "/metrics").body


def test_a_connection_is_kept_for_the_next_request(port: int) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    for seed in range(3):
        connection.request("POST", "/predict", form(("file", "a.jpg", photo(seed))), {"Content-Type": KIND})
        answer = read(connection)
        assert answer.status == 200
        assert answer.headers["x-plantops-release"] == "r1"
        assert "connection" not in answer.headers
        assert "date" in answer.headers
    connection.close()


def test_an_answer_does_not_wait_for_the_clients_acknowledgement(port: int) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    fastest = 1.0
    for _ in range(15):
        connection.request("POST", "/predict", form(("file", "a.jpg", photo(1))), {"Content-Type": KIND})
        began = time.perf_counter()
        assert read(connection).status == 200
        fastest = min(fastest, time.perf_counter() - began)
    connection.close()
    assert fastest < 0.035  # Linux delays an ACK by 40 ms; without TCP_NODELAY no answer is faster
