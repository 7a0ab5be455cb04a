"""What changed, and what that means. Pure: parsed inputs in, changes out (see ``dvc.inputs``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from plantops.config import CODE, LOCK, OWN_FILES, PARAMS, PIPELINE

Inputs = dict[str, Any]
ELSEWHERE = "was run elsewhere, or its record removed"
UNREADABLE = "cannot be read as YAML"
_AWAY = object()


@dataclass(frozen=True)
class Change:
    """One thing that changed: in which ``file``, ``what`` about it in words, and the ``stages`` it touches directly.

    ``serves``: it is only about how a release is served; no model is trained or judged for it.
    """

    file: str
    what: str
    stages: tuple[str, ...] = ()
    serves: bool = False


def fingerprint(inputs: Inputs) -> str:
    """sha256, hex, of the inputs by meaning."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def own_files(inputs: Inputs) -> Inputs:
    """The part of the inputs that a run writes itself; what it leaves there is no change."""
    return {name: inputs[name] for name in OWN_FILES if name in inputs}


def given(inputs: Inputs) -> Inputs:
    """The inputs without what a run writes itself."""
    return {name: value for name, value in inputs.items() if name not in OWN_FILES}


def changes(old: Inputs, new: Inputs) -> list[Change]:
    """What differs between two sets of inputs, in words; empty when they mean the same."""
    found: list[Change] = []
    for file in sorted(old.keys() | new.keys()):
        before, after = _plain(old.get(file)), _plain(new.get(file))
        if differ(before, after):
            found += _describe(file, before, after, new)
    return found


def differ(one: Any, other: Any) -> bool:
    """Whether two values are not the same; NaN is the same as itself here."""
    return bool(one != other) and json.dumps(one, default=str) != json.dumps(other, default=str)


def unreadable(inputs: Inputs) -> list[Change]:
    """The inputs that cannot be understood."""
    return changes({}, {name: one for name, one in inputs.items() if isinstance(one, dict) and "unreadable" in one})


def affected(stages: Iterable[str], pipeline: Any) -> list[str]:
    """The given stages and everything downstream of them, in the order of dvc.yaml."""
    all_stages = _stages(pipeline)
    hit = set(stages)
    grew = True
    while grew:
        grew = False
        outs = [path for name in hit for path in _outs(all_stages.get(name, {}))]
        for name, stage in all_stages.items():
            if name not in hit and any(_overlap(dep, out) for dep in _paths(stage.get("deps")) for out in outs):
                hit.add(name)
                grew = True
    return [name for name in all_stages if name in hit]


def plain_deps(pipeline: Any) -> list[tuple[str, str]]:
    """(stage, path) of every dependency that no stage makes."""
    stages = _stages(pipeline)
    made = [out for stage in stages.values() for out in _outs(stage)]
    return [
        (name, dep)
        for name, stage in stages.items()
        for dep in _paths(stage.get("deps"))
        if not any(_overlap(dep, out) for out in made)
    ]


def stage_names(pipeline: Any) -> list[str]:
    """The names of the stages of a parsed dvc.yaml."""
    return list(_stages(pipeline))


def _describe(file: str, old: Any, new: Any, inputs: Inputs) -> list[Change]:
    if isinstance(new, dict) and "unreadable" in new:
        return [Change(file, UNREADABLE, tuple(_stages(inputs.get(PIPELINE))))]
    if file == PIPELINE:
        return _pipeline_changes(old, new)
    if file == LOCK:
        return _lock_changes(old, new)
    if file.endswith(".dvc"):
        return [_data_change(file, old, new, inputs)]
    if file.endswith(".py"):
        return [Change(file, "changed", tuple(_users(file, "", inputs.get(PIPELINE))))]
    return _param_changes(file, old, new, inputs)


def _pipeline_changes(old: Any, new: Any) -> list[Change]:
    before, after = _stages(old), _stages(new)
    found = []
    for name in [*after, *(name for name in before if name not in after)]:
        if name not in after:
            found.append(Change(PIPELINE, f"stage {name} removed"))
        elif name not in before:
            found.append(Change(PIPELINE, f"stage {name} new", (name,)))
        elif before[name] != after[name]:
            keys = sorted(k for k in {*before[name], *after[name]} if before[name].get(k) != after[name].get(k))
            words = ["command" if key == "cmd" else key for key in keys]
            found.append(Change(PIPELINE, f"stage {name}: {', '.join(words)} changed", (name,)))
    return found or [Change(PIPELINE, "settings outside the stages changed", tuple(after))]


