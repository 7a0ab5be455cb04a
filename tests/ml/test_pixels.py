"""Pixels kept in S3: the same rows, batches and weights as from a file, and what is said when they cannot be had."""

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from botocore.response import StreamingBody

import s3
from conftest import sh
from plantops.errors import StepFailed
from plantops.ml import data, pixels
from plantops.ml.frameworks import torch
from plantops.ml.pixels import POINTER, Object, Stored
from plantops.ml.prepared import Prepared

from . import photos

SHAPE = (50, 8, 8, 3)
ROW = 8 * 8 * 3


@dataclass(frozen=True)
class Server:
    """An S3 server with a bucket, and what it was asked."""

    address: str
    log: Path

    def asked(self, verb: str) -> int:
        """How many requests of a kind there were for an object."""
        return self.log.read_text().count(f'"{verb} /photos/')

    @property
    def client(self):  # type: ignore[no-untyped-def]
        """A client of the test's own."""
        return s3.client("s3", self.address, "k", "s")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    with s3.running(folder) as address:
        s3.client("s3", address, "k", "s").create_bucket(Bucket="photos")
        at(monkeypatch, address)
        yield Server(address, folder / "s3.log")


def at(monkeypatch: pytest.MonkeyPatch, address: str, key: str = "k") -> None:
    """Have our client ask that server."""
    values = {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": key and "s",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)


def given(folder: Path) -> np.ndarray:
    """Pixels, which were handed over from ``folder``."""
    every = np.random.default_rng(1).integers(0, 256, SHAPE, np.uint8)
    folder.mkdir(exist_ok=True)
    (folder / "images.u8").write_bytes(every.tobytes())
    pixels.hand_over(folder / "images.u8", "s3://photos/team/")
    return every


@pytest.mark.ci
def test_rows_are_those_of_the_file_whatever_is_asked_and_however_much_is_kept(tmp_path: Path, server: Server) -> None:
    every = given(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == [POINTER]
    there = Object(json.loads((tmp_path / "a" / POINTER).read_text())["url"])
    random = np.random.default_rng(2)
    for room in (0, 7, 50):
        stored = Stored(there, SHAPE, room * ROW + 1)
        for count in (1, 5, 60):
            rows = random.integers(0, 50, count)
            assert np.array_equal(stored[rows], every[rows])
        assert np.array_equal(stored[3:40:4], every[3:40:4])
        assert np.array_equal(stored[[]], every[:0])
        assert np.array_equal(np.stack(list(stored)), every)
        assert len(stored) == 50


@pytest.mark.ci
def test_what_fits_is_asked_for_once_and_neighbours_together(tmp_path: Path, server: Server) -> None:
    every = given(tmp_path / "a")
    images = pixels.open_(tmp_path / "a" / "images.u8", SHAPE)
    assert isinstance(images, Stored)
    assert np.array_equal(images[[3, 4, 5, 20, 5]], every[[3, 4, 5, 20, 5]])
    assert server.asked("GET") == 2, "3 to 5, and 20"
    assert np.array_equal(images[[20, 4]], every[[20, 4]])
    assert server.asked("GET") == 2
    bounded = Stored(Object(str(images._there.url)), SHAPE, 10 * ROW)
    for _ in range(3):
        bounded[:]
    assert bounded._cache.seek(0, 2) == 10 * ROW


class Answers:
    """A client whose answers are cut off so many times."""

    def __init__(self, every: bytes, cuts: int) -> None:
        self.every, self.cuts = every, cuts

    def head_object(self, **_: str) -> dict[str, str]:
        return {"ETag": "1"}

    def get_object(self, Range: str, **_: str) -> dict[str, StreamingBody]:
        start, end = (int(one) for one in Range.removeprefix("bytes=").split("-"))
        body, self.cuts = self.every[start : end + 1], self.cuts - 1
        return {"Body": StreamingBody(io.BytesIO(body[: None if self.cuts < 0 else -1]), len(body))}


def answering(every: np.ndarray, cuts: int = 0) -> Object:
    there = Object("s3://photos/team/0.u8")
    there.__dict__["_client"] = Answers(every.tobytes(), cuts)
    return there


def test_an_answer_that_is_cut_off_is_asked_for_again() -> None:
    every = np.random.default_rng(1).integers(0, 256, SHAPE, np.uint8)
    assert np.array_equal(Stored(answering(every, cuts=4), SHAPE, 0)[[3, 4]], every[[3, 4]])
    with pytest.raises(StepFailed, match=r"s3://photos/team/0\.u8: .*read"):
        Stored(answering(every, cuts=5), SHAPE, 0)[[3, 4]]


def test_a_full_disk_keeps_what_is_whole_and_the_rest_is_read_again() -> None:
    every = np.random.default_rng(1).integers(0, 256, SHAPE, np.uint8)
    stored, before = Stored(answering(every), SHAPE, 50 * ROW), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * ROW + 7, before[1]))
    try:
        found = [stored[:9], stored[4:20], stored[:]]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all(map(np.array_equal, found, (every[:9], every[4:20], every)))
    assert stored._taken == 5


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ENDPOINT_URL", "localhost:9000"), ("PLANTOPS_PIXEL_CACHE_GB", "4 GB")]
)
def test_a_variable_that_cannot_be_meant_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    tmp_path.joinpath(POINTER).write_text(json.dumps({"url": "s3://photos/team/0.u8"}))
    monkeypatch.setattr(Object, "size", lambda self: self.reach() if "URL" in name else int(np.prod(SHAPE)))
    monkeypatch.setenv(name, value)
    assert value in (words := said(tmp_path))
    assert name in words


