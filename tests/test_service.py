"""The systemd user unit: what is in it, whose it is, and what is said where systemd cannot be reached."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from plantops import service
from plantops.config import Config
from plantops.errors import SetupError

ODD = 'a "project" of 100 % \\ $HOME'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A project in a folder with an odd name; no session of systemd in reach."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / ODD
    root.mkdir()
    return Config(root, root / "config.yaml", project="leaf & stem")


def test_install_writes_it_says_what_to_type_and_uninstall_removes_it(config: Config) -> None:
    said = "\n".join(service.install(config))
    unit = service.path(config)
    assert unit.name == "plantops-leaf\\x20\\x26\\x20stem.service"
    assert f"written: {unit}" in said
    for words in ("daemon-reload", f"enable {unit.name}", f"restart {unit.name}", "enable-linger"):
        assert words in said
    assert f'ExecStart="{sys.executable}" -m plantops watch' in unit.read_text()
    assert "there already" in "\n".join(service.install(config))
    assert next(service.status(config)) == f"installed: {unit}"
    assert f"removed: {unit}" in "\n".join(service.uninstall(config))
    assert not unit.exists()
    assert "nothing to do" in "\n".join(service.uninstall(config))
    assert next(service.status(config)).startswith("not installed")


def test_a_unit_of_another_is_never_touched(config: Config) -> None:
    unit = service.path(config)
    unit.parent.mkdir(parents=True)
    for text, says in (
        ("[Unit]\n", "not written by plantops"),
        (f"{service._MARK}/other\n", "another project, /other"),
    ):
        unit.write_text(text)
        for act in (service.install, service.uninstall, service.status):
            with pytest.raises(SetupError, match=says):
                list(act(config))
        assert unit.read_text() == text


def test_a_path_that_no_unit_can_hold_is_refused(config: Config) -> None:
    with pytest.raises(SetupError, match="no such path"):
        service.text(Config(Path("/a\nb"), Path("/a\nb/config.yaml")))
    with pytest.raises(SetupError, match="no such path"):
        service.text(config, '/a"b/python')


def test_systemd_takes_it(config: Config, tmp_path: Path) -> None:
    """Odd paths included: systemd shows them as we meant them."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here (Debian package systemd)")
    python = tmp_path / "my pythons $HOME %h" / "python"
    python.parent.mkdir()
    os.symlink(sys.executable, python)
    assert verified(tmp_path, service.text(config, str(python))) == (0, "")
    status, said = verified(tmp_path, service.text(config, "/no such/python %h"))
    assert status != 0
    assert "/no such/python %h is not executable" in said, "it read the path as we meant it"


def test_other_settings_are_those_of_the_unit_too(config: Config, tmp_path: Path) -> None:
    """In one word whatever their name, as systemd itself reads it."""
    assert " --config" not in service.text(config)
    other = replace(config, file=config.root / "other 'one' \"of\" 5 %h $HOME \\.yaml")
    assert "another --config" in "\n".join([*service.install(config), *service.status(other)])
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here (Debian package systemd)")
    assert verified(tmp_path, service.text(other)) == (0, "")
    (command,) = (one for one in service.text(other).splitlines() if one.startswith("ExecStart="))
    word = command.partition(" --config ")[2]
    escapes = {"%%": "%", "$$": "$", '\\"': '"', "\\\\": "\\"}
    assert re.sub(r'%%|\$\$|\\["\\]', lambda found: escapes[found[0]], word[1:-1]) == str(other.file)


def verified(folder: Path, text: str) -> tuple[int, str]:
    """What `systemd-analyze verify` says of a user unit."""
    unit = folder / "plantops-odd.service"
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", unit],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stderr
