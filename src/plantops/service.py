"""`plantops service`: watch as a systemd user unit, which starts with the login, or with the machine (linger)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from plantops import process, whole
from plantops.config import FILE, Config
from plantops.errors import SetupError
from plantops.lock import user

_MARK = "# Written by plantops service install, for "
_UNIT = """{mark}
# plantops service uninstall removes it; `systemctl --user edit {name}` adds to it.
[Unit]
Description=plantops watch in {folder}

[Service]
WorkingDirectory={folder}
ExecStart="{python}" -m plantops watch{config}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=30
TimeoutStopSec=90
# Only watch is stopped: the API that it started goes on serving.
KillMode=process

[Install]
WantedBy=default.target
"""


def name(config: Config) -> str:
    """The unit's name: of the project, with what systemd does not take escaped as it does it."""
    kept = "".join(one if one.isascii() and (one.isalnum() or one in ":_.-") else _hex(one) for one in config.project)
    return f"plantops-{kept}.service"


def path(config: Config) -> Path:
    """Where the unit lies."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "systemd" / "user" / name(config)


def text(config: Config, python: str = sys.executable) -> str:
    """The unit. Raises SetupError for a path that no unit can hold."""
    folder, file = str(config.root), str(config.file)
    for one, bad in ((folder, ""), (python, "\"'\\"), (file, "")):
        if not one.isprintable() or any(letter in bad for letter in one):
            raise SetupError(f"systemd takes no such path: {one!r}", "move it, or give it another name")
    folder, python = folder.replace("%", "%%"), python.replace("%", "%%")
    other = "" if config.file == config.root / FILE else f" --config {_argument(file)}"
    return _UNIT.format(mark=_MARK + str(config.root), name=name(config), folder=folder, python=python, config=other)


def _argument(text: str) -> str:
    """As systemd takes it for one word, and as it is: `man systemd.service`, "Command lines"."""
    for letter, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(letter, escaped)
    return f'"{text}"'


def install(config: Config) -> Iterator[str]:
    """Write the unit and start it; says what was done, and what is left to be typed.

    Raises SetupError when a file that is not ours lies there.
    """
    unit, new = path(config), text(config)
    old = _ours(config, unit)
    whole.write(unit, new)
    yield f"{'there already' if old == new else 'written'}: {unit}"
    commands = [["daemon-reload"], ["enable", unit.name], ["restart", unit.name]]
    yield from _all(config, commands, f"{unit.name} watches {config.root}")
    yield f"its log: journalctl --user -u {unit.name} -f; new settings: systemctl --user reload {unit.name}"
    yield from _linger(config)


def uninstall(config: Config) -> Iterator[str]:
    """Stop watching, and remove the unit. Raises SetupError when it is not ours."""
    unit = path(config)
    if _ours(config, unit) is None:
        yield f"there is no {unit}: nothing to do"
        return
    yield from _all(config, [["disable", "--now", unit.name]], f"{unit.name} is stopped")
    unit.unlink()
    yield f"removed: {unit}"
    yield from _all(config, [["daemon-reload"]], "")


def status(config: Config) -> Iterator[str]:
    """Whether the unit is there, and what systemd says of it."""
    unit = path(config)
    if _ours(config, unit) is None:
        yield "not installed: plantops service install"
        return
    yield f"installed: {unit}" + (
        "" if unit.read_text(encoding="utf-8") == text(config) else " (of another --config, or of an older plantops)"
    )
    answer = _systemctl(config, ["is-active", unit.name])
    yield f"systemd says: {answer.out.strip() or answer.err.strip()}"


def _ours(config: Config, unit: Path) -> str | None:
    """The unit's text; None when there is none. Raises SetupError when it is another's."""
    try:
        found = unit.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    first = found.partition("\n")[0]
    if first == _MARK + str(config.root):
        return found
    if first.startswith(_MARK):
        other = first.removeprefix(_MARK)
        raise SetupError(f"{unit} watches another project, {other}", "give this one another project: in config.yaml")
    raise SetupError(f"{unit} was not written by plantops", f"move it away, or look at it: less {unit}")


def _all(config: Config, commands: list[list[str]], done: str) -> Iterator[str]:
    """Have systemd do it; where it cannot be reached, say what to type."""
    for number, one in enumerate(commands):
        answer = _systemctl(config, one)
        if not answer.ok:
            said = (answer.err or answer.out).strip().splitlines()
            yield f"systemd did not do it ({said[0] if said else f'status {answer.status}'}); to be typed in a session:"
            yield from (f"  systemctl --user {' '.join(left)}" for left in commands[number:])
            return
    if done:
        yield done


def _systemctl(config: Config, words: list[str]) -> process.Answer:
    return process.capture(["systemctl", "--user", *words], config.root)


def _linger(config: Config) -> Iterator[str]:
    """Without it, systemd ends a user's units when the last session ends."""
    who = user()
    answer = process.capture(["loginctl", "show-user", who, "--property=Linger", "--value"], config.root)
    if answer.out.strip() != "yes":
        yield "it starts when you log in and ends when you log out; to have it start with the machine and go on:"
        yield f"  sudo loginctl enable-linger {who}"


def _hex(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
