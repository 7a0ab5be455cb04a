"""`plantops ci`: the command."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from plantops.quick import ConfigFile, say_all
from plantops.quick import config as settings


class Forge(StrEnum):
    """Where pull requests are made."""

    github = "github"
    gitlab = "gitlab"


class Runner(StrEnum):
    """Whose machine runs the pipeline."""

    hosted = "hosted"
    own = "self-hosted"


def ci(
    forge: Annotated[Forge, typer.Argument(help="Which one.")],
    runner: Annotated[Runner, typer.Option(help="Whose machines: theirs, or one of yours.")] = Runner.hosted,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    config: ConfigFile = None,
) -> None:
    """Write a pipeline: each pull request is trained, judged and reported, what is merged is released."""
    from plantops import ci as pipelines

    say_all(pipelines.write(settings(config), forge.value, runner.value, force))
