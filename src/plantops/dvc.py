"""The few verbs we need of DVC, and its files read by meaning. No heavy import: DVC runs as a program."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plantops import process, yamltext
from plantops.config import CODE, LOCK, PARAMS, PIPELINE
from plantops.errors import MOVED, SetupError, StepFailed

_HASHES_S = 600  # what DVC has not hashed yet it hashes first
SKIP = {".git", ".dvc", ".plantops", ".venv", "venv", "node_modules", "__pycache__", "mlruns"}
_OWN = {"models/releases", "models/refused"}  # where nobody's data lies, and which may hold thousands of folders


def inputs(root: Path) -> dict[str, Any]:
    """What decides whether a run is needed, by meaning: file (relative to ``root``) -> parsed content.

    dvc.yaml, the params files it names, dvc.lock, and every ``.dvc`` file. A comment, the order of keys and line
    endings do not show. What cannot be parsed is ``{"unreadable": md5}``; what is away is left out.
    """
    found: dict[str, Any] = {}
    pipeline = _read(root / PIPELINE)
    for name in (PIPELINE, *params_files(pipeline), LOCK):
        value = _read(root / name)
        if value is not None:
            found[name] = value
    for path in dvc_files(root):
        value = _read(path)
        if value is not None or path.exists():
            found[path.relative_to(root).as_posix()] = _outs_only(value)
    return found


def parsed(text: str) -> Any:
    """YAML as :func:`inputs` gives it; ``{"unreadable": md5}`` when it cannot be understood."""
    return _parsed(text.encode())


def pipeline(root: Path) -> Any:
    """The parsed dvc.yaml."""
    return _read(root / PIPELINE)


def params_files(pipeline: Any) -> list[str]:
    """The files with values that a parsed dvc.yaml names (``params``, ``vars``), sorted; params.yaml is always one."""
    names = {PARAMS, *_vars_files(pipeline)}
    if pipeline is None or (isinstance(pipeline, dict) and "unreadable" in pipeline):
        names.add(CODE)  # which it names, as long as nobody says otherwise
    stages = pipeline.get("stages") if isinstance(pipeline, dict) else None
    for stage in stages.values() if isinstance(stages, dict) else ():
        stage = stage.get("do", stage) if isinstance(stage, dict) else None
        listed = stage.get("params") if isinstance(stage, dict) else None
        names.update(_vars_files(stage))
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict):
                names.update(str(name) for name in entry)
    return sorted(names)


def _vars_files(holder: Any) -> set[str]:
    """``vars: [file.yaml, other.yaml:key1,key2, {inline: 1}]`` of dvc.yaml or of one stage: the files."""
    listed = holder.get("vars") if isinstance(holder, dict) else None
    return {str(one).partition(":")[0] for one in (listed if isinstance(listed, list) else ()) if isinstance(one, str)}


def dvc_files(root: Path) -> Iterator[Path]:
    """Every ``.dvc`` file of the project; folders that one covers are not walked, nor other projects inside."""
    for folder, names in folders(root):
        yield from (folder / name for name in names)


def folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder of the project where a ``.dvc`` file may lie, with the names of those that do, sorted."""
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        files = {entry.name for entry in entries if entry.name.endswith(".dvc") and _is_file(entry)}
        yield folder, sorted(files)
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False) or entry.name in SKIP or f"{entry.name}.dvc" in files:
                continue
            if folder.parent == root and f"{folder.name}/{entry.name}" in _OWN:
                continue
            if not os.path.isdir(os.path.join(entry.path, ".dvc")):
                pending.append(Path(entry.path))


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a link to one; a link to itself is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def params(root: Path, section: str) -> dict[str, Any]:
    """One section of params.yaml; empty where there is none."""
    values = _read(root / PARAMS)
    found = values.get(section) if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def raw_folder(root: Path) -> Path:
    """The folder of photos, one sub-folder per class: ``prepare.raw`` of params.yaml. Raises SetupError."""
    raw = params(root, "prepare").get("raw")
    if not isinstance(raw, str):
        raise SetupError(f"{root / PARAMS} does not name the folder of photos (prepare.raw)", f"mend it in {PARAMS}")
    inside = (root / raw).resolve().is_relative_to(root.resolve())
    if not inside and Path(os.path.abspath(root / raw)).is_relative_to(root):
        raise SetupError(
            f"{raw} leads out of the project by a link, and DVC takes no photos through one",
            "put the folder itself there; its photos may lie on another disk (README: With real photos)",
        )
    if not inside:
        raise SetupError(f"prepare.raw in {PARAMS} lies outside the project: {raw}", f"mend it in {PARAMS}")
    return root / raw


