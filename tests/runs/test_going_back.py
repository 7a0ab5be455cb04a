"""A release that answers worse than the one before it goes back by itself, under load, and no request fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs import sent_back

pytestmark = [pytest.mark.ci, pytest.mark.timeout(400)]


@pytest.fixture
def lax(project: Path) -> Path:
    """A project in service, whose gate would let a constant answer through."""
    return sent_back.lax(project)


def test_a_constant_answer_is_sent_back_within_the_run_and_stays_away(lax: Path) -> None:
    sent_back.within_the_run(lax)


def test_watch_sends_back_what_the_run_had_no_time_to_see(lax: Path) -> None:
    sent_back.by_watch(lax)


def test_the_last_requests_are_asked_again_before_the_switch(lax: Path) -> None:
    sent_back.before_the_switch(lax)
