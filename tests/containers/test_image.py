"""The image of a release on a real engine: what is in it, what is not, and how its container behaves."""

from __future__ import annotations

import dataclasses
import http.client
import json
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from api_client import HOST, KIND, form, get, predict, probabilities, refused, request, until
from bundle_factory import CLASSES, SPEC, make_release, photo
from conftest import ROOT, plantops
from containers.engine import need_engine
from containers.images import (
    BASE,
    PLACES,
    SECRET,
    Workshop,
    blobs,
    configured,
    everything,
    inside,
    keep_private,
    make_root,
    running,
)
from deploy.load import MODELS, TOLERANCE
from plantops import code, kept
from plantops.artifacts import RELEASE_FILE
from plantops.bundle import GOLDEN, GOLDEN_TOLERANCE, Bundle
from plantops.config import Config
from plantops.deploy import image, probe
from plantops.deploy.address import Address
from plantops.deploy.compose.stack import Stack
from plantops.errors import SetupError, StepFailed
from plantops.serve import predictor
from serve.by_hand import start

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]

MAX_ADDED = 170e6
HEALTHY_S = 30
NEVER = ("torch", "lightning", "timm", "mlflow", "dvc", "onnx", "matplotlib", "typer", "docker", "pytest", "yaml")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerClient]:
    """The engine's client; skipped plainly where no engine answers."""
    need_engine()
    import docker

    client = docker.from_env(timeout=120)
    yield client
    client.close()


