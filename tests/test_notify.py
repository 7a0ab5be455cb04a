"""Letters to a real mail server and a real HTTP receiver, and hooks that are real programs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from api_client import free_port, until
from conftest import plantops, sh
from plantops import news, notify, store
from plantops.config import Config, load
from plantops.console import Console
from plantops.errors import SetupError
from plantops.gate import Finding, Verdict
from plantops.notify import letter, receivers, secrets
from plantops.notify.hook import check
from plantops.store import Release

pytestmark = pytest.mark.ci

NEWS = notify.News(
    "released", "20260301-120000-ab12", "leaves", "leaves: r-1 is in service", ("accuracy 0.912 (at least 0.70)",),
    "20260301-120000-ab12", "r-1", {"accuracy": 0.912}, {"api": "http://127.0.0.1:8000/docs"},
)  # fmt: skip
FAST = (0.0, 0.05, 0.05)


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent, and answers with ``answers`` in turn, the last of them for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers = [200]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(server.answers.pop(0) if len(server.answers) > 1 else server.answers[0])
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Mailbox:
    """What aiosmtpd asks of a handler: keep each message."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        self.got.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 taken"


@pytest.fixture
def mail() -> Iterator[tuple[int, Mailbox]]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port, box
    controller.stop()


def configured(root: Path, **sections: Any) -> Config:
    root.mkdir(exist_ok=True)
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "config.yaml").write_text(json.dumps({"project": "leaves", **sections}))
    return load(root)


def put(config: Config, told: notify.News = NEWS) -> None:
    """A letter on disk, as `post` puts it there, without its postman."""
    to = {one.id: letter.Delivery(one.label) for one in receivers.of(config, told.event)}
    letter.write(config.state, letter.Letter(told, to))


def states(config: Config) -> list[str]:
    return [to.state for one in letter.letters(config.state) for to in one.to.values()]


def signed(receiver: Receiver, root: Path) -> dict[str, Any]:
    (root / "secret").write_text("whsec_" + base64.b64encode(b"a secret of 24 bytes ...").decode() + "\n")
    return {"webhooks": [f"{receiver.url}/hook?a=1"], "webhook_secret": "${file:secret}"}


def test_a_mail_arrives_by_smtp_with_its_numbers(tmp_path: Path, mail: tuple[int, Mailbox]) -> None:
    port, box = mail
    url = f"mailto://127.0.0.1:{port}?from=plantops@localhost.test&to=grower@localhost.test&mode=insecure"
    config = configured(tmp_path, notify={"targets": [url]})
    put(config)
    assert len(list(notify.deliver(config, FAST))) == 1
    [(to, message)] = box.got
    assert to == ["grower@localhost.test"]
    assert message["Subject"] == NEWS.title
    text = message.get_body(("html", "plain")).get_content()
    assert "accuracy 0.912" in text
    assert "http://127.0.0.1:8000/docs" in text


def test_a_webhook_is_signed_and_says_what_happened(tmp_path: Path, receiver: Receiver) -> None:
    config = configured(tmp_path, notify=signed(receiver, tmp_path))
    put(config)
    list(notify.deliver(config, FAST))
    [(path, headers, body)] = receiver.got
    assert path == "/hook?a=1"
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b"a secret of 24 bytes ...", content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    said = json.loads(body)
    assert said["type"] == "released"
    assert said["data"]["release"] == "r-1"
    assert said["data"]["numbers"] == {"accuracy": 0.912}


