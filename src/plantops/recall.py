"""What the store remembers, also where its database is lost: then what the files of the releases say of it.

Nothing here changes a file; :mod:`plantops.recover` writes the database anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plantops.config import Config
from plantops.shelf import Shelf
from plantops.store import PERHAPS, Damaged, Release, Store


def look(config: Config) -> Store:
    """The store for reading; of a lost database what can be told from the releases, in memory.

    Raises SetupError when the database was written by a newer plantops or cannot be read.
    """
    if not lost(config):
        return Store(config.state, readonly=True)
    store = Store(None)
    refill(config, store)
    return store


def lost(config: Config, thorough: bool = False) -> str:
    """Why the database does not tell any more what was released, in words; empty when it does.

    ``thorough`` also reads the photos' pages. Raises SetupError as :func:`look` does.
    """
    try:
        with Store(config.state, readonly=True) as store:
            if damage := store.damage(thorough):
                return f"is damaged ({damage})"
            return "is gone" if store.unused and Shelf(config.models).records() else ""
    except Damaged as error:
        return f"is damaged ({error.message.rpartition(': ')[2]})"


def refill(
    config: Config, store: Store, answering: str = "", previous: str = "", versions: Mapping[str, int] | None = None
) -> None:
    """Have an unused ``store`` know what the files of the releases say. One transaction.

    In service is the release that is ``answering``, else the one in models/production. Whether a later one was
    withdrawn nobody knows, so it does not come back by itself. ``previous`` is where a rollback goes when the registry
    knows it, and ``versions`` (release: version) what the registry adds to the files.
    """
    shelf = Shelf(config.models)
    records = {facts["release"]: (facts, lineage) for facts, lineage in shelf.records()}
    names = list(records)
    current = next((one for one in (answering, shelf.produced()) if one in records), None)
    served = names[: names.index(current)] if current else []
    if previous in records and previous != current:
        served = [*(one for one in served if one != previous), previous]
    with store.transaction():
        for name, (facts, lineage) in records.items():
            store.add_release(_release(facts, (versions or {}).get(name), known=name == current or name in served))
            if inputs := lineage.get("inputs"):
                run, at = facts.get("run") or name, str(facts.get("created", ""))
                store.remember_settled(run, at, str(facts.get("fingerprint", "")), inputs, name)
        for name in [*served, *([current] if current else [])]:
            code = str(records[name][0].get("serving_code", ""))
            store.put_in_service(name, code, "rebuilt from its files")


def _release(facts: dict[str, Any], version: int | None, known: bool) -> Release:
    mlflow = facts.get("mlflow") or {}
    return Release(
        facts["release"], str(facts.get("created", "")), facts.get("run"), facts["digest"],
        bool(facts.get("sample_data")), mlflow.get("run"), version or mlflow.get("version"), None if known else PERHAPS,
    )  # fmt: skip
