"""What could not be logged because MLflow was away, kept whole in `.plantops/spool/` until it is back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from plantops import whole

_FACTS = "training.json"


@dataclass(frozen=True)
class Training:
    """Everything about one training, from files.

    ``key``: digest of the train stage's entry in dvc.lock. ``origin``: ``trained``, ``cached`` or ``restored``.
    ``params``: flat. ``epochs``: CSV with a column ``epoch`` and one for each metric. ``metrics``: evaluation.
    ``artifacts``: files, kept under the name of their folder. ``bundle``: folder of the exported model.
    ``dataset``: name, digest, source (path), counts (photos by class).
    """

    key: str
    name: str
    origin: str
    params: dict[str, Any]
    epochs: Path
    metrics: dict[str, float]
    artifacts: list[Path]
    bundle: Path
    dataset: dict[str, Any]
    tags: dict[str, str]


@dataclass(frozen=True)
class Wish:
    """A release to register once MLflow is back. ``run_id`` None: its training waits in the spool as well."""

    release: str
    digest: str
    run_id: str | None


@dataclass(frozen=True)
class Replayed:
    """What was logged late: a training (``key``), or a release with its registered ``version``.

    ``problem``: why it could not be, in words; it stays in the spool.
    """

    run_id: str = ""
    digest: str = ""
    key: str = ""
    release: str = ""
    version: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Spool:
    """The folder of what waits. Each entry appears whole or not at all."""

    folder: Path

    def keep(self, training: Training, run_id: str | None) -> None:
        """Copy ``training`` with all its files; an earlier entry with the same key is replaced."""

        def fill(entry: Path) -> None:
            shutil.copytree(training.bundle, entry / "bundle")
            for file, place in _places(training):
                (entry / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, entry / place)
            (entry / _FACTS).write_text(json.dumps({**asdict(training), "run_id": run_id}, default=str))

        whole.appear(self._entry(training), fill)

    def trainings(self) -> Iterator[tuple[Training, str | None]]:
        """The trainings that wait, oldest first, each with the MLflow run that was opened for it.

        What a killed call left half made or half removed goes. Call only while holding the run lock.
        """
        entries = []
        for entry in self.folder.glob("trainings/*/"):
            if entry.name.startswith(".") or not (entry / _FACTS).is_file():
                whole.vanish(entry)
            else:
                entries.append(entry)
        for entry in sorted(entries, key=lambda path: path.stat().st_mtime):
            values = json.loads((entry / _FACTS).read_text())
            run_id = values.pop("run_id")
            files = sorted(path for path in entry.glob("artifacts/*/*"))
            training = Training(**values)
            yield replace(training, epochs=entry / "epochs.csv", artifacts=files, bundle=entry / "bundle"), run_id

    def drop(self, training: Training) -> None:
        """It is logged."""
        whole.vanish(self._entry(training))

    def judged(self, digest: str, run_id: str | None, verdict: dict[str, Any]) -> None:
        """Remember the latest verdict on a bundle; ``run_id`` None: its training waits as well."""
        whole.write(self._verdict(digest), json.dumps({"run_id": run_id, "verdict": verdict}))

    def verdicts(self) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """The verdicts that wait: digest of the bundle, MLflow run, verdict."""
        for file in sorted(self.folder.glob("verdicts/[!.]*.json")):
            values = json.loads(file.read_text())
            yield file.stem, values["run_id"], values["verdict"]

    def told(self, digest: str) -> None:
        """The verdict on this bundle is logged."""
        self._verdict(digest).unlink()

    def wish(self, wish: Wish) -> None:
        """Remember a release to register."""
        whole.write(self._wish(wish), json.dumps(asdict(wish)))

    def wishes(self) -> Iterator[Wish]:
        """The releases to register, oldest first."""
        for file in sorted(self.folder.glob("releases/[!.]*.json"), key=lambda path: path.stat().st_mtime):
            yield Wish(**json.loads(file.read_text()))

    def fulfil(self, wish: Wish) -> None:
        """It is registered."""
        self._wish(wish).unlink()

    def _entry(self, training: Training) -> Path:
        return self.folder / "trainings" / training.key

    def _wish(self, wish: Wish) -> Path:
        return self.folder / "releases" / f"{wish.release}.json"

    def _verdict(self, digest: str) -> Path:
        return self.folder / "verdicts" / f"{digest}.json"


def _places(training: Training) -> Iterator[tuple[Path, Path]]:
    """The single files of a training, and where they lie in its entry."""
    if training.epochs.exists():
        yield training.epochs, Path("epochs.csv")
    for file in training.artifacts:
        yield file, Path("artifacts") / file.parent.name / file.name
