"""The Model Registry: one version for each bundle, and the aliases champion and previous."""

from __future__ import annotations

from typing import Any

from plantops.errors import StepFailed
from plantops.tracking.record import DIGEST, MODEL

RELEASE = "plantops.release"
CHAMPION, PREVIOUS = "champion", "previous"


def register(client: Any, name: str, run_id: str, release: str) -> int:
    """The version of the run's model; made unless it exists. Raises StepFailed when the run has no model."""
    tags = client.get_run(run_id).data.tags
    if MODEL not in tags or DIGEST not in tags:
        raise StepFailed(f"MLflow run {run_id} holds no model", "plantops run")
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.tags.get(DIGEST) == tags[DIGEST] or known.tags.get(RELEASE) == release:
            return int(known.version)
    _ensure(client, name)
    made = client.create_model_version(
        name,
        # Not `models:/<id>`: MLflow would look that up in the process-wide tracking URI instead of this client's.
        source=client.get_logged_model(tags[MODEL]).artifact_location,
        run_id=run_id,
        tags={DIGEST: tags[DIGEST], RELEASE: release},
        description=f"plantops release {release}",
        model_id=tags[MODEL],
    )
    return int(made.version)


def promote(client: Any, name: str, champion: int, previous: int | None) -> None:
    """Set the aliases that differ; a ``previous`` that is no more is removed."""
    now = aliases(client, name)
    for alias, wanted in ((CHAMPION, champion), (PREVIOUS, previous)):
        if wanted is None and alias in now:
            client.delete_registered_model_alias(name, alias)
        elif wanted is not None and now.get(alias) != wanted:
            client.set_registered_model_alias(name, alias, str(wanted))


def aliases(client: Any, name: str) -> dict[str, int]:
    """Alias to version; empty when nothing is registered yet."""
    found = client.search_registered_models(f"name = '{name}'")
    return {alias: int(version) for alias, version in found[0].aliases.items()} if found else {}


def versions(client: Any, name: str) -> dict[str, int]:
    """Release, and digest of a bundle, to version; of two versions of one the newer."""
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda one: int(one.version))
    return {str(one.tags[tag]): int(one.version) for one in found for tag in (RELEASE, DIGEST) if tag in one.tags}


def _ensure(client: Any, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
