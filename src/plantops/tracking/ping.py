"""Whether MLflow is there: looked at within seconds, without importing mlflow."""

from __future__ import annotations

import base64
import configparser
import os
import socket
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

from plantops.errors import SetupError
from plantops.tracking.reach import SQLITE, Away, check_place, is_server

_PATIENCE = 3.0
_WITHOUT = "set mlflow.required: false"
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_PACKAGES = {"psycopg": "'psycopg[binary]'", "MySQLdb": "mysqlclient"}  # where the name is another one
_LIST = "/api/2.0/mlflow/experiments/search"
# With these mlflow asks a plugin to sign in; here it cannot be told whether that works.
_PLUGINS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")


def ping(uri: str, experiment: str, artifacts: Path) -> str:
    """Raise Away when MLflow at ``uri`` cannot be written, as far as can be told without writing into it.

    Returns what was seen: ``can be written``, ``answers``, or ``not looked at``.
    """
    if uri.startswith(SQLITE):
        _sqlite(Path(uri.removeprefix(SQLITE)), experiment, artifacts)
        return "can be written"
    if uri.startswith(("http://", "https://")):
        _server(uri)
        return "answers"
    return "not looked at" if is_server(uri) else _database(uri)


def _sqlite(path: Path, experiment: str, artifacts: Path) -> None:
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


def _artifact_place(database: sqlite3.Connection, experiment: str) -> str | None:
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return None
    found = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", [experiment]).fetchone()
    return str(found[0]) if found else None


def _database(uri: str) -> str:
    """Look for the driver, and for somebody at the database's port."""
    from sqlalchemy.engine import make_url  # mlflow reads the URI with it, too
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
        url.get_dialect().import_dbapi()
    except (ArgumentError, ValueError) as error:
        raise SetupError(f"mlflow.tracking_uri: {uri}: {error}", "mend it in config.yaml") from None
    except ImportError as error:
        package = _PACKAGES.get(str(error.name), error.name)
        raise Away(f"MLflow at {uri}: {error}", f"pip install {package}") from None
    if not url.host:  # a socket's file
        return "not looked at"
    try:
        with closing(socket.create_connection((url.host, url.port or _PORTS[url.get_backend_name()]), _PATIENCE)):
            return "answers"
    except OSError as error:
        raise Away(f"MLflow's database {uri} does not answer: {error}", f"start it, or {_WITHOUT}") from None


def _server(uri: str) -> None:
    """Ask the API for one experiment, signed in as mlflow does."""
    import requests

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a certificate that the user does not want to be looked at
            answer = requests.get(uri.rstrip("/") + _LIST, {"max_results": "1"}, timeout=_PATIENCE, **_identity())
    except (requests.RequestException, configparser.Error, OSError, ValueError) as error:
        raise Away(f"the MLflow server {uri} does not answer: {_cause(error)}", f"start it, or {_WITHOUT}") from None
    if answer.status_code in (401, 403):
        if any(name in os.environ for name in _PLUGINS):
            return
        raise Away(
            f"the MLflow server {uri} does not let us in: status {answer.status_code}",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )
    if answer.status_code != 200 or not answer.headers.get("Content-Type", "").startswith("application/json"):
        said = f"status {answer.status_code} for {_LIST}" if answer.status_code != 200 else "it speaks no JSON"
        raise Away(f"{uri} does not answer as an MLflow server: {said}", f"look at mlflow.tracking_uri, or {_WITHOUT}")


def _identity() -> dict[str, Any]:
    """What mlflow sends where the URI names no user (mlflow.utils.credentials): environment first, then its file."""
    file = configparser.ConfigParser()
    file.read(Path("~/.mlflow/credentials").expanduser())
    kept = dict(file["mlflow"]) if file.has_section("mlflow") else {}
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    user, password = (os.environ.get(one) or kept.get(one.lower()) for one in names)
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    basic = base64.b64encode(f"{user}:{password}".encode()).decode() if user and password else ""
    said = f"Basic {basic}" if basic else f"Bearer {token}" if token else ""
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    return {
        "headers": {"Authorization": said} if said else {},
        "verify": os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure,
        "cert": os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
    }


def _cause(error: BaseException) -> str:
    """The first of a chain of errors: libraries wrap what the system said."""
    while before := error.__cause__ or error.__context__:
        error = before
    return str(error)
