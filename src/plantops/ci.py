"""`plantops ci`: a pipeline for GitHub or GitLab that reports each pull request and releases what is merged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from plantops import git, remote, whole
from plantops.config import Config
from plantops.errors import SetupError

Kind = Literal["github", "gitlab"]
HOSTED, OWN = "hosted", "self-hosted"
_PLACES = {"github": ".github/workflows/plantops.yml", "gitlab": ".gitlab-ci.yml"}
_PACKAGE = Path(__file__).parent
_MARK = re.compile(r" #: ([\w+-]+)$")
# By the scheme of the DVC remote: what pip installs for it, and the secrets that it reads from the environment.
_REMOTES: dict[str, tuple[str, tuple[str, ...]]] = {
    "s3": ("dvc-s3", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
    "gs": ("dvc-gs", ()),
    "azure": ("dvc-azure", ("AZURE_STORAGE_CONNECTION_STRING",)),
    "ssh": ("dvc-ssh", ()),
    "gdrive": ("dvc-gdrive", ("GDRIVE_CREDENTIALS_DATA",)),
}


def write(config: Config, kind: Kind, runner: str, force: bool) -> Iterator[str]:
    """Write the pipeline; says where, and what is left to be set.

    Raises SetupError where a file lies there (unless ``force``), or the project is no repository's top folder.
    """
    if git.top(config.root) != config.root.resolve():
        said = f"{config.root} is not the top folder of its git repository, and {kind} reads pipelines only there"
        raise SetupError(said, "keep the project in a repository of its own")
    target, stored = config.root / _PLACES[kind], remote.default(config.root)
    new = text(kind, runner, _scheme(stored), git.main_branch(config.root), _is_clone(config.root))
    if target.exists() and target.read_text(encoding="utf-8") == new:
        yield f"there already: {_PLACES[kind]}"
        return
    if target.exists() and not force:
        raise SetupError(f"{target} is there already", f"plantops ci {kind} --force replaces it")
    whole.write(target, new)
    yield f"written: {_PLACES[kind]}; next: git add {_PLACES[kind]} && git commit -m 'Report pull requests'"
    yield from _left(kind, runner, stored, _is_clone(config.root))


def text(kind: Kind, runner: str, scheme: str, branch: str, clone: bool) -> str:
    """The pipeline: of the template, the lines that hold here.

    A line ends with ``#: a+b`` where it is only for some: hosted or self-hosted runners, a clone of plantops or a
    project made by its wheel, and DVC remotes that want a package.
    """
    package, secrets = _REMOTES.get(scheme, ("", ()))
    holds = {runner, "clone" if clone else "wheel", *(["remote"] if package else [])}
    kept = []
    for line in (_PACKAGE / "pipelines" / f"{kind}.yml").read_text(encoding="utf-8").splitlines():
        mark = _MARK.search(line)
        if mark and not set(mark[1].split("+")) <= holds:
            continue
        if line == "@secrets@":
            kept += _environment(secrets) if runner == HOSTED else []
            continue
        kept.append(_MARK.sub("", line).replace("@branch@", branch).replace("@remote@", package).rstrip())
    return "\n".join(kept) + "\n"


def _environment(secrets: tuple[str, ...]) -> list[str]:
    lines = [f"      {name}: ${{{{ secrets.{name} }}}}" for name in secrets]
    return ["    env:", *lines] if lines else []


def _left(kind: Kind, runner: str, stored: remote.Remote | None, clone: bool) -> Iterator[str]:
    """What only a person can set."""
    where = {"github": "Settings > Secrets and variables > Actions", "gitlab": "Settings > CI/CD > Variables"}[kind]
    package, secrets = _REMOTES.get(_scheme(stored), ("", ()))
    if not clone:
        yield f"  set the variable PLANTOPS to 'plantops[train] @ ADDRESS': where pip finds the wheel ({where})"
    if runner == OWN:
        yield f"  set the variable PLANTOPS_HOME to the folder of the project that serves ({where})"
    if runner == OWN and kind == "github":
        yield "  in a public repository a stranger's pull request may bring a pipeline of its own, and run it there:"
        yield "  Settings > Actions > General: require approval for all external contributors (or keep it private)"
    if kind == "gitlab":
        yield f"  set PLANTOPS_GITLAB_TOKEN, masked: a project access token with scope api ({where})"
    if runner == HOSTED and secrets:
        yield f"  set {', '.join(secrets)} for the DVC remote ({where})"
    elif runner == HOSTED and package:
        yield f"  give the DVC remote {stored} its credentials in the pipeline (README: Working with others)"
    elif runner == HOSTED:
        yield "  it cannot bring the photos yet: they want a DVC remote that it can reach (dvc remote add -d NAME URL)"


def _scheme(stored: remote.Remote | None) -> str:
    scheme, sign, _ = stored.url.partition("://") if stored else ("", "", "")
    return scheme if sign else ""


def _is_clone(root: Path) -> bool:
    return (root / "scripts/setup").is_file() and (root / "src/plantops").is_dir()
