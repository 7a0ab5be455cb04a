"""`plantops reproduce`: code, data and model of a release in a git worktree of its own, and trained again there."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plantops import artifacts, detect, dvc, git, process, recall, remote
from plantops.bundle import BadBundle, Bundle
from plantops.config import CODE, LOCK, Config
from plantops.console import Console
from plantops.errors import SetupError, StepFailed
from plantops.shelf import Shelf

_NEW = "new file, not in git: "  # as git.State.diff lists them
_WATCH = ("_s", "_ms", "seconds")  # how the names of numbers end that a clock gave
_CLOSE = 1e-6
_DIGESTS = (
    "import json; from pathlib import Path; from plantops import code, dvc;"
    "print(json.dumps(code.digests(dvc.pipeline(Path('.').resolve()))))"
)


@dataclass(frozen=True)
class Again:
    """A release that stands again in ``folder``; ``lacks``: in words, what is not as it was."""

    release: str
    folder: Path
    commit: str
    photos: int
    lacks: list[str] = field(default_factory=list)
    trained: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {**self.__dict__, "folder": str(self.folder)}


def reproduce(config: Config, console: Console, name: str, folder: Path | None, train: bool) -> Again:
    """Have a release stand again in ``folder`` (a new one beside the project by default), retrained with ``train``.

    The checkout stays as it is. Raises SetupError where the release, its commit or its photos are not to be had,
    StepFailed where the model that was trained again is another one.
    """
    shelf = Shelf(config.models)
    with recall.look(config) as store:
        found = store.release(name)
    if found is None:
        raise SetupError(f"no release, or more than one, begins with {name}", "plantops releases")
    facts, lineage = shelf.facts(found.id), shelf.lineage(found.id)
    if not (facts.get("commit") and lineage.get("inputs")):
        raise SetupError(f"the records of {found.id} are gone: {shelf.release(found.id)}", "plantops restore FILE")
    target = (folder or config.root.with_name(f"{config.root.name}-{found.id}")).resolve()
    root = _worktree(config.root, target, facts["commit"])
    try:
        lacks = list(_as_it_was(config.root, root, target, lineage, console))
        shutil.copytree(shelf.release(found.id), root / "models/releases" / found.id)
    except BaseException:  # also Ctrl-C and a full disk: half a worktree helps nobody
        process.capture(["git", "worktree", "remove", "--force", str(target)], config.root)
        raise
    photos = sum(int(one.get("nfiles") or 0) for one in map(_out, _data(root)))
    again = Again(found.id, root, facts["commit"], photos, lacks)
    return _trained(again, shelf.release(found.id), console) if train else again


def told(again: Again, console: Console) -> None:
    """What stands there, what is missing, and how it goes away."""
    console.say(f"{again.release} stands again in {again.folder}", "green")
    console.say(f"  commit   {again.commit[:12]}")
    console.say(f"  data     {again.photos:,} photos, as their .dvc files say")
    console.say(f"  model    models/releases/{again.release}")
    for one in again.lacks:
        console.say(f"  but      {one}", "yellow")
    if again.trained:
        said = "the same model, to the bit" if again.trained["same_model"] else "the same scores, of another model"
        console.say(f"  trained  again here: {said}", "green")
    else:
        console.say(f"  train    plantops reproduce {again.release} --train, or dvc repro --force there")
    console.say(f"  remove   git worktree remove --force {shlex.quote(str(again.folder))}", "grey")


def _worktree(root: Path, target: Path, commit: str) -> Path:
    """A worktree at a commit; returns the project in it. Raises SetupError."""
    if target.exists():
        raise SetupError(f"{target} is there already", "name another folder, or git worktree remove it")
    if target.is_relative_to(root):
        raise SetupError(f"{target} lies in the project", "name a folder outside of it")
    git.revision(root, commit)
    made = process.capture(["git", "worktree", "add", "--detach", str(target), commit], root, 600)
    if not made.ok:
        raise SetupError(f"git worktree add failed: {made.err.strip()}", "git worktree list")
    return target / root.resolve().relative_to(git.top(root))


def _as_it_was(checkout: Path, root: Path, top: Path, lineage: dict[str, Any], console: Console) -> Iterator[str]:
    """Uncommitted changes, dvc.lock, settings and photos of then; yields what could not be brought back."""
    yield from _apply(top, str(lineage.get("diff") or ""))
    (root / LOCK).write_text(str(lineage.get("dvc_lock") or ""), encoding="utf-8")
    (root / artifacts.FIELD).mkdir(parents=True, exist_ok=True)
    _share_cache(checkout, root)
    _bring(root, console)
    now = dvc.inputs(root)
    for one in detect.changes(detect.given(lineage["inputs"]), detect.given(now)):
        yield f"{one.file}: {one.what}, against when it was made"
    was, is_now = lineage["inputs"].get(CODE) or {}, _digests(root)
    if other := sorted(stage for stage in was if was[stage] != is_now.get(stage)):
        yield f"the training code that is installed is another than then, for {', '.join(other)}: install that plantops"


def _apply(top: Path, diff: str) -> Iterator[str]:
    """What was changed and not committed."""
    lines = diff.splitlines(keepends=True)
    for one in lines:
        if one.startswith(_NEW):
            yield f"{one.removeprefix(_NEW).strip()} was in no commit, and is not here"
    patch = "".join(one for one in lines if not one.startswith(_NEW))
    if not patch:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".diff", encoding="utf-8", errors="surrogateescape") as file:
        file.write(patch)
        file.flush()
        applied = process.capture(["git", "apply", "--whitespace=nowarn", file.name], top)
    if not applied.ok:
        yield f"what was not committed could not be applied: {applied.err.strip()} (it is in lineage.json)"


def _share_cache(checkout: Path, root: Path) -> None:
    """DVC's cache of the checkout, and its settings that git does not keep, serve here too."""
    local = checkout / ".dvc/config.local"
    if local.is_file():
        shutil.copyfile(local, root / ".dvc/config.local")
    said = process.capture(["dvc", "cache", "dir", "--local", str(remote.cache(checkout).resolve())], root)
    if not said.ok:
        raise StepFailed(f"DVC cannot work in {root}: {said.err.strip()}", "dvc doctor")


