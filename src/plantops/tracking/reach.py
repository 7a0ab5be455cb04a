"""Where MLflow is, whether it can be written, and its errors in our words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from plantops.errors import SetupError, StepFailed

_SQLITE = "sqlite:///"
_PATIENCE = 3.0
# No telemetry, no chatter, and no minutes of retrying a server that is away. What the user has set stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Away(SetupError):
    """MLflow cannot be reached or written."""


def quieten() -> None:
    """Set the environment for mlflow; call before importing it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def ui_environment() -> dict[str, str]:
    """Variables for the command of ``Tracker.ui_argv``: quiet, and without a second process for jobs."""
    return {**ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def resolve(uri: str, root: Path) -> str:
    """``uri`` with a relative SQLite path taken from the project's root. Raises SetupError for a folder."""
    if uri.startswith(_SQLITE):
        return _SQLITE + str(root.absolute() / uri.removeprefix(_SQLITE))
    if ("://" not in uri and uri != "databricks") or uri.startswith("file:"):
        raise SetupError(
            f"mlflow.tracking_uri: {uri!r} is a folder, and MLflow no longer records into folders",
            "set mlflow.tracking_uri to sqlite:///mlruns/mlflow.db or to http://SERVER in config.yaml",
        )
    return uri


def is_server(uri: str) -> bool:
    """Whether MLflow runs elsewhere and looks after its artifacts itself."""
    return not uri.startswith(("sqlite:", "postgresql", "mysql", "mssql"))


def shown(uri: str) -> str:
    """``uri`` without a password."""
    parts = urlsplit(uri)
    if not (parts.username or parts.password):
        return uri
    return urlunsplit(parts._replace(netloc=f"[redacted]@{parts.netloc.rpartition('@')[2]}"))


def ping(uri: str, experiment: str, artifacts: Path) -> None:
    """Raise Away within seconds when MLflow at ``uri`` cannot be written. Does not import mlflow."""
    if uri.startswith(_SQLITE):
        _ping_sqlite(Path(uri.removeprefix(_SQLITE)), experiment, artifacts)
    elif uri.startswith(("http://", "https://")):
        _ping_server(uri)


def _ping_sqlite(path: Path, experiment: str, artifacts: Path) -> None:
    for folder in (path.parent, artifacts):
        there = next(one for one in (folder, *folder.parents) if one.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise Away(f"MLflow's folder {folder} cannot be written", f"ls -ld {there}")
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            place = _artifact_place(database, experiment)
            database.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        raise Away(f"MLflow's database {path} cannot be written: {error}", f"look at {path.parent}") from None
    check_place(experiment, place, artifacts)


def prepare(uri: str, artifacts: Path) -> None:
    """Make the folders that a database file and its artifacts need. Raises Away."""
    if not uri.startswith(_SQLITE):
        return
    try:
        Path(uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        artifacts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Away(f"MLflow's folder cannot be made: {error}", f"look at {artifacts.parent}") from None


def _artifact_place(database: sqlite3.Connection, experiment: str) -> str | None:
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return None
    found = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", [experiment]).fetchone()
    return str(found[0]) if found else None


def check_place(experiment: str, place: str | None, artifacts: Path) -> None:
    """MLflow keeps absolute paths: a project that was moved or copied would write into the old one's folder."""
    if place is not None and Path(urlsplit(place).path) != artifacts:
        raise SetupError(
            f"the MLflow experiment {experiment!r} keeps its files in {place}, which is not in this project "
            "(it was moved or copied; MLflow stores absolute paths)",
            "set another mlflow.experiment in config.yaml, or remove mlruns/ if its history is not needed here",
        )


def _ping_server(uri: str) -> None:
    import ssl
    import urllib.error
    import urllib.request

    parts = urlsplit(uri)
    health = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + "/health", "", ""))
    try:
        with urllib.request.urlopen(health, timeout=_PATIENCE):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:  # somebody is there: a proxy that asks for a login, or hides /health
            return
        reason = f"status {error.code}"
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLError):  # mlflow has its own settings for certificates
            return
        reason = str(cause)
    raise Away(f"the MLflow server {shown(uri)} does not answer: {reason}", "start it, or set mlflow.required: false")


@contextmanager
def speaking(uri: str) -> Iterator[None]:
    """Turn mlflow's errors into Away (it cannot be reached or written) or StepFailed (it refused what we said)."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        said = f"MLflow at {shown(uri)}: {_first_line(error)}"
        if error.get_http_status_code() < 500:
            raise StepFailed(said, "plantops doctor") from error
        raise Away(said, "plantops doctor") from error
    except (requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        raise Away(f"MLflow at {shown(uri)}: {_first_line(error)}", "plantops doctor") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
