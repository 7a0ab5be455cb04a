"""`plantops data`: the first look at many photos, the second, and one after ten new photos.

Beside it: decoding all photos in full with Pillow on all cores, which any look must do at least once, and the peer:
CleanVision (Apache 2.0), where `--peer` names a Python that has it (`pip install cleanvision`). It looks for copies,
near copies and blank photos, too, and also for blur and darkness; it has no memory and knows no classes.

Aims: 22,000 photos first time in at most 20 s on two cores, later only new ones within a second.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import common
from common import Bench, table, tool
from PIL import Image

_TURNS = [None, *Image.Transpose]
_DECODE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image
def decode(path):
    with Image.open(path) as image:
        image.convert("RGB")
with ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(decode, Path(sys.argv[1]).glob("*/*")))
"""
_PEER = """
import os, sys
from cleanvision import Imagelab
Imagelab(data_path=sys.argv[1]).find_issues(n_jobs=os.cpu_count(), verbose=False)
"""


def main() -> None:
    """Print the table."""
    options = _options()
    with common.workplace(options.work) as bench:
        project = bench.folder / f"data-{options.count}"
        if not project.is_dir():
            common.new_project(bench, project.name)
        raw = project / common.RAW
        count = _fill(raw, options.photos, options.count)
        rows = [_row(what, seconds, count) for what, seconds in _times(bench, project, raw, options)]
        print(table(["photos", "what", "seconds", "photos a second"], rows))


def _options() -> argparse.Namespace:
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--photos", type=Path, required=True, help="real photos, one folder per class")
    parser.add_argument("--count", type=int, default=22_000, help="made of them by turning and mirroring")
    parser.add_argument("--peer", type=Path, help="a Python that has CleanVision")
    return parser.parse_args()


def _fill(raw: Path, photos: Path, count: int) -> int:
    """As many photos as wanted, no two alike: turned and mirrored, saved at the quality of the original."""
    sources = sorted(photos.glob("*/*.jpg"))
    jobs = [(turn, path) for turn in _TURNS for path in sources][:count]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda job: _turned(raw, *job), jobs))
    return len(jobs)


def _turned(raw: Path, turn: Image.Transpose | None, source: Path) -> None:
    target = raw / source.parent.name / f"{turn.name if turn is not None else ''}{source.name}"
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if turn is None:
        shutil.copyfile(source, target)
        return
    data = io.BytesIO()
    with Image.open(source) as image:
        image.transpose(turn).save(data, "JPEG", quality=92)
    target.write_bytes(data.getvalue())


def _times(bench: Bench, project: Path, raw: Path, options: argparse.Namespace) -> list[tuple[str, float]]:
    look = [tool("plantops"), "data", "--json"]
    found = []
    for _ in range(options.rounds):
        shutil.rmtree(project / ".plantops", ignore_errors=True)
        found.append(("`plantops data`, first", bench.clock(look, project)))
        found.append(("`plantops data`, second", bench.clock(look, project)))
        _add_ten(raw)
        found.append(("`plantops data`, ten new photos", bench.clock(look, project)))
        found.append(("Pillow decodes all, no more", bench.clock([sys.executable, "-c", _DECODE, str(raw)], project)))
        if options.peer:
            found.append(("CleanVision", bench.clock([str(options.peer), "-c", _PEER, str(raw)], project)))
    return found


def _add_ten(raw: Path) -> None:
    first = sorted(one for one in raw.iterdir() if one.is_dir())[0]
    for path in sorted(first.glob("*.jpg"))[:10]:
        with Image.open(path) as image:
            image.rotate(17).save(first / f"new-{time.monotonic_ns()}.jpg")


def _row(what: str, seconds: float, count: int) -> list[object]:
    return [f"{count:,}", what, f"{seconds:.1f}", f"{count / seconds:,.0f}"]


if __name__ == "__main__":
    main()
