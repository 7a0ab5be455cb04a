"""Where MLflow is, and its errors in our words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from plantops.errors import SetupError, StepFailed, redacted

SQLITE = "sqlite:///"
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
    # Files go through the server: the store behind it may have a name that it alone knows.
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
}


class Away(SetupError):
    """MLflow cannot be reached or written."""


def quieten() -> None:
    """Set the environment for mlflow; call before importing it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def resolve(uri: str, root: Path) -> str:
    """``uri`` with a relative SQLite path taken from the project's root. Raises SetupError for a folder."""
    if uri.startswith(SQLITE):
        return SQLITE + str(root.absolute() / uri.removeprefix(SQLITE))
    if ("://" not in uri and uri != "databricks") or uri.startswith("file:"):
        raise SetupError(
            f"mlflow.tracking_uri: {uri!r} is a folder, and MLflow no longer records into folders",
            "set mlflow.tracking_uri to sqlite:///mlruns/mlflow.db or to http://SERVER in config.yaml",
        )
    return uri


def is_server(uri: str) -> bool:
    """Whether MLflow runs elsewhere and looks after its artifacts itself."""
    return not uri.startswith(("sqlite:", "postgresql", "mysql", "mssql"))


def prepare(uri: str, artifacts: Path) -> None:
    """Make the folders that a database file and its artifacts need. Raises Away."""
    if not uri.startswith(SQLITE):
        return
    try:
        Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        artifacts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Away(f"MLflow's folder cannot be made: {error}", f"look at {artifacts.parent}") from None


def check_place(experiment: str, place: str | None, artifacts: Path) -> None:
    """MLflow keeps absolute paths: a project that was moved or copied would write into the old one's folder."""
    if place is not None and Path(urlsplit(place).path) != artifacts:
        raise SetupError(
            f"the MLflow experiment {experiment!r} keeps its files in {place}, which is not in this project "
            "(it was moved or copied; MLflow stores absolute paths)",
            "set another mlflow.experiment in config.yaml, or remove mlruns/ if its history is not needed here",
        )


@contextmanager
def speaking(uri: str) -> Iterator[None]:
    """Turn mlflow's errors into Away (it cannot be reached or written) or StepFailed (it refused what we said)."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        said = f"MLflow at {uri}: {_first_line(error)}"
        if error.get_http_status_code() < 500:
            raise StepFailed(said, "plantops doctor") from error
        raise Away(said, "plantops doctor") from error
    except (requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError, ImportError) as error:
        raise Away(f"MLflow at {uri}: {_first_line(error)}", "plantops doctor") from error


def _first_line(error: Exception) -> str:
    # Redacted before it is cut: half a password would not be known for one.
    return (redacted(str(error)).splitlines() or [type(error).__name__])[0][:300]
