"""The API under load, beside the physical limit of the machine and what else serves a model on it.

The limit is decode + resize + infer in one process, on the same cores, with the same photos. The peers (LitServe,
BentoML, `mlflow models serve`, FastAPI + torch) get the same network, photos and cores, each with the settings that
its documentation recommends and an environment of its own. All run at once and are asked in turn, round by round, so
that a busy moment hits them alike; a share of the limit is the median over the rounds, each compared with itself.

Aims: 88 % of the limit at saturation, p50 at concurrency 1 within 0.7 ms of it, p99 at 32 at most 1.6 times p50, twice
LitServe's throughput at half its memory where graph and decoder are chosen at export.

``--cost``: processor time for each photo instead, of the limit and of plantops' processes, which other programs on the
same cores disturb less than they do the clock. ``--lookers 1 2 4 8``: plantops alone, with so many processes that look
at photos.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common import ROOT, arguments, free_port, table, tool, workplace

HERE = ROOT / "benchmarks/serving"
PEERS = HERE / "peers"
START_S = 120.0
NUMBERS = ["numpy", "pillow", "onnxruntime"]


@dataclass(frozen=True)
class Rival:
    """How one server is installed and started; ``path`` and ``body`` say how it is asked."""

    name: str
    packages: list[str]
    argv: list[str]
    path: str = "/predict"
    body: str = "form"
    env: dict[str, str] = field(default_factory=dict)
    prepare: list[str] = field(default_factory=list)


def rivals(work: Path) -> list[Rival]:
    """All of them; ``{bin}``, ``{port}`` and ``{cores}`` are filled in later."""
    onnx = [*NUMBERS, "onnx"]
    uvicorn = ["{bin}/uvicorn", "torch_app:app", "--port={port}", "--workers={cores}", "--log-level=warning"]
    saved = str(work / "mlflow-model")
    mlflow = ["{bin}/mlflow", "models", "serve", "-m", saved, "-p", "{port}", "--env-manager=local", "-w", "{cores}"]
    serve = ["{bin}/python", "-m", "plantops.serve", "--port={port}", "--bundle"]
    ours = {"packages": ["-r", str(ROOT / "docker/requirements.lock")], "env": {"PYTHONPATH": str(ROOT / "src")}}
    return [
        Rival("plantops", argv=[*serve, str(work / "bundle")], **ours),
        Rival("plantops in eight bits", argv=[*serve, str(work / "bundle8")], **ours),
        Rival(
            "LitServe", [*NUMBERS, "litserve", "python-multipart"], ["{bin}/python", "litserve_app.py"],
            body="request",
        ),
        Rival("BentoML", [*NUMBERS, "bentoml"], ["{bin}/bentoml", "serve", "bentoml_app:Leaves", "--port={port}"]),
        Rival(
            "mlflow models serve", [*onnx, "mlflow"], mlflow, "/invocations", "json",
            {"MLFLOW_MODEL": saved}, ["{bin}/python", "mlflow_app.py"],
        ),
        Rival(
            "FastAPI + torch", ["numpy", "pillow", "fastapi", "uvicorn[standard]", "python-multipart", "torch==2.13.0"],
            uvicorn,
        ),
    ]  # fmt: skip


class Running:
    """One server."""

    def __init__(self, rival: Rival, bin_: Path, work: Path, cores: int) -> None:
        self.rival, self.port = rival, free_port()
        filled = {"bin": str(bin_), "port": str(self.port), "cores": str(cores)}
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        env = {**kept, **rival.env, "PORT": str(self.port), "BENCHMARK_MODEL": str(work), "BENTOML_DO_NOT_TRACK": "1"}
        env["PATH"] = f"{bin_}{os.pathsep}{env['PATH']}"
        if rival.prepare:
            shutil.rmtree(rival.env["MLFLOW_MODEL"], ignore_errors=True)
            subprocess.run([one.format(**filled) for one in rival.prepare], cwd=PEERS, env=env, check=True)
        self.log = work / f"{rival.name.replace(' ', '-')}.log"
        began = time.perf_counter()
        with self.log.open("wb") as out:
            argv = [one.format(**filled) for one in rival.argv]
            self.process = subprocess.Popen(argv, cwd=PEERS, env=env, stdout=out, stderr=out, start_new_session=True)
        self._wait(work / f"small-{rival.body}")
        self.start_s = time.perf_counter() - began

    def _wait(self, bodies: Path) -> None:
        """Until it has answered one photo."""
        headers, body = {"Content-Type": (bodies / "type").read_text()}, (bodies / "000").read_bytes()
        deadline = time.perf_counter() + START_S
        while time.perf_counter() < deadline and self.process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("POST", self.rival.path, body, headers)
                response = connection.getresponse()
                said = response.read()
                if response.status == 200 and b"confidence" in said:
                    return
            time.sleep(0.01)
        raise RuntimeError(f"{self.rival.name} did not start: {self.log.read_text(errors='replace')[-800:]}")

    def memory(self) -> float:
        """MB of the whole family, what is shared counted once (Pss)."""
        return sum(_pss(pid) for pid in _family(self.process.pid)) / 1e3

    def stop(self) -> None:
        """End it and its children."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)


