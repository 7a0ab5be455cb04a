"""Finding and ending MLflow runs."""

from __future__ import annotations

from typing import Any

from plantops.errors import StepFailed
from plantops.tracking.record import DIGEST, FAILURE

_SAME = "plantops.same_as"


def fail(client: Any, run_id: str, reason: str) -> None:
    """Mark a run FAILED, with the reason as a tag."""
    client.set_tag(run_id, FAILURE, reason[:5000])
    client.set_terminated(run_id, "FAILED")


def active(client: Any, run_id: str | None) -> Any:
    """The run, or None when there is none or it was deleted."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def drop_second(client: Any, run_id: str | None, first: str) -> None:
    """A training repeated with the same result is no second one: its run goes to MLflow's bin."""
    if run_id != first and active(client, run_id):
        client.set_tag(run_id, _SAME, first)
        client.set_terminated(run_id, "KILLED")
        client.delete_run(run_id)


def with_model(client: Any, experiment: str, digest: str) -> str:
    """The run that holds the model of the bundle with this digest. Raises StepFailed when none does."""
    found = client.search_runs([experiment], f"tags.`{DIGEST}` = '{digest}'")
    if not found:
        raise StepFailed(f"no MLflow run holds the model {digest[:12]}", "plantops run")
    return str(found[0].info.run_id)
