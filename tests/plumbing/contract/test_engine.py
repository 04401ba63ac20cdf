"""The local engine with real containers: the same definition gives the same bytes as with plain processes."""

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchloop.engine.containers import limits
from plumbing.contract.containers import said, until
from plumbing.engine_miniature import Miniature
from plumbing.test_engine_components import copy  # noqa: F401 - a fixture

NO_CHAMPION = [word for name in ("Preprocessor", "Model") for word in ("--set", f"Champion{name}=s3://local/absent/")]
Outputs = dict[str, str]


def newest(mini: Miniature) -> str:
    return sorted(path.name for path in (mini.root / "local" / "runs").iterdir())[-1]


def outputs(mini: Miniature, pipeline: str) -> Outputs:
    """Step and file → content, of the newest run; the run's own name is left out of both."""
    name = newest(mini)
    folder = mini.root / "local" / "storage" / "runs" / pipeline / name
    found = {}
    for file in (path for path in folder.rglob("*") if path.is_file()):
        key = str(file.relative_to(folder)).replace(name, "run")
        found[key] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def containers() -> list[str]:
    return said("docker", "ps", "--all", "--quiet", "--filter", "label=usecase.repository").split()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not containers()


@pytest.fixture(scope="module")
def by_processes(copy: Miniature) -> tuple[Outputs, Outputs]:  # noqa: F811
    """What both pipelines give without docker."""
    trained = outputs(copy, "training")
    copy.run("score")
    return trained, outputs(copy, "inference")


@pytest.fixture(scope="module")
def by_containers(copy: Miniature, by_processes: tuple[Outputs, Outputs]) -> tuple[Outputs, Outputs]:  # noqa: F811
    assert by_processes
    said_train = copy.run("train", "--on", "docker", *NO_CHAMPION)
    assert "reused" not in said_train.partition("RegisterModel")[0]
    assert "registered and released as version 2" in said_train
    trained = outputs(copy, "training")
    said_score = copy.run("score", "--on", "docker")
    assert "reused" not in said_score
    return trained, outputs(copy, "inference")


@pytest.mark.parametrize("pipeline", [0, 1], ids=["training", "inference"])
def test_containers_and_processes_give_the_same_bytes(
    by_processes: tuple[Outputs, Outputs], by_containers: tuple[Outputs, Outputs], pipeline: int
) -> None:
    assert len(by_processes[pipeline]) > 5
    assert by_containers[pipeline] == by_processes[pipeline]


def test_containers_are_held_to_the_size_of_their_instances(copy: Miniature) -> None:  # noqa: F811
    definition = json.loads((copy.root / "local/compiled/dev/training.json").read_text())
    types = {item["Name"]: item["DefaultValue"] for item in definition["Parameters"] if "InstanceType" in item["Name"]}
    assert types["ProcessingInstanceType"] == "ml.m5.large"
    assert limits("ml.m5.large", 64) == ["--cpus", "2", "--memory", "8g"]
    assert limits("ml.m5.4xlarge", 2)[:2] == ["--cpus", "2"], "more than this machine has can't be given"
    assert limits("ml.unheard.of", 2) == []


def test_a_container_can_not_call_out(copy: Miniature) -> None:  # noqa: F811
    """The network of the model's server reaches this machine and nothing else; jobs have none at all."""
    [image] = set(copy.release()["images"].values()) & set(
        said("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "local/case/case/algorithm").split()
    )
    code = "import socket; socket.create_connection(('1.1.1.1', 53), timeout=2)"
    for network in ("none", "usecase-no-way-out"):
        done = subprocess.run(
            ["docker", "run", "--rm", "--network", network, "--entrypoint", "python", image, "-c", code],
            check=False,
            capture_output=True,
        )
        assert done.returncode != 0, network
        assert b"socket" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["asked", "killed"])
def test_a_run_that_ends_early_leaves_no_container(copy: Miniature, number: signal.Signals) -> None:  # noqa: F811
    words = ["--set", "NumIterations=20000", "--set", "EarlyStoppingRounds=0", "--set", "LearningRate=0.0001"]
    process = copy.start("train", "--on", "docker", *words, *NO_CHAMPION)
    until(lambda: copy.states().get("TrainModel") == "running" and containers())
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    until(lambda: not containers(), 30)
    assert process.returncode in (130, -9)
    assert not re.findall(r"\S+\.partial", str(list((copy.root / "local" / "storage").rglob("*"))))


def test_what_was_released_is_what_scores_whatever_the_code_is_now(copy: Miniature) -> None:  # noqa: F811
    file = copy.root / "components" / "processing" / "features.py"
    before = file.read_text()
    try:
        file.write_text(f"{before}\n# changed at {time.time()}, so that no image of it is there yet\n")
        told = copy.run("score", "--on", "docker")
    finally:
        file.write_text(before)
    assert "run as they are now" not in told
    assert "building processing" in told
    images = said("docker", "images", "--format", "{{.Tag}}", "local/case/case/processing").split()
    assert len(images) >= 2
    subprocess.run(["docker", "rmi", f"local/case/case/processing:{images[0]}"], check=True, capture_output=True)


def test_an_image_that_does_not_build_is_said_and_nothing_is_tagged(copy: Miniature) -> None:  # noqa: F811
    lock: Path = copy.root / "locks" / "monitoring.txt"
    before, tags = lock.read_text(), said("docker", "images", "--quiet", "local/case/case/monitoring")
    try:
        lock.write_text(before + "no-such-package-anywhere==9.9 --hash=sha256:" + "0" * 64 + "\n")
        told = copy.run("images", code=1)
    finally:
        lock.write_text(before)
    assert "the images could not be built: " in told
    assert "no-such-package-anywhere" in told
    assert "log: local/images.log" in told
    assert said("docker", "images", "--quiet", "local/case/case/monitoring") == tags