def _family(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(one for child in children for one in _family(int(child)))]
    return []


def _spent(pid: int) -> tuple[float, int]:
    """(seconds of processor time, context switches) of a process so far. Linux encodes its clock so."""
    with contextlib.suppress(OSError):
        counts = [
            int(one.split()[1]) for one in Path(f"/proc/{pid}/status").read_text().splitlines() if "_ctxt_" in one
        ]
        return time.clock_gettime((~pid << 3) | 2), sum(counts)
    return 0.0, 0


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


def install(rival: Rival, folder: Path) -> Path:
    """An environment of its own; returns its ``bin``. Raises CalledProcessError."""
    installed = folder / "installed"
    wanted = " ".join(Path(one).read_text() if one.endswith(".lock") else one for one in rival.packages)
    if not installed.exists() or installed.read_text() != wanted:
        env = {**os.environ, "UV_COMPILE_BYTECODE": "1"}
        if links := os.environ.get("PIP_FIND_LINKS"):
            env["UV_FIND_LINKS"] = links
        subprocess.run([tool("uv"), "venv", "-q", "--clear", str(folder)], check=True, env=env)
        argv = [tool("uv"), "pip", "install", "-q", "--python", str(folder / "bin/python"), *rival.packages]
        subprocess.run(argv, check=True, env=env, timeout=900)
        installed.write_text(wanted)
    return folder / "bin"


def size(folder: Path) -> float:
    """MB of what is installed."""
    return sum(one.lstat().st_size for one in folder.rglob("*") if not one.is_dir()) / 1e6


def told(*argv: str) -> dict[str, Any]:
    """What a helper prints."""
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@contextlib.contextmanager
def started(chosen: list[Rival], work: Path, cores: int) -> Iterator[list[Running]]:
    """Those that can be installed and started; the others are named."""
    running: list[Running] = []
    try:
        for rival in chosen:
            try:
                bin_ = install(rival, work / "venvs" / rival.name.split()[0].lower())
                running.append(Running(rival, bin_, work, cores))
            except (subprocess.SubprocessError, RuntimeError) as error:
                print(f"{rival.name} is missing here: {error}", flush=True)
        yield running
    finally:
        for one in running:
            one.stop()


def measure(running: list[Running], work: Path, options: Any) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """By server, kind of photo and concurrency: what each round gave. The limit is a server of no name."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    cores = len(os.sched_getaffinity(0))
    for _ in range(options.rounds):
        for kind in options.kinds:
            for concurrency in options.concurrency:
                threads = str(min(cores, concurrency))
                limit = (str(HERE / "limit.py"), str(work / "bundle"), str(work / kind), threads, str(options.seconds))
                found.setdefault(("", kind, concurrency), []).append(told(*limit))
                for one in running:
                    bodies = work / f"{kind}-{one.rival.body}"
                    how = (str(one.port), one.rival.path, str(concurrency), str(options.seconds), str(bodies))
                    result = told(str(HERE / "client.py"), *how)
                    found.setdefault((one.rival.name, kind, concurrency), []).append(result)
    return found


def cost(one: Running, work: Path, options: Any) -> Iterator[list[object]]:
    """Processor time of the limit and of a server for one small photo, in turn; the load client's is left out."""
    photos, bodies = str(work / "small"), str(work / "small-form")
    for concurrency in options.concurrency:
        rounds: list[list[float]] = []
        for _ in range(options.rounds):
            threads = str(min(len(os.sched_getaffinity(0)), concurrency))
            limit = told(str(HERE / "limit.py"), str(work / "bundle"), photos, threads, str(options.seconds))
            family = _family(one.process.pid)
            before = [_spent(pid) for pid in family]
            how = (str(one.port), one.rival.path, str(concurrency), str(options.seconds), bodies)
            answers = told(str(HERE / "client.py"), *how)["answers"]
            used = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, map(_spent, family), strict=True)]
            http, whole = 1e3 * used[0][0] / answers, 1e3 * sum(seconds for seconds, _ in used) / answers
            switches = sum(count for _, count in used) / answers
            rounds.append([limit["cpu_ms"], http, whole - http, whole, limit["cpu_ms"] / whole, switches])
        ours = [statistics.median(values) for values in zip(*rounds, strict=True)]
        yield [concurrency, *(f"{value:.2f}" for value in ours[:4]), f"{100 * ours[4]:.0f} %", f"{ours[5]:.1f}"]


