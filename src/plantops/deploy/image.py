"""The image of a release: Python, the locked packages, the code that serves, and in a last small layer the bundle.

The Dockerfile is the project's own, and builds the same by hand (``docker build -f docker/Dockerfile.inference .``).
Here it gets a context of just the files it needs, made in memory, so nothing else of the project can get in.

Of a release that is built again, by other serving code, the name stays with what served until then, and so compose
typed by hand starts that; the new build has none until it serves (:func:`keep`).
"""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plantops import code
from plantops.artifacts import RELEASE_FILE
from plantops.bundle import GOLDEN, MANIFEST, MODEL, REFERENCE, BadBundle, Bundle
from plantops.config import Config
from plantops.deploy.sdk import speaking
from plantops.errors import SetupError, StepFailed
from plantops.shelf import release_of

if TYPE_CHECKING:
    from docker import DockerClient

DOCKERFILE, PACKAGES = "docker/Dockerfile.inference", "docker/requirements.lock"
LIST = "docker/image.cdx.json"  # of the packages, as CycloneDX; a project of an older plantops has none
CODE, BUNDLE = "docker/app/plantops", "models/production"
_SERVED = (MODEL, MANIFEST, REFERENCE, GOLDEN, RELEASE_FILE)
_LATEST = "latest"
_RELEASE, _CODE = "org.plantops.release", "org.plantops.serving-code"
_KEYS, _TOLD = "org.plantops.keys", "environment"
_SHOWN_LINES = 15
_SILENCE_S = 600


def tag(config: Config, release: str) -> str:
    """What the image of a release is called."""
    return f"{config.docker.image}:{release}"


def latest(config: Config) -> str:
    """What the image of the release in service is called besides."""
    return tag(config, _LATEST)


@dataclass(frozen=True)
class Built:
    """A new image: its id, and a sentence about it."""

    id: str
    sentence: str


def build(client: DockerClient, config: Config, release_folder: Path, say: Callable[[str], None]) -> Built:
    """Build a release's image, each line of the builder's log to ``say`` as it comes. It has the name if none has it.

    Only the last layer is the model's, the engine keeps the others. Raises StepFailed with the builder's last lines,
    SetupError when the project lacks the files to build from.
    """
    name, began, bundle = tag(config, release_of(release_folder)), time.monotonic(), _bundle(release_folder)
    context, made = _context(config.root, bundle), _Log()
    with speaking():
        answer = client.api.build(
            fileobj=context, custom_context=True, dockerfile=DOCKERFILE,
            rm=True, forcerm=True, decode=True, timeout=_SILENCE_S,
        )  # fmt: skip
        for line in made.lines(answer):
            say(line)
        size = client.images.get(made.id).attrs["Size"]
    if not known(client, name):
        _name(client, made.id, name)
    return Built(made.id, f"image {name}, {time.monotonic() - began:.1f} s, {size / 1e6:.0f} MB")


def known(client: DockerClient, name: str) -> str:
    """The id of the image of that name; empty when there is none."""
    found = _found(client, name)
    return found[0] if found else ""


def served(client: DockerClient, config: Config, release: str) -> str:
    """The id of the image by which a release served last, or is to; empty when there is none.

    That is `latest` while the release is in service: its own name is lent to another build while that is started.
    """
    found = _found(client, latest(config))
    return found[0] if found and found[1].get(_RELEASE) == release else known(client, tag(config, release))


def labelled(client: DockerClient, name: str) -> str:
    """The release that an image holds, as its label says; empty when it does not."""
    found = _found(client, name)
    return found[1].get(_RELEASE, "") if found else ""


def serving_code(client: DockerClient, name: str) -> str:
    """Digest of the code that an image serves by, as its label says; empty when it does not."""
    found = _found(client, name)
    return found[1].get(_CODE, "") if found else ""


def check_keys(client: DockerClient, build: str, name: str) -> None:
    """Raise StepFailed where an image does not read `api.keys` as it is told them: it would answer anybody."""
    found = _found(client, build)
    if not found or found[1].get(_KEYS) != _TOLD:
        raise StepFailed(
            f"the image {name} is of an older version: it would answer without a key",
            "plantops run --force (builds a new one), or take api.keys out of config.yaml",
        )


def to_start(client: DockerClient, config: Config, release: str, built: str, guarded: bool) -> str:
    """The id of the image that a container of the release starts from: the one just ``built``, else what served last.

    Raises StepFailed where there is none, or where the API is ``guarded`` by keys that it does not know of.
    """
    name, build = tag(config, release), built or served(client, config, release)
    if not build:
        raise StepFailed(f"there is no image {name}", "plantops run --force (without --skip-docker) builds it")
    if guarded:
        check_keys(client, build, name)
    return build


@contextmanager
def lent(client: DockerClient, name: str, build: str) -> Iterator[None]:
    """Let a build have the name for the moment: compose starts images by name only."""
    before = known(client, name)
    _name(client, build, name)
    try:
        yield
    finally:
        if before:
            _name(client, before, name)


def keep(client: DockerClient, name: str, build: str) -> None:
    """Have `:latest` and the release's own name mean this build. Raises StepFailed."""
    _name(client, build, f"{name.rpartition(':')[0]}:{_LATEST}")
    _name(client, build, name)


