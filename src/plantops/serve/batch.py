"""``python -m plantops.serve.batch --bundle DIR --photos FILE``: a bundle's answers for many photos, without HTTP.

``FILE`` holds the photos' paths, each ended by a NUL. Out come lines of ``@`` and JSON: an answer or an
``error`` for each photo, in order. The same code as the API's, one photo at a time on each core, so the
same probabilities bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantops.ahead import ahead
from plantops.bundle import BadBundle
from plantops.photo import NotAPhoto, footprint, open_photo, pixels
from plantops.serve.predictor import NotProven, Predictor, load
from plantops.serve.room import Room
from plantops.serve.settings import Settings, cores

MARK = "@"
_MOST_BYTES = 500_000_000


@dataclass(frozen=True)
class Batch:
    """A predictor, how many classes to list, and the memory for decoding."""

    predictor: Predictor
    top: int
    room: Room

    def answer(self, path: Path) -> dict[str, Any]:
        """One photo's answer with the API's names, or ``error``: why there is none."""
        try:
            if path.stat().st_size > _MOST_BYTES:
                return {"error": f"larger than {_MOST_BYTES / 1e6:.0f} MB"}
            return self._answer(path.read_bytes())
        except NotAPhoto as error:
            return {"error": str(error)}
        except OSError as error:
            return {"error": str(error.strerror)}

    def _answer(self, data: bytes) -> dict[str, Any]:
        predictor, spec = self.predictor, self.predictor.manifest.preprocessing
        photo = open_photo(data)
        with self.room.take(footprint(photo, spec)):
            square = pixels(photo, spec)
        seen = predictor.look(square)
        ranked = predictor.ranked(seen.probabilities, self.top)
        name, confidence = ranked[0]
        return {
            "release": predictor.identity.release,
            "prediction": name,
            "confidence": confidence,
            "unsure": predictor.doubts.unsure(confidence),
            "unlike": seen.unlike,
            "top5_predictions": [{"class": one, "confidence": share} for one, share in ranked],
        }


def main() -> int:
    """Exit status 0, or 2 when the bundle cannot be used."""
    options = _parser().parse_args()
    warnings.simplefilter("ignore")  # Pillow has one for each odd tag
    try:
        predictor = load(options.bundle)
        predictor.prove()
    except (BadBundle, NotProven) as error:
        print(f"the bundle in {options.bundle} cannot be used: {error}", file=sys.stderr)
        return 2
    batch = Batch(predictor, options.top, Room(Settings().max_decoding_bytes))
    for answer in ahead(batch.answer, _paths(options.photos), cores()):
        _say(answer)
    return 0


def _paths(file: Path) -> Iterator[Path]:
    for name in file.read_bytes().split(b"\0"):
        if name:
            yield Path(os.fsdecode(name))


def _say(value: dict[str, Any]) -> None:
    print(MARK + json.dumps(value), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m plantops.serve.batch", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--photos", type=Path, required=True, help="file with the photos' paths, each ended by a NUL")
    parser.add_argument("--top", type=int, default=5, help="how many of the likeliest classes to list")
    return parser


if __name__ == "__main__":
    sys.exit(main())
