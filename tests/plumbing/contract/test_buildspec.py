"""buildspec.yml, its commands run in order: a real registry on loopback, moto where AWS would stand."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from batchloop import repository as batchloop_repository
from batchloop.cloud import images
from batchloop.pipelines import definitions
from batchloop.repository import Repository
from plumbing.contract.containers import HERE, said, until
from plumbing.rendered import TEMPLATE

PHASES = ("install", "pre_build", "build", "post_build")
OCI = "application/vnd.oci.image.manifest.v1+json"
COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")
SPEC: dict[str, Any] = yaml.safe_load((HERE.root / "buildspec.yml").read_text(encoding="utf-8"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry; its host."""
    program = shutil.which("docker-registry")
    assert program, "install the package docker-registry (Debian), which has the registry that this test pushes to"
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    config = {"version": 0.1, "log": {"level": "error"}, "http": {"addr": f"127.0.0.1:{port}"}}
    config["storage"] = {"filesystem": {"rootdirectory": str(folder / "data")}}
    (folder / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        until(lambda: _answers(port), 20)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


class Build:
    """A clone of this repository, and what CodeBuild gives a build."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root, self.environment, self.pushes = root, dict(environment), 0

    def run(self) -> tuple[bool, str]:
        """Run the phases as CodeBuild does: whether all succeeded, and what was printed."""
        told, good = [], True
        for phase in PHASES:
            if not good and phase != "post_build":
                continue
            # the project's go before the specification's ("Build specification reference for CodeBuild")
            variables = {**SPEC["env"]["variables"], **self.environment, "CODEBUILD_BUILD_SUCCEEDING": str(int(good))}
            for command in SPEC["phases"][phase]["commands"]:
                done = subprocess.run(
                    ["bash", "-c", command],
                    cwd=self.root,
                    env=variables,
                    check=False,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                told.append(f"$ {command}\n{done.stdout}")
                if done.returncode != 0:
                    good = False
                    break
        return good, "".join(told)


class NoStack(BaseHTTPRequestHandler):
    """CloudFormation as it answers where there is no such stack; moto's asks for more packages than are at hand."""

    def do_POST(self) -> None:
        error = "<Type>Sender</Type><Code>ValidationError</Code><Message>Stack does not exist</Message>"
        body = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def formation() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NoStack) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def build(registry: str, formation: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    root = tmp_path_factory.mktemp("a clone") / "repository"
    ignored = shutil.ignore_patterns("__pycache__", ".git", "local", ".venv*", "sample", "adopted")
    shutil.copytree(HERE.root, root, ignore=ignored)
    for name in (".venv", ".venv-components"):
        (root / name).symlink_to(HERE.root / name)
    (root / ".venv-scanners").symlink_to(TEMPLATE / ".venv-scanners")
    # what installs and what scans has been tried, and would only take time: here it is the order that counts
    tried = r"^(install|scanners auditors|scan|sbom):.*?(?=^\S)"
    makefile = re.sub(tried, r"\1:\n\n", (root / "Makefile").read_text(), flags=re.M | re.S)
    (root / "Makefile").write_text(makefile)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    credentials = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "testing")
    environment = {
        # nor what a `make` that runs the tests was given: CodeBuild has none
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAKE", "MFLAGS"))},
        **credentials,
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ENDPOINT_URL_CLOUDFORMATION": formation,
        "AWS_EC2_METADATA_DISABLED": "true",
        "REGISTRY": registry,
        "BASE_IMAGE": "python:3.11-slim-bookworm",  # as it lies here
        "TESTS": "tests/test_pipelines.py",
    }
    build = Build(root, environment)
    try:
        yield build
    finally:
        server.stop()


def client(build: Build, service: str) -> Any:
    region = definitions.read(Repository(build.root))[1].region
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, region_name=region, endpoint_url=build.environment["AWS_ENDPOINT_URL"], **keys)


def digests(build: Build) -> dict[str, str]:
    """What the parameters say about each component's image."""
    own = Repository(build.root).names()
    names = {component: own.parameter(f"components/{component}/image") for component in COMPONENTS}
    return {key: client(build, "ssm").get_parameter(Name=name)["Parameter"]["Value"] for key, name in names.items()}


