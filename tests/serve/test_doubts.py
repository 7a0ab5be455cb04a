"""What an answer says beside the class: whether to believe it, where the model looked, and whose answer it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api_client import KIND, form, get, post, predict, probabilities, request, until
from bundle_factory import CLASSES, SPEC, photo
from plantops.bundle import BadBundle
from plantops.photo import decode
from plantops.serve import predictor
from plantops.serve.explain import NO_MAPS
from plantops.serve.heat import heat
from serve.by_hand import start
from serve.looking import CELLS, LookingModel, looking_release, reference, with_reference

NEAR, FAR = photo(1), photo(2)


@pytest.fixture(scope="module")
def limits() -> dict[str, float]:
    """Thresholds that lie between two photos, so each is on another side."""
    model = LookingModel()
    shares = sorted(max(model.answer(one).values()) for one in (NEAR, FAR))
    away = float(np.sum((model.seen(FAR)[0] - model.seen(NEAR)[0]) ** 2))
    return {"unsure": sum(shares) / 2, "unlike": away / 2}


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory, limits: dict[str, float]) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("looking")
    release = looking_release(folder / "r1", LookingModel().seen(NEAR)[0], thresholds=limits)
    running = start(release, folder / "log")
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    yield running.port
    assert running.terminate() == 0


def test_unsure_and_unlike_are_what_numpy_computes(looking: int, limits: dict[str, float]) -> None:
    answers = [predict(looking, one).json for one in (NEAR, FAR)]
    assert [one["unlike"] for one in answers] == [False, True]
    assert sorted(one["unsure"] for one in answers) == [False, True]
    assert all(one["unsure"] == (one["confidence"] < limits["unsure"]) for one in answers)


def test_a_bundle_without_thresholds_says_nothing_of_it(port: int) -> None:
    answer = predict(port, photo(1)).json
    assert answer["unsure"] is None
    assert answer["unlike"] is None


def test_an_explanation_is_the_predicted_classs_share_of_the_maps(looking: int) -> None:
    answer = predict(looking, FAR, "?explain=true").json
    explanation = answer["explanation"]
    assert explanation["class"] == answer["prediction"]
    assert explanation["area"] == "crop"
    maps = LookingModel().seen(FAR)[1]
    over = np.maximum(maps[CLASSES.index(answer["prediction"])] - maps.mean(axis=0), 0)
    assert np.array(explanation["heatmap"]) == pytest.approx(over / over.max(), abs=2e-3)
    assert np.shape(explanation["heatmap"]) == (CELLS, CELLS)


def test_an_explanation_changes_no_answer_and_comes_only_when_asked(looking: int) -> None:
    plain, explained = predict(looking, FAR), predict(looking, FAR, "?explain=true")
    assert "explanation" not in plain.json
    assert probabilities(plain) == probabilities(explained)
    both = post(looking, "/predict_batch?explain=true", form(("files", "a", FAR), ("files", "b", b"no"))).json[
        "results"
    ]
    assert both[0]["explanation"] == explained.json["explanation"]
    assert "explanation" not in post(looking, "/predict_batch", form(("files", "a", FAR))).json["results"][0]


def test_a_graph_without_maps_says_why(port: int) -> None:
    answer = predict(port, photo(1), "?explain=true").json
    assert answer["explanation"] == {"reason": NO_MAPS}


def test_heat_is_where_it_was_put() -> None:
    maps = np.zeros((2, 2, 3), np.float32)
    maps[1, 0, 2], maps[1, 1, 0] = 4, -1
    assert heat(maps, 1).tolist() == [[0, 0, 1], [0, 0, 0]]
    assert heat(np.zeros((2, 2, 3), np.float32), 1).tolist() == [[0, 0, 0], [0, 0, 0]]


@dataclass
class Recording:
    """ONNX Runtime's session, and what it was asked for."""

    session: Any
    asked: list[list[str]]

    def run(self, names: list[str], feed: dict[str, Any]) -> Any:
        self.asked.append(names)
        return self.session.run(names, feed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


def test_only_what_is_needed_is_asked_of_the_graph(tmp_path: Path) -> None:
    loaded = predictor.load(looking_release(tmp_path / "r"))
    recording = Recording(loaded.session, [])
    loaded = replace(loaded, session=recording)
    loaded.predict(decode(NEAR, SPEC))
    loaded.look(decode(NEAR, SPEC), explain=True)
    assert recording.asked == [["logits"], ["logits", "maps"]]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no archive at all", reference(mean=np.zeros(3))])
def test_a_broken_reference_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    release = with_reference(tmp_path / "r", content, thresholds={"unlike": 1.0})
    with pytest.raises(BadBundle, match=r"reference\.npz"):
        predictor.load(release)


def test_a_reference_with_objects_is_refused(tmp_path: Path) -> None:
    data = reference(mean=np.array([{}], dtype=object), whiten=np.eye(3))
    with pytest.raises(BadBundle, match="allow_pickle"):
        predictor.load(with_reference(tmp_path / "r", data, thresholds={"unlike": 1.0}))


def test_a_clients_name_for_its_request_is_kept_where_it_can_be(port: int) -> None:
    def named(name: str) -> str:
        body = form(("file", "a.jpg", photo(1)))
        answer = request(port, "POST", "/predict", body, {"Content-Type": KIND, "X-Request-ID": name})
        assert answer.headers["x-request-id"] == answer.json["request_id"]
        return str(answer.json["request_id"])

    assert named("Case-12_b") == "Case-12_b"
    for bad in ("../../etc/passwd", "a b", "-rf", "x" * 65, ".hidden", ""):
        assert re.fullmatch("[0-9a-f]{16,32}", named(bad))


def test_each_photo_of_a_batch_has_a_name_of_its_own(port: int) -> None:
    answer = post(port, "/predict_batch", form(("files", "a", photo(1)), ("files", "b", photo(2))))
    ids = [one["request_id"] for one in answer.json["results"]]
    assert ids == [f"{answer.headers['x-request-id']}-{number}" for number in (1, 2)]
