"""The digests of the training code: by meaning, per stage, the same under every Python."""

from __future__ import annotations

import ast
from pathlib import Path

import yaml

from conftest import ROOT
from plantops import code


def meaning(source: str) -> str:
    return repr(code._shape(ast.parse(source)))


def test_comments_docstrings_and_layout_do_not_count() -> None:
    one = 'def f(a):\n    """Say."""\n    return a + 1  # why\n'
    other = "def f( a ):\n\n    return (a +\n            1)\n"
    assert meaning(one) == meaning(other)
    assert meaning(one) != meaning(other.replace("1", "2"))
    assert meaning("x = 'a'") != meaning("x = 'b'")


def test_each_stage_has_a_digest_and_the_committed_file_is_up_to_date() -> None:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    found = code.digests(pipeline)
    assert list(found) == ["prepare_data", "train", "evaluate", "export_model"]
    assert yaml.safe_load((ROOT / code.CODE).read_text()) == found, "plantops run, or code.write, brings it up to date"


def test_write_says_whether_it_changed_anything(tmp_path: Path) -> None:
    pipeline = {"stages": {"train": {"cmd": "python -m plantops.ml.train"}, "other": {"cmd": "make"}}}
    assert code.write(tmp_path, pipeline)
    assert not code.write(tmp_path, pipeline)
    written = yaml.safe_load((tmp_path / code.CODE).read_text())
    assert list(written) == ["train", "other"]
    assert written["other"] == "foreign" != written["train"]


def test_closure_follows_imports_inside_plantops_only() -> None:
    assert {"bundle", "preprocess"} <= code._closure("bundle")
    assert "store" not in code._closure("bundle")