def _found(client: DockerClient, name: str) -> tuple[str, dict[str, str]] | None:
    """Id and labels of an image."""
    from docker.errors import ImageNotFound

    with speaking():
        try:
            one = client.images.get(name)
        except ImageNotFound:
            return None
    return str(one.id), dict(one.labels)


def _name(client: DockerClient, build: str, name: str) -> None:
    repository, _, version = name.rpartition(":")
    with speaking():
        client.images.get(build).tag(repository, version)


def present(client: DockerClient, config: Config) -> set[str]:
    """The releases whose image the engine has."""
    prefix = tag(config, "")
    with speaking():
        names = [one for image in client.images.list(name=config.docker.image) for one in image.tags]
    return {one.removeprefix(prefix) for one in names if one.startswith(prefix)} - {_LATEST}


def remove(client: DockerClient, name: str) -> None:
    """Remove an image; gone already is as good. Raises StepFailed when a container uses it."""
    from docker.errors import ImageNotFound

    with speaking():
        try:
            client.images.remove(name)
        except ImageNotFound:
            return


def write_code(root: Path) -> None:
    """Put the code that serves into docker/app/, for builds by hand in a project without plantops' source.

    In a clone of plantops the source itself is built from. The folder appears whole or not at all.
    """
    if (root / "src" / "plantops").is_dir():
        return
    target = (root / CODE).parent
    fresh, aside = target.with_name(".app.new"), target.with_name(".app.old")
    for folder in (fresh, aside):
        shutil.rmtree(folder, ignore_errors=True)
    for path in code.serving_files():
        (fresh / "plantops" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(code.PACKAGE / path, fresh / "plantops" / path)
    if target.exists():
        target.rename(aside)
    fresh.rename(target)
    shutil.rmtree(aside, ignore_errors=True)


def _context(root: Path, bundle: Bundle) -> io.BytesIO:
    """A tar of all that the Dockerfile copies. The same files give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in _files(root, bundle):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    packed.seek(0)
    return packed


def _files(root: Path, bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    for name in (DOCKERFILE, PACKAGES):
        if not (root / name).is_file():
            raise SetupError(f"{root / name} is missing", "plantops init (it writes what is missing)")
    # One line for all labels: handed to the builder one by one, each would cost it a container.
    yield DOCKERFILE, (root / DOCKERFILE).read_bytes() + f"\nLABEL {_labels(bundle)}\n".encode()
    for name in (PACKAGES, LIST):
        if (root / name).is_file():
            yield name, (root / name).read_bytes()
    for path in code.serving_files():
        yield f"{CODE}/{path}", (code.PACKAGE / path).read_bytes()
    served = [path for name in _SERVED if (path := bundle.path / name).exists()]
    for path in [*served, *(golden.file for golden in bundle.golden())]:
        yield f"{BUNDLE}/{path.relative_to(bundle.path)}", path.read_bytes()


def _bundle(folder: Path) -> Bundle:
    """The release's bundle. Raises StepFailed when it is not whole."""
    try:
        bundle = Bundle.load(folder)
        bundle.golden()
        return bundle
    except BadBundle as error:
        raise StepFailed(f"{folder} cannot be served: {error}", "plantops run --force") from None


def _labels(bundle: Bundle) -> str:
    """Where the image comes from, as a Dockerfile says it: OCI's annotation keys, and our own, where they are known."""
    written = bundle.path / RELEASE_FILE
    facts = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    release = release_of(bundle.path)
    known = {
        "org.opencontainers.image.version": release,
        "org.opencontainers.image.revision": facts.get("commit"),
        # The release's time, not this moment's: building the same release again is the same image.
        "org.opencontainers.image.created": facts.get("created"),
        _RELEASE: release,
        "org.plantops.digest": bundle.digest,
        # Of the code alone: it is built in, its settings are flags of the container.
        _CODE: code.serving_digest(),
        _KEYS: _TOLD,
        "org.plantops.data": facts.get("fingerprint"),
        "org.plantops.mlflow-run": (facts.get("mlflow") or {}).get("run"),
    }
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in known.items() if value)


def _quoted(text: str) -> str:
    """As a Dockerfile reads it literally."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


class _Log:
    """The builder's log, and the id of what it made."""

    def __init__(self) -> None:
        self.id = ""

    def lines(self, events: Iterable[dict[str, Any]]) -> Iterator[str]:
        """Line by line as it comes. Raises StepFailed with the last ones on the builder's error."""
        last: deque[str] = deque(maxlen=_SHOWN_LINES)
        begun = ""
        for event in events:
            if "error" in event:
                raise _failure(event["error"], [*last, *begun.splitlines()])
            self.id = event.get("aux", {}).get("ID", self.id)
            *whole, begun = (begun + event.get("stream", "")).split("\n")
            for line in whole:
                if line.strip():
                    last.append(line.rstrip())
                    yield line.rstrip()
        if begun.strip():
            yield begun.rstrip()


def _failure(said: str, last: Iterable[str]) -> StepFailed:
    shown = "".join(f"\n    {line}" for line in last)
    full = "no space left" in said
    return StepFailed(
        f"the image could not be built: {said.strip()}{shown}",
        "docker system df, docker builder prune" if full else f"docker build -f {DOCKERFILE} .",
    )