def _lock_changes(old: Any, new: Any) -> list[Change]:
    before, after = _stages(old), _stages(new)
    names = [name for name in {**after, **before} if before.get(name) != after.get(name)]
    if not names:
        return [Change(LOCK, "changed outside the stages")]
    return [Change(LOCK, f"stage {name} {ELSEWHERE}", (name,)) for name in names]


def _data_change(file: str, old: Any, new: Any, inputs: Inputs) -> Change:
    name = PurePosixPath(file).name.removesuffix(".dvc")
    stages = tuple(_readers(str(PurePosixPath(file).parent / name), inputs.get(PIPELINE)))
    if not new:
        return Change(file, f"{name} removed: {_count(old)} gone", stages)
    if not old:
        return Change(file, f"{name} new: {_count(new)}", stages)
    before, after = _count(old), _count(new)
    said = f"{before} → {after}" if before != after else f"other content, {after}"
    return Change(file, f"{name} changed: {said}", stages)


def _param_changes(file: str, old: Any, new: Any, inputs: Inputs) -> list[Change]:
    before, after = flatten(old or {}), flatten(new or {})
    found = []
    for key in sorted(before.keys() | after.keys()):
        if differ(before.get(key, _AWAY), after.get(key, _AWAY)):
            said = f"{_show(before, key)} → {_show(after, key)}"
            what = f"code of stage {key} changed" if file == CODE else f"{key} {said}"
            found.append(Change(file, what, tuple(_users(file, key, inputs.get(PIPELINE)))))
    return found or [Change(file, "changed")]


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as ``{"a.b": value}``; a list counts as one value."""
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix or "value": value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _readers(path: str, pipeline: Any) -> list[str]:
    """Stages that depend on ``path`` or on a folder above or below it."""
    return [
        name for name, stage in _stages(pipeline).items() if any(_overlap(d, path) for d in _paths(stage.get("deps")))
    ]


def _users(file: str, key: str, pipeline: Any) -> list[str]:
    """Stages whose params name ``key`` of ``file``, or a key above or below it."""
    found = []
    for name, stage in _stages(pipeline).items():
        listed = stage.get("params")
        for entry in listed if isinstance(listed, list) else ():
            named = entry if isinstance(entry, dict) else {PARAMS: [entry]}
            keys = named.get(file)
            keys = keys if isinstance(keys, list) else ()
            if file in named and (not keys or any(_under(key, str(one)) or _under(str(one), key) for one in keys)):
                found.append(name)
                break
    if not found and file not in (PARAMS, CODE):
        return list(_stages(pipeline))  # named under `vars`, which any stage may use
    return found


def _under(key: str, above: str) -> bool:
    return key == above or key.startswith(above + ".")


def _overlap(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def _stages(pipeline: Any) -> dict[str, dict[str, Any]]:
    """The stages by name; one written with ``foreach`` counts as one, with what its ``do`` says."""
    stages = pipeline.get("stages") if isinstance(pipeline, dict) else None
    named = {k: v for k, v in stages.items() if isinstance(v, dict)} if isinstance(stages, dict) else {}
    return {k: {**v, **v["do"]} if isinstance(v.get("do"), dict) else v for k, v in named.items()}


def _outs(stage: dict[str, Any]) -> list[str]:
    return [path for key in ("outs", "metrics", "plots") for path in _paths(stage.get(key))]


def _paths(entries: Any) -> list[str]:
    """Paths of deps or outs, which are strings or ``{path: options}``; of a template, the folder it lies in."""
    listed = entries if isinstance(entries, list) else []
    paths = [str(next(iter(one))) if isinstance(one, dict) else str(one) for one in listed]
    return [path if "${" not in path else path.partition("${")[0].rpartition("/")[0] or "." for path in paths]


def _count(dvc_file: Any) -> str:
    outs = dvc_file.get("outs") if isinstance(dvc_file, dict) else None
    out = outs[0] if isinstance(outs, list) and outs and isinstance(outs[0], dict) else {}
    return "1 file" if out and "nfiles" not in out else photos(out.get("nfiles", 0))


def photos(number: int) -> str:
    """So many, in words."""
    return f"{number} photo{'' if number == 1 else 's'}"


def _show(flat: dict[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False, default=str) if key in flat else "(none)"


def _plain(value: Any) -> Any:
    """As JSON would give it back, so that a stored and a fresh value compare equal."""
    return json.loads(json.dumps(value, default=str)) if value is not None else None
