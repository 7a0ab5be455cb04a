"""The registry that other machines get the API's image from: pushed under the release's name, used by its digest.

The login is the user's own `docker login`: the SDK reads it where that keeps it, hands it to the engine, and none of it
is ever in config.yaml or in what is printed. What lies in the registry is never removed from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from plantops.config import Config
from plantops.deploy.sdk import speaking
from plantops.errors import SetupError, StepFailed

if TYPE_CHECKING:
    from docker import DockerClient

_NOBODY = "plantops-asks"  # a tag that is not there: whether the registry says so is the question
_UNKNOWN = re.compile(r"manifest unknown|name unknown|not found|no such manifest", re.IGNORECASE)
_LOGIN = re.compile(r"no basic auth credentials|unauthorized|authentication required", re.IGNORECASE)
_DENIED = re.compile(r"denied|forbidden", re.IGNORECASE)
_PLAIN = re.compile(r"HTTP response to HTTPS client|x509|certificate", re.IGNORECASE)


def repository(config: Config) -> str:
    """What the project's images are called in the registry, without a tag. Only where `docker.registry` names one."""
    return f"{config.docker.registry}/{config.docker.image.rpartition('/')[2]}"


def listed(config: Config) -> str:
    """The same as the engine lists it: of an image on Docker Hub that leaves the host out."""
    return repository(config).removeprefix("docker.io/")


def check(client: DockerClient, config: Config) -> None:
    """Raise SetupError where the engine does not reach the registry, or has no login that it takes."""
    from docker.errors import APIError, NotFound

    with speaking():
        try:
            client.api.inspect_distribution(f"{repository(config)}:{_NOBODY}")
        except NotFound:
            return
        except APIError as error:
            said = str(error.explanation or error)
            if not _UNKNOWN.search(said):
                raise SetupError(*_told(config, said)) from None


def push(client: DockerClient, config: Config, build: str, release: str, say: Callable[[str], None]) -> str:
    """Push the image ``build`` (its id) of ``release``; returns its reference by digest, `…/image@sha256:…`.

    Layers that the registry has are not sent again; each line of the engine goes to ``say``. Raises StepFailed.
    """
    name = repository(config)
    with speaking():
        client.images.get(build).tag(name, release)
        digest = _pushed(config, client.api.push(name, release, stream=True, decode=True), say)
    return f"{name}@{digest}"


def reference(client: DockerClient, config: Config, build: str) -> str:
    """The reference by digest of an image that was pushed from here (no registry is asked); empty when it was not."""
    from docker.errors import ImageNotFound

    with speaking():
        try:
            known = client.images.get(build).attrs.get("RepoDigests") or []
        except ImageNotFound:
            return ""
    digest = next((one.rpartition("@")[2] for one in known if one.startswith(f"{listed(config)}@")), "")
    return digest and f"{repository(config)}@{digest}"


def _pushed(config: Config, events: Iterable[dict[str, Any]], say: Callable[[str], None]) -> str:
    """The digest that the registry keeps it by."""
    digest = ""
    for event in events:
        if "error" in event:
            raise StepFailed(*_told(config, str(event["error"])))
        digest = (event.get("aux") or {}).get("Digest", digest)
        if event.get("status") and not event.get("progressDetail"):
            say(" ".join(filter(None, (event.get("id"), event["status"]))))
    if not digest:
        raise StepFailed(f"{config.docker.registry} took the image and named no digest", "plantops run")
    return str(digest)


def _told(config: Config, said: str) -> tuple[str, str]:
    """What the engine said of the registry, and the command that helps."""
    registry = str(config.docker.registry)
    host, short = registry.partition("/")[0], said.strip()[:300]
    if _LOGIN.search(said):
        return f"the registry {host} wants a login: {short}", f"docker login {host}"
    if _DENIED.search(said):
        return f"{registry} is refused to this login: {short}", f"docker login {host}, as one who may push"
    if _PLAIN.search(said):
        hint = f"give it a certificate that this machine trusts, or name {host} in the engine's insecure-registries"
        return f"the engine does not trust the registry {host}: {short}", hint
    return f"the registry {host} cannot be reached: {short}", f"curl -sS https://{host}/v2/ shows why"
