"""The report's text: what it says of two states, and that names in it stay names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from conftest import photo, plantops, sh
from plantops.review import Report
from plantops.review.snapshot import Snapshot

EVIL = "<img src=x onerror=alert(1)>|`@everyone` [a](http://x)"


def state(title: str, accuracy: float, recall: float, members: dict[str, str], **params: object) -> Snapshot:
    counts = {name: sum(one == name for one in members.values()) for name in members.values()}
    per_class = {name: {"support": 10, "recall": recall, "f1": recall} for name in counts}
    scores = {"accuracy": accuracy, "ece": 0.1, "background_accuracy": accuracy, "leaf_area": accuracy}
    return Snapshot(title, "abc", counts, members, params, {**scores, "per_class": per_class})


def row(text: str, first: str) -> list[str]:
    """The cells of the row that begins with ``first``."""
    found = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    assert len(found) == 1, text
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_each_difference_is_told_once() -> None:
    old = state("before", 0.9, 0.8, {"1": "oak", "2": "oak", "3": "elm"}, lr=1, gone=2)
    new = state("after", 0.8, 0.9, {"1": "oak", "3": "oak", "4": "ash"}, lr=2)
    text = Report("trees", new, old, ("1 class changed",)).markdown()
    assert row(text, "accuracy")[1:] == ["0.900", "0.800", "❌ -0.100"]
    assert row(text, "background alone")[1:] == ["0.900", "0.800", "✅ -0.100"]  # less of it is better
    assert row(text, "the leaf covers")[1:] == ["0.900", "0.800", "-0.100"]  # and this is neither
    assert row(text, "calibration gap")[1:] == ["0.100", "0.100", "0"]
    tables = text.partition("### Data")[2]
    data, _, rest = tables.partition("### Class by class")
    assert row(data, "ash")[1:] == ["0", "1", "1", "", "", "⚠️ new class"]
    assert row(data, "elm")[1:] == ["1", "0", "", "", "", "⚠️ class gone"]
    assert row(data, "oak")[1:] == ["2", "2", "", "1", "1", ""]
    assert row(rest, "oak")[1:] == ["10", "0.800", "0.900", "✅ +0.100", "0.900"]
    assert row(rest, "gone")[1:] == ["2", "not set"]
    assert "⚠️ Not done yet: 1 class changed." in text
    assert "⚠️ No verdict on the model that is here" in text


def test_scores_that_are_not_to_be_had_are_no_change() -> None:
    new, old = (state(name, 0.8, 0.9, {"1": "oak"}) for name in ("after", "before"))
    text = Report("trees", new, Snapshot(**{**old.__dict__, "scores": {}}), ()).markdown()
    assert "The scores of before are neither in git nor in DVC's cache or remote." in text
    assert row(text, "accuracy")[1:] == ["0.800"]
    assert "numbers that changed" not in text


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.asked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href")]


def test_names_cannot_become_markup_links_or_mentions(tmp_path: Path) -> None:
    plot = tmp_path / "plots/confusion.png"
    photo(plot, (1, 2, 3))
    new = state("after", 0.8, 0.9, {"1": EVIL})
    report = Report(EVIL, Snapshot(**{**new.__dict__, "files": (plot,)}), None, ())
    markdown, page = report.markdown(), report.html()
    assert "<img" not in markdown.replace("\\<img", "")
    assert "@everyone" not in markdown
    assert not re.search(r"(?<!\\)\]\(", markdown)
    cells = [re.findall(r"(?<!\\)\|", line) for line in markdown.splitlines() if line.startswith("| \\<img")]
    assert [len(one) for one in cells] == [5]  # the bars in the name are none of the table
    tags = Tags()
    tags.feed(page)
    assert {"script", "link", "iframe"} & tags.seen == set()
    assert len(tags.asked) == 1  # the plot
    assert tags.asked[0].startswith("data:image/png;base64,")


@pytest.mark.ci
def test_a_project_without_a_run_says_so(project: Path) -> None:
    said = plantops("report", cwd=project).stdout
    assert "nothing to compare it with yet" in said
    assert "There are no scores yet" in said
    assert "6 photos of 2 classes" in said
    unknown = plantops("report", "--against", "nobody", cwd=project, check=False)
    assert (unknown.returncode, "git fetch origin nobody" in unknown.stderr) == (2, True)
    assert plantops("report", "--against=--help", cwd=project, check=False).returncode == 2
    assert plantops("report", "--html", "--markdown", cwd=project, check=False).returncode == 2
    sh("git", "commit", "-q", "--allow-empty", "-m", "Nothing", cwd=project)
    same = plantops("report", "--against", "HEAD~1", cwd=project).stdout
    assert "The same photos as before." in same


def test_a_comment_has_room_for_many_classes_and_the_page_has_all() -> None:
    """GitHub takes 65,536 characters."""
    members = {str(number): f"class {number:04} with a name of some length" for number in range(1000)}
    report = Report("trees", state("after", 0.8, 0.9, members), state("before", 0.8, 0.9, {}), ())
    text = report.markdown()
    assert len(text) < 65_536
    assert text.count("… and 900 more rows") == 2
    assert "class 0999" in report.html()