def crowds(work: Path, options: Any) -> Iterator[list[object]]:
    """plantops with more and more processes that look at photos, asked by 32 at once."""
    ours = rivals(work)[0]
    for count in options.lookers:
        rival = replace(ours, argv=[*ours.argv, "--threads", str(count)])
        with started([rival], work, count) as (one,):
            how = (str(one.port), rival.path, "32", str(options.seconds), str(work / "small-form"))
            found = []
            for _ in range(options.rounds):
                family = _family(one.process.pid)
                before = sum(_spent(pid)[0] for pid in family)
                answer = told(str(HERE / "client.py"), *how)
                spent = sum(_spent(pid)[0] for pid in family) - before
                found.append({**answer, "cpu_ms": 1e3 * spent / answer["answers"]})
            values = [f"{middle(found, key):.1f}" for key in ("per_s", "p50_ms", "p99_ms", "cpu_ms")]
            yield [count, *values, f"{one.memory():.0f}", sum(each["failed"] for each in found)]


def middle(results: list[dict[str, Any]], key: str) -> float:
    """The median over the rounds."""
    return statistics.median(one[key] for one in results if one[key] is not None)


def rows(found: dict[tuple[str, str, int], list[dict[str, Any]]]) -> Iterator[list[object]]:
    """The table of speeds."""
    for (name, kind, concurrency), results in sorted(found.items(), key=lambda one: (one[0][1:], one[0][0] != "")):
        limits = found["", kind, concurrency]
        share = statistics.median(a["per_s"] / b["per_s"] for a, b in zip(results, limits, strict=True))
        p50 = middle(results, "p50_ms")
        start = [
            kind,
            concurrency,
            name or "limit",
            f"{middle(results, 'per_s'):.0f}",
            f"{100 * share:.0f} %",
            f"{p50:.1f}",
        ]
        if not name:
            yield [*start, "", "", "", ""]
            continue
        p99, failed = middle(results, "p99_ms"), sum(one["failed"] for one in results)
        yield [*start, f"{p99:.1f}", f"{p99 / p50:.2f}", f"{100 * middle(results, 'share'):.0f} %", failed]


def main() -> None:
    """Print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="real photos, one folder per class")
    parser.add_argument("--seconds", type=float, default=8, help="how long each is asked in each round")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--kinds", nargs="+", default=["small", "large"], choices=["small", "large"])
    parser.add_argument("--only", nargs="+", help="these servers alone (first words of their names)")
    parser.add_argument("--cost", action="store_true", help="processor time for each photo instead, of plantops alone")
    parser.add_argument("--lookers", type=int, nargs="+", help="plantops alone, with so many processes that look")
    options = parser.parse_args()
    with workplace(options.work) as bench:
        work = bench.folder
        if not (work / "classes.json").exists():
            subprocess.run([sys.executable, HERE / "material.py", work, options.photos.resolve()], check=True)
        if options.lookers:
            head = ["lookers", "photos/s", "p50 ms", "p99 ms", "CPU ms a photo", "MB in memory", "failed"]
            print(table(head, list(crowds(work, options))))
            return
        if options.cost:
            with started(rivals(work)[:1], work, len(os.sched_getaffinity(0))) as (ours,):
                head = ["asked at once", "limit, CPU ms", "HTTP", "lookers", "plantops", "limit's share", "switches"]
                print(table(head, list(cost(ours, work, options))))
            return
        chosen = [one for one in rivals(work) if not options.only or one.name.split()[0] in options.only]
        with started(chosen, work, len(os.sched_getaffinity(0))) as running:
            found = measure(running, work, options)
            things = [
                [one.rival.name, f"{one.start_s:.1f}", f"{one.memory():.0f}",
                 f"{size(work / 'venvs' / one.rival.name.split()[0].lower()):.0f}"]
                for one in running
            ]  # fmt: skip
        head = [
            "photos",
            "asked at once",
            "server",
            "photos/s",
            "of the limit",
            "p50 ms",
            "p99 ms",
            "p99/p50",
            "client",
            "failed",
        ]
        print(table(head, list(rows(found))), end="\n\n")
        print(table(["server", "first answer after s", "MB in memory after it", "MB installed"], things))


if __name__ == "__main__":
    main()
