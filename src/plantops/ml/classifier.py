"""The Lightning module: one step shared by training and validation."""

from __future__ import annotations

from typing import Any

import numpy as np

from plantops.ml.batches import Batch, Light, model_input, smaller, softened
from plantops.ml.course import Course
from plantops.ml.frameworks import lightning, torch
from plantops.ml.params import Params
from plantops.ml.scores import accuracy, confusion, macro_f1
from plantops.preprocess import Preprocessing


class Tally:
    """Loss and answers of one epoch, summed where they were computed."""

    def __init__(self, classes: int) -> None:
        self.matrix = np.zeros((classes, classes), np.int64)
        self.loss, self.photos = 0.0, 0

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch; ``loss`` is its mean."""
        self.loss += float(loss) * len(labels)
        self.photos += len(labels)
        answers = logits.argmax(1).cpu().numpy()
        self.matrix += confusion(labels.cpu().numpy(), answers, len(self.matrix))

    def gather(self) -> None:
        """Add what the other processes counted; all of them call this at once."""
        sums = torch.tensor([self.loss, self.photos], dtype=torch.float64)
        for counted in (torch.from_numpy(self.matrix), sums):
            torch.distributed.all_reduce(counted)
        self.loss, self.photos = float(sums[0]), int(sums[1])

    def results(self, prefix: str) -> dict[str, float]:
        """Mean loss, accuracy and macro-F1, named after the split."""
        if not self.photos:
            return {}
        return {
            f"{prefix}_loss": self.loss / self.photos,
            f"{prefix}_accuracy": accuracy(self.matrix),
            f"{prefix}_macro_f1": macro_f1(self.matrix),
        }


class Classifier(lightning.LightningModule):  # type: ignore[misc]
    """Learns photos (uint8 (n, size, size, 3)) and class numbers with AdamW and a one-cycle learning rate.

    ``course`` is told every answer to a photo that is learned from.
    """

    def __init__(
        self, network: torch.nn.Module, spec: Preprocessing, params: Params, course: Course, small_epochs: int = 0
    ) -> None:
        super().__init__()
        self.course = course
        self.small_epochs = small_epochs
        self.network = network
        self.params = params
        self.classes = network.num_classes
        self.register_buffer("mean", torch.tensor(spec.mean), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std), persistent=False)
        self.dice = torch.Generator().manual_seed(params.seed)
        self.learn = torch.nn.CrossEntropyLoss(label_smoothing=params.train.label_smoothing)
        self.judge = torch.nn.CrossEntropyLoss()
        self.tallies = {"train": Tally(self.classes), "val": Tally(self.classes)}

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        """Learn from a batch, in another light and sharpness each time."""
        pixels, labels, rows = batch
        images = model_input(pixels, self.mean, self.std, Light.draw(pixels, self.dice))
        images = smaller(images) if self.current_epoch < self.small_epochs else images
        logits = self.network(softened(images, self.dice))
        loss = self.learn(logits, labels)
        self.tallies["train"].add(loss.detach(), logits.detach(), labels)
        self.course.add(rows, logits.detach())
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Judge a batch as it is."""
        pixels, labels, _ = batch
        logits = self.network(model_input(pixels, self.mean, self.std, None))
        self.tallies["val"].add(self.judge(logits, labels), logits, labels)

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's answers; hold the backbone still in the first epochs, if so asked."""
        self.tallies = {"train": Tally(self.classes), "val": Tally(self.classes)}
        self._hold(self.current_epoch < self.params.model.freeze_epochs)

    def on_train_epoch_end(self) -> None:
        """Hand the scores to the callbacks that stop and keep."""
        for split, tally in self.tallies.items():
            self.log_dict(tally.results(split))

    def configure_optimizers(self) -> Any:
        """AdamW under one cycle of the learning rate over all steps."""
        train = self.params.train
        optimiser = torch.optim.AdamW(self.network.parameters(), train.lr, weight_decay=train.weight_decay, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, train.lr, total_steps=steps + 1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def _hold(self, still: bool) -> None:
        """Let only the head learn, or all. A held backbone keeps its batch statistics too."""
        if not self.params.model.freeze_epochs:
            return
        head = set(self.network.get_classifier().parameters())
        for weights in self.network.parameters():
            weights.requires_grad = not still or weights in head
        self.network.train(not still)
