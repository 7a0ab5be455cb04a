"""The same on the Docker stack: a release that answers worse goes back by itself, under load, and no request fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from containers.projects import whole
from runs import sent_back

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]


@pytest.fixture
def lax(blank: Path) -> Path:
    """A project that serves by containers, whose gate would let a constant answer through."""
    return sent_back.lax(blank)


def test_a_constant_answer_is_sent_back_within_the_run_and_stays_away(lax: Path) -> None:
    good = whole(lax)
    sent_back.within_the_run(lax)
    assert whole(lax) == good


def test_watch_sends_back_what_the_run_had_no_time_to_see(lax: Path) -> None:
    good = whole(lax)
    sent_back.by_watch(lax)
    assert whole(lax) == good


def test_the_last_requests_are_asked_again_before_the_switch(lax: Path) -> None:
    good = whole(lax)
    sent_back.before_the_switch(lax)
    assert whole(lax) == good
