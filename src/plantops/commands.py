"""Typer's commands as ours are: cheap at the start, and with examples in their help."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

EXAMPLES = {
    "init": ["plantops init my-plants", "plantops init .   # around the photos that are here"],
    "run": ["plantops run", "plantops run --dry-run", 'plantops run --accept-anyway "field photos look right"'],
    "check": ["plantops check", "plantops check --deep --exit-code || plantops run"],
    "data": ["plantops data", "plantops data --json"],
    "watch": ["plantops watch", "plantops watch --once   # for cron"],
    "notify": ["plantops notify", "plantops notify --test"],
    "service install": ["plantops service install", "systemctl --user status 'plantops*'"],
    "service uninstall": ["plantops service uninstall"],
    "service status": ["plantops service status"],
    "status": ["plantops status", "plantops status --json | jq .in_service.id"],
    "releases": ["plantops releases", "plantops releases --json | jq -r '.[0].id'"],
    "gate": ["plantops gate", "plantops gate --against RELEASE --json"],
    "show": ["plantops show", "plantops show RELEASE --json"],
    "rollback": ["plantops rollback", "plantops rollback RELEASE   # plantops releases lists them"],
    "gc": ["plantops gc --dry-run", "plantops gc --keep 10 --dvc"],
    "backup": ["plantops backup", "plantops backup /other/disk/plants.tar"],
    "restore": ["plantops restore /other/disk/plants.tar", "plantops restore --force plants.tar"],
    "up": ["plantops up"],
    "down": ["plantops down"],
    "restart": ["plantops restart"],
    "logs": ["plantops logs -f", "plantops logs mlflow"],
    "doctor": ["plantops doctor", "plantops doctor --fix"],
    "key": ["plantops key"],
    "sample": ["plantops sample", "plantops sample --classes 4 --per-class 30 leaves"],
}


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
    """A command whose help ends with examples."""

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
    """Several commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options."""
        return _light(super().get_params(ctx))
