"""What an epoch gave: a row in plots/epochs.csv as soon as it ends, and a line for the person who waits."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any, TextIO

from plantops import console
from plantops.errors import StepFailed
from plantops.ml.files import open_csv
from plantops.ml.frameworks import lightning

COLUMNS = (
    "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1", "lr",
)  # fmt: skip


class EpochLog(lightning.Callback):  # type: ignore[misc]
    """Writes ``path`` row by row, and reports progress within the epoch, after ``title``. Open it with ``with``.

    Without a ``path`` it only keeps the rows: of several processes, the first writes. ``before`` of them are those of a
    training that goes on.
    """

    def __init__(self, path: Path | None, epochs: int, title: str = "") -> None:
        self.path, self.epochs, self.title = path, epochs, title
        self.rows: list[dict[str, Any]] = []
        self.before = 0
        self._file: TextIO | None = None
        self._last = 0.0

    def __enter__(self) -> EpochLog:
        if self.path:
            self._file = open_csv(self.path, "w")
            self._write(dict(zip(COLUMNS, COLUMNS, strict=True)))
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint from which the training may go on."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up after these rows."""
        self.rows = list(state_dict["rows"])
        self.before = len(self.rows)
        for row in self.rows:
            self._write(row)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Report five times a second at most."""
        if time.monotonic() - self._last > 0.2:
            self._last = time.monotonic()
            done, total = trainer.fit_loop.epoch_loop.batch_progress.current.completed, trainer.num_training_batches
            console.report(self._name(trainer), min(done, total - 1), total)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Write the row of this epoch."""
        tallies = {**module.tallies["train"].results("train"), **module.tallies["val"].results("val")}
        row = {"epoch": trainer.current_epoch + 1, "lr": trainer.optimizers[0].param_groups[0]["lr"]}
        rounded = {key: round(value, 6) for key, value in {**tallies, **row}.items()}
        if not math.isfinite(rounded["train_loss"]):
            broken = f"training came apart in {self._name(trainer)}: its loss is no number"
            raise StepFailed(broken, "a lower train.lr in params.yaml")
        self.rows.append({key: rounded.get(key) for key in COLUMNS})
        self._write(self.rows[-1])
        console.report(self._name(trainer), trainer.num_training_batches, trainer.num_training_batches, self._note())

    def _write(self, row: dict[str, Any]) -> None:
        if self._file:
            csv.DictWriter(self._file, COLUMNS).writerow(row)
            self._file.flush()

    def _name(self, trainer: Any) -> str:
        return f"{self.title}epoch {trainer.current_epoch + 1}/{self.epochs}"

    def _note(self) -> str:
        row = self.rows[-1]
        line = f"train loss {row['train_loss']:.3f}"
        if row["val_loss"] is None:
            return line
        return f"{line}, validation loss {row['val_loss']:.3f}, macro-F1 {row['val_macro_f1']:.3f}"


class Stopper(lightning.callbacks.EarlyStopping):  # type: ignore[misc]
    """Ends a training after ``patience`` epochs without a better validation macro-F1, at the full size only.

    What is learned from smaller photos shows fully once the size is back, and goes up and down until then.
    """

    def __init__(self, patience: int) -> None:
        super().__init__("val_macro_f1", mode="max", patience=patience, check_on_train_epoch_end=True)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Count this epoch, unless its photos were small."""
        if trainer.current_epoch >= pl_module.small_epochs:
            super().on_train_epoch_end(trainer, pl_module)
