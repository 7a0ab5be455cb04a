"""What the benchmarks share: an environment, projects with many photos, alternating clocks, Markdown tables."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image

from plantops.ml.split import Grouping, Sides, members

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
RAW = Path("data/raw/PlantVillage")
# Runs a program and says how long it took and what it took of memory at most. A small process of its own, because the
# kernel counts what a child had before its exec, too: the memory of whoever started it.
_WATCHER = """
import os, sys, time
began = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
print(f"\\n{time.perf_counter() - began} {used.ru_maxrss * 1024} {used.ru_utime + used.ru_stime}")
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Used(NamedTuple):
    """What a program took: seconds on the clock, bytes of memory at most, and seconds of processor, of all cores."""

    seconds: float
    peak: int
    work: float


@dataclass(frozen=True)
class Times:
    """Wall times of one command over the rounds, seconds; ``peak``: the most that it held in memory, bytes."""

    seconds: tuple[float, ...]
    peak: int = 0

    @property
    def median(self) -> float:
        """The one to report."""
        return statistics.median(self.seconds)

    @property
    def shown(self) -> str:
        """Median and the quickest, milliseconds."""
        return f"{1e3 * self.median:,.0f} ms ({1e3 * min(self.seconds):,.0f})"


def tool(name: str) -> str:
    """The program of this Python's environment."""
    return str(BIN / name)