def test_slack_is_sent_what_slack_documents(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks: text, or attachments with text."""
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"{receiver.url}/services")
    monkeypatch.setenv("SLACK", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/")
    config = configured(tmp_path, notify={"targets": ["${SLACK}"]})
    put(config)
    list(notify.deliver(config, FAST))
    [(path, headers, body)] = receiver.got
    assert path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert headers["content-type"].startswith("application/json")
    said = json.loads(body)
    [attachment] = said["attachments"]
    assert attachment["title"] == NEWS.title
    assert "accuracy 0.912" in attachment["text"]
    assert states(config) == [letter.SENT]


def test_one_event_is_told_once_however_often_plantops_starts(tmp_path: Path, receiver: Receiver) -> None:
    config = configured(tmp_path, notify=signed(receiver, tmp_path))
    for _ in range(2):
        notify.post(config, Console(), NEWS)
        assert until(lambda: states(config) == [letter.SENT], 30)
        list(notify.deliver(config, FAST))
    assert len(receiver.got) == 1


def test_what_fails_is_tried_again_under_the_same_id(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [503, 500, 204]
    config = configured(tmp_path, notify=signed(receiver, tmp_path))
    put(config)
    list(notify.deliver(config, FAST))
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3
    assert states(config) == [letter.SENT]


def test_what_could_not_be_sent_is_told_once_and_tried_at_the_next_run(
    tmp_path: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers = [403]
    config = configured(tmp_path, notify=signed(receiver, tmp_path))
    put(config)
    list(notify.deliver(config, FAST))
    assert states(config) == [letter.FAILED]
    receiver.answers = [200]
    notify.remind(config, Console())
    said = capsys.readouterr().out
    assert "not sent: leaves: r-1 is in service to webhook (notify.webhooks[0]): 403 Forbidden; trying again" in said
    assert until(lambda: states(config) == [letter.SENT], 30)
    notify.remind(config, Console())
    assert capsys.readouterr().out == ""


def test_what_a_dead_postman_was_sending_is_not_sent_twice(tmp_path: Path, receiver: Receiver) -> None:
    config = configured(tmp_path, notify=signed(receiver, tmp_path))
    put(config)
    [cut] = letter.letters(config.state)
    for to in cut.to.values():
        to.state = letter.SENDING
    letter.write(config.state, cut)
    assert list(notify.deliver(config, FAST)) == []
    assert receiver.got == []
    assert states(config) == [letter.ENDED]


def test_old_news_is_no_news(tmp_path: Path, receiver: Receiver) -> None:
    config = configured(tmp_path, notify=signed(receiver, tmp_path))
    put(config, notify.News("failed", "r", "leaves", "old", at="2020-01-01T00:00:00+00:00"))
    assert list(notify.deliver(config, FAST)) == []


def test_nothing_in_the_way_of_a_letter_reaches_the_run(tmp_path: Path, receiver: Receiver) -> None:
    config = configured(tmp_path, notify=signed(receiver, tmp_path))
    config.state.mkdir()
    (config.state / letter.FOLDER).write_text("a file where a folder should be")
    notify.post(config, Console(), NEWS)
    notify.remind(config, Console())
    assert (config.state / letter.FOLDER).is_file()


def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret/pass word")
    monkeypatch.setenv("WHOLE", "ntfy://x?y=z")
    assert secrets.revealed("mailto://me:${TOKEN}@host", tmp_path) == "mailto://me:s3cret%2Fpass%20word@host"
    assert secrets.revealed("${WHOLE}", tmp_path) == "ntfy://x?y=z"
    url = "http://127.0.0.1/services/T123456/abcdefgh"
    assert "abcdefgh" not in secrets.scrubbed("failed for /T123456/abcdefgh", url)
    dead = f"json://user:verysecret@127.0.0.1:{free_port()}/tokentoken"
    config = configured(tmp_path, notify={"targets": [dead, "${NOT_THERE}"]})
    put(config)
    shown = "\n".join([*notify.deliver(config, (0.0,)), *notify.listed(config)])
    assert "verysecret" not in shown
    assert "tokentoken" not in shown
    assert "NOT_THERE is not in the environment" in shown
    with pytest.raises(SetupError, match="signed"):
        configured(tmp_path, notify={"webhooks": ["http://127.0.0.1"], "webhook_secret": "plain"})


def test_a_target_without_a_scheme_is_spoken_of_by_its_place(tmp_path: Path) -> None:
    """Forgotten letters at its front make no secret of it public."""
    forgotten = "hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    config = configured(tmp_path, notify={"targets": [forgotten, "xoxb-hunter2"]})
    put(config)
    shown = "\n".join([*notify.deliver(config, (0.0,)), *notify.listed(config)])
    assert "notify.targets[1]: no address that apprise knows" in shown
    kept = "".join(file.read_text() for file in config.state.rglob("*") if file.is_file())
    for secret in ("TIiajkdnlazkcOXrIdevi7FQ", "hunter2"):
        assert secret not in shown + kept


def test_a_secret_is_scrubbed_as_an_address_has_it_and_as_it_is() -> None:
    said = secrets.scrubbed("login as me with s3cret/pass word failed", "mailto://me:s3cret%2Fpass%20word@host.example")
    assert said == "login as me with [redacted] failed"


def test_an_address_that_is_none_stops_no_other(tmp_path: Path, receiver: Receiver) -> None:
    config = configured(
        tmp_path, notify={**signed(receiver, tmp_path), "webhooks": ["http://[", f"{receiver.url}/hook"]}
    )
    put(config)
    list(notify.deliver(config, (0.0,)))
    assert sorted(states(config)) == [letter.FAILED, letter.SENT]
    assert len(receiver.got) == 1


def test_the_command_says_what_each_answered(tmp_path: Path, receiver: Receiver) -> None:
    target = receiver.url.replace("http", "json", 1)
    configured(tmp_path, notify={**signed(receiver, tmp_path), "targets": [target]})
    receiver.answers = [200, 401]
    done = plantops("notify", "--test", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "ok     json (notify.targets[0])" in done.stdout
    assert "wrong  webhook (notify.webhooks[0]): 401 Unauthorized" in done.stdout
    assert len(receiver.got) == 2


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_hook_gets_the_details_once(tmp_path: Path) -> None:
    program(tmp_path / "tell.sh", 'echo "$PLANTOPS_EVENT $PLANTOPS_RELEASE $PLANTOPS_ACCURACY" >> told; exit 3')
    config = configured(tmp_path, hooks={"released": "tell.sh"})
    put(config)
    list(notify.deliver(config, FAST))
    assert (tmp_path / "told").read_text() == "released r-1 0.9120\n"
    assert states(config) == [letter.ENDED]
    assert "ended with status 3" in "".join(notify.listed(config))


def test_a_hook_that_takes_too_long_goes_with_all_it_started(tmp_path: Path) -> None:
    program(tmp_path / "slow.sh", "trap '' INT; (echo $$ > pid; exec sleep 600) & sleep 600")
    config = configured(tmp_path, hooks={"released": "slow.sh", "limit_s": 1})
    put(config)
    [said] = notify.deliver(config, FAST)
    assert "did not end within 1 s" in said
    leader = int((tmp_path / "pid").read_text())
    lives = sh("ps", "-e", "-o", "pgid=,stat=", cwd=tmp_path).stdout.splitlines()
    assert [one for one in lives if one.split()[0] == str(leader) and "Z" not in one] == []


def test_hooks_that_others_may_change_are_refused(tmp_path: Path) -> None:
    hook = program(tmp_path / "hook.sh", "true")
    check(hook)
    hook.chmod(0o757)
    with pytest.raises(SetupError, match="everybody may change"):
        check(hook)
    hook.chmod(0o644)
    with pytest.raises(SetupError, match="no program"):
        check(hook)
    hook.chmod(0o755)
    tmp_path.chmod(0o777)
    with pytest.raises(SetupError, match="in the place of"):
        check(hook)
    tmp_path.chmod(0o700)
    with pytest.raises(SetupError, match="cannot be used"):
        check(tmp_path / "away.sh")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_hook_of_somebody_else_is_refused(tmp_path: Path) -> None:
    hook = program(tmp_path / "hook.sh", "true")
    os.chown(hook, 4242, -1)
    with pytest.raises(SetupError, match="neither ours nor root's"):
        check(hook)


def test_how_a_run_ended_is_told_with_the_comparison(tmp_path: Path) -> None:
    config = configured(tmp_path)
    against = "accuracy against r-0: 0.912 to 0.880 on 200 photos"
    verdict = Verdict(
        (
            Finding("accuracy", "passed", "accuracy 0.912", 0.912, 0.7),
            Finding("accuracy against the champion", "passed", against, 0.912, difference=0.032),
        ),
        against="r-0",
    )
    release = Release("r-1", "", "", "", True, None, None, None)
    told = news.ended(config, "run", store.RELEASED, release, verdict, "", "http://127.0.0.1:8000")
    assert told
    assert told.title == "leaves: r-1 is in service"
    assert told.numbers == {"accuracy": 0.912, "accuracy_difference": 0.032}
    assert against in told.text
    assert "drawn sample data" in told.text
    assert "http://127.0.0.1:8000/docs" in told.text
    refused = Verdict((Finding("accuracy", "failed", "accuracy 0.512 is below 0.70", 0.512, 0.7),))
    said = news.ended(config, "run", store.REFUSED, None, refused, "the gate did not accept", "")
    assert said
    assert "accuracy 0.512 is below 0.70" in said.text
    assert "less .plantops/logs/run.log" in said.text
    assert news.ended(config, "run", store.INTERRUPTED, None, None, "", "") is None


def test_of_a_failure_the_last_lines_are_told(tmp_path: Path) -> None:
    config = configured(tmp_path)
    error = "\n".join(
        ["stage train failed; its last lines:", *(f"    line {one}" for one in range(30)), "    no memory"]
    )
    told = news.ended(config, "run", store.FAILED, None, None, error, "")
    assert told
    assert told.lines == (
        "stage train failed; its last lines:", "… 28 more lines", "line 28", "line 29", "no memory",
        "less .plantops/logs/run.log",
    )  # fmt: skip


def test_what_is_no_text_is_told_as_text(tmp_path: Path) -> None:
    """Names of files in any encoding, and what a program said."""
    program(tmp_path / "tell.sh", 'echo "$PLANTOPS_TEXT" > told')
    config = configured(tmp_path, hooks={"failed": "tell.sh"})
    told = news.ended(config, "run", store.FAILED, None, None, "caf\udce9.jpg: \0no photo\x1b[0m", "")
    assert told
    put(config, told)
    list(notify.deliver(config, FAST))
    assert states(config) == [letter.SENT]
    assert (tmp_path / "told").read_text().startswith("caf?.jpg: no photo[0m\n")


def test_who_cannot_be_told_is_known_before(tmp_path: Path) -> None:
    config = configured(tmp_path, notify={"targets": ["${NOT_THERE}"]}, hooks={"failed": "away.sh"})
    said = {label: error.message for label, error in notify.hindered(config)}
    assert said["notify.targets[0]"] == "notify: NOT_THERE is not in the environment"
    assert "cannot be used" in said["away.sh (hooks.failed)"]
