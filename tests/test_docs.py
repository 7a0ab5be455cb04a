"""What the README says exists, and what exists is in the README."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from conftest import ROOT, plantops, sh
from pages import PAGES
from plantops import __version__
from plantops.cli import app
from plantops.errors import EXIT_CODES
from plantops.examples import EXAMPLES

README = (ROOT / "README.md").read_text()
COMMANDS = {
    name: command for name, command in typer.main.get_command(app).commands.items() if not command.hidden  # type: ignore[attr-defined]
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented_and_helps(name: str) -> None:
    assert f"plantops {name}" in README
    assert COMMANDS[name].help
    for option in COMMANDS[name].params:
        assert getattr(option, "help", None) or option.param_type_name == "argument" or option.name == "interval"


def _leaves(command: Any, path: str = "") -> Iterator[str]:
    """The commands that do something, by path."""
    for name, one in getattr(command, "commands", {}).items():
        inside = f"{path} {name}".strip()
        if not one.hidden:
            yield from _leaves(one, inside) if hasattr(one, "commands") else [inside]


def test_every_command_has_examples_that_it_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaf.jpg").touch()
    (tmp_path / "photos").mkdir()
    assert set(EXAMPLES) == set(_leaves(typer.main.get_command(app)))
    for name, lines in EXAMPLES.items():
        for line in lines:
            first = re.split(r"[|>]", line)[0]
            program, *argv = shlex.split(first, comments=True)
            if program != "plantops":
                continue
            assert " ".join(argv).startswith(name)
            command: Any = typer.main.get_command(app)
            for part in name.split():
                command = command.commands[part]
            command.make_context(name, argv[len(name.split()) :])  # parses, runs nothing; unknown options raise


def test_help_ends_with_the_examples() -> None:
    for name in ("run", "service status"):
        said = plantops(*name.split(), "--help", cwd=ROOT).stdout
        assert said.rstrip().endswith(EXAMPLES[name][-1])


def test_a_clone_says_its_revision(tmp_path: Path) -> None:
    said = plantops("--version", cwd=tmp_path).stdout.strip()
    if (ROOT / ".git").exists():
        assert said.startswith(f"plantops {__version__} ({sh('git', 'rev-parse', 'HEAD', cwd=ROOT).stdout[:7]}")
    else:
        assert said == f"plantops {__version__}"


def test_bash_completes_commands_and_options() -> None:
    """By the script that `--show-completion` prints, in a real bash."""
    script = plantops("--show-completion", "bash", cwd=ROOT).stdout
    done = sh("bash", "-c", f"{script}\nCOMP_WORDS=(plantops run --skip); COMP_CWORD=2; _plantops_completion plantops; "
              'echo "${COMPREPLY[*]}"', cwd=ROOT)  # fmt: skip
    assert done.stdout.split() == ["--skip-dvc", "--skip-docker", "--skip-deploy"]


def test_every_documented_command_exists() -> None:
    named = set(re.findall(r"plantops ([a-z]+)", README)) - {"builds", "does", "notices", "is", "refuses"}
    assert named <= set(COMMANDS)


def test_every_flag_of_run_and_check_is_documented() -> None:
    for name in ("run", "check"):
        for option in COMMANDS[name].params:
            assert option.opts[0] in README, f"{name} {option.opts[0]}"


def test_every_exit_code_is_documented() -> None:
    said = README[README.index("Exit codes:") :]
    for number in EXIT_CODES:
        assert re.search(rf"\b{number}\b", said), number


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_pictures_are_small_and_each_is_shown() -> None:
    pictures = {path.name: path for path in (ROOT / "docs/pictures").iterdir()}
    sizes = {name: path.stat().st_size for name, path in pictures.items()}
    assert max(sizes.values()) < 150_000
    assert sum(sizes.values()) < 1_000_000
    pages = "".join(page.read_text() for page in PAGES)
    assert [name for name in pictures if f"pictures/{name})" not in pages] == []
    drawn = {name: path.read_text() for name, path in pictures.items() if name.endswith(".svg")}
    assert [name for name, text in drawn.items() if re.search(r"(?:url\(|href=)[\"']?http", text)] == []


@pytest.mark.parametrize(
    ("door", "command"),
    [("run_automated_pipeline", "run"), ("watch_and_trigger", "watch"), ("monitor_dvc_changes", "check")],
)
def test_the_guides_scripts_are_doors_of_five_lines(door: str, command: str) -> None:
    path = ROOT / "scripts" / f"{door}.py"
    assert len(path.read_text().splitlines()) == 5
    if not (ROOT / ".venv/bin/plantops").exists() and not shutil.which("plantops"):
        pytest.skip("plantops is installed neither in .venv nor on the PATH")
    assert f"plantops {command}" in sh(sys.executable, path, "--help", cwd=ROOT).stdout


def test_nothing_names_a_folder_that_only_we_have() -> None:
    for path in [*(ROOT / "src").rglob("*.py"), ROOT / "README.md", *(ROOT / "scripts").iterdir()]:
        assert "../shared" not in path.read_text()


def test_every_test_that_a_page_names_exists() -> None:
    named = [
        (page, *one) for page in PAGES for one in re.findall(r"`((?:\w+/)?test_\w+\.py)::(\w+)`", page.read_text())
    ]
    assert len(named) > 50
    for page, file, name in named:
        path = ROOT / "tests" / file
        assert path.is_file(), f"{page.name}: {file}"
        assert re.search(rf"^ *def {name}\(", path.read_text(), re.MULTILINE), f"{page.name}: {file}::{name}"
