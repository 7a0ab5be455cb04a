"""`POST /feedback`, and photos that are kept, through a real worker."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from api_client import KIND, Answer, form, get, post, predict, request, until
from bundle_factory import CLASSES, photo
from plantops import kept
from serve.looking import EVERYTHING_UNSURE, looking_release

pytestmark = pytest.mark.ci


def say(port: int, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(port, "POST", "/feedback", data, {"Content-Type": "application/json"})


@pytest.fixture
def serving(worker: Any, tmp_path: Path) -> tuple[int, Path]:
    """A worker that is unsure of everything and keeps it, and where."""
    running = worker(
        looking_release(tmp_path / "r1", thresholds=EVERYTHING_UNSURE),
        "--kept",
        str(tmp_path / "kept"),
        "--keep",
        "true",
    )
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    return running.port, tmp_path / "kept"


def test_what_people_say_is_written_down(serving: tuple[int, Path]) -> None:
    port, folder = serving
    name = predict(port, photo(1)).json["request_id"]
    said = [(CLASSES[2], False), (kept.NOT_A_LEAF, False), ("Vine___Esca (new)", True)]
    for title, new in said:
        answer = say(port, {"request_id": name, "class": title})
        assert (answer.status, answer.json) == (201, {"request_id": name, "class": title, "new_class": new})
    lines = kept.opinions(folder)
    assert [(one["request_id"], one["class"], one["release"]) for one in lines] == [
        (name, one, "r1") for one, _ in said
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"\xff\xfe", {"request_id": "r"}, {"class": "x"}, {"request_id": "../r", "class": "x"},
        {"request_id": "r", "class": "../../etc"}, {"request_id": "r", "class": ".."}, {"request_id": "r", "class": ""},
        {"request_id": "r", "class": 5}, {"request_id": "r", "class": "x.dvc"},
        {"request_id": "r", "class": "x", "y": 1},
        {"request_id": "r", "class": "a\u0000b"},
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words(serving: tuple[int, Path], body: Any) -> None:
    port, folder = serving
    answer = say(port, body)
    assert answer.status == 422
    assert answer.json["detail"]
    assert kept.opinions(folder) == []


def test_feedback_is_small(serving: tuple[int, Path]) -> None:
    answer = say(serving[0], {"request_id": "r", "class": "x" * 5000})
    assert answer.status == 413


def test_unsure_photos_are_kept_as_they_came_with_their_answers(serving: tuple[int, Path]) -> None:
    port, folder = serving
    single = predict(port, photo(1), "?explain=true").json
    files = [("files", "a.png", photo(2, kind="PNG")), ("files", "b", b"no photo"), ("files", "c.jpg", photo(3))]
    batch = post(port, "/predict_batch", form(*files)).json["results"]
    found = {one.id: one for one in kept.photos(folder)}
    assert set(found) == {single["request_id"], batch[0]["request_id"], batch[2]["request_id"]}
    assert found[single["request_id"]].path.read_bytes() == photo(1)
    assert found[batch[0]["request_id"]].path.suffix == ".png"
    assert found[single["request_id"]].answer["prediction"] == single["prediction"]


def test_what_plantops_asks_itself_is_not_kept(serving: tuple[int, Path]) -> None:
    port, folder = serving
    headers = {"Content-Type": KIND, "X-Plantops-Probe": "1"}
    answer = request(port, "POST", "/predict", form(("file", "golden.jpg", photo(1))), headers)
    assert (answer.status, answer.json["unsure"]) == (200, True)
    assert kept.photos(folder) == []


def test_nothing_is_kept_unless_asked(worker: Any, tmp_path: Path) -> None:
    running = worker(looking_release(tmp_path / "r1", thresholds=EVERYTHING_UNSURE), "--kept", str(tmp_path / "kept"))
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    assert predict(running.port, photo(1)).json["unsure"] is True
    assert not (tmp_path / "kept").exists()
    info = get(running.port, "/model/info").json
    assert (info["feedback"], info["keeps_photos"]) == (True, False)


def test_a_sure_model_keeps_nothing(worker: Any, tmp_path: Path) -> None:
    flags = ("--kept", str(tmp_path / "kept"), "--keep", "1")
    running = worker(looking_release(tmp_path / "r1", thresholds={"unsure": 0.0}), *flags)
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    assert predict(running.port, photo(1)).json["unsure"] is False
    assert kept.photos(tmp_path / "kept") == []


def test_a_folder_that_cannot_be_written_fails_no_answer(worker: Any, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    flags = ("--kept", str(tmp_path / "kept"), "--keep", "1")
    running = worker(looking_release(tmp_path / "r1", thresholds=EVERYTHING_UNSURE), *flags)
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    assert predict(running.port, photo(1)).status == 200
    assert running.said("cannot be kept")
    answer = say(running.port, {"request_id": "r", "class": CLASSES[0]})
    assert answer.status == 503
    assert "cannot be kept" in answer.json["detail"]


def test_without_a_folder_it_says_so(port: int) -> None:
    answer = say(port, {"request_id": "r", "class": CLASSES[0]})
    assert answer.status == 404
    assert "--kept" in answer.json["detail"]
    assert get(port, "/model/info").json["feedback"] is False


def test_a_golden_photo_that_plantops_sends_is_not_kept(serving: tuple[int, Path]) -> None:
    port, folder = serving
    headers = {"Content-Type": KIND, "X-Plantops-Probe": "1"}
    assert request(port, "POST", "/predict", form(("file", "golden.jpg", photo(1))), headers).json["unsure"] is True
    assert predict(port, photo(2)).status == 200
    assert [one.path.read_bytes() for one in kept.photos(folder)] == [photo(2)]


def test_a_disk_that_hangs_holds_up_no_request_for_ever(worker: Any, tmp_path: Path) -> None:
    flags = ("--kept", str(tmp_path / "kept"), "--keep", "1", "--request-timeout-s", "0.6")
    running = worker(looking_release(tmp_path / "r1", thresholds=EVERYTHING_UNSURE), *flags)
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    (tmp_path / "kept").mkdir()
    with (tmp_path / "kept/.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert predict(running.port, photo(1)).json["unsure"] is True
        answer = say(running.port, {"request_id": "r", "class": CLASSES[0]})
        assert (answer.status, "the disk takes too long" in answer.json["detail"]) == (503, True)
    assert running.said("cannot be kept: .*the disk takes too long")


def test_photos_for_the_next_release_that_wait_for_a_disk_are_few(worker: Any, tmp_path: Path) -> None:
    (tmp_path / "kept/recent").mkdir(parents=True)
    os.mkfifo(tmp_path / "kept/recent/.00000.photo")  # whoever writes to it waits for a reader
    running = worker(looking_release(tmp_path / "r1"), "--kept", str(tmp_path / "kept"), "--replay", "10")
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    large = photo(1) + bytes(1_900_000)
    assert predict(running.port, large).status == 200
    before = running.memory()
    for _ in range(60):
        assert predict(running.port, large).status == 200
    assert running.memory() - before < 60_000_000