def lock_entry(root: Path, stage: str) -> dict[str, Any] | None:
    """What dvc.lock holds of a stage, or None."""
    return lock_entries(_read(root / LOCK)).get(stage)


def lock_entries(lock: Any) -> dict[str, dict[str, Any]]:
    """A parsed dvc.lock, stage by stage."""
    stages = lock.get("stages") if isinstance(lock, dict) else None
    return {k: v for k, v in stages.items() if isinstance(v, dict)} if isinstance(stages, dict) else {}


def in_git(pipeline: Any) -> set[str]:
    """The outputs (``cache: false``) that a parsed dvc.yaml leaves to git."""
    stages = pipeline.get("stages") if isinstance(pipeline, dict) else None
    kinds = [stage.get(kind) for stage in (stages or {}).values() for kind in ("outs", "metrics", "plots")]
    options = [one for listed in kinds if isinstance(listed, list) for one in listed if isinstance(one, dict)]
    return {str(path) for one in options for path, said in one.items() if said and said.get("cache") is False}


def record_dependency(root: Path, stage: str, path: str, record: dict[str, Any]) -> None:
    """Have dvc.lock hold ``record`` (md5, size, nfiles) for a dependency of a stage. In one rename.

    Read and written by the library that DVC uses: PyYAML speaks YAML 1.1, where other values are numbers.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    lock = yaml.load(root / LOCK)
    for entry in lock["stages"][stage]["deps"]:
        if entry["path"] == path:
            entry.update(record)
    fresh = root / f".{LOCK}.new"
    yaml.dump(lock, fresh)
    fresh.replace(root / LOCK)


def filled(path: Path, template: str) -> str:
    """A YAML file with the keys of ``template`` that it lacks; values, order and comments stay as they are."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096  # no line is broken anew
    values, out = yaml.load(path), io.StringIO()
    _fill(values, yaml.load(template))
    yaml.dump(values, out)
    return out.getvalue()


def _fill(values: Any, template: Any) -> None:
    for key, value in template.items():
        if key not in values:
            values[key] = value
        elif isinstance(value, dict) and isinstance(values[key], dict):
            _fill(values[key], value)


def check(root: Path) -> None:
    """Raise SetupError when DVC cannot work here: not installed, not initialised, a broken dvc.yaml, other photos."""
    if shutil.which("dvc", path=process.environment()["PATH"]) is None:
        raise SetupError("DVC is not installed beside plantops", "pip install plantops (it brings DVC)")
    if not (root / ".dvc").is_dir():
        raise SetupError(f"{root} is no DVC project yet", "dvc init")
    pipeline = _read(root / PIPELINE)
    if not isinstance(pipeline, dict) or not isinstance(pipeline.get("stages"), dict):
        raise SetupError(
            f"{root / PIPELINE} is broken: {_yaml_error(root / PIPELINE)}", "dvc status, or git diff dvc.yaml"
        )
    raw = raw_folder(root).relative_to(root).as_posix()
    prepare = pipeline["stages"].get("prepare_data")
    if isinstance(prepare, dict) and raw not in [str(one) for one in prepare.get("deps") or []]:
        raise SetupError(
            f"{PARAMS} has prepare.raw: {raw}, and stage prepare_data in {PIPELINE} does not depend on it",
            f"name {raw} under the deps of prepare_data",
        )


def repro(
    root: Path, on_line: Callable[[str], None], env: Mapping[str, str], force: bool = False, only: str = ""
) -> None:
    """Run ``dvc repro``, of one stage alone when ``only`` names it.

    Raises StepFailed naming the stage and its last lines.
    """
    argv = ["dvc", "repro", *(["--force"] if force else []), *(["--single-item", only] if only else [])]
    stage = ""

    def watch(line: str) -> None:
        nonlocal stage
        running = re.match(r"Running stage '([^']+)'", line)
        stage = running[1] if running else stage
        on_line(line)

    try:
        _stream(argv, root, watch, env)
    except process.Failed as failed:
        raise _explain(stage, failed) from None


def would_run(root: Path, force: bool) -> list[str]:
    """The stages that :func:`repro` would run now, as far as that can be told beforehand. Raises StepFailed."""
    answer = process.capture(["dvc", "repro", "--dry", *(["--force"] if force else [])], root, _HASHES_S)
    found = re.findall(r"^Running stage '([^']+)'", answer.out, re.MULTILINE)
    if not (answer.ok or found):  # it gives up at a stage that wants what one before it has yet to make
        raise StepFailed(f"DVC does not say what it would run: {answer.err.strip()}", "dvc repro --dry")
    return found


