"""What runs, a rollback and a watch that ends have told: by hook and signed webhook, once, in the background."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from api_client import until
from conftest import plantops
from runs import cheap
from test_notify import Receiver, program, signed
from test_notify import receiver as receiver

pytestmark = pytest.mark.ci
EVENTS = ("started", "released", "refused", "rolled_back", "watch_stopped")


def test_runs_a_rollback_and_watch_are_told(project: Path, receiver: Receiver) -> None:
    program(project / "tell.sh", 'echo "$PLANTOPS_EVENT $PLANTOPS_RUN_ID $PLANTOPS_RELEASE" >> told.txt')
    notify = {**signed(receiver, project), "events": list(EVENTS)}
    hooks = dict.fromkeys(EVENTS, "tell.sh")
    cheap.edit(project / "config.yaml", "notify:  ", "older_notify:  ")
    text = (project / "config.yaml").read_text()
    text = text[: text.index("older_notify:")] + text[text.index("disk:") :]
    (project / "config.yaml").write_text(f"{text}\nnotify: {json.dumps(notify)}\nhooks: {json.dumps(hooks)}\n")

    def told(*events: str) -> None:
        until(lambda: [json.loads(body)["type"] for _, _, body in receiver.got] == list(events), 60, f"{events}")
        lines = until(lambda: len(said := (project / "told.txt").read_text().splitlines()) == len(events) and said, 60)
        assert [line.split()[0] for line in lines] == list(events)

    plantops("run", cwd=project)
    told("started", "released")
    first = json.loads(receiver.got[-1][2])["data"]
    assert first["numbers"]["accuracy"] > 0.5
    assert first["links"]["api"].startswith(cheap.url(project))

    plantops("run", cwd=project)  # nothing to do: no news
    for name, colour in cheap.CLASSES.items():
        cheap.leaves(project / cheap.RAW / name, colour, 8, seed=7)
    cheap.commit(project, "Add leaves")
    plantops("run", cwd=project)
    so_far = ["started", "released", "started", "released"]
    told(*so_far)
    assert json.loads(receiver.got[-1][2])["data"]["numbers"]["accuracy_difference"] > -0.1
    plantops("rollback", cwd=project)
    so_far.append("rolled_back")
    told(*so_far)
    back = json.loads(receiver.got[-1][2])["data"]
    assert back["release"] == first["release"]

    cheap.edit(project / "config.yaml", "max_model_mb: 500", "max_model_mb: 0.000001")
    assert plantops("run", "--force", cwd=project, check=False).returncode == 4
    so_far += ["started", "refused"]
    told(*so_far)
    refused = json.loads(receiver.got[-1][2])["data"]
    assert "the gate did not accept the model" in refused["title"]
    assert any("MB" in line for line in refused["lines"])

    watch = subprocess.Popen([sys.executable, "-m", "plantops", "watch"], cwd=project, stdout=subprocess.DEVNULL)
    until(lambda: (project / ".plantops/watch.json").exists(), 60)
    watch.send_signal(signal.SIGTERM)
    watch.wait(60)
    told(*so_far, "watch_stopped")
