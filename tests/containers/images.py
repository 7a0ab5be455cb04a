"""A project that builds images, and containers of them as hard-pressed as compose runs them."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conftest import ROOT
from containers.engine import docker
from plantops.config import Config, DockerConfig
from plantops.deploy import image

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

BASE = "python:3.11-slim"
PLACES = ("opt", "bundle")
SECRET = "hunter2-never-in-an-image"
_HARD = {"read_only": True, "tmpfs": {"/tmp": ""}, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


@dataclass(frozen=True)
class Workshop:
    """A project's root with the files to build from, and an image name of its own."""

    engine: DockerClient
    config: Config

    def build(self, release: Path) -> str:
        """Build the release's image by the SDK; its tag."""
        image.build(self.engine, self.config, release, lambda _: None)
        return image.tag(self.config, image.release_of(release))

    def by_hand(self, release: Path, root: Path) -> str:
        """Build as a person does who types the guide's line in ``root``; its tag."""
        shutil.copytree(release, root / image.BUNDLE)
        name = f"{self.config.docker.image}:{root.name}"
        docker("build", "-f", str(root / image.DOCKERFILE), "-t", name, str(root), seconds=400)
        return name

    def layers(self, name: str) -> list[str]:
        """The digests of an image's layers, lowest first."""
        return list(self.engine.images.get(name).attrs["RootFS"]["Layers"])

    def added(self, name: str) -> int:
        """Bytes that our layers add to the base image."""
        return int(self.engine.images.get(name).attrs["Size"] - self.engine.images.get(BASE).attrs["Size"])


def make_root(root: Path) -> Path:
    """What `plantops init` gives a project to build from, among things that are nobody else's."""
    (root / "docker").mkdir(parents=True)
    for name in (image.DOCKERFILE, image.PACKAGES, image.LIST, ".dockerignore"):
        shutil.copyfile(ROOT / name, root / name)
    for name in ("config.yaml", ".env", "docker/.env", "docker/secret.txt", "data/raw/notes.txt", "models/key"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"password: {SECRET}\n")
    return root


def configured(root: Path, name: str) -> Config:
    """The settings of a project with that image name."""
    return Config(root, root / "config.yaml", docker=DockerConfig(image=name))


def keep_private(release: Path) -> Path:
    """Put beside the bundle what a release's folder has that no image may have."""
    for name in ("model.ckpt", "lineage.json", "split.csv"):
        (release / name).write_text(SECRET)
    return release


@contextmanager
def running(engine: DockerClient, name: str, **options: Any) -> Iterator[tuple[Container, int]]:
    """A container of the image on a read-only root, and its port on this machine; gone afterwards."""
    made = engine.containers.run(name, detach=True, ports={"8000/tcp": ("127.0.0.1", None)}, **{**_HARD, **options})
    try:
        made.reload()
        yield made, int(made.ports["8000/tcp"][0]["HostPort"])
    finally:
        made.remove(force=True)


def inside(engine: DockerClient, name: str) -> dict[str, tuple[Any, ...]]:
    """What our layers hold: path -> kind, mode, owner, and what is in a file (of .pyc, which hold times, no more)."""
    made = engine.containers.create(name)
    try:
        return {
            entry.name: (entry.type, oct(entry.mode), entry.uid, entry.gid, _digest(tar, entry))
            for tar in (_opened(made.get_archive(f"/{place}")[0]) for place in PLACES)
            for entry in tar
        }
    finally:
        made.remove()


def everything(engine: DockerClient, name: str) -> set[str]:
    """The paths of all files of an image."""
    made = engine.containers.create(name)
    try:
        return {entry.name for entry in _opened(made.export()) if not entry.isdir()}
    finally:
        made.remove()


def _opened(chunks: Iterator[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(b"".join(chunks)))


def _digest(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    if not entry.isfile() or entry.name.endswith(".pyc"):
        return ""
    file = tar.extractfile(entry)
    assert file
    return hashlib.sha256(file.read()).hexdigest()


def blobs(engine: DockerClient, name: str, place: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of `docker save`, layers unpacked from their compression: name and bytes."""
    with place.open("wb") as file:
        file.writelines(engine.images.get(name).save())
    with tarfile.open(place) as tar:
        for entry in tar:
            if entry.isfile():
                packed = tar.extractfile(entry)
                assert packed
                data = packed.read()
                yield entry.name, gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    place.unlink()
