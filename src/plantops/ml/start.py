"""Where a training starts: from nothing, or (``train.finetune_from: champion``) from the release in service.

Which release that is, is no dependency of the stage: another champion starts no run. What a training went on from is
recorded with what it made. A champion that does not fit is said, and the training starts from nothing.

A photo on this side of the split may have been on the other when the champion learned. Such photos, and others of their
group, are not held out for a network that goes on from it: they are left out of validation and test.
"""

from __future__ import annotations

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plantops import artifacts
from plantops.artifacts import LEARNED, Learned
from plantops.bundle import CHECKPOINT, BadBundle, Bundle
from plantops.errors import StepFailed
from plantops.ml.files import CHECKPOINT_FOLDER, open_csv
from plantops.ml.frameworks import torch
from plantops.ml.model import Info, make, weights
from plantops.ml.params import Params
from plantops.ml.prepared import Prepared
from plantops.preprocess import Preprocessing
from plantops.process import CHAMPION_VARIABLE

PRODUCTION = Path("models/production")  # where a bare `dvc repro` looks: a copy of the release in service
_GENTLE = 0.25  # of train.lr: a network that knows the leaves would be shaken out of what it knows by all of it
_MOST_NEW = 0.5  # share of the training photos; with more of them new, a few gentle epochs would be too few
_MOST_LOST = 0.25  # share of the test (or validation) photos; with more left out, a score would say too little


@dataclass(frozen=True)
class Start:
    """A release to go on from: its weights by name, its classes, and what it learned from, by md5."""

    release: str
    state: Mapping[str, torch.Tensor]
    classes: Sequence[str]
    learned: Mapping[str, Learned]
    anew: float | None = None  # seconds that the last training from nothing took, where that is on record

    @property
    def took(self) -> str:
        """What is on record of a training from nothing, to be said behind others' words."""
        return "" if self.anew is None else f" (the last training from nothing took {self.anew:,.0f} s)"

    def params(self, params: Params) -> Params:
        """``params`` as they are for a training that goes on: few epochs, at full size, at a gentle pace."""
        train = params.train
        gentle = replace(train, epochs=train.finetune_epochs, lr=train.lr * _GENTLE, small_epochs=0)
        return replace(params, train=gentle)

    def give(self, network: torch.nn.Module, classes: Sequence[str]) -> None:
        """Put the weights into ``network``; in its head only the rows of classes that both know, by name.

        Raises KeyError, IndexError or RuntimeError where names or shapes do not fit, as by another version of timm.
        """
        heads = network.get_classifier()
        heads = heads if isinstance(heads, tuple) else (heads,)  # some transformers have two
        named = [(name, module) for name, module in network.named_modules() if any(module is one for one in heads)]
        inside = {f"{name}.{key}" for name, module in named for key in module.state_dict()}
        shared = [name for name in classes if name in self.classes]
        here, there = [list(classes).index(one) for one in shared], [list(self.classes).index(one) for one in shared]
        state = network.state_dict()
        for key, values in self.state.items():
            if key in inside:
                state[key][here] = values[there]
            else:
                state[key] = values
        network.load_state_dict(state)


def champion(params: Params, info: Info, prepared: Prepared) -> Start | None:
    """The release in service, if ``params`` ask for it and it fits; what was decided is printed."""
    if params.train.finetune_from is None:
        return None
    given = os.environ.get(CHAMPION_VARIABLE)
    folder = PRODUCTION if given is None else Path(given) if given else None
    try:
        start = _read(folder, info, prepared)
    except _DoesNotFit as why:
        print(f"train.finetune_from: training starts from nothing, because {why}")
        return None
    left_out = len(prepared.photos) - len(unseen(prepared, start.learned).photos)
    fresh = [name for name in info.classes if name not in start.classes]
    print(
        f"training goes on from release {start.release}, for {params.train.finetune_epochs} epochs"
        f" in place of {params.train.epochs}{start.took}"
        + (f"; new to it: {', '.join(fresh)}" if fresh else "")
        + (f"; {left_out:,} held-out photos are left out: it had learned from them or their like" if left_out else "")
    )
    return start


def unseen(prepared: Prepared, learned: Mapping[str, Learned]) -> Prepared:
    """Without held-out photos that were learned from, or whose group was: tests also where it was only tuned on them.

    ``learned``, by md5. A photo of it that is no more, or was saved anew, still speaks for its group.
    """
    if not learned:
        return prepared
    told = defaultdict[str, set[str]](set)
    for one in learned.values():
        told[one.group].add(one.split)
    told.pop("", None)
    for photo in prepared.photos:
        if photo.md5 in learned:
            told[photo.group].add(learned[photo.md5].split)
    spoils = {"train": set[str](), "val": {"train"}, "test": {"train", "val"}}
    kept = tuple(photo for photo in prepared.photos if not told[photo.group] & spoils[photo.split])
    return replace(prepared, photos=kept)


