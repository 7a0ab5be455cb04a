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
    """Deliver the letters that wait. It ends by itself where nothing moves any more."""
    import signal

    from plantops import notify as telling

    found, console = settings(config), Console()
    patience = 2 * telling.limit_s(found)
    signal.alarm(patience)
    for line in telling.deliver(found):
        signal.alarm(patience)
        console.say(line)
