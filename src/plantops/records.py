"""`plantops history`, `show`, `diff`, `verify`: the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from plantops.console import Console
from plantops.quick import ConfigFile, Json
from plantops.quick import config as settings


def history(
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many runs.", min=1)] = 20,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """List the runs, newest first: when, by whom, how they ended, seconds per step."""
    from plantops import audit

    audit.history(settings(config), Console(), limit, as_json)


def show(
    name: Annotated[
        str | None, typer.Argument(metavar="RELEASE|RUN", help="Which one; the release in service by default.")
    ] = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Say all that is on record of a release or a run, and where its reports are."""
    from plantops import audit

    audit.show(settings(config), Console(), name, as_json)


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A release.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Compare two releases: photos per class, parameters, scores, verdict."""
    from plantops import audit

    audit.diff(settings(config), Console(), one, other, as_json)


def verify(as_json: Json = False, config: ConfigFile = None) -> None:
    """Look whether API, image, MLflow and models/production are what the store says. Exit with 1 when not."""
    from plantops import audit

    audit.verified(settings(config), Console(), as_json)