def held_out(folder: Path = CHECKPOINT_FOLDER) -> Prepared:
    """The prepared photos, as far as they may judge the checkpoint in ``folder``. Raises StepFailed."""
    return unseen(Prepared.load(), learned(folder))


def write(start: Start, folder: Path = CHECKPOINT_FOLDER) -> None:
    """``learned.csv``: what the weights had learned from before this training."""
    with open_csv(folder / LEARNED, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("md5", "split", "group"))
        writer.writerows((md5, one.split, one.group) for md5, one in sorted(start.learned.items()))


def learned(folder: Path = CHECKPOINT_FOLDER) -> dict[str, Learned]:
    """By md5, what the checkpoint's weights had learned from before; empty where from nothing."""
    file = folder / LEARNED
    return artifacts.read_learned(file) if file.is_file() else {}


class _DoesNotFit(Exception):
    """Why a champion is none to go on from, in words that follow `because`."""


def _read(folder: Path | None, info: Info, prepared: Prepared) -> Start:
    if folder is None or not folder.is_dir():
        raise _DoesNotFit("no release is in service yet")
    try:
        bundle = Bundle.load(folder)
        _fits(bundle, info)
        start = Start(
            artifacts.release_name(folder),
            weights(folder / CHECKPOINT),
            bundle.manifest.classes,
            artifacts.learned(folder),
            _anew(folder),
        )
    except (BadBundle, StepFailed, OSError) as error:
        raise _DoesNotFit(f"the release in service is not whole: {error}") from None
    _few_new(prepared, start)
    _enough(prepared, start)
    _try(start, info)
    return start


def _anew(release: Path) -> float | None:
    training = artifacts.values(release / artifacts.RELEASE_FILE).get("training") or {}
    seconds = training.get("anew_seconds")
    return float(seconds) if seconds is not None else None


def _try(start: Start, info: Info) -> None:
    network = make(info.backbone, len(info.classes), info.preprocessing.size)
    try:
        start.give(network, info.classes)
    except (KeyError, IndexError, RuntimeError) as error:
        said = str(error).strip().partition("\n")[0]
        raise _DoesNotFit(
            f"the weights of release {start.release} do not fit the {info.backbone} of now: {said}"
        ) from None


def _fits(bundle: Bundle, info: Info) -> None:
    manifest = bundle.manifest
    backbone, spec = manifest.model.get("backbone"), manifest.preprocessing
    if backbone != info.backbone:
        raise _DoesNotFit(f"the release in service is a {backbone}, and model.backbone is {info.backbone}")
    if manifest.sample_data != info.sample_data:
        raise _DoesNotFit("one of the two is of drawn sample leaves, the other of photos")
    if spec != info.preprocessing:
        raise _DoesNotFit(f"the release in service takes its photos otherwise ({_differing(spec, info.preprocessing)})")
    if not set(manifest.classes) & set(info.classes):
        raise _DoesNotFit("the release in service knows none of the classes")


def _differing(then: Preprocessing, now: Preprocessing) -> str:
    old, new = then.to_dict(), now.to_dict()
    return ", ".join(f"{key} {old[key]}, now {new[key]}" for key in new if old.get(key) != new[key])


def _few_new(prepared: Prepared, start: Start) -> None:
    """Going on is for collections to which a few photos came."""
    train = prepared.of("train")
    new = sum(photo.md5 not in start.learned for photo in train)
    if new > _MOST_NEW * len(train):
        raise _DoesNotFit(
            f"{new:,} of the {len(train):,} training photos of now are new to release {start.release}, more than half: "
            f"{len(train) - new:,} are those that it learned from"
        )


def _enough(prepared: Prepared, start: Start) -> None:
    """Held-out photos that the release learned from are left out; too many, and nothing could be judged."""
    before, after = (Counter(one.split for one in some.photos) for some in (prepared, unseen(prepared, start.learned)))
    for split in ("test", "val"):
        if before[split] - after[split] > _MOST_LOST * before[split]:
            raise _DoesNotFit(
                f"release {start.release} learned from {before[split] - after[split]:,} of the {before[split]:,} "
                f"{split} photos of now, or their like: the rest could not judge it"
            )
    lost = {photo.label for photo in prepared.of("test")}
    lost -= {photo.label for photo in unseen(prepared, start.learned).of("test")}
    if lost:
        raise _DoesNotFit(f"release {start.release} learned from all test photos of {min(lost)}, or their like")