def environment(home: Path) -> dict[str, str]:
    """Ours, with compiled modules allowed, a home of its own, and this Python's programs first."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    name, mail = "Benchmark", "benchmark@localhost"
    who = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail, "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": mail}
    places = {"HOME": str(home), "DVC_SITE_CACHE_DIR": str(home / "dvc"), "XDG_CACHE_HOME": str(home / ".cache")}
    return {**kept, **who, **places, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


class Bench:
    """Runs programs in a folder of its own and measures them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "home").mkdir(parents=True, exist_ok=True)
        self.env = environment(folder / "home")
        self.run([sys.executable, "-m", "compileall", "-q", str(ROOT / "src/plantops")], folder)

    def run(self, argv: Sequence[str], cwd: Path) -> str:
        """Run a program to its end; its output. Stops the benchmark, showing what it said, when it fails."""
        done = subprocess.run(argv, cwd=cwd, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def clock(self, argv: Sequence[str], cwd: Path) -> float:
        """Seconds that a program takes, from its start to its end."""
        return self.measured(argv, cwd).seconds

    def measured(self, argv: Sequence[str], cwd: Path) -> Used:
        """Of a program, children that it waited for included; of memory, the one that took most."""
        seconds, peak, work = self.run([sys.executable, "-SE", "-c", _WATCHER, *argv], cwd).splitlines()[-1].split()
        return Used(float(seconds), int(peak), float(work))

    def alternate(self, commands: Mapping[str, Sequence[str]], cwd: Path, rounds: int) -> dict[str, Times]:
        """Run the commands in turn, so that a busy moment hits them alike; the first round is not counted."""
        found: dict[str, list[Used]] = {name: [] for name in commands}
        for turn in range(rounds + 1):
            for name, argv in commands.items():
                took = self.measured(argv, cwd)
                if turn:
                    found[name].append(took)
        return {
            name: Times(tuple(one.seconds for one in values), max(one.peak for one in values))
            for name, values in found.items()
        }

    def commit(self, project: Path, message: str) -> None:
        """`git add .` and `git commit`."""
        self.run(["git", "add", "."], project)
        self.run(["git", "commit", "-q", "-m", message], project)


def ratio(slow: Times, fast: Times) -> float:
    """How many times faster: the median over the rounds, each round compared with itself."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def compared(size: str, times: Mapping[str, Times], against: str) -> list[list[object]]:
    """A row for each command: project, command, time, how many times faster than the one ``against``."""
    return [[size, name, one.shown, f"{ratio(times[against], one):.1f}"] for name, one in times.items()]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


@contextlib.contextmanager
def workplace(given: Path | None) -> Iterator[Bench]:
    """A folder that goes away, or the given one, whose projects are taken up again."""
    if given:
        yield Bench(given.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="plantops-benchmark-") as folder:
        yield Bench(Path(folder))


def arguments(what: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="make the projects here and keep them (default: a temporary folder)")
    parser.add_argument("--rounds", type=int, default=15, help="how often each command is timed")
    return parser


def sized(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options of benchmarks on many photos."""
    parser.add_argument("--sizes", nargs="+", default=["17x4432", "38x54000"], help="classes x photos, drawn, tiny")
    parser.add_argument("--photos", type=Path, help="real photos instead, one folder per class")
    return parser


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def change(path: Path, **sections: Any) -> None:
    """Change keys of a YAML file; of a section, only those named."""
    values = yaml.safe_load(path.read_text())
    for key, new in sections.items():
        values[key] = {**values[key], **new} if isinstance(new, dict) else new
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def new_project(bench: Bench, name: str) -> Path:
    """As `plantops init` makes it, with ports of its own and a gate that lets every model pass."""
    folder = bench.folder / name
    bench.run([tool("plantops"), "init", str(folder)], bench.folder)
    lenient = {"min_accuracy": 0.0, "min_macro_f1": 0.0, "min_recall": 0.0, "max_fall": 1.0}
    change(folder / "config.yaml", deploy={"port": free_port()}, mlflow={"ui_port": free_port()}, gate=lenient)
    return folder


@contextlib.contextmanager
def serving(bench: Bench, project: Path) -> Iterator[Path]:
    """The project, whose API is stopped when the measuring is over."""
    try:
        yield project
    finally:
        if (project / ".plantops").is_dir():
            bench.run([tool("plantops"), "down"], project)


@contextlib.contextmanager
def settled(bench: Bench, size: str, photos: Path | None) -> Iterator[Path]:
    """A project with its photos under DVC, run once with cheap stages: released, serving, nothing to do."""
    folder = bench.folder / (photos.name if photos else size)
    with serving(bench, folder):
        _settle(bench, folder, size, photos)
        yield folder


def _settle(bench: Bench, folder: Path, size: str, photos: Path | None) -> None:
    if (folder / ".plantops").is_dir():
        bench.run([tool("plantops"), "up"], folder)
        return
    new_project(bench, folder.name)
    shutil.copytree(photos, folder / RAW, dirs_exist_ok=True) if photos else draw(folder / RAW, size)
    _cheap_stages(folder)
    classes = sorted(str(one.relative_to(folder)) for one in (folder / RAW).iterdir() if one.is_dir())
    bench.run([tool("dvc"), "add", "--quiet", *classes], folder)
    bench.commit(folder, "Add photos")
    bench.run([tool("plantops"), "run"], folder)
    bench.commit(folder, "Record the run")


def _cheap_stages(folder: Path) -> None:
    """The stages of the tests, which learn in a second; from few photos, so that 54,000 are no trouble."""
    shutil.copyfile(ROOT / "tests/runs/cheap_stages.py", folder / "cheap_stages.py")
    pipeline = yaml.safe_load((folder / "dvc.yaml").read_text())
    for name, verb in (("train", "train"), ("evaluate", "evaluate"), ("export_model", "export")):
        pipeline["stages"][name]["cmd"] = f"python cheap_stages.py {verb}"
    del pipeline["stages"]["evaluate"]["plots"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    change(folder / "params.yaml", model={"size": 32}, split={"group_by": None, "val": 0.05, "test": 0.9})
    change(folder / "config.yaml", deploy={"watch_seconds": 0.2})


def draw(raw: Path, size: str) -> None:
    """Distinct JPEG files of a few hundred bytes, 32 x 32 pixels."""
    classes, count = (int(part) for part in size.split("x"))
    random = np.random.default_rng(1)
    for number in range(count):
        folder = raw / f"Class_{number % classes:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        data = io.BytesIO()
        coarse.resize((32, 32)).save(data, "JPEG", quality=40)
        (folder / f"{number:05d}___S {number:05d}.jpg").write_bytes(data.getvalue())


def groups(paths: Sequence[str], group_by: str | None, raw: Path) -> dict[str, str]:
    """The group of each of ``paths`` (class/name, in order), as stage prepare_data has it; else a photo is its own."""
    found = Grouping(group_by, raw, Path(tempfile.gettempdir())).of(paths)
    return {path: path if group is None else group for path, group in zip(paths, found, strict=True)}


def sides(paths: Sequence[str], names: Mapping[str, str], seed: int, val: float, test: float) -> dict[str, str]:
    """Of each path the side (train, val, test) that its group, by ``names``, is on."""
    listed = sorted((names[path], path.partition("/")[0]) for path in paths)
    found = Sides(lambda: members(listed, {}), seed, val, test)
    return {path: found.of(names[path]) for path in paths}
