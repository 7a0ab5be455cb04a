"""The physical limit: decode, resize and infer in one process, on the same cores, with no HTTP.

    python limit.py BUNDLE PHOTOS THREADS SECONDS

Prints one JSON document: photos a second, the median time of one, and the processor time of one.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from plantops.serve import predictor as loader


def main() -> None:
    """See the top."""
    bundle, folder, threads, seconds = sys.argv[1:]
    predictor = loader.load(Path(bundle))
    photos = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    times: list[float] = []
    until = time.perf_counter() + float(seconds)

    def work(turn: int) -> None:
        while (began := time.perf_counter()) < until:
            predictor.predict(predictor.decode(photos[turn % len(photos)]))
            times.append(time.perf_counter() - began)
            turn += 1

    began, used = time.perf_counter(), time.process_time()
    pool = [
        threading.Thread(target=work, args=(number * len(photos) // int(threads),)) for number in range(int(threads))
    ]
    for one in pool:
        one.start()
    for one in pool:
        one.join()
    told = {
        "per_s": len(times) / (time.perf_counter() - began),
        "p50_ms": 1e3 * sorted(times)[len(times) // 2],
        "cpu_ms": 1e3 * (time.process_time() - used) / len(times),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
