"""An API that asks for keys and has a name: deployed, tried with golden photos, watched and switched as any other."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_client import KIND, form, free_port, get, request, until
from bundle_factory import photo
from deploy.leftovers import left_over
from plantops.bundle import GOLDEN_TOLERANCE
from plantops.config import ApiConfig, DeployConfig, ServeConfig
from plantops.deploy.local import Local
from plantops.keys import hash_of, new_key

pytestmark = pytest.mark.ci

KEY = new_key()
ASKS = ApiConfig(keys=(hash_of(KEY),), hosts=("leaf.example.org",), cors=("https://site.example.org",))
BODY = form(("file", "leaf.jpg", photo(1)))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Local]:
    backend = Local(tmp_path, DeployConfig(port=free_port()), ServeConfig(threads=2), api=ASKS)
    yield backend
    backend.down()
    until(lambda: not left_over(tmp_path), what="everything ending")


def test_it_is_deployed_watched_and_switched(guarded: Local, releases: dict[str, Path]) -> None:
    for name in ("one", "two"):
        trial = guarded.start(releases[name])
        assert guarded.try_golden(trial) < GOLDEN_TOLERANCE
        guarded.switch(trial)
        guarded.watch(0.3)
        guarded.settle()
        assert guarded.agrees(releases[name])
    port = guarded.public.port
    for host, status in (("leaf.example.org", 200), ("evil.example", 421)):
        assert request(port, "GET", "/health", headers={"Host": host}).status == status
    assert request(port, "POST", "/predict", BODY, {"Content-Type": KIND}).status == 401
    assert request(port, "POST", "/predict", BODY, {"Content-Type": KIND, "X-API-Key": KEY}).status == 200
    assert get(port, "/metrics").status == 200
    access = guarded._folder / "access.log"
    until(lambda: f'"key":"{hash_of(KEY)[:8]}"' in access.read_text(), what="the line of the request")
    assert {json.loads(line)["path"] for line in access.read_text().splitlines()} >= {"/predict", "/health"}
    assert guarded.logs_argv("access", follow=False)[-1] == str(access)


def test_the_towers_own_key_is_nobody_elses(guarded: Local, releases: dict[str, Path], tmp_path: Path) -> None:
    guarded.start(releases["one"])
    kept = tmp_path / ".plantops/api.key"
    own = kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    said = [path.read_text(errors="replace") for path in guarded._folder.iterdir() if path.is_file()]
    commands = left_over(tmp_path)
    assert any(hash_of(own) in text for text in commands)
    assert not any(secret in text for text in (*said, *commands) for secret in (own, KEY))


def test_without_keys_the_tower_has_none(local: Local, releases: dict[str, Path]) -> None:
    local.start(releases["one"])
    assert not (local._root / ".plantops/api.key").exists()
