"""What counts as a change, and how it is said."""

from __future__ import annotations

import threading
from pathlib import Path

from conftest import photo, sh
from plantops import detect, dvc, plan, training
from plantops.store import RELEASED, Store


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def said(before: dict, after: dict) -> list[str]:
    return [f"{one.file}: {one.what}" for one in detect.changes(before, after)]


def test_comment_key_order_and_line_endings_are_no_change(project: Path) -> None:
    before = dvc.inputs(project)
    edit(project / "dvc.yaml", "stages:", "# a comment\nstages:")
    edit(project / "params.yaml", "seed: 1", "# another\nseed:   1   # trailing")
    pointer = project / "data/raw/PlantVillage/Potato___Late_blight.dvc"
    pointer.write_bytes(pointer.read_bytes().replace(b"\n", b"\r\n"))
    pointer.write_text(pointer.read_text() + "desc: late blight\n")
    after = dvc.inputs(project)
    assert detect.changes(before, after) == []
    assert detect.fingerprint(before) == detect.fingerprint(after)


def test_parameter_is_named_with_both_values_and_its_stages(project: Path) -> None:
    before = dvc.inputs(project)
    edit(project / "params.yaml", "lr: 0.002", "lr: 0.0005")
    (change,) = detect.changes(before, dvc.inputs(project))
    assert change == detect.Change("params.yaml", "train.lr 0.002 → 0.0005", ("train",))
    assert detect.affected(change.stages, dvc.pipeline(project)) == ["train", "evaluate", "export_model"]


def test_new_class_is_named_with_its_photos(project: Path) -> None:
    before = dvc.inputs(project)
    for shot in range(4):
        photo(project / "data/raw/PlantVillage/NewClass" / f"{shot}.jpg", (200, 50 * shot, 10))
    sh("dvc", "add", "--quiet", "data/raw/PlantVillage/NewClass", cwd=project)
    (change,) = detect.changes(before, dvc.inputs(project))
    assert change.what == "NewClass new: 4 photos"
    assert change.stages == ("prepare_data",)
    assert detect.affected(change.stages, dvc.pipeline(project)) == [
        "prepare_data", "train", "evaluate", "export_model",
    ]  # fmt: skip


def test_more_photos_and_a_removed_class(project: Path) -> None:
    before = dvc.inputs(project)
    raw = project / "data/raw/PlantVillage"
    photo(raw / "Potato___Late_blight" / "9.jpg", (1, 2, 3))
    sh("dvc", "add", "--quiet", "data/raw/PlantVillage/Potato___Late_blight", cwd=project)
    (raw / "Pepper,_bell___healthy.dvc").unlink()
    assert said(before, dvc.inputs(project)) == [
        "data/raw/PlantVillage/Pepper,_bell___healthy.dvc: Pepper,_bell___healthy removed: 3 photos gone",
        "data/raw/PlantVillage/Potato___Late_blight.dvc: Potato___Late_blight changed: 3 photos → 4 photos",
    ]


def test_stage_command_and_a_colleagues_lock(project: Path) -> None:
    before = dvc.inputs(project)
    edit(project / "dvc.yaml", "plantops.ml.train", "plantops.ml.train --faster")
    (project / "dvc.lock").write_text("schema: '2.0'\nstages:\n  train:\n    cmd: x\n")
    assert said(before, dvc.inputs(project)) == [
        "dvc.lock: stage train was run elsewhere, or its record removed",
        "dvc.yaml: stage train: command changed",
    ]


def test_half_written_file_is_told_and_not_taken_for_the_old_one(project: Path) -> None:
    before = dvc.inputs(project)
    (project / "params.yaml").write_text("seed: [1,\n")
    assert said(before, dvc.inputs(project)) == ["params.yaml: cannot be read as YAML"]


def test_folders_that_dvc_covers_and_projects_inside_are_not_walked(project: Path) -> None:
    (project / "data/raw/PlantVillage/Potato___Late_blight/inside.dvc").write_text("outs: []\n")
    (project / "demo/.dvc").mkdir(parents=True)
    (project / "demo/other.dvc").write_text("outs: []\n")
    names = [path.name for path in dvc.dvc_files(project)]
    assert names == ["Pepper,_bell___healthy.dvc", "Potato___Late_blight.dvc"]


