"""What README and docs tell people to type: understood by the program it names, and run for real, or said why not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from dvc.cli.parser import get_main_parser

from conftest import ROOT
from pages import GUIDE, PAGES, README, block, blocks, code
from plantops.cli import app

_NO_COMMAND = {"plantops in eight bits"}  # the name of a row in a benchmark
_CHAINED = {"&&", "|", ";"}
# The first line of a block -> the test that runs it, all lines in order, as they stand in the page.
RUN = {
    "source .venv/bin/activate": "runs/test_pages.py",
    "cp -r /my/photos/NewClass": "runs/test_pages.py",
    "curl -X POST": "serve/test_snippets.py",
    "plantops predict photos/": "runs/test_pages.py",
    "plantops report ": "runs/test_pages.py",
    "plantops doctor": "runs/test_pages.py",
    "plantops backup": "runs/test_pages.py",
    "git commit -am": "runs/test_pages.py",
    "git clone ADDRESS": "runs/test_pages.py",
    "docker compose": "containers/test_runs.py",
}
NOT_RUN = {
    "scripts/demo": "installs gigabytes and trains for minutes; test_pages.py runs what it runs, with cheap stages",
    "dvc get https://github.com": "800 MB from a host elsewhere",
    "plantops uninstall": "asks; runs/test_upkeep.py and containers/test_uninstall.py answer",
    "python - <<'END'": "wants the leaf maps of PlantVillage; ml/test_split.py groups by such a file",
    "export PET_RDZV_ENDPOINT": "wants several machines; ml/test_several_processes.py has two network namespaces",
    "torchrun ": "the same",
    "docker swarm": "wants nodes; containers/test_swarm_nodes.py makes two in network namespaces",
    "docker login": "wants a registry's login; containers/test_registry.py has one",
    "kubectl config": "wants a cluster; deploy/test_kubernetes.py has an API server, and pods that are processes",
    "cp docker/server/env.example": "wants images from elsewhere; runs/test_shared_state_server.py runs its MLflow",
    "python benchmarks/": "minutes to hours on quiet cores; test_benchmarks.py starts each",
}
# Our programs with flags that they read themselves, and those whose verbs are few here.
VERBS = {
    "git": {"add", "commit", "clone", "push"},
    "docker": {"compose", "build", "swarm", "login"},
    "kubectl": {"config", "--context"},
}
PLAIN = {"cd", "cp", "export", "source"}


def commands(text: str) -> list[list[str]]:
    """The words of each command; comments, assignments before it and what stands after a redirection are left out."""
    text = re.sub(r"<<'(\w+)'\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for line in text.replace("\\\n", "").splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if word in _CHAINED or word == ">":
                found += [words] if words else []
                words = [">"] if word == ">" else []
            elif words or "=" not in word:
                words.append(word)
    return [words for words in found if words[0] != ">"]


def understand(words: list[str]) -> None:
    """Raise when the program does not take these words; run nothing."""
    program, *rest = words
    if program == "plantops":
        parsed(rest)
    elif program == "dvc":
        get_main_parser().parse_args(rest)
    elif program in VERBS:
        assert rest[0] in VERBS[program], words
    elif program == "curl":
        assert any("http://127.0.0.1:8000/" in word for word in rest), words
    elif program == "python":
        assert rest[0] == "-" or (ROOT / rest[0]).is_file(), words  # their flags: test_benchmarks.py
    elif program == "torchrun":
        module = rest[rest.index("-m") + 1]
        assert (ROOT / "src" / module.replace(".", "/")).with_suffix(".py").is_file(), words  # its flags: as above
    elif program.startswith("scripts/"):
        assert (ROOT / program).is_file(), words
    else:
        assert program in PLAIN, words


def parsed(words: list[str]) -> None:
    """By Typer: an unknown command, option or argument raises."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context("plantops", rest)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with what commands name that want it to exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    for text in blocks(page):
        for words in commands(text):
            understand(words)
    for text in code(page):
        if text.startswith("plantops ") and text not in _NO_COMMAND and (words := shown(text)):
            known(words)


def shown(text: str) -> list[str]:
    """A command in running text: without what it may leave out, and where words stand for values."""
    return [word for word in shlex.split(re.sub(r"\[[^\]]*\]|…", "", text), comments=True) if word.isascii()]


def known(words: list[str]) -> None:
    """Its command exists, and has the options that are named; values are placeholders there."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] == "COMMAND":
            return
        command = command.commands[rest.pop(0)]
    options = {name for one in command.params for name in one.opts} | {"--help", "-h", "--install-completion"}
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= options, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_named_beside_a_command_are_its_own(page: Path) -> None:
    """In a table's row: the commands of its first cell, and every option in the others."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if not (row := re.match(r"\| ((?:`plantops [^|]*)) \| (.*)\|$", line)):
            continue
        options = set()
        for text in re.findall(r"`(plantops [^`]+)`", row[1]):
            command: Any = typer.main.get_command(app)
            for word in shown(text)[1:]:
                command = getattr(command, "commands", {}).get(word, command)
            options |= {name for one in command.params for name in one.opts}
        assert set(re.findall(r"`(--[a-z-]+)", row[2])) <= options, line


def test_every_block_is_run_by_a_test_or_says_why_not() -> None:
    for page in PAGES:
        for text in blocks(page):
            covered = [first for first in [*RUN, *NOT_RUN] if text.startswith(first)]
            assert covered, f"{page.name}: no test runs the block that begins {text.splitlines()[0]!r}"
    assert all((ROOT / "tests" / name).is_file() for name in RUN.values())


def test_the_guide_in_french_types_what_the_readme_types() -> None:
    """First steps and daily workflow word by word, comments aside; and all else that both show."""
    for word in ("source .venv", "cp -r /my/photos/NewClass", "plantops backup"):
        assert commands(block(GUIDE, word)) == commands(block(README, word))
    english = [words for text in blocks(README) for words in commands(text)]
    french = [words for text in blocks(GUIDE) for words in commands(text)]
    assert all(words in english for words in french if words[0] != "plantops")


def test_a_command_that_does_not_exist_is_found() -> None:
    for wrong in (
        "plantops predikt x.jpg",
        "plantops run --fast",
        "dvc ad x",
        "cargo build",
        "python benchmarks/no.py",
    ):
        with pytest.raises((Exception, SystemExit)):
            understand(commands(wrong)[0])
