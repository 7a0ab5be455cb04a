"""The page in a real browser: Debian's Chromium, headless, steered by playwright. It may ask nobody but the API."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from api_client import HOST, get, request, until
from bundle_factory import photo
from plantops import kept
from plantops.keys import hash_of
from serve.by_hand import start
from serve.looking import LookingModel, looking_release

CHROMIUM = shutil.which("chromium")
ci = pytest.mark.ci
LIMITS = {"unsure": 0.35, "unlike": 0.05}
# (accuracy and so on are those of no model: the page has to show what `/model/info` says)
METRICS = {"accuracy": 0.8125, "macro_f1": 0.75}


@pytest.fixture(scope="module")
def seeds() -> dict[str, int]:
    """Photos that this model is sure of, unsure of, and that are unlike the first."""
    model = LookingModel()
    centre = model.seen(photo(1))[0]
    found: dict[str, int] = {}
    for seed in range(1, 400):
        far = float(((model.seen(photo(seed))[0] - centre) ** 2).sum()) > LIMITS["unlike"]
        unsure = max(model.answer(photo(seed)).values()) < LIMITS["unsure"]
        found.setdefault("unlike" if far else "unsure" if unsure else "sure", seed)
    return found


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    folder = tmp_path_factory.mktemp("page")
    centre = LookingModel().seen(photo(1))[0]
    release = looking_release(folder / "r7", centre, thresholds=LIMITS, metrics=METRICS)
    running = start(release, folder / "log", "--kept", str(folder / "kept"), "--max-upload-mb", "2")
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    yield running.port, folder / "kept"
    assert running.terminate() == 0


def test_browsers_get_the_page_and_programs_what_they_got(port: int) -> None:
    answer = request(port, "GET", "/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert len(answer.body) < 25_000
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(rb"""(?:src|href)=["']?(?:https?:)?//""", answer.body)
    for accept in ("application/json", "*/*"):
        assert request(port, "GET", "/", headers={"Accept": accept}).headers["location"] == "/docs"


