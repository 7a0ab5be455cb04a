"""Who is answering: the release, and the model in it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from plantops.bundle import BadBundle, Bundle

RELEASE = "release.json"


@dataclass(frozen=True)
class Identity:
    """For answers, ``/health`` and ``/metrics``."""

    release: str
    digest: str
    sample_data: bool
    created: str | None
    commit: str | None
    model_version: str | None
    mlflow_run: str | None


def identify(bundle: Bundle) -> Identity:
    """From ``release.json`` in the bundle's folder; without it the release is the digest's first 12 characters.

    Raises BadBundle when it is there and cannot be read.
    """
    try:
        written = json.loads((bundle.path / RELEASE).read_text())
        release, mlflow = str(written["release"]), written.get("mlflow") or {}
    except FileNotFoundError:
        written, mlflow, release = {}, {}, bundle.digest[:12]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadBundle(f"{bundle.path / RELEASE}: {type(error).__name__}: {error}") from None
    return Identity(
        release, bundle.digest, bundle.manifest.sample_data, written.get("created"), written.get("commit"),
        _text(mlflow.get("version")), _text(mlflow.get("run")),
    )  # fmt: skip


def _text(value: object) -> str | None:
    return None if value is None else str(value)
