"""`plantops notify`, and what delivers its letters: the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from plantops.console import Console
from plantops.quick import ConfigFile, Json
from plantops.quick import config as settings


def notify(
    test: Annotated[bool, typer.Option("--test", help="Send one message to every target; call no hook.")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Say who is told of what, and what could not be sent. Exit with 1 when a test did not arrive."""
    from plantops import report

    report.notifications(settings(config), Console(), test, as_json)


def deliver(config: ConfigFile = None) -> None:
    """Deliver the letters that wait, within a bounded time."""
    import signal

    from plantops import notify as telling

    signal.alarm(telling.LIMIT_S)
    for line in telling.deliver(settings(config)):
        Console().say(line)
