"""What keeps several processes one training: the same state in all, and in a file for those that replace them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from plantops.ml.batches import Share
from plantops.ml.frameworks import lightning, torch


class Together(lightning.Callback):  # type: ignore[misc]
    """Has all processes judge with the same network, and know what all have counted. Comes before other callbacks."""

    def __init__(self, seed: int, share: Share) -> None:
        self.seed, self.share = seed, share

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Draw what this process draws in this epoch whatever went before: one that is started again draws the same."""
        drawn = np.random.SeedSequence([self.seed, trainer.current_epoch, self.share.rank])
        trainer.train_dataloader.dataset.vary.bit_generator.state = np.random.PCG64(drawn).state
        number = int(drawn.generate_state(1)[0])
        pl_module.dice.manual_seed(number)
        torch.manual_seed(number)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Judge by the first one's running statistics: they are what the checkpoint holds."""
        for values in pl_module.network.buffers():
            torch.distributed.broadcast(values, 0)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Add up what each has counted."""
        for tally in pl_module.tallies.values():
            tally.gather()
        pl_module.course.gather()


class Resume(lightning.callbacks.Checkpoint):  # type: ignore[misc]
    """Leaves in ``path``, at the end of each epoch, all that the training needs to go on from there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write it whole or not at all. Lightning calls this after all that count epochs without progress."""
        fresh = self.path.with_suffix(".part")
        trainer.save_checkpoint(fresh, weights_only=False)
        if trainer.is_global_zero:
            fresh.replace(self.path)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """What Lightning does not keep: the course of the answers, and whether this was the last epoch."""
        checkpoint["course"] = list(pl_module.course.sums)
        checkpoint["stopped"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """The first process has the sums of all (see Course.gather)."""
        trainer.should_stop = checkpoint["stopped"]
        if trainer.is_global_zero:
            for mine, told in zip(pl_module.course.sums, checkpoint["course"], strict=True):
                mine.copy_(told)
