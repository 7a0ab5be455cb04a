"""What people say and what is kept: durable, bounded, and no name that leads out of its folder."""

from __future__ import annotations

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle_factory import photo
from plantops import kept
from plantops.serve import keeper
from plantops.serve.keeper import Keeper
from plantops.serve.recent import Recent, forget


@pytest.mark.parametrize(
    "name", ["Tomato___Late_blight", "Pepper,_bell___healthy", "Corn_(maize)___Common_rust_", "Mûre"]
)
def test_names_of_classes(name: str) -> None:
    assert kept.unsafe(name) == ""


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../x", "a/b", "a\\b", ".git", "-rf", "a\0", "a\n", "x.dvc", "X.DVC", "a ",
     "x" * 101, "é" * 101, kept.NOT_A_LEAF],
)  # fmt: skip
def test_names_that_are_none(name: str) -> None:
    assert kept.unsafe(name)


@given(st.text(max_size=120))
@pytest.mark.ci
def test_a_safe_name_is_one_folder_right_there(name: str) -> None:
    if not kept.unsafe(name):
        assert Path("/raw", name).parent == Path("/raw")
        assert Path("/raw", name).name == name
        assert len(f"{name}.dvc".encode()) < 255


def test_opinions_come_back_in_order_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    keep = Keeper(tmp_path, 5, 10**6)
    for number in range(3):
        keep.opinion({"request_id": f"r{number}", "class": "é", "at": "now"})
    with (tmp_path / kept.FEEDBACK).open("a") as file:
        file.write('{"request_id": "torn')
    assert [one["request_id"] for one in kept.opinions(tmp_path)] == ["r0", "r1", "r2"]


def test_many_write_at_once_and_no_line_is_lost(tmp_path: Path) -> None:
    keeps = [Keeper(tmp_path, 5, 10**6) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: keeps[n % 4].opinion({"request_id": str(n), "class": "c"}), range(80)))
    assert {one["request_id"] for one in kept.opinions(tmp_path)} == {str(n) for n in range(80)}


def test_feedback_is_bounded_and_its_newest_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_HALF", 1000)
    keep = Keeper(tmp_path, 5, 10**6)
    for number in range(200):
        keep.opinion({"request_id": str(number), "class": "c"})
    assert sum(one.stat().st_size for one in tmp_path.glob("feedback*")) <= 2000
    ids = [int(one["request_id"]) for one in kept.opinions(tmp_path)]
    assert ids == list(range(ids[0], 200))
    assert len(ids) > 10


def test_photos_are_bounded_in_number_the_oldest_goes(tmp_path: Path) -> None:
    keep = Keeper(tmp_path, 3, 10**7)
    for number in range(5):
        keep.photo(f"r{number}", photo(number), "JPEG", {"prediction": "c"})
    assert [one.id for one in kept.photos(tmp_path)] == ["r2", "r3", "r4"]
    assert all(one.answer == {"prediction": "c"} for one in kept.photos(tmp_path))
    assert len(list((tmp_path / kept.PHOTOS).iterdir())) == 6


def test_photos_are_bounded_in_bytes_with_what_a_crash_left(tmp_path: Path) -> None:
    size = len(photo(0))
    keep = Keeper(tmp_path, 100, 3 * size)
    (tmp_path / kept.PHOTOS).mkdir()
    (tmp_path / kept.PHOTOS / ".torn.jpg").write_bytes(b"x" * size)
    for number in range(6):
        keep.photo(f"r{number}", photo(number), "JPEG", {})
        assert sum(one.stat().st_size for one in (tmp_path / kept.PHOTOS).iterdir()) <= 3 * size
    assert [one.id for one in kept.photos(tmp_path)][-1] == "r5"
    assert not (tmp_path / kept.PHOTOS / ".torn.jpg").exists()


def test_the_first_photo_of_a_name_stays(tmp_path: Path) -> None:
    keep = Keeper(tmp_path, 5, 10**6)
    keep.photo("same", photo(1), "JPEG", {"first": True})
    keep.photo("same", photo(2, kind="PNG"), "PNG", {"first": False})
    (only,) = kept.photos(tmp_path)
    assert only.path.read_bytes() == photo(1)
    assert json.loads(only.note.read_text()) == {"first": True}


def test_a_recent_photo_never_has_the_answer_of_another(tmp_path: Path) -> None:
    recent, stop, found = Recent(tmp_path, 3), threading.Event(), 0

    def write() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            recent.add(str(number).encode(), "r1", str(number), 1.0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        deadline = time.monotonic() + 30
        while found < 200 and time.monotonic() < deadline:
            for photo, answer in kept.recent(tmp_path):
                assert photo.decode() == answer["prediction"]
                found += 1
    finally:
        stop.set()
        writer.join()
    assert found >= 200


@pytest.mark.parametrize("most", [2, 0])
def test_photos_beyond_a_smaller_number_go(tmp_path: Path, most: int) -> None:
    recent = Recent(tmp_path, 5)
    for number in range(5):
        recent.add(b"photo", "r1", str(number), 1.0)
    (tmp_path / kept.RECENT / ".00003.photo").write_bytes(b"half of one: the worker was killed")
    (tmp_path / kept.PHOTOS).mkdir()
    (tmp_path / kept.PHOTOS / "00004.jpg").write_bytes(b"of somebody who was unsure")
    forget(tmp_path, most)
    assert sorted(answer["prediction"] for _, answer in kept.recent(tmp_path)) == [str(one) for one in range(most)]
    assert len(list((tmp_path / kept.RECENT).iterdir())) == 2 * most
    assert len(list((tmp_path / kept.PHOTOS).iterdir())) == 1
