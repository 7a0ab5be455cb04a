"""Clients of four kinds that never try again: any request that fails is a failure."""

from __future__ import annotations

import functools
import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from api_client import HOST, KIND, Answer, form, probabilities, read
from bundle_factory import TinyModel, photo

MODELS = {"one": TinyModel(1), "two": TinyModel(2)}
TOLERANCE = 1e-4


_PAUSE_S = 0.01  # leaves the machine some time for the switch itself


def of_tiny_models(release: str, data: bytes) -> dict[str, float]:
    """What the release of that name answers, by numpy."""
    return MODELS[release].answer(data)


class Load:
    """Runs ``each`` clients of every kind from entry to exit; then ``failures`` and ``answers`` tell."""

    def __init__(
        self,
        port: int,
        expect: Callable[[str, bytes], dict[str, float]],
        photos: list[bytes] | None = None,
        each: int = 1,
        idle_s: float = 0.3,
    ) -> None:
        self.failures: list[str] = []
        self.answers: Counter[tuple[str, str]] = Counter()
        self._port = port
        self._idle_s = idle_s
        self._photos = photos or [photo(seed) for seed in range(4)]
        self._expect = functools.cache(lambda release, number: expect(release, self._photos[number]))
        self._stop = threading.Event()
        kinds: dict[str, Callable[[str], None]] = {
            "fresh": self._fresh, "busy": self._busy, "idle": self._idle, "slow": self._slow,
        }  # fmt: skip
        self._threads = [
            threading.Thread(target=self._guard, args=(work, kind)) for kind, work in kinds.items() for _ in range(each)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def seen(self, kind: str) -> set[str]:
        """The releases that answered clients of a kind."""
        return {release for one, release in self.answers if one == kind}

    @property
    def total(self) -> int:
        return sum(self.answers.values())

    def _guard(self, work: Callable[[str], None], kind: str) -> None:
        try:
            while not self._stop.is_set():
                work(kind)
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.failures.append(f"{kind}: {type(error).__name__}: {error}")

    def _fresh(self, kind: str) -> None:
        for number in range(len(self._photos)):
            connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
            self._ask(connection, number)
            self._check(kind, number, read(connection))
            connection.close()
            self._stop.wait(_PAUSE_S)

    def _busy(self, kind: str) -> None:
        self._kept(kind, _PAUSE_S)

    def _idle(self, kind: str) -> None:
        self._kept(kind, self._idle_s)

    def _kept(self, kind: str, pause: float) -> None:
        """One connection until the server says that it closes it."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        for number in itertools.cycle(range(len(self._photos))):
            self._ask(connection, number)
            answer = read(connection)
            self._check(kind, number, answer)
            if self._stop.wait(pause) or answer.headers.get("connection") == "close":
                break
        connection.close()

    def _slow(self, kind: str) -> None:
        """An upload in ten pieces."""
        body = form(("file", "leaf.jpg", self._photos[0]))
        size = len(body) // 10 + 1
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        connection.putrequest("POST", "/predict?top=1000")
        connection.putheader("Content-Type", KIND)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        for start in range(0, len(body), size):
            connection.send(body[start : start + size])
            threading.Event().wait(self._idle_s / 10)
        self._check(kind, 0, read(connection))
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> None:
        body = form(("file", "leaf.jpg", self._photos[number]))
        connection.request("POST", "/predict?top=1000", body, {"Content-Type": KIND})

    def _check(self, kind: str, number: int, answer: Answer) -> None:
        assert answer.status == 200, f"{answer.status} {answer.body[:200]!r}"
        release = answer.headers["x-plantops-release"]
        expected, got = self._expect(release, number), probabilities(answer)
        assert got.keys() == expected.keys()
        worst = max(abs(got[name] - share) for name, share in expected.items())
        assert worst < TOLERANCE, f"release {release} answered {worst} off"
        assert answer.json["model_info"]["release"] == release
        self.answers[kind, release] += 1


def real_photos(count: int) -> list[bytes]:
    """Photos of the shared data set, where it lies beside the checkout; else an empty list."""
    folder = Path(__file__).parents[3] / "shared" / "data" / "plantvillage"
    return [path.read_bytes() for path in itertools.islice(sorted(folder.rglob("*.[jJ][pP][gG]")), 0, count * 40, 40)]