@pytest.mark.ci
def test_a_training_ends_with_the_same_weights_and_reads_what_it_needs(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, prepare in (("file", {}), ("store", {"store": "s3://photos/team"})):
        folder = photos.project(tmp_path / name, 12, prepare=prepare, train={"epochs": 2, "patience": 2})
        sh(sys.executable, "-m", "plantops.ml.data", cwd=folder)
        sh(sys.executable, "-m", "plantops.ml.train", cwd=folder)
    file, store = tmp_path / "file", tmp_path / "store"
    first, second = (
        torch.load(one / "models/checkpoint/model.ckpt", weights_only=True)["state_dict"] for one in (file, store)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not (store / "data/prepared/images.u8").exists()
    ours, theirs = Prepared.load(file / "data/prepared"), Prepared.load(store / "data/prepared")
    assert ours.photos == theirs.photos
    assert np.array_equal(ours.images[:], theirs.images[:])
    for name in ("metrics/train.json", "metrics/data.json", "plots/epochs.csv", "models/checkpoint/course.csv"):
        assert (file / name).read_bytes() == (store / name).read_bytes(), name
    sent = server.asked("PUT")
    monkeypatch.chdir(store)
    data.main()
    assert server.asked("PUT") == sent, "it is there already"


@pytest.mark.ci
def test_a_bucket_that_is_away_is_said_before_the_photos_are_read(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.project(tmp_path / "p", 4, prepare={"store": "s3://elsewhere/team"}))
    with pytest.raises(StepFailed, match="s3://elsewhere/team is not there") as raised:
        data.main()
    assert raised.value.hint == "aws s3 mb makes a bucket"
    assert not Path("data/prepared").exists()


def said(folder: Path) -> str:
    with pytest.raises(StepFailed) as raised:
        pixels.open_(folder / "images.u8", SHAPE)[[1]]
    return f"{raised.value.message} [{raised.value.hint}]"


@pytest.mark.ci
def test_what_cannot_be_had_is_said(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    given(tmp_path / "a")
    key = json.loads((tmp_path / "a" / POINTER).read_text())["url"].removeprefix("s3://photos/")
    images = pixels.open_(tmp_path / "a" / "images.u8", SHAPE)
    server.client.put_object(Bucket="photos", Key=key, Body=bytes(np.prod(SHAPE)))
    with pytest.raises(StepFailed, match="was written anew while it was read"):
        images[[1]]
    server.client.put_object(Bucket="photos", Key=key, Body=b"cut")
    assert "is not whole: it has 3 bytes of 9,600 [dvc repro --force" in said(tmp_path / "a")
    server.client.delete_object(Bucket="photos", Key=key)
    assert "is not there [dvc repro --force --single-item prepare_data]" in said(tmp_path / "a")
    at(monkeypatch, server.address, key="")
    assert "there are no credentials for it here [export AWS_PROFILE" in said(tmp_path / "a")
    at(monkeypatch, "http://127.0.0.1:9")
    assert "AWS_ENDPOINT_URL" in said(tmp_path / "a")
    monkeypatch.setitem(sys.modules, "boto3.exceptions", None)
    assert "S3 is not installed [pip install 'plantops[s3]']" in said(tmp_path / "a")


@pytest.mark.ci
def test_keys_that_are_refused_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath(POINTER).write_text(json.dumps({"url": "s3://photos/team/0.u8"}))
    with s3.guarded(tmp_path) as (address, _, _):
        at(monkeypatch, address, key="other")
        assert "it refuses the credentials that are used here" in said(tmp_path)


def test_pixels_that_are_nowhere_name_the_stage(tmp_path: Path) -> None:
    assert "images.u8 is missing [dvc repro prepare_data]" in said(tmp_path)
