"""What is installed beside the base: the extras of pyproject.toml, by the modules that each brings."""

from __future__ import annotations

from importlib.util import find_spec

from plantops.errors import SetupError

SERVE, RELEASE, TRAIN = "serve", "release", "train"
# Each holds the ones before it.
MODULES = {
    SERVE: ("fastapi", "fastapi_offline", "uvicorn", "httptools", "python_multipart", "onnxruntime"),
    RELEASE: ("mlflow", "onnx", "pyarrow"),
    TRAIN: ("torch", "torchvision", "lightning", "torchmetrics", "timm", "onnxscript", "matplotlib", "sklearn", "scipy",
            "jinja2"),
}  # fmt: skip
# What comes with them, and is imported by name.
_WITH = {"starlette": SERVE, "pydantic": SERVE, "sqlalchemy": RELEASE, "alembic": RELEASE}


def missing(extra: str) -> list[str]:
    """The modules of an extra, and of those that it holds, that are not installed."""
    names = list(MODULES)
    return [one for name in names[: names.index(extra) + 1] for one in MODULES[name] if find_spec(one) is None]


def need(extra: str, what: str) -> None:
    """Raise SetupError where ``what`` (how the sentence begins) lacks a part of plantops."""
    if lacks := missing(extra):
        raise _error(extra, f"{what} takes {', '.join(lacks[:3])}{' …' if lacks[3:] else ''}: not installed here")


def lacking(error: Exception) -> SetupError | None:
    """What to install, where an import failed for want of an extra; None when it is something else."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    module = (error.name or "").partition(".")[0]
    extra = _WITH.get(module) or next((extra for extra, names in MODULES.items() if module in names), "")
    return _error(extra, f"this takes {module}: not installed here") if extra else None


def command(extra: str) -> str:
    """What installs it."""
    return f"pip install 'plantops[{extra}]'"


def _error(extra: str, said: str) -> SetupError:
    return SetupError(said, command(extra))