def add(root: Path, paths: Iterable[Path], on_line: Callable[[str], None]) -> None:
    """``dvc add`` the given folders. Raises StepFailed with DVC's reason."""
    names = [str(path.relative_to(root)) for path in paths]
    try:
        _stream(["dvc", "add", *names], root, on_line)
    except process.Failed as failed:
        raise _explain("", failed, f"dvc add {shlex.join(names)}") from None


def _stream(argv: list[str], root: Path, on_line: Callable[[str], None], env: Mapping[str, str] | None = None) -> None:
    """Run DVC. Raises Failed also where it could not bring a file into its cache: it ends as if all were well then."""
    lost: list[str] = []

    def told(line: str) -> None:
        on_line(line)
        if line.startswith("ERROR: failed to transfer"):
            lost.append(line)

    process.stream(argv, root, told, env)
    if lost:
        raise process.Failed(argv, 0, lost)


def covered(path: Path) -> dict[str, Any] | None:
    """The first output of the ``.dvc`` file beside ``path`` (md5, size, nfiles), or None when there is none."""
    return first_out(_read(pointer(path)))


def first_out(value: Any) -> dict[str, Any] | None:
    """The first output of a parsed ``.dvc`` file, or None when there is none."""
    outs = value.get("outs") if isinstance(value, dict) else None
    first = outs[0] if isinstance(outs, list) and outs else None
    return first if isinstance(first, dict) and "path" in first else None


def pointer(path: Path) -> Path:
    """The ``.dvc`` file beside ``path``, there or not."""
    return path.parent / f"{path.name}.dvc"


def _explain(stage: str, failed: process.Failed, adding: str = "") -> StepFailed:
    tail = "\n".join(f"    {line}" for line in failed.tail)
    if any(said in line for line in failed.tail for said in ("Unable to acquire lock", "is being blocked by")):
        return StepFailed(f"another DVC command is working in this project:\n{tail}", "wait for it, then plantops run")
    if any("Unable to read RWLock-file" in line for line in failed.tail):
        return StepFailed(f"DVC cannot read its own locks:\n{tail}", "plantops doctor --fix")
    gone = re.search(r"No such file or directory: '(.+)'", tail)
    if adding and gone and not os.path.islink(gone[1]):  # an upload gave it another name
        return StepFailed(f"{MOVED}, by dvc add:\n{tail}", "run again when the copying is done")
    if adding:
        return StepFailed(f"dvc add failed:\n{tail}", adding)
    if stage:
        tail = tail.rpartition(f"    Running stage '{stage}':\n")[2]
        return StepFailed(f"stage {stage} failed; its last lines:\n{tail}", f"dvc repro {stage}")
    return StepFailed(f"dvc repro failed before any stage ran:\n{tail}", "dvc status")


def _read(path: Path) -> Any:
    """Parsed YAML or TOML; None when the file is away; ``{"unreadable": md5}`` when it cannot be understood."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except OSError as error:
        return {"unreadable": str(error.strerror)}
    return _parsed(data, path.suffix)


def _parsed(data: bytes, suffix: str = "") -> Any:
    if suffix == ".py":  # parameters, as DVC takes them: known by their bytes alone
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    try:
        if suffix == ".toml":
            return tomllib.loads(data.decode())
        return _text_keys(yamltext.read(data))
    except (ValueError, RecursionError):
        return {"unreadable": hashlib.md5(data, usedforsecurity=False).hexdigest()}


def _text_keys(value: Any) -> Any:
    """With every key as text, as JSON has them: YAML reads `on:` and `1:` as other things."""
    if isinstance(value, dict):
        return {str(key): _text_keys(one) for key, one in value.items()}
    return [_text_keys(one) for one in value] if isinstance(value, list) else value


def _yaml_error(path: Path) -> str:
    try:
        yamltext.read(path.read_bytes())
    except (OSError, yamltext.NotYaml) as error:
        return str(error)
    return "it holds no stages"


def _outs_only(value: Any) -> Any:
    """A ``.dvc`` file without what says nothing about the data (``desc``, ``meta``); unreadable where DVC takes none
    such, as an empty one."""
    outs = value.get("outs", []) if isinstance(value, dict) else None
    if not isinstance(outs, list) or not all(isinstance(one, dict) and "path" in one for one in outs):
        return {"unreadable": hashlib.md5(repr(value).encode(), usedforsecurity=False).hexdigest()}
    if "unreadable" in value:
        return value
    return {key: value[key] for key in ("outs", "deps", "cmd", "frozen", "wdir") if key in value}
