"""Whether MLflow is there: real servers on loopback, and what mlflow itself sends to them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api_client import free_port
from conftest import plantops
from plantops.config import MlflowConfig
from plantops.tracking import Away, Tracker

LIST = "/api/2.0/mlflow/experiments/search?max_results=1"


class Server(ThreadingHTTPServer):
    """Answers all requests alike, and remembers what was asked and by whom."""

    def __init__(self, status: int, kind: str = "application/json", body: bytes = b"{}") -> None:
        self.answer, self.asked = (status, kind, body), []
        super().__init__(("127.0.0.1", 0), Handler)

    def uri(self, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, kind, body = self.server.answer
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(*answer: object) -> Iterator[Server]:
    with Server(*answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def tracker(uri: str, root: Path) -> Tracker:
    return Tracker(root, MlflowConfig(tracking_uri=uri))


def away(uri: str, root: Path) -> Away:
    with pytest.raises(Away) as caught:
        tracker(uri, root).ping()
    assert "s3cret" not in str(caught.value) + caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401,), "does not let us in: status 401"),
        ((403,), "does not let us in: status 403"),
        ((404,), f"does not answer as an MLflow server: status 404 for {LIST.partition('?')[0]}"),
        ((503,), "does not answer as an MLflow server: status 503"),
        ((200, "text/html", b"<p>Please log in"), "does not answer as an MLflow server: it speaks no JSON"),
    ],
)
def test_who_is_no_mlflow_or_does_not_let_us_in(tmp_path: Path, answer: tuple, says: str) -> None:
    with serving(*answer) as server:
        error = away(server.uri("bob:s3cret@"), tmp_path)
        assert says in error.message
        assert f"http://[redacted]@127.0.0.1:{server.server_port}" in error.message
        assert error.hint
        assert [path for path, _ in server.asked] == [LIST]


TOKEN, USER, PASSWORD = "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"


@pytest.mark.parametrize(
    ("user", "environment", "file"),
    [
        ("", {}, ""),
        ("bob:s3%40cret@", {}, ""),
        ("", {USER: "bob", PASSWORD: "s3cret"}, ""),
        ("", {USER: "bob"}, ""),
        ("", {TOKEN: "s3cret"}, ""),
        ("", {TOKEN: "t0ken", USER: "bob", PASSWORD: "s3crét"}, ""),
        ("bob:s3cret@", {TOKEN: "t0ken"}, ""),
        ("", {}, f"[mlflow]\n{USER.lower()} = bob\n{PASSWORD.lower()} = 100%%\n"),
        ("", {USER: "ann"}, f"[mlflow]\n{USER.lower()} = bob\n{PASSWORD.lower()} = s3cret\n"),
    ],
)
def test_it_signs_in_as_mlflow_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, environment: dict[str, str], file: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow/credentials").write_text(file)
    with serving(200) as server:
        assert tracker(server.uri(user), tmp_path).ping() == "answers"
        assert tracker(server.uri(user), tmp_path).aliases() == {}
        ours, theirs = (who for _, who in server.asked)
    assert ours == theirs
    assert bool(ours) == bool(user or file or len(environment) > (USER in environment))


def test_a_sign_in_that_only_a_plugin_can_do_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "some-plugin")
    with serving(401) as server:
        assert tracker(server.uri(), tmp_path).ping() == "answers"


def test_a_database_is_asked_for_at_its_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "psycopg2.py").touch()  # a driver is there; nothing is said to the database
    uri = f"postgresql+psycopg2://bob:s3cret@127.0.0.1:{free_port()}/mlflow"
    error = away(uri, tmp_path)
    assert "refused" in error.message
    assert "mlflow.required: false" in error.hint
    with closing(socket.create_server(("127.0.0.1", 0))) as database:
        uri = f"postgresql+psycopg2://bob:s3cret@127.0.0.1:{database.getsockname()[1]}/mlflow"
        assert tracker(uri, tmp_path).ping() == "answers"
    assert tracker("postgresql+psycopg2:///mlflow?host=/run", tmp_path).ping() == "not looked at"


def test_a_database_without_its_driver(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    error = away("mysql+pymysql://bob:s3cret@127.0.0.1/mlflow", tmp_path)
    assert "No module named 'pymysql'" in error.message
    assert error.hint == "pip install pymysql"
    with pytest.raises(Away, match="No module named"):
        tracker("mysql+pymysql://bob:s3cret@127.0.0.1/mlflow", tmp_path).begin("run-1", {}, {})


def test_what_mlflow_says_itself_holds_no_password(tmp_path: Path) -> None:
    with pytest.raises(Away) as caught:
        tracker(f"http://bob:s3cret@127.0.0.1:{free_port()}", tmp_path).aliases()
    assert "API request to http://[redacted]@127.0.0.1" in caught.value.message
    assert "s3cret" not in str(caught.value)


@pytest.mark.ci
def test_doctor_claims_no_more_than_was_seen(project: Path) -> None:
    with serving(200) as server:
        text = (project / "config.yaml").read_text()
        uri = server.uri("bob:s3cret@")
        (project / "config.yaml").write_text(
            text.replace("tracking_uri: sqlite:///mlruns/mlflow.db", f"tracking_uri: {uri}")
        )
        found = json.loads(plantops("doctor", "--json", cwd=project, check=False).stdout)
    said = [(one["state"], one["says"]) for one in found if one["what"] == "mlflow"]
    assert said == [("ok", f"answers: {server.uri('[redacted]@')}")]
