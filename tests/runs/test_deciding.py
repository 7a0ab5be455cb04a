"""What a run decides when something beside the photos moved: the API's settings, the champion, the code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import plantops
from plantops import dvc
from plantops.errors import StepFailed
from plantops.store import Store
from runs.cheap import RAW, answering, edit, leaves, state

pytestmark = pytest.mark.ci


def steps(folder: Path) -> dict[str, str]:
    """The steps of the last run, and what became of them."""
    with Store(folder / ".plantops", readonly=True) as store:
        return {one.name: one.state for one in store.steps(store.last_run().id)}


def test_beside_the_photos(project: Path) -> None:
    plantops("run", cwd=project)
    one = answering(project)
    edit(project / "params.yaml", "seed: 1", "seed: 2")
    plantops("run", cwd=project)
    plantops("rollback", cwd=project)
    assert answering(project) == one

    # A setting of the API: the release in service is served by it, and the withdrawn candidate stays away.
    edit(project / "config.yaml", "max_batch: 16", "max_batch: 8")
    assert plantops("check", "--exit-code", cwd=project).returncode == 0
    deep = plantops("check", "--deep", "--exit-code", cwd=project, check=False)
    assert (deep.returncode, "the serving code or its settings changed" in deep.stdout) == (6, True)
    plantops("run", cwd=project)
    assert answering(project) == one
    assert steps(project)["gate"] == "skipped"
    assert steps(project)["switch"] == "done"
    assert not (project / "models/refused").exists()
    assert plantops("check", "--deep", "--exit-code", cwd=project).returncode == 0

    # Photos and code that moved are found by a deep look, which leaves everything as it was.
    leaves(project / RAW / "NewClass", (220, 220, 60), 5)
    deep = plantops("check", "--deep", "--exit-code", cwd=project, check=False)
    assert deep.returncode == 6
    assert "NewClass: 5 photos not under DVC: dvc add data/raw/PlantVillage/NewClass" in deep.stdout
    dry = plantops("run", "--dry-run", cwd=project, check=False)
    assert dry.returncode == 2, "as the run itself"
    shutil.rmtree(project / RAW / "NewClass")

    # A champion that cannot be asked lets nobody through.
    edit(project / "params.yaml", "seed: 2", "seed: 3")
    split_list = project / "models/releases" / one / "split.csv"
    split_list.rename(project / "aside.csv")
    failed = plantops("run", cwd=project, check=False)
    assert (failed.returncode, "could not be asked" in failed.stderr) == (1, True)
    assert answering(project) == one
    assert state(project)["waiting"]["owed"]
    (project / "aside.csv").rename(split_list)
    plantops("run", cwd=project)
    assert answering(project) != one


def test_code_that_is_edited_while_plantops_runs_is_read_anew(tmp_path: Path) -> None:
    """`plantops watch` lives for weeks; the digest that it writes is of the code that the stages run."""
    shutil.copytree(Path(sys.modules["plantops"].__file__).parent, tmp_path / "plantops")
    script = (
        "from pathlib import Path; from plantops import code\n"
        "pipeline = {'stages': {'train': {'cmd': 'python -m plantops.ml.train'}}}\n"
        "one = code.digests(pipeline), code.serving_digest()\n"
        "for name in ('ml/train.py', 'serve/app.py'):\n"
        "    path = code.PACKAGE / name\n"
        "    path.write_text(path.read_text() + 'MORE = 1\\n')\n"
        "other = code.digests(pipeline), code.serving_digest()\n"
        "assert one[0] != other[0] and one[1] != other[1]\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_what_would_run_is_known_before_anything_ran(project: Path) -> None:
    """`dvc repro --dry` ends with an error there."""
    assert dvc.would_run(project, force=False) == ["prepare_data"]
    (project / "dvc.yaml").write_text("stages: {")
    with pytest.raises(StepFailed, match="DVC does not say"):
        dvc.would_run(project, force=False)
