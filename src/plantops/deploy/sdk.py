"""The Docker SDK's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plantops.errors import StepFailed


@contextmanager
def speaking() -> Iterator[None]:
    """Turn what the SDK raises while talking to the engine into StepFailed."""
    import requests
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.RequestException) as error:
        raise StepFailed(f"the Docker engine said: {str(error)[:500]}", "plantops doctor") from None
