"""A bundle that is not whole is called that, whatever is wrong with its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundle_factory import make_release
from plantops.bundle import MANIFEST, BadBundle, Bundle


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{half", b"\xff\xfe\x00", b"[]", b"null", b'{"format": 99}', {"model": {}}, {"model": None}, {"digest": 5}],
    ids=repr,
)
def test_a_manifest_that_nobody_can_use(tmp_path: Path, manifest: bytes | dict[str, object]) -> None:
    file = make_release(tmp_path / "r") / MANIFEST
    if isinstance(manifest, dict):
        manifest = json.dumps({**json.loads(file.read_text()), **manifest}).encode()
    file.write_bytes(manifest)
    with pytest.raises(BadBundle, match=r"manifest\.json|bundle format"):
        Bundle.load(file.parent)
