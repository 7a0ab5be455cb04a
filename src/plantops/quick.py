"""What commands share: Typer's classes, started without what Typer imports for options that nobody gave; options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from plantops.config import Config, find_root, load
from plantops.console import Console
from plantops.examples import EXAMPLES

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Another file than config.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]


class _Option(TyperOption):
    """An option that costs nothing when it is not given: Typer 0.29 imports pydantic then, 75 ms of each command."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        """The value, converted; without one only the callback is asked."""
        if value is not None or self.required:
            return super().process_value(ctx, value)
        return self.callback(ctx, self, None) if self.callback else None


def _light(options: list[Any]) -> list[Any]:
    for one in options:
        if type(one) is TyperOption:
            one.__class__ = _Option
    return options


class Command(TyperCommand):
    """A command of such options, whose help ends with examples."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments."""
        return _light(super().get_params(ctx))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, below the options."""
        examples = EXAMPLES.get(ctx.command_path.partition(" ")[2], [])
        if examples:
            with formatter.section("Examples"):
                for one in examples:
                    formatter.write(f"{'':{formatter.current_indent}}{one}\n")


class Group(TyperGroup):
    """A group of such commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options."""
        return _light(super().get_params(ctx))


def config(file: Path | None) -> Config:
    """The settings of the project that we are in. Raises SetupError."""
    return load(find_root(Path.cwd()), file.resolve() if file else None)


def say_all(lines: Iterable[str]) -> None:
    """Print them."""
    console = Console()
    for line in lines:
        console.say(line)