def _bring(root: Path, console: Console) -> None:
    """The photos by their .dvc files, from the cache or the remote. Raises SetupError where they are nowhere."""
    cache, names = remote.cache(root), [one.relative_to(root).as_posix() for one in _data(root)]
    lacking = [name for name in names if not remote.holds(cache, _out(root / name))]
    if lacking and remote.default(root):
        remote.fetch(root, lacking, console.log)
        lacking = [name for name in lacking if not remote.holds(cache, _out(root / name))]
    if lacking:
        said = f"the photos of {', '.join(lacking)} are neither in DVC's cache nor in its remote any more"
        raise SetupError(said, "whoever has them: dvc push")
    if names:
        remote.checkout(root, names, console.log)


def _data(root: Path) -> list[Path]:
    return list(dvc.dvc_files(root))


def _out(file: Path) -> dict[str, Any]:
    return dvc.covered(file.with_suffix("")) or {}


def _environment(root: Path) -> dict[str, str]:
    """In a worktree of a clone its own code is run."""
    return {"PYTHONPATH": str(root / "src")} if (root / "src/plantops").is_dir() else {}


def _digests(root: Path) -> dict[str, str]:
    answer = process.capture(["python", "-c", _DIGESTS], root, env=_environment(root))
    return dict(json.loads(answer.out)) if answer.ok else {}


def _trained(again: Again, release: Path, console: Console) -> Again:
    """All stages anew, and what came of them beside the release. Raises StepFailed when it is something else."""

    def on_line(line: str) -> None:
        if not console.relay(line):
            console.say(f"    {line}", "grey")

    dvc.repro(again.folder, on_line, _environment(again.folder), force=True)
    try:
        then, now = Bundle.load(release), Bundle.load(Shelf(again.folder / "models").candidate)
    except BadBundle as error:
        raise StepFailed(f"they cannot be compared: {error}", "plantops doctor") from None
    differing = _differing(then.manifest.metrics, now.manifest.metrics)
    if differing:
        listed = ", ".join(f"{key} {one} → {other}" for key, (one, other) in differing.items())
        why = "; ".join(again.lacks) or "another processor, or other versions of its libraries, round otherwise"
        raise StepFailed(f"trained again, and the scores of {again.release} are others: {listed} ({why})")
    same = then.manifest.model.get("sha256") == now.manifest.model.get("sha256")
    return Again(
        again.release, again.folder, again.commit, again.photos, again.lacks,
        {"same_model": same, "metrics": dict(now.manifest.metrics)},
    )  # fmt: skip


def _differing(then: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The scores that differ; what a clock gave is no score."""
    keys = [key for key in sorted(then.keys() | now.keys()) if not key.endswith(_WATCH)]
    return {key: (then.get(key), now.get(key)) for key in keys if not _same(then.get(key), now.get(key))}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return abs(one - other) <= _CLOSE
    return bool(one == other)