@pytest.fixture(scope="module")
def workshop(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A project to build in. Its images go when the tests are over."""
    name = f"plantops-test-{uuid.uuid4().hex[:8]}"
    made = Workshop(engine, configured(make_root(tmp_path_factory.mktemp("workshop")), name))
    yield made
    for release in [*image.present(engine, made.config), "latest"]:
        image.remove(engine, image.tag(made.config, release))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two releases with distinguishable answers, and private things in their folders."""
    place = tmp_path_factory.mktemp("releases")
    return {name: keep_private(make_release(place / name, model)) for name, model in MODELS.items()}


@pytest.fixture(scope="module")
def built(workshop: Workshop, folders: dict[str, Path]) -> dict[str, str]:
    """The tags of their images."""
    return {name: workshop.build(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def port(engine: DockerClient, built: dict[str, str]) -> Iterator[int]:
    """A healthy container of the first release that several tests share."""
    with running(engine, built["one"]) as (_, found):
        healthy(found)
        yield found


def healthy(port: int) -> None:
    until(lambda: probe.answers(Address(HOST, port)), HEALTHY_S, "healthy")


def test_labels_say_where_it_comes_from(workshop: Workshop, tmp_path: Path) -> None:
    folder = make_release(tmp_path / "labelled")
    facts = json.loads((folder / RELEASE_FILE).read_text())
    (folder / RELEASE_FILE).write_text(json.dumps({**facts, "fingerprint": 'f"1" $HOME \\n'}))
    labels = workshop.engine.images.get(workshop.build(folder)).labels
    assert labels == {
        "org.opencontainers.image.title": "plantops API",
        "org.opencontainers.image.version": "labelled",
        "org.opencontainers.image.revision": facts["commit"],
        "org.opencontainers.image.created": facts["created"],
        "org.plantops.release": "labelled",
        "org.plantops.digest": Bundle.load(folder).digest,
        "org.plantops.serving-code": code.serving_digest(),
        "org.plantops.keys": "environment",
        "org.plantops.data": 'f"1" $HOME \\n',
        "org.plantops.mlflow-run": "r1",
    }


def test_a_new_model_is_one_new_layer_the_last(workshop: Workshop, built: dict[str, str]) -> None:
    one, two = (workshop.layers(built[name]) for name in ("one", "two"))
    assert one[:-1] == two[:-1]
    assert one[-1] != two[-1]


def test_the_same_release_again_is_the_same_image(workshop: Workshop, built: dict[str, str], folders: Any) -> None:
    before = workshop.engine.images.get(built["one"]).id
    assert workshop.engine.images.get(workshop.build(folders["one"])).id == before


def test_it_adds_little_to_the_base(workshop: Workshop, built: dict[str, str]) -> None:
    assert 0 < workshop.added(built["one"]) <= MAX_ADDED


def test_the_log_comes_line_by_line_and_the_sentence_has_numbers(workshop: Workshop, folders: Any) -> None:
    said: list[str] = []
    sentence = image.build(workshop.engine, workshop.config, folders["one"], said.append).sentence
    assert said[0].startswith("Step 1/")
    assert said[-1].startswith("Successfully built ")
    assert all(line and "\n" not in line for line in said)
    assert sentence.startswith(f"image {workshop.config.docker.image}:one, ")
    assert sentence.endswith(" MB")


def test_latest_moves_and_what_is_there_is_known(workshop: Workshop, built: dict[str, str], tmp_path: Path) -> None:
    images, latest = workshop.engine.images, image.latest(workshop.config)
    for name in ("one", "two"):
        image.keep(workshop.engine, built[name], images.get(built[name]).id)
        assert images.get(latest).id == images.get(built[name]).id
    gone = workshop.build(make_release(tmp_path / "gone"))
    assert {"one", "two", "gone"} <= image.present(workshop.engine, workshop.config)
    assert "latest" not in image.present(workshop.engine, workshop.config)
    for _ in range(2):
        image.remove(workshop.engine, gone)
        assert not image.known(workshop.engine, gone)
    assert "gone" not in image.present(workshop.engine, workshop.config)
    assert image.known(workshop.engine, built["one"])
    with pytest.raises(StepFailed, match="No such image"):
        image.keep(workshop.engine, gone, gone)


def test_it_holds_what_serving_reads_and_no_more(workshop: Workshop, built: dict[str, str]) -> None:
    found = inside(workshop.engine, built["one"])
    files = {name for name, facts in found.items() if facts[-1]}
    golden = {f"bundle/golden/{number}.jpg" for number in range(4)}
    wanted = {"bundle/model.onnx", "bundle/manifest.json", "bundle/golden.json", "bundle/release.json", *golden}
    assert {name for name in files if name.startswith("bundle/")} == wanted
    served = {f"opt/plantops/plantops/{path}" for path in code.serving_files()}
    assert {name for name in files if name.startswith("opt/plantops/")} == served
    packages = {name.split("/")[2].split("-")[0].lower() for name in files if name.startswith("opt/packages/")}
    assert {"onnxruntime", "numpy", "pil", "fastapi", "uvicorn", "prometheus_client"} <= packages
    assert not packages & set(NEVER)
    assert not [name for name in found if "/tests/" in name or name.endswith(".pyi")]
    listed = json.loads((ROOT / image.LIST).read_text())["components"]
    assert "opt/image.cdx.json" in files
    dists = {name.split("/")[2].partition(".dist-info")[0] for name in files if ".dist-info/" in name}
    assert {f"{one['name'].replace('-', '_')}-{one['version']}" for one in listed} == {one.lower() for one in dists}
    assert all(facts[2:4] == (0, 0) for facts in found.values()), "the user it runs as owns a file"


def test_our_layers_touch_their_own_places_only(workshop: Workshop, built: dict[str, str]) -> None:
    added = everything(workshop.engine, built["one"]) - everything(workshop.engine, BASE)
    assert {name.split("/")[0] for name in added} == set(PLACES), "pip's cache, or something else, was left behind"


def test_nothing_private_and_no_path_of_this_machine_in_any_layer(
    workshop: Workshop, built: dict[str, str], tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTOPS_TEST_TOKEN", SECRET)
    name = workshop.build(folders["two"])
    private = [SECRET, str(workshop.config.root), str(folders["two"]), str(ROOT), "PLANTOPS_TEST_TOKEN"]
    found = [(where, word) for where, data in blobs(workshop.engine, name, tmp_path / "saved.tar")
             for word in private if word.encode() in data]  # fmt: skip
    assert not found
    seen = [where for where, data in blobs(workshop.engine, name, tmp_path / "saved.tar") if b"model.onnx" in data]
    assert seen, "the search finds what is there"


def test_it_answers_on_a_read_only_root(port: int) -> None:
    data = photo(7)
    answer = predict(port, data, "?top=99")
    assert answer.headers["x-plantops-release"] == "one"
    expected = MODELS["one"].answer(data)
    assert all(abs(expected[name] - value) < TOLERANCE for name, value in probabilities(answer).items())


def test_the_user_is_nobody_and_cannot_write_even_to_a_root_that_is_writable(
    engine: DockerClient, built: dict[str, str]
) -> None:
    with running(engine, built["one"], read_only=False) as (made, _):
        assert made.exec_run(["id", "-u"]).output.strip() == b"10001"
        for place in ("/", "/opt", "/opt/plantops/plantops/serve", "/opt/packages/numpy", "/bundle", "/bundle/golden"):
            tried = made.exec_run(["touch", f"{place}/mark"])
            assert tried.exit_code != 0, place
            assert b"Permission denied" in tried.output


def test_it_writes_what_it_keeps_to_its_one_folder_and_has_the_page(
    engine: DockerClient, built: dict[str, str], tmp_path: Path
) -> None:
    stack = Stack(Config(tmp_path, tmp_path / "config.yaml"))
    stack.own_kept_folder()
    kept_folder = tmp_path / ".plantops/feedback"
    mounts = {str(kept_folder): {"bind": "/kept", "mode": "rw"}}
    with running(engine, built["one"], user=stack.api_user, volumes=mounts, command=["--kept=/kept"]) as (made, port):
        healthy(port)
        assert made.exec_run(["id", "-u"]).output.strip() != b"0"
        assert made.exec_run(["touch", "/opt/mark"]).exit_code
        said = json.dumps({"request_id": "r1", "class": "Apple scab"}).encode()
        assert request(port, "POST", "/feedback", said).status == 201
        page = request(port, "GET", "/", headers={"Accept": "text/html"})
        assert (page.status, b"<!doctype html>" in page.body) == (200, True)
    assert [one["class"] for one in kept.opinions(kept_folder)] == ["Apple scab"]


def test_its_golden_photos_are_answered_through_http(folders: dict[str, Path], port: int) -> None:
    assert probe.golden(Address(HOST, port), folders["one"]) <= GOLDEN_TOLERANCE
    with pytest.raises(StepFailed):
        probe.golden(Address(HOST, port), folders["two"])


def test_the_engine_finds_it_healthy_by_itself(engine: DockerClient, built: dict[str, str]) -> None:
    def state() -> str:
        made.reload()
        return str(made.health)

    with running(engine, built["one"]) as (made, _):
        until(lambda: state() == "healthy", HEALTHY_S, "healthy")


def test_503_is_unhealthy(workshop: Workshop, tmp_path: Path) -> None:
    name = workshop.build(make_release(tmp_path / "sick", preprocessing=dataclasses.replace(SPEC, turn=False)))
    check = workshop.engine.images.get(name).attrs["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    with running(workshop.engine, name) as (made, port):
        until(lambda: not refused(port) and "failed" in said(port), HEALTHY_S, "failed")
        assert get(port, "/health").status == 503
        assert made.exec_run(check[1:]).exit_code == 1


def said(port: int) -> str:
    """The status by `/health`, or what is wrong with the connection (the engine's proxy listens before the API)."""
    try:
        return str(get(port, "/health").json["status"])
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__


def test_sigterm_under_a_request_answers_it_and_ends_well(engine: DockerClient, built: dict[str, str]) -> None:
    body = form(("file", "leaf.jpg", photo(1)))
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND}\r\nContent-Length: {len(body)}\r\n\r\n"
    with running(engine, built["one"]) as (made, port):
        healthy(port)
        with socket.create_connection((HOST, port), timeout=30) as client:
            client.sendall(head.encode() + body[:100])
            until(lambda: b"api_active_requests 2.0" in get(port, "/metrics").body, what="the upload beginning")
            stopping = threading.Thread(target=made.stop, kwargs={"timeout": 60})
            stopping.start()
            until(lambda: said(port) != "healthy", what="the door closing")
            client.sendall(body[100:])
            answer = client.makefile("rb").read()
        stopping.join(70)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answer
        assert made.wait(timeout=10)["StatusCode"] == 0


@pytest.mark.parametrize("kind", ["clone", "project"])
def test_by_hand_and_by_the_sdk_it_holds_the_same(
    workshop: Workshop, folders: dict[str, Path], built: dict[str, str], tmp_path: Path, kind: str
) -> None:
    root = make_root(tmp_path / kind)
    if kind == "clone":
        shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("*.egg-info"))
        (root / "src/plantops/serve/__pycache__").mkdir(exist_ok=True)
        (root / "src/plantops/serve/__pycache__/stale.cpython-311.pyc").write_text(SECRET)
    image.write_code(root)
    assert (root / "docker/app").exists() is (kind == "project")
    by_hand = inside(workshop.engine, workshop.by_hand(folders["one"], root))
    assert by_hand == inside(workshop.engine, built["one"])


def test_a_broken_build_says_the_last_lines(workshop: Workshop, folders: dict[str, Path], tmp_path: Path) -> None:
    config = configured(make_root(tmp_path / "broken"), workshop.config.docker.image)
    recipe = config.root / image.DOCKERFILE
    recipe.write_text(f"FROM {BASE}\nRUN echo so far so good && echo the mishap && false\n")
    with pytest.raises(StepFailed) as caught:
        image.build(workshop.engine, config, folders["one"], lambda _: None)
    assert "returned a non-zero code: 1" in caught.value.message
    assert "\n    the mishap" in caught.value.message
    assert "docker build -f docker/Dockerfile.inference" in caught.value.hint
    recipe.unlink()
    with pytest.raises(SetupError, match=r"Dockerfile\.inference is missing"):
        image.build(workshop.engine, config, folders["one"], lambda _: None)


def test_a_damaged_release_is_not_built(workshop: Workshop, tmp_path: Path) -> None:
    folder = make_release(tmp_path / "damaged")
    (folder / "model.onnx").write_bytes(b"changed")
    with pytest.raises(StepFailed, match=r"not the file that manifest\.json names"):
        workshop.build(folder)
    assert "damaged" not in image.present(workshop.engine, workshop.config)


FAULTS = {
    "permuted classes": {"classes": (*CLASSES[1:], CLASSES[0])},
    "wrong mean": {"preprocessing": dataclasses.replace(SPEC, mean=(0.5, 0.5, 0.5))},
    "wrong std": {"preprocessing": dataclasses.replace(SPEC, std=(0.5, 0.5, 0.5))},
    "another resize": {"preprocessing": dataclasses.replace(SPEC, fit="squash")},
    "ignored EXIF": {"preprocessing": dataclasses.replace(SPEC, turn=False)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_through_http_before_any_traffic(
    workshop: Workshop, folders: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    # As shipped, its own proof stops it: it never gets healthy.
    faulty = make_release(tmp_path / fault.replace(" ", "-"), MODELS["one"], **FAULTS[fault])
    with running(workshop.engine, workshop.build(faulty)) as (_, port), pytest.raises(StepFailed, match="golden photo"):
        probe.wait_healthy(Address(HOST, port), HEALTHY_S, lambda: None)
    # Sure of itself, because its golden answers have the fault too: the checkpoint's answers tell.
    faulty = make_release(tmp_path / f"sure-{faulty.name}", MODELS["one"], **FAULTS[fault])
    believe(faulty)
    with running(workshop.engine, workshop.build(faulty)) as (_, port):
        probe.wait_healthy(Address(HOST, port), HEALTHY_S, lambda: None)
        assert probe.golden(Address(HOST, port), faulty) <= GOLDEN_TOLERANCE
        with pytest.raises(StepFailed, match="golden photo"):
            probe.golden(Address(HOST, port), folders["one"])


def test_command_api_and_container_answer_the_golden_photos_bit_for_bit_alike(
    workshop: Workshop, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["one"]
    photos = [golden.file for golden in Bundle.load(folder).golden()]
    argv = ("predict", *map(str, photos), "--bundle", str(folder), "--json", "--top", "1000")
    by_command = [
        {one["class"]: one["confidence"] for one in told["top5_predictions"]}
        for told in json.loads(plantops(*argv, cwd=tmp_path).stdout)["results"]
    ]
    by_hand = start(folder, tmp_path / "log")
    try:
        until(lambda: get(by_hand.port, "/health").status == 200)
        by_api = [probabilities(predict(by_hand.port, photo.read_bytes(), "?top=1000")) for photo in photos]
    finally:
        by_hand.terminate()
    with running(workshop.engine, workshop.build(folder)) as (_, port):
        probe.wait_healthy(Address(HOST, port), HEALTHY_S, lambda: None)
        by_container = [probabilities(predict(port, photo.read_bytes(), "?top=1000")) for photo in photos]
    assert len(photos) == 4
    assert by_command == by_api == by_container


def believe(folder: Path) -> None:
    """Write the golden answers anew, as this faulty bundle gives them."""
    loaded = predictor.load(folder)
    photos = [
        {
            "file": str(golden.file.relative_to(folder)),
            "probabilities": dict(loaded.ranked(loaded.predict(loaded.decode(golden.file.read_bytes())), 99)),
        }
        for golden in loaded.bundle.golden()
    ]
    (folder / GOLDEN).write_text(json.dumps({"photos": photos}))