def test_every_word_is_there_in_both_languages() -> None:
    html = (Path(__file__).parents[2] / "src/plantops/serve/page.html").read_text()
    said = {lang: html[html.index(f"\n  {lang}: {{") :].partition("\n  },")[0] for lang in ("en", "fr")}
    keys = {
        lang: set(re.findall(r"(?:^|[{,])\s*(\w+): (?=['`]|\w+ =>)", text, re.MULTILINE)) for lang, text in said.items()
    }
    static = set(re.findall(r'data-t="(\w+)"', html))
    assert keys["en"] | static == keys["fr"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A visit to the page, and all that it asked for and complained of."""

    def __init__(self, browser: Browser, port: int, **how: Any) -> None:
        self.home = f"http://{HOST}:{port}/"
        self.context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1100, "height": 800}, **how})
        self.page: Page = self.context.new_page()
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.on("pageerror", lambda one: self.wrong.append(str(one)))
        self.page.on("console", lambda one: self.wrong.append(one.text) if "Content Security" in one.text else None)
        self.page.on("filechooser", lambda _: None)  # playwright begins to catch them some time after it is asked to
        self.page.goto(self.home)
        expect(self.page.locator("#model")).not_to_be_empty()

    def choose(self, *files: tuple[str, bytes]) -> None:
        payload = [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in files]
        self.page.set_input_files("#pick", payload)  # type: ignore[arg-type]
        self.settled()

    def settled(self) -> None:
        expect(self.page.locator(".card")).not_to_have_count(0)
        expect(self.page.locator(".wait")).to_have_count(0)

    def end(self) -> None:
        foreign = [url for url in self.asked if not url.startswith((self.home, "blob:", "data:"))]
        assert foreign == []
        assert self.wrong == []
        self.context.close()


@ci
def test_photos_chosen_are_answered_with_bars_doubts_and_scores(
    browser: Browser, api: tuple[int, Path], seeds: dict[str, int]
) -> None:
    visit = Visit(browser, api[0])
    page = visit.page
    expect(page.locator("#model")).to_have_text(
        "Model r7 · On test photos that it never saw: accuracy 0.813, macro-F1 0.75."
    )
    expect(page.locator("#drawn")).to_contain_text("never seen a real plant")
    expect(page.locator("#kept")).to_have_text("Photos are not kept.")
    visit.choose(*((f"{kind}.jpg", photo(seed)) for kind, seed in seeds.items()), ("text.jpg", b"no photo"))
    for kind, heading in {"unsure": "Not sure", "unlike": "Not like the leaves I know"}.items():
        expect(page.locator(".card", has_text=f"{kind}.jpg").locator("h3")).to_have_text(heading)
    sure = page.locator(".card", has=page.get_by_text("sure.jpg", exact=True))
    shares = LookingModel().answer(photo(seeds["sure"]))
    best = max(shares, key=shares.__getitem__)
    expect(sure.locator("h3")).to_have_text(best.rpartition("___")[2].replace("_", " "))
    expect(sure.locator(".scores li")).to_have_count(5)
    expect(sure.locator(".scores b").first).to_have_text(f"{shares[best]:.0%}")
    until(lambda: abs(_share(sure.locator(".fill").first) - shares[best]) < 0.02, what="the bar")
    expect(page.locator(".bad h3")).to_have_text("This file cannot be read as a photo.")
    visit.choose(("big.jpg", b"\xff" * 2_100_000))
    expect(page.locator(".bad h3").first).to_have_text("This photo is too large.")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".card")).to_have_count(0)
    visit.end()


def _share(fill: Any) -> float:
    return float(fill.evaluate("one => one.offsetWidth / one.parentElement.offsetWidth"))


@ci
def test_the_heat_map_lies_where_the_model_looked(
    browser: Browser, api: tuple[int, Path], seeds: dict[str, int]
) -> None:
    visit = Visit(browser, api[0])
    visit.choose(("wide.jpg", photo(seeds["sure"], (900, 300))))
    toggle, canvas = visit.page.get_by_role("button", name="Where it looked"), visit.page.locator("canvas")
    expect(canvas).to_be_hidden()
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    image, map_ = visit.page.locator(".photo img").bounding_box(), canvas.bounding_box()
    assert image
    assert map_
    assert map_["width"] == pytest.approx(image["height"], abs=1)  # the square in the middle
    assert map_["x"] + map_["width"] / 2 == pytest.approx(image["x"] + image["width"] / 2, abs=1)
    toggle.press("Enter")
    expect(canvas).to_be_hidden()
    visit.end()


@ci
def test_photos_dropped_are_answered(browser: Browser, api: tuple[int, Path]) -> None:
    visit = Visit(browser, api[0])
    data = base64.b64encode(photo(3)).decode()
    transfer = visit.page.evaluate_handle(
        """data => {
            const all = new DataTransfer(), bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0));
            for (const name of ['a.jpg', 'b.jpg']) all.items.add(new File([bytes], name));
            return all;
        }""",
        data,
    )
    visit.page.dispatch_event("main", "dragover", {"dataTransfer": transfer})
    expect(visit.page.locator("body")).to_have_class("over")
    visit.page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    visit.settled()
    expect(visit.page.locator(".card")).to_have_count(2)
    expect(visit.page.locator("body")).not_to_have_class("over")
    visit.end()


@ci
def test_all_of_it_by_keyboard_and_heard(browser: Browser, api: tuple[int, Path]) -> None:
    visit = Visit(browser, api[0])
    page = visit.page
    page.keyboard.press("Tab")
    expect(page.locator("#pick")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([{"name": "k.jpg", "mimeType": "image/jpeg", "buffer": photo(4)}])
    visit.settled()
    expect(page.locator("#said")).to_contain_text("k.jpg: ")
    expect(page.locator("#said")).to_have_attribute("aria-live", "polite")
    for name in ("Clear", "Where it looked", "Yes", "No"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=name)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("What does it show?")).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    page.keyboard.type("Vine___Esca")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Thank you, noted.")).to_be_focused()
    said = kept.opinions(api[1])[-1]
    assert said["class"] == "Vine___Esca"
    visit.end()


@ci
def test_yes_and_a_name_that_is_none(browser: Browser, api: tuple[int, Path]) -> None:
    visit = Visit(browser, api[0])
    visit.choose(("a.jpg", photo(5)))
    visit.page.get_by_role("button", name="No").click()
    visit.page.get_by_label("What does it show?").select_option(label="Something else…")
    visit.page.get_by_label("Name of the disease").fill("../../etc")
    visit.page.get_by_role("button", name="Send").click()
    expect(visit.page.locator(".ask [role=status]")).to_contain_text("begins with a letter or digit")
    visit.choose(("b.jpg", photo(6)))
    visit.page.get_by_role("button", name="Yes").click()
    expect(visit.page.get_by_text("Thank you, noted.")).to_be_visible()
    shares = LookingModel().answer(photo(6))
    assert kept.opinions(api[1])[-1]["class"] == max(shares, key=shares.__getitem__)
    visit.end()


@ci
def test_french_dark_and_a_phone(
    browser: Browser, api: tuple[int, Path], seeds: dict[str, int], tmp_path: Path
) -> None:
    phone = {"width": 360, "height": 740}
    visit = Visit(browser, api[0], locale="fr-CA", color_scheme="dark", viewport=phone, has_touch=True, is_mobile=True)
    page = visit.page
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    expect(page.locator("h1")).to_have_text("Quelle maladie a cette feuille ?")
    expect(page.get_by_text("Prendre une photo")).to_be_visible()
    visit.choose((f"{'loin' * 30}.jpg", photo(seeds["unlike"])))
    expect(page.locator("h3")).to_have_text("Ne ressemble pas aux feuilles que je connais")
    expect(page.locator(".scores b").first).to_have_text(re.compile(r"^[<>]? ?\d+\s%$"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "the page is wider than the phone"
    shot = Image.open(io.BytesIO(page.screenshot())).convert("L")
    assert shot.getpixel((2, shot.height - 2)) < 60, "not dark"
    light = Visit(browser, api[0])
    assert Image.open(io.BytesIO(light.page.screenshot())).convert("L").getpixel((2, 2)) > 200
    expect(light.page.get_by_text("Take a photo")).to_be_hidden()
    light.end()
    visit.end()


@ci
def test_hostile_names_are_only_text(browser: Browser, api: tuple[int, Path]) -> None:
    visit = Visit(browser, api[0])
    visit.choose(("<img src=x onerror=document.title='owned'>.jpg", photo(1)))
    expect(visit.page.locator("figcaption")).to_contain_text("<img src=x")
    assert visit.page.title() == "Leaf check"
    visit.end()


@ci
def test_a_page_about_other_things_than_leaves(browser: Browser, tmp_path: Path) -> None:
    centre = LookingModel().seen(photo(1))[0]
    release = looking_release(tmp_path / "r7", centre, thresholds=LIMITS, metrics=METRICS)
    running = start(release, tmp_path / "log", "--title", "Which <b>mushroom</b> is this?")
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    visit = Visit(browser, running.port)
    expect(visit.page.locator("h1")).to_have_text("Which <b>mushroom</b> is this?")
    assert visit.page.title() == "Which <b>mushroom</b> is this?"
    assert "lea" not in visit.page.locator("body").inner_text().lower().replace("clear", "")
    visit.end()
    assert running.terminate() == 0


@ci
def test_an_api_with_keys_asks_for_one(browser: Browser, tmp_path: Path, worker: Any) -> None:
    running = worker(looking_release(tmp_path / "r1"), f"--keys={hash_of('secret')}")
    until(lambda: get(running.port, "/health").status == 200, what="healthy")
    page = browser.new_page(locale="en-GB")
    page.goto(f"http://{HOST}:{running.port}/")
    expect(page.get_by_label("This API asks for a key")).to_be_focused()
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_contain_text("Model r1")
    page.set_input_files("#pick", [{"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photo(1)}])
    expect(page.locator(".scores li")).to_have_count(5)
    page.close()
