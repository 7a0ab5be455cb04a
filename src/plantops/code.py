"""The training code as an input: a digest per stage of the code it runs, by meaning, in training_code.yaml.

DVC takes each stage's digest as a parameter, so an edited ``train.py`` retrains and an edited comment does not,
in a clone and in a project made from the wheel alike.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from plantops.config import CODE

PACKAGE = Path(__file__).parent
FOREIGN = "foreign"
_HEAD = "# Digests of the training code, by meaning (comments do not count). Written by plantops; commit it.\n"
# What a stage prints with, and where it hears who started it, cannot change what it computes.
_SILENT = {"console", "errors", "process"}


def digests(pipeline: Any) -> dict[str, str]:
    """stage -> sha256 (first 16 hex) of its module and of all of plantops that it imports.

    A stage that runs other code than plantops' is ``foreign``: DVC watches that code where dvc.yaml names it.
    The letter before each digest keeps every YAML from reading one as a number.
    """
    _forget()
    found = {}
    for name, stage in ((pipeline or {}).get("stages") or {}).items():
        module = re.search(r"-m plantops\.([\w.]+)", str(stage.get("cmd", "")) if isinstance(stage, dict) else "")
        found[name] = f"c{_digest(module[1])}" if module else FOREIGN
    return found


def write(root: Path, pipeline: Any) -> bool:
    """Bring training_code.yaml up to date; says whether it changed. The file appears whole or not at all."""
    text = _HEAD + "".join(f"{name}: {digest}\n" for name, digest in digests(pipeline).items())
    path = root / CODE
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)
    return True


def serving_digest() -> str:
    """sha256 (first 16 hex) of the code that serves: ``serve/`` and what it imports, as installed."""
    _forget()
    pages = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in _pages()]
    return hashlib.sha256("\n".join([_combined(_serving()), *pages]).encode()).hexdigest()[:16]


def served_with(digest: str, settings: dict[str, Any]) -> str:
    """sha256 (first 16 hex) of the code that serves, by its digest, and of its settings."""
    return hashlib.sha256(f"{digest} {sorted(settings.items())}".encode()).hexdigest()[:16]


def _forget() -> None:
    """The code may have been edited since it was last read, while `plantops watch` runs for weeks."""
    _tree.cache_clear()
    _meaning.cache_clear()


def serving_files() -> list[Path]:
    """The files of the code that serves, relative to the package."""
    files = {path.relative_to(PACKAGE) for path in [*_pages(), *filter(None, map(_file, _serving()))]}
    packages = {folder / "__init__.py" for path in files for folder in path.parents}
    return sorted(files | packages)


def _pages() -> list[Path]:
    return sorted((PACKAGE / "serve").glob("*.html"))


def _serving() -> list[str]:
    return sorted({name for path in (PACKAGE / "serve").glob("*.py") for name in _closure(f"serve.{path.stem}")})


def _digest(module: str) -> str:
    return _combined(sorted(name for name in _closure(module) if name not in _SILENT))


def _combined(modules: list[str]) -> str:
    text = "\n".join(f"{name} {_meaning(name)}" for name in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _closure(module: str) -> set[str]:
    """The module and every plantops module it imports, directly or not."""
    seen: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in seen and _file(name):
            seen.add(name)
            pending += _imports(name)
    return seen


def _imports(module: str) -> list[str]:
    found = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "plantops":
            base = node.module.removeprefix("plantops").lstrip(".")
            found += [f"{base}.{one.name}".lstrip(".") for one in node.names]
            found += [base] if base else []
        elif isinstance(node, ast.Import):
            found += [one.name.removeprefix("plantops.") for one in node.names if one.name.startswith("plantops.")]
    return found


def _file(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split("."))
    for one in (path.with_suffix(".py"), path / "__init__.py"):
        if one.is_file():
            return one
    return None


@cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    assert path
    return ast.parse(path.read_bytes())


@cache
def _meaning(module: str) -> str:
    return hashlib.sha256(repr(_shape(_tree(module))).encode()).hexdigest()


def _shape(node: Any) -> Any:
    """A syntax tree as plain values, the same under every Python: no positions, no docstrings, nothing empty."""
    if isinstance(node, list):
        return [_shape(one) for one in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, []) and name != "kind"}
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    return (type(node).__name__, [(name, _shape(value)) for name, value in sorted(fields.items())])
