"""The image of a release: what it adds to the base image, and how long a new model takes to get in.

Aims: at most 170 MB over the base; with only the model changed at most 1 s and exactly one new layer. Against an image
that serves with torch and mlflow, built in the same run; its torch is the wheel in the folder that PIP_FIND_LINKS
names (where there is one), else the index's.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import common
from common import ROOT, Times, table

from plantops.config import Config, DockerConfig
from plantops.deploy import image
from plantops.errors import StepFailed

sys.path.insert(0, str(ROOT / "tests"))
from bundle_factory import TinyModel, make_release

if TYPE_CHECKING:
    from docker import DockerClient

BASE = "python:3.11-slim"
# As many as make the file about as large as a small ResNet's.
CLASSES = tuple(f"Class {number}" for number in range(1600))
STAGE = "org.plantops.benchmark=rival"
RIVAL = ("mlflow", "fastapi", "uvicorn", "python-multipart", "pillow")


def main() -> None:
    """Print the table."""
    parser = common.arguments(__doc__)
    parser.add_argument("--alone", action="store_true", help="without the image of torch and mlflow")
    options = parser.parse_args()
    import docker

    engine = docker.from_env(timeout=120)
    with common.workplace(options.work) as bench, _names(engine) as config:
        ours = _ours(engine, config, bench.folder, options.rounds)
        rival = [] if options.alone else [_rival(engine, image.tag(config, "rival"))]
    head = ["image", "over the base, MB", "whole, MB", "with a new model: median (quickest)", "new layers"]
    print(table(head, [ours, *rival]))


@contextmanager
def _names(engine: DockerClient) -> Iterator[Config]:
    """Settings with an image name of this run's own, whose images go at its end."""
    config = Config(ROOT, ROOT / "config.yaml", docker=DockerConfig(image=f"plantops-benchmark-{uuid.uuid4().hex[:8]}"))
    try:
        yield config
    finally:
        for release in image.present(engine, config):
            image.remove(engine, image.tag(config, release))
        engine.images.prune(filters={"dangling": True, "label": STAGE})


def _ours(engine: DockerClient, config: Config, folder: Path, rounds: int) -> list[str]:
    seconds, layers = [], []
    for turn in range(rounds + 1):
        release = make_release(folder / f"r{turn}-{uuid.uuid4().hex[:8]}", TinyModel(turn, CLASSES))
        began = time.perf_counter()
        image.build(engine, config, release, lambda _: None)
        seconds.append(time.perf_counter() - began)
        layers.append(set(engine.images.get(image.tag(config, release.name)).attrs["RootFS"]["Layers"]))
    new = {len(after - before) for before, after in pairwise(layers)}
    sizes = _sizes(engine, image.tag(config, release.name))
    return ["plantops'", *sizes, Times(tuple(seconds[1:])).shown, ", ".join(map(str, sorted(new)))]


def _rival(engine: DockerClient, name: str) -> list[str]:
    what = f"torch, {', '.join(RIVAL)}"
    try:
        for event in engine.api.build(
            fileobj=_rival_context(), custom_context=True, tag=name, rm=True, forcerm=True, decode=True, timeout=1800
        ):
            if "error" in event:
                raise StepFailed(event["error"].strip())
    except StepFailed as error:
        return [what, "", "", f"could not be built here: {error.message[:200]}", ""]
    return [what, *_sizes(engine, name), "", ""]


def _rival_context() -> io.BytesIO:
    """A Dockerfile that installs what a service with torch needs, at our versions, and a torch wheel if one is here."""
    pins = dict(re.findall(r"^([a-z-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    wanted = " ".join(f"{one}=={pins[one]}" for one in RIVAL)
    torch = re.findall(r'"(torch==[0-9.]+)"', (ROOT / "pyproject.toml").read_text())[0]
    links = Path(os.environ.get("PIP_FIND_LINKS") or "/nonexistent")
    wheels = sorted(links.glob("torch-*cp311*.whl"))[:1]
    # Two stages, so that the wheel itself is not in the image.
    recipe = f"""FROM {BASE} AS made
LABEL {STAGE}
COPY . /wheels/
RUN pip install --no-cache-dir --find-links /wheels --target /opt/packages {torch} {wanted}
FROM {BASE}
COPY --from=made /opt/packages /opt/packages
"""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(recipe.encode())
        tar.addfile(entry, io.BytesIO(recipe.encode()))
        for wheel in wheels:
            tar.add(wheel, wheel.name)
    packed.seek(0)
    return packed


def _sizes(engine: DockerClient, name: str) -> list[str]:
    """Megabytes over the base, and in all."""
    base, whole = (int(engine.images.get(one).attrs["Size"]) for one in (BASE, name))
    return [f"{(whole - base) / 1e6:.0f}", f"{whole / 1e6:.0f}"]


if __name__ == "__main__":
    main()
