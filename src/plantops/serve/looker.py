"""``python -m plantops.serve.looker``: looks at photos, apart from the process that answers HTTP.

Python's lock lets one thread of a process go on at a time; as processes, decoding, inference and HTTP do not wait for
each other. One of them loads the bundle, proves it, and is forked for each that is asked for: they share its memory,
and one that ends is replaced in a few milliseconds. What they say to each other is in `looked.py`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import socket
import sys
import time
import warnings
from dataclasses import dataclass
from io import BufferedReader
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from plantops.photo import NotAPhoto, footprint, open_photo, pixels
from plantops.serve.heap import end_with_parent, return_big_pieces
from plantops.serve.heat import heat
from plantops.serve.looked import MOST, SMALL, Input, Looked, Served
from plantops.serve.predictor import Predictor, Seen, load

_AT_ONCE = 1 << 17  # bytes: most questions and their photos in one read


def main() -> int:
    """Load, prove, and make a process for every socket that comes; end when whoever started this does."""
    options = _parser().parse_args()
    end_with_parent()
    return_big_pieces()
    warnings.simplefilter("ignore")  # Pillow has one for each odd tag: a client could fill the log with them
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):  # they are for the one that started this
        signal.signal(signum, signal.SIG_IGN)
    channel = socket.socket(fileno=options.fd)
    try:
        predictor = load(options.bundle)
        served = Served(
            predictor.bundle, predictor.identity, predictor.prove(), predictor.together(MOST), predictor.doubts.usual
        )
    except Exception as error:  # noqa: BLE001  whatever is wrong with a model, /health says it
        _say(channel, {"failed": f"{type(error).__name__}: {error}"})
        return 0
    _say(channel, served.to_dict())
    gc.freeze()  # so that collecting writes to no page that is shared
    while fds := socket.recv_fds(channel, 1, 2)[1]:
        if os.fork() == 0:
            end_with_parent()
            channel.close()
            own, shared = socket.socket(fileno=fds[0]), mmap(fds[1], 0, prot=PROT_READ)
            Looker(predictor, own, shared, options.max_pixels, options.unasked).run()
            os._exit(0)
        for fd in fds:
            os.close(fd)
    return 0


@dataclass
class Looker:
    """One process that looks at photos, one at a time or a few.

    ``shared``: where a large photo lies. ``max_pixels`` of a photo. ``unasked``: bytes that it may hold for decoding
    without asking.
    """

    predictor: Predictor
    channel: socket.socket
    shared: mmap
    max_pixels: int
    unasked: int

    def run(self) -> None:
        """Until nobody asks any more. What is no fault of the photo ends the process: the next one starts afresh."""
        _say(self.channel, {"pid": os.getpid()})
        with BufferedReader(self.channel.makefile("rb", 0), _AT_ONCE) as asked:
            while line := asked.readline():
                question = json.loads(line)
                _say(self.channel, {"looked": self._answers(asked, **question)})

    def _answers(self, asked: BinaryIO, photos: list[int], tops: list[int], explain: bool) -> list[dict[str, Any]]:
        """One for each photo, in order."""
        read = [asked.read(size) if size <= SMALL else self.shared[:size] for size in photos]
        decoded = [self._decoded(asked, data) for data in read]
        squares = [one[0] for one in decoded if not isinstance(one, str)]
        began = time.perf_counter()
        seen = iter(self.predictor.look_at(np.stack(squares), explain) if squares else [])
        took = (time.perf_counter() - began) / max(len(squares), 1)
        return [
            {"error": one} if isinstance(one, str) else self._answer(one[1], next(seen), top, took)
            for one, top in zip(decoded, tops, strict=True)
        ]

    def _answer(self, came: Input, seen: Seen, top: int, took: float) -> dict[str, Any]:
        ranked = self.predictor.ranked(seen.probabilities, top)
        heatmap = None
        if seen.maps is not None:
            heatmap = heat(seen.maps, self.predictor.manifest.classes.index(ranked[0][0])).tolist()
        odd = None if seen.odd is None else seen.odd.tolist()
        unsure = self.predictor.doubts.unsure(ranked[0][1])
        return Looked(came, ranked, unsure, seen.unlike, took, heatmap, odd).to_dict()

    def _decoded(self, asked: BinaryIO, data: bytes) -> tuple[NDArray[np.uint8], Input] | str:
        """A stranger's photo to pixels, uint8, shape (size, size, 3), when there is room; or why not, in words."""
        spec = self.predictor.manifest.preprocessing
        try:
            photo = open_photo(data, self.max_pixels)
            kind, sides = photo.format or "", photo.size
            self._ask_for_room(asked, footprint(photo, spec))
            square = pixels(photo, spec)
        except NotAPhoto as error:
            return str(error)  # itself, it would hold on to the picture
        return square, Input(kind, len(data), sides, float(square[::4, ::4].mean()))

    def _ask_for_room(self, asked: BinaryIO, amount: int) -> None:
        if amount > self.unasked:
            _say(self.channel, {"room": amount})
            asked.readline()


def _say(channel: socket.socket, value: dict[str, Any]) -> None:
    channel.sendall(json.dumps(value).encode() + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m plantops.serve.looker", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--fd", type=int, required=True, help="socket of the process that answers HTTP")
    parser.add_argument("--max-pixels", type=int, required=True, help="of one photo")
    parser.add_argument("--unasked", type=int, required=True, help="bytes for decoding that need not be asked for")
    return parser


if __name__ == "__main__":
    sys.exit(main())
