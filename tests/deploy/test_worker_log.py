"""The log of the workers has a bound."""

from __future__ import annotations

from pathlib import Path

from plantops.deploy.worker import Log


def test_the_log_keeps_the_newest_lines_within_its_bound(tmp_path: Path) -> None:
    log = Log(tmp_path / "worker.log")
    for number in range(30):
        log.write(f"{number}".encode() * 50_000)
    kept = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(kept) == 2
    assert sum(kept) < 2_500_000
    assert (tmp_path / "worker.log").read_bytes().endswith(b"29")


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    log = Log(Path("/dev/full"))
    for _ in range(3):
        log.write(b"no space left for this\n")
