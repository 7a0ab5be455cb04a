"""`plantops service`: its commands."""

from __future__ import annotations

import typer

from plantops.quick import Command, ConfigFile, Group, say_all
from plantops.quick import config as settings

service = typer.Typer(cls=Group, no_args_is_help=True, help="Watch as a systemd user unit.")


@service.command("install", cls=Command)
def service_install(config: ConfigFile = None) -> None:
    """Write the unit and start it. Never overwrites one that it did not write."""
    from plantops import service as systemd

    say_all(systemd.install(settings(config)))


@service.command("uninstall", cls=Command)
def service_uninstall(config: ConfigFile = None) -> None:
    """Stop watching and remove the unit."""
    from plantops import service as systemd

    say_all(systemd.uninstall(settings(config)))


@service.command("status", cls=Command)
def service_status(config: ConfigFile = None) -> None:
    """Whether the unit is there, and what systemd says of it."""
    from plantops import service as systemd

    say_all(systemd.status(settings(config)))
