"""`plantops inbox`: photos become photos of a class, over no other; and its page answers nobody else."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from api_client import HOST, Answer, read, until
from bundle_factory import photo
from conftest import plantops, sh
from plantops import config, kept
from plantops.errors import SetupError
from plantops.inbox.box import Inbox
from plantops.inbox.server import Server
from plantops.photo import DRAWN
from plantops.serve.keeper import Keeper

pytestmark = pytest.mark.ci

RAW = Path("data/raw/PlantVillage")
CLASS, OTHER = "Pepper,_bell___healthy", "Potato___Late_blight"


@pytest.fixture
def full(project: Path) -> Path:
    """A project with three photos in its inbox, and what people say of one."""
    keep = Keeper(project / ".plantops/feedback", 10, 10**7)
    for number in range(3):
        scores = [{"class": CLASS, "confidence": 0.4}, {"class": OTHER, "confidence": 0.3}]
        answer = {"prediction": CLASS, "confidence": 0.4, "unsure": True, "unlike": None, "top5_predictions": scores}
        keep.photo(f"r{number}", photo(number), "JPEG", answer)
    keep.opinion({"request_id": "r1", "class": "Vine___Esca"})
    return project


@pytest.fixture
def box(full: Path) -> Inbox:
    return Inbox(config.load(full))


def test_the_list_says_what_waits(full: Path) -> None:
    listed = json.loads(plantops("inbox", "--list", "--json", cwd=full).stdout)
    assert [one["id"] for one in listed] == ["r0", "r1", "r2"]
    assert [one["feedback"] for one in listed] == [[], ["Vine___Esca"], []]
    assert "people say: Vine___Esca" in plantops("inbox", "--list", cwd=full).stdout


def test_an_empty_inbox_says_whether_photos_are_kept(project: Path) -> None:
    assert "serve.keep in config.yaml is off" in plantops("inbox", cwd=project).stdout


def test_a_label_makes_a_file_over_no_other(box: Inbox, full: Path) -> None:
    taken = full / RAW / CLASS / "inbox-r0.jpg"
    taken.write_bytes(b"somebody's")
    made = box.label("r0", CLASS)
    assert made.name == "inbox-r0.1.jpg"
    assert made.read_bytes() == photo(0)
    assert taken.read_bytes() == b"somebody's"
    assert not list((full / RAW / CLASS).glob(".*"))
    assert [one.photo.id for one in box.waiting()] == ["r1", "r2"]


def test_decisions_can_be_undone_until_the_end(box: Inbox) -> None:
    made = box.label("r0", CLASS)
    box.reject("r1")
    assert (box.undo(), box.undo()) == ("r1", "r0")
    assert not made.exists()
    assert [one.photo.id for one in box.waiting()] == ["r0", "r1", "r2"]
    assert box.waiting()[0].photo.answer["prediction"] == CLASS
    with pytest.raises(SetupError, match="nothing to undo"):
        box.undo()
    box.label("r0", "Vine___Esca")
    box.undo()
    assert "Vine___Esca" not in box.classes()
    box.reject("r1")
    assert box.close() == []
    assert not list(box.folder.rglob("r1.*"))


@pytest.mark.parametrize("title", ["../x", "", ".git", "a/b", "x.dvc", kept.NOT_A_LEAF, "pepper,_bell___HEALTHY"])
def test_a_class_needs_a_safe_name_of_its_own(box: Inbox, title: str) -> None:
    with pytest.raises(SetupError):
        box.label("r0", title)
    assert len(box.waiting()) == 3


@pytest.mark.parametrize("name", ["r9", "../r0", "", "r0.jpg"])
def test_only_what_waits_can_be_decided(box: Inbox, name: str) -> None:
    with pytest.raises(SetupError, match="not in the inbox"):
        box.label(name, CLASS)
    with pytest.raises(SetupError, match="not in the inbox"):
        box.reject(name)


def test_a_class_whose_photos_are_away_takes_no_new_one(box: Inbox, full: Path) -> None:
    for one in (full / RAW / CLASS).iterdir():
        one.unlink()
    with pytest.raises(SetupError, match="3 of its photos are not here") as caught:
        box.label("r0", CLASS)
    assert caught.value.hint.startswith("dvc checkout")


def test_drawn_leaves_and_photos_are_never_mixed(box: Inbox, full: Path) -> None:
    drawn = bytearray(photo(7))
    drawn[2:2] = b"\xff\xfe" + (len(DRAWN) + 2).to_bytes(2, "big") + DRAWN  # a JPEG comment
    Keeper(box.folder, 10, 10**7).photo("drawn", bytes(drawn), "JPEG", {})
    with pytest.raises(SetupError, match="never mixed"):
        box.label("drawn", CLASS)
    (full / RAW / "DRAWN_SAMPLES.txt").touch()
    with pytest.raises(SetupError, match="never mixed"):
        box.label("r0", CLASS)


class Browser:
    """Speaks to the page as a browser would."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""

    def ask(self, path: str, said: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        sent = {"Host": f"{HOST}:{self.port}", **({"Cookie": self.cookie} if self.cookie else {})}
        if said is not None:
            sent["Origin"] = f"http://{HOST}:{self.port}"
        connection.request(
            "GET" if said is None else "POST", path, None if said is None else json.dumps(said), {**sent, **headers}
        )
        try:
            return read(connection)
        finally:
            connection.close()

    def enter(self, token: str) -> Answer:
        answer = self.ask(f"/?token={token}")
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        return answer


@pytest.fixture
def server(box: Inbox) -> Iterator[Server]:
    made = Server(box)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.session.finish()
    thread.join(10)


def test_the_token_works_once_and_nothing_without_it(server: Server) -> None:
    token, first = server.session.token, Browser(server.server_port)
    for path in ("/", "/list", "/photo/r0", "/?token=wrong"):
        assert first.ask(path).status == 403
    assert first.ask("/reject", {"id": "r0"}).status == 403
    assert first.enter(token).status == 303
    assert "HttpOnly; SameSite=Strict" in first.ask("/").headers.get("set-cookie", "HttpOnly; SameSite=Strict")
    assert first.ask("/").status == 200
    assert Browser(server.server_port).enter(token).status == 403


def test_other_hosts_and_pages_are_refused(server: Server, box: Inbox) -> None:
    browser = Browser(server.server_port)
    browser.enter(server.session.token)
    for host in ("evil.example", f"evil.example:{server.server_port}", "", f"{HOST}:1"):
        assert browser.ask("/list", Host=host).status == 421
        assert browser.ask("/reject", {"id": "r0"}, Host=host).status == 403
    for origin in ("http://evil.example", "null", "", f"https://{HOST}:{server.server_port}"):
        assert browser.ask("/reject", {"id": "r0"}, Origin=origin).status == 403
    assert len(box.waiting()) == 3


def test_cookies_of_other_programs_on_this_machine_stand_in_no_ones_way(server: Server) -> None:
    browser = Browser(server.server_port)
    browser.enter(server.session.token)
    for odd in ("a/b=1", "@x", "=", "expires", "x=\xe9"):
        assert browser.ask("/list", Cookie=f"{odd}; {browser.cookie}").status == 200
        assert browser.ask("/list", Cookie=odd).status == 403


def test_a_browser_that_goes_away_says_nothing_in_the_terminal(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    def handling() -> int:
        return sum("process_request" in one.name for one in threading.enumerate())

    with socket.create_connection((HOST, server.server_port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        until(lambda: handling() == 1, what="its being heard")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    until(lambda: handling() == 0, what="its end being seen")
    assert capfd.readouterr().err == ""


def test_it_shows_and_decides(server: Server, box: Inbox, full: Path) -> None:
    browser = Browser(server.server_port)
    browser.enter(server.session.token)
    listed = browser.ask("/list").json
    assert [one["id"] for one in listed["photos"]] == ["r0", "r1", "r2"]
    assert listed["classes"] == [CLASS, OTHER]
    shown = browser.ask("/photo/r0")
    assert (shown.body, shown.headers["content-type"]) == (photo(0), "image/jpeg")
    page = browser.ask("/")
    assert re.search(r"script-src 'nonce-[\w-]+'", page.headers["content-security-policy"])
    assert b"NONCE" not in page.body
    for path in ("/photo/../../config.yaml", "/photo/%2e%2e/x", "/photo/", "/photo/r0.jpg", "/nothing"):
        assert browser.ask(path).status == 404
    for said in ({}, [], "x", {"id": "r0"}, {"class": CLASS}):
        assert browser.ask("/label", said).status == 400
    assert browser.ask("/label", {"id": "r0", "class": "../x"}).status == 409
    assert browser.ask("/label", {"id": "r0", "class": "x" * 20_000}).status == 413
    assert browser.ask("/label", {"id": "r0", "class": "Vine___Esca"}).status == 200
    assert browser.ask("/reject", {"id": "r1"}).status == 200
    assert browser.ask("/undo", {}).json == {"id": "r1"}
    assert (full / RAW / "Vine___Esca/inbox-r0.jpg").exists()
    assert browser.ask("/finish", {}).status == 200


@pytest.mark.ci
@pytest.mark.parametrize("end", ["finish", "ctrl-c"])
def test_the_command_puts_accepted_photos_under_dvc(full: Path, end: str) -> None:
    argv = [sys.executable, "-m", "plantops", "inbox"]
    running = subprocess.Popen(argv, cwd=full, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert running.stdout
    found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", running.stdout.readline())
    assert found
    browser = Browser(int(found[1]))
    assert browser.enter(found[2]).status == 303
    assert browser.ask("/label", {"id": "r0", "class": CLASS}).status == 200
    assert browser.ask("/label", {"id": "r1", "class": "Vine___Esca"}).status == 200
    assert browser.ask("/reject", {"id": "r2"}).status == 200
    if end == "finish":
        assert browser.ask("/finish", {}).status == 200
    else:
        running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=120)[0]
    assert running.returncode == 0, said
    assert "2 accepted, 1 rejected, 0 still wait" in said
    assert (
        sh("dvc", "status", "--json", f"{RAW}/{CLASS}.dvc", f"{RAW}/Vine___Esca.dvc", cwd=full).stdout.strip() == "{}"
    )
    assert "nfiles: 4" in (full / RAW / f"{CLASS}.dvc").read_text()
    assert list(kept.photos(full / ".plantops/feedback")) == []


@pytest.mark.ci
def test_a_person_labels_by_keyboard(server: Server, full: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium (apt install chromium)")
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda one: asked.append(one.url))
        page.goto(server.url)
        count, said = page.locator("#count"), page.locator("#said")
        expect(count).to_have_text("Photo 1 of 3")
        for key, told, left in (
            ("2", f"r0: {OTHER}", "Photo 1 of 2"),
            ("x", "r1: rejected", "Photo 1 of 1"),
            ("u", "r1 is back", "Photo 1 of 2"),
            ("1", "r1: Vine___Esca", "Photo 1 of 1"),  # what people say comes first
        ):
            page.keyboard.press(key)
            expect(said).to_have_text(told)
            expect(count).to_have_text(left)
        page.keyboard.press("c")
        page.keyboard.type("../x")
        page.keyboard.press("Enter")
        expect(said).to_contain_text("begins with a letter or digit")
        page.keyboard.press("f")
        expect(count).to_contain_text("Finished")
        browser.close()
    assert server.session.finished.is_set()
    assert sorted(one.name for one in (full / RAW).rglob("inbox-*")) == ["inbox-r0.jpg", "inbox-r1.jpg"]
    assert all(url.startswith((f"http://{HOST}:{server.server_port}/", "data:")) for url in asked)