def manifest(place: str, content: dict[str, Any] | None = None, tag: str = "") -> dict[str, Any]:
    """What the registry has at repository@digest; with `content`, after that was put there by a tag."""
    host, _, path = place.partition("/")
    repository, _, digest = path.partition("@")
    address = f"http://{host}/v2/{repository}/manifests/"
    if content is not None:
        headers = {"Content-Type": content["mediaType"]}
        request = Request(f"{address}{tag}", json.dumps(content).encode(), headers, method="PUT")
        urlopen(request, timeout=10).close()
    kinds = ", ".join((images.MANIFEST, OCI))
    with urlopen(Request(f"{address}{tag or digest}", headers={"Accept": kinds}), timeout=10) as answer:
        return dict(json.load(answer))


def versions(build: Build) -> list[int]:
    found = client(build, "ssm").describe_parameters()["Parameters"]
    return sorted(int(parameter["Version"]) for parameter in found)


def test_every_command_is_a_make_target() -> None:
    targets = re.findall(r"^([a-z]+):", (HERE.root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for phase in PHASES[:3]:
        for command in SPEC["phases"][phase]["commands"]:
            made = re.findall(r"(?:^|then )make ([a-z]+)(?: ENV=\$ENV)?$", command, re.MULTILINE)
            assert made, command
            assert set(made) <= set(targets)


def test_without_its_parameters_a_build_says_what_makes_them_and_goes_no_further(build: Build) -> None:
    good, told = build.run()
    assert not good
    assert "`make bootstrap CREATE=yes ENV=dev` makes it" in told
    assert "make upsert" not in told
    assert told.rstrip().endswith("Mend it and build again.")


def test_a_build_pushes_every_image_and_writes_both_pipelines(build: Build, registry: str) -> None:
    command = [sys.executable, "-m", "batchloop", "bootstrap", "create", "--env", "dev"]
    subprocess.run(command, cwd=build.root, env=build.environment, check=True, capture_output=True)
    good, told = build.run()
    assert good, told
    recorded = digests(build)
    for component, place in recorded.items():
        assert re.fullmatch(rf"{registry}/\S+/{component}@sha256:[0-9a-f]{{64}}", place)
        said("docker", "pull", "--quiet", place)
        assert manifest(place)["mediaType"] == images.MANIFEST
    for name in ("training", "inference"):
        found = client(build, "sagemaker").describe_pipeline(PipelineName=Repository(build.root).names().pipeline(name))
        declared = json.loads(found["PipelineDefinition"])["Parameters"]
        defaults = {item["Name"]: item.get("DefaultValue") for item in declared}
        assert defaults["AlgorithmImage"] == recorded["algorithm"]
    assert (build.root / SPEC["reports"]["tests"]["base-directory"] / "tests.xml").is_file()


def test_with_nothing_changed_nothing_is_pushed_or_written(build: Build) -> None:
    before, written = digests(build), versions(build)
    good, told = build.run()
    assert good, told
    assert "pushed" not in told
    assert told.count("-training: unchanged") == told.count("-inference: unchanged") == 1
    assert (digests(build), versions(build)) == (before, written)


def test_a_changed_file_pushes_its_image_alone(build: Build) -> None:
    before = digests(build)
    with (build.root / "components" / "monitoring" / "drift.py").open("a") as file:
        file.write("\n\n# changed\n")
    good, told = build.run()
    assert good, told
    after = digests(build)
    assert {name for name in before if before[name] != after[name]} == {"monitoring"}


def test_an_oci_image_in_the_registry_stops_the_push(build: Build) -> None:
    """What a builder of 0.31 leaves there, which SageMaker's CreateModel refuses."""
    before, place = digests(build), digests(build)["monitoring"]
    content = manifest(place) | {"mediaType": OCI}
    content["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    for layer in content["layers"]:
        layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
    with (build.root / "components" / "monitoring" / "drift.py").open("a") as file:
        file.write("\n\n# changed again\n")
    tag = batchloop_repository.component(Repository(build.root), "monitoring")
    assert manifest(place, content, tag)["mediaType"] == OCI
    push = subprocess.run(
        ["make", "push"], cwd=build.root, env=build.environment, capture_output=True, text=True, check=False
    )
    assert push.returncode != 0
    assert f"monitoring:{tag} is in the registry as {OCI}" in push.stderr
    assert digests(build) == before


def test_a_failing_test_stops_the_build_before_anything_is_pushed(build: Build) -> None:
    before = digests(build)
    broken = "tests/test_broken.py"
    (build.root / broken).write_text("def test_structure() -> None:\n    assert not 1\n")
    with (build.root / "components" / "processing" / "features.py").open("a") as file:
        file.write("\n\n# changed\n")
    good, told = Build(build.root, build.environment | {"TESTS": broken}).run()
    (build.root / broken).unlink()
    assert not good
    assert "make push" not in told
    assert digests(build) == before
