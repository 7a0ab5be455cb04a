"""`plantops history`, `show`, `diff`, `report`, `verify`: the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plantops.console import Console
from plantops.errors import SetupError
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


def report(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="For a comment; this is the default.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="One page that holds its plots.")] = False,
    against: Annotated[
        str | None, typer.Option(metavar="REV", help="A git revision, or a release; not the release in service.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to; printed without it.")] = None,
    config: ConfigFile = None,
) -> None:
    """Say what a change does: photos, scores, classes, parameters, and the gate's verdict. Changes nothing."""
    from plantops import review, whole

    if as_markdown and as_html:
        raise SetupError("--markdown or --html: not both", "plantops report --help")
    made = review.make(settings(config), against)
    text = made.html() if as_html else made.markdown()
    if output is None:
        print(text, end="")
    else:
        whole.write(output.resolve(), text)
        Console().say(f"written: {output}")


def verify(as_json: Json = False, config: ConfigFile = None) -> None:
    """Look whether API, image, MLflow and models/production are what the store says. Exit with 1 when not."""
    from plantops import audit

    audit.verified(settings(config), Console(), as_json)