def test_files_named_under_vars_are_inputs_of_every_stage(project: Path) -> None:
    edit(project / "dvc.yaml", "stages:", "vars:\n  - more.yaml\n  - some.yaml:lr,wd\n  - inline: 1\nstages:")
    (project / "more.yaml").write_text("lr: 1\n")
    before = dvc.inputs(project)
    assert "more.yaml" in before
    (project / "more.yaml").write_text("lr: 2\n")
    (project / "some.yaml").write_text("lr: 3\n")
    one, other = detect.changes(before, dvc.inputs(project))
    assert (one.what, other.what) == ("lr 1 → 2", "lr (none) → 3")
    assert one.stages == ("prepare_data", "train", "evaluate", "export_model")


def test_templates_and_foreach_reach_their_stages() -> None:
    pipeline = {
        "stages": {
            "each": {
                "foreach": ["a", "b"],
                "do": {"cmd": "x ${item}", "deps": ["raw/${item}"], "outs": ["out/${item}"]},
            },
            "after": {"cmd": "y", "deps": ["out/a"]},
            "aside": {"cmd": "z", "deps": ["other"]},
        }
    }
    (change,) = detect.changes({"dvc.yaml": pipeline}, {"dvc.yaml": pipeline, "raw/a.dvc": {"outs": [{"nfiles": 2}]}})
    assert change.stages == ("each",)
    assert detect.affected(change.stages, pipeline) == ["each", "after"]


def test_what_is_away_for_a_moment_is_waited_for(project: Path) -> None:
    """git checkout and editors that save take a file away before they write it."""
    with Store(project / ".plantops") as store:
        inputs = dvc.inputs(project)
        store.finish(store.begin("test", {}, "", inputs), RELEASED, inputs)
        whole = (project / "dvc.yaml").read_bytes()
        (project / "dvc.yaml").unlink()
        (project / "params.yaml").write_text("seed: [1")
        params = sh("git", "show", "HEAD:./params.yaml", cwd=project).stdout

        def mended() -> None:
            (project / "dvc.yaml").write_bytes(whole)
            (project / "params.yaml").write_text(params)

        later = threading.Timer(0.3, mended)
        later.start()
        assert plan.make(project, store).changes == []
        later.join()
        (project / "dvc.yaml").unlink()
        assert plan.make(project, store).changes, "what stays away is a change"


def test_parameters_in_toml_and_python_are_taken_as_dvc_takes_them(project: Path) -> None:
    edit(
        project / "dvc.yaml",
        "  evaluate:\n",
        "  more:\n    cmd: x\n    params: [{p.toml: [train.lr]}, {p.py: [LR]}]\n  evaluate:\n",
    )
    toml, python = project / "p.toml", project / "p.py"
    toml.write_text("[train]\nlr = 1\n")
    python.write_text("LR = 1\n")
    before = dvc.inputs(project)
    assert detect.unreadable(before) == []
    toml.write_text("# a comment\n[train]\nlr = 1\n")
    assert detect.changes(before, dvc.inputs(project)) == []
    toml.write_text("[train]\nlr = 2\n")
    python.write_text("LR = 2\n")
    assert said(before, dvc.inputs(project)) == ["p.py: changed", "p.toml: train.lr 1 → 2"]
    toml.write_text("[train\n")
    assert [one.file for one in detect.unreadable(dvc.inputs(project))] == ["p.toml"]


def test_what_is_no_number_is_the_same_as_itself(project: Path) -> None:
    edit(project / "params.yaml", "lr: 0.002", "lr: .nan")
    before = dvc.inputs(project)
    assert detect.changes(before, dvc.inputs(project)) == []
    entry = {"params": {"params.yaml": {"train.lr": float("nan")}}}
    assert not training._params_moved(entry, before, dvc.inputs(project))


def test_a_file_is_not_called_a_photo() -> None:
    after = {"c.csv.dvc": {"outs": [{"md5": "a", "path": "c.csv"}]}}
    assert said({}, after) == ["c.csv.dvc: c.csv new: 1 file"]


def test_a_pipeline_that_is_away_is_no_change_of_code(project: Path) -> None:
    before = dvc.inputs(project)
    (project / "dvc.yaml").unlink()
    assert {one.file for one in detect.changes(before, dvc.inputs(project))} == {"dvc.yaml"}


def test_shelves_of_releases_are_not_searched_for_dvc_files(tmp_path: Path) -> None:
    names = ("models/releases/x/a.dvc", "models/refused/y/a.dvc", "models/b.dvc", "data/models/releases/c.dvc")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("outs: []")
    assert {one.relative_to(tmp_path).as_posix() for one in dvc.dvc_files(tmp_path)} == set(names[2:])
