"""`plantops init`, `upgrade`, `uninstall`, `ci`, `reproduce`: the commands."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from plantops.console import Console
from plantops.quick import ConfigFile, Json, say_all
from plantops.quick import config as settings

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; made if missing.")] = Path(),
    photos: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Photos, one folder per class; copied unless they are in DIR.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the project, its image and in MLflow; after DIR.")] = None,
    yes: Yes = False,
) -> None:
    """Make a ready project (git, DVC, stages, config), around photos that are there. Never overwrites a file."""
    from plantops import beginning

    beginning.begin(folder, photos, name, Console(), lambda question: yes or agreed(question))


def agreed(question: str) -> bool:
    """Ask a person; nobody there to answer is no."""
    return sys.stdin is not None and sys.stdin.isatty() and typer.confirm(question)


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


def reproduce(
    release: Annotated[str, typer.Argument(help="Which one.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where; a new folder beside the project by default.")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train again there, and compare the scores.")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Have code, photos and model of a release stand again in a git worktree; the checkout stays as it is."""
    from plantops import again

    console = Console()
    done = again.reproduce(settings(config), Console(sys.stderr) if as_json else console, release, folder, train)
    if as_json:
        console.json(done.to_dict())
    else:
        again.told(done, console)


def upgrade(yes: Yes = False, config: ConfigFile = None) -> None:
    """Say what the installed version has that this project has not, and change what you say yes to."""
    from plantops import upgrade as newer

    newer.upgrade(settings(config), Console(), lambda question: yes or agreed(question))


def uninstall(
    models: Annotated[
        bool, typer.Option("--models", help="Models and the records of runs, too. Never photos, never git.")
    ] = False,
    yes: Yes = False,
    config: ConfigFile = None,
) -> None:
    """List service, containers, volumes, images and state of this project, ask, and remove them."""
    from plantops import uninstall as leaving

    leaving.uninstall(settings(config), Console(), models, lambda question: yes or agreed(question))
