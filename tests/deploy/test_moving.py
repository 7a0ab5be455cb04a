"""The way back from a backend that failed, where the engine of the new one is in trouble, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from plantops.deploy.moving import Moving
from plantops.errors import StepFailed


class Fake:
    """As much of a backend as the way back asks of one; what it is to fail at is named ``broken``."""

    def __init__(self, name: str, broken: str = "") -> None:
        self.name, self._broken, self.did = name, broken, list[str]()

    def down(self) -> list[str]:
        return self._do("down")

    def up(self, _: Path) -> None:
        self._do("up")

    def _do(self, what: str) -> list[str]:
        if what == self._broken:
            raise StepFailed(f"no engine to go {what}")
        self.did.append(what)
        return []


def test_the_old_one_comes_back_although_the_new_one_does_not_let_go() -> None:
    old, new = Fake("local"), Fake("compose", broken="down")
    with pytest.raises(StepFailed) as failed:
        Moving(old, new, Path()).back()  # type: ignore[arg-type]
    assert old.did == ["up"]
    assert failed.value.message == "compose could not be stopped: no engine to go down"


def test_what_failed_on_either_side_is_told() -> None:
    old, new = Fake("local", broken="up"), Fake("compose")
    with pytest.raises(StepFailed) as failed:
        Moving(old, new, Path()).back()  # type: ignore[arg-type]
    assert new.did == ["down"]
    assert failed.value.message == "local did not come back, nothing serves: no engine to go up"
