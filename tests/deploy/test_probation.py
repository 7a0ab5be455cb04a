"""Releases that are broken, each in its way, beside the one before them: found under load, left without a failure."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from api_client import predict, until
from bundle_factory import CLASSES, TinyModel, make_release, photo
from plantops.behaviour import FEWEST_PHOTOS
from plantops.deploy.local import Local
from plantops.probation import Probation, figures

pytestmark = pytest.mark.ci
GOOD = TinyModel()


@dataclass(frozen=True)
class Slow(TinyModel):
    """The same answers, by way of some multiplications by one."""

    def graph(self) -> onnx.ModelProto:
        made = super().graph()
        wide = self.weights.shape[0]
        made.graph.initializer.append(numpy_helper.from_array(np.eye(wide, dtype=np.float32), "one"))
        *before, last = made.graph.node
        flat = last.input[0]
        more = [helper.make_node("MatMul", [flat if n == 0 else f"by{n}", "one"], [f"by{n + 1}"]) for n in range(8)]
        last.input[0] = "by8"
        del made.graph.node[:]
        made.graph.node.extend([*before, *more, last])
        return made


@dataclass(frozen=True)
class Constant(TinyModel):
    """One answer, whatever the photo."""

    @property
    def weights(self) -> np.ndarray:
        return np.zeros_like(super().weights)


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """Photos with an uneven mix of answers: sixty of one class, thirty of another, ten of a third."""
    by_answer: dict[str, list[bytes]] = defaultdict(list)
    for data in (photo(seed) for seed in range(400)):
        answer = GOOD.answer(data)
        by_answer[max(answer, key=lambda name: answer[name])].append(data)
    most = sorted(by_answer.values(), key=len, reverse=True)
    return [data for some, wanted in zip(most, (6, 3, 1), strict=False) for data in some[:wanted]]


@contextmanager
def traffic(port: int, photos: list[bytes]) -> Iterator[None]:
    """Two clients that never try again."""
    failures, stop = [], threading.Event()

    def send(first: int) -> None:
        for data in itertools.islice(itertools.cycle(photos), first, None):
            if stop.is_set():
                return
            try:
                if (answer := predict(port, data)).status != 200:
                    failures.append(answer.body.decode())
            except OSError as error:
                failures.append(repr(error))

    clients = [threading.Thread(target=send, args=(5 * number,)) for number in range(2)]
    for one in clients:
        one.start()
    try:
        yield
    finally:
        stop.set()
        for one in clients:
            one.join(30)
    assert failures == []


def seen(local: Local, release: str) -> bool:
    now = figures(local)
    return now is not None and now.release == release and now.photos >= FEWEST_PHOTOS


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Constant(), "photos are answered"),
        (TinyModel(classes=(*CLASSES[1:], CLASSES[0])), "another mix of answers"),
        (replace(GOOD, temperature=30.0), "confidence fell"),
        (Slow(), "times slower"),
        (replace(GOOD, temperature=GOOD.temperature * 1.02), ""),
    ],
    ids=["constant", "permuted", "collapsed", "slow", "well"],
)
def test_a_broken_release_is_found_and_the_one_before_it_answers_again(
    local: Local, photos: list[bytes], tmp_path: Path, model: TinyModel, said: str
) -> None:
    good, other = make_release(tmp_path / "good", GOOD), make_release(tmp_path / "other", model)
    local.up(good)
    with traffic(local.public.port, photos):
        until(lambda: seen(local, "good"), 60, "traffic")
        trial = local.start(other)
        one = Probation(local, "other", figures(local))
        local.switch(trial)
        until(lambda: one.look() or (not said and seen(local, "other")), 60, said)
        assert said in " / ".join(one.look())
        assert bool(one.wrong) == bool(said)
        assert ("photos, confidence" in one.sentence()) == (not said or seen(local, "other"))
        local.back()
        until(lambda: (now := figures(local)) is not None and now.release == "good", 20, "the one before")
