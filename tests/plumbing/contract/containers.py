"""The images of this repository, started as SageMaker does: a /opt/ml of their own, no network; and a run of every job.

Each job has run once, on rows of the use case's own table, for the tests that begin with what it has written.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchloop import repository
from batchloop.cloud import images

PARQUET = "application/x-parquet"
ROWS = 3000
HERE = repository.here()
LIMIT = 120  # seconds that anything here may take
Output = tuple[str, str]  # a job and one of its outputs


@dataclass(frozen=True)
class Spec:
    """One job: the inputs it reads, from which job's output, the outputs it writes, and which of them serve reads."""

    component: str
    mode: str
    inputs: Mapping[str, Output]
    outputs: tuple[str, ...]
    artifact: str = ""

    @property
    def name(self) -> str:
        return f"{self.component} {self.mode}"

    @property
    def trains(self) -> bool:
        """Whether it is a training job; the others are processing jobs."""
        return self.name == "algorithm train"

    @property
    def writable(self) -> list[str]:
        """What the service creates for it to write into ("Mapping of training storage paths", developer guide)."""
        if self.trains:
            return ["/opt/ml/model", "/opt/ml/output", "/opt/ml/checkpoints", "/tmp"]
        return ["/opt/ml/output", *(self.inside("output", name) for name in self.outputs)]

    def inside(self, direction: str, name: str) -> str:
        """Where an input or output lies in the container."""
        if not self.trains:
            return f"/opt/ml/processing/{direction}/{name}"
        return f"/opt/ml/input/data/{name}" if direction == "input" else f"/opt/ml/{name}"


SPLITS = ("train", "validation", "test", "champion_test")
DATA = {name: ("data", name) for name in ("train", "validation", "production", "absent")}


def after(component: str, mode: str, *outputs: str) -> dict[str, Output]:
    """Outputs of an earlier job, under their own names."""
    return {name: (f"{component} {mode}", name) for name in outputs}


ABSENT, RAW, PRODUCTION = {"champion": DATA["absent"]}, {"raw": DATA["train"]}, {"raw": DATA["production"]}
PREPROCESSOR, MODEL = after("processing", "train", "preprocessor"), after("algorithm", "train", "model")
FEATURES, PREDICTIONS = after("processing", "serve", "features"), after("algorithm", "serve", "predictions")
BASELINE, EXPLAINER = after("monitoring", "train", "baseline"), after("explainability", "train", "explainer")
EVALUATION, EXPLAINED = ("algorithm train", "output/data"), ("processing train", "validation")
PREPARE = {**RAW, "validation": DATA["validation"], **ABSENT}
FIT = {**after("processing", "train", *SPLITS), **ABSENT}
JOBS = (
    Spec("processing", "train", PREPARE, ("preprocessor", *SPLITS), "preprocessor"),
    Spec("algorithm", "train", FIT, ("model", "output/data"), "model"),
    Spec("monitoring", "train", {**RAW, "evaluation": EVALUATION}, ("baseline", "report"), "baseline"),
    Spec("explainability", "train", {"features": EXPLAINED, **MODEL}, ("explainer", "report"), "explainer"),
    Spec("processing", "serve", {**PRODUCTION, **PREPROCESSOR}, ("features", "summary")),
    Spec("monitoring", "serve", {**PRODUCTION, **PREDICTIONS, **BASELINE, **EXPLAINER}, ("drift",)),
    Spec("explainability", "serve", {**FEATURES, **MODEL, **EXPLAINER}, ("explanations",)),
)
every_job = pytest.mark.parametrize("spec", JOBS, ids=lambda spec: spec.name.replace(" ", "-"))


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@dataclass(frozen=True)
class Start:
    """What differs from an ordinary start: other inputs, settings, hosts, docker options, another's network."""

    inputs: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ("algo-1",)
    host: str = "algo-1"
    sharded: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    network: str = "none"


class Running:
    """A container at work in `root`, gone when the test is. Nothing is writable in it but what the options mount."""

    def __init__(self, image: str, root: Path, options: Sequence[str], words: Sequence[str]) -> None:
        self.root = root
        detached = ("docker", "run", "--detach", "--pull", "never", "--read-only")
        self.identity = said(*detached, *options, image, *words).strip()
        # asked for now: a job on few rows would be done while docker answers
        self.process = int(said("docker", "inspect", "--format", "{{.State.Pid}}", self.identity))

    def wait(self) -> int:
        return int(said("docker", "wait", self.identity))

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.identity], check=True, capture_output=True, timeout=LIMIT)
        return (done.stdout + done.stderr).decode(errors="replace")

    def remove(self) -> None:
        subprocess.run(["docker", "rm", "--force", "--volumes", self.identity], check=False, capture_output=True)

    def failure(self) -> str:
        """What it wrote for the service, "" where it wrote nothing."""
        files = [self.root / "output" / name for name in ("failure", "message")]
        return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT).stdout


def until(condition: Callable[[], Any], seconds: float = LIMIT) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.002)
    raise AssertionError("it did not come to that")


class Contract:
    """The images, and a finished run of each job for those that depend on it."""

    def __init__(self, images: Mapping[str, str], folder: Path, hyperparameters: Mapping[str, str]) -> None:
        self.images, self.folder, self.hyperparameters = images, folder, hyperparameters
        self.started: list[Running] = []

    def stored(self, output: Output) -> Path:
        return self.folder / output[0] / output[1]

    def inputs(self, spec: Spec) -> dict[str, Path]:
        """The folders a job reads, where they are there: a validation table of one's own is optional."""
        return {name: self.stored(output) for name, output in spec.inputs.items() if self.stored(output).exists()}

    def start(self, spec: Spec, root: Path, how: Start | None = None) -> Running:
        """Start a job in an empty root."""
        how = how or Start()
        inputs = {**self.inputs(spec), **how.inputs}
        configure(spec, root, how, {**self.hyperparameters, **how.settings})
        options = ["--network", how.network, *how.options]
        config = "input/config" if spec.trains else "config"
        options += ["--volume", f"{root / config}:/opt/ml/{config}:ro"]
        for point in spec.writable:
            own = root / point.removeprefix("/").removeprefix("opt/ml/")
            own.mkdir(parents=True, exist_ok=True)
            given = any(re.search(rf"[:=]{point}(?=[,:]|$)", option) for option in how.options)
            options += [] if given else ["--volume", f"{own}:{point}"]
        for name, path in inputs.items():
            options += ["--volume", f"{path}:{spec.inside('input', name)}:ro"]
        words = ["train"]
        if not spec.trains:
            options += ["--entrypoint", "python"]
            settings = (word for pair in how.settings.items() for word in pair)
            words = ["-m", "batchloop.container", spec.component, spec.mode, *settings]
        running = Running(self.images[spec.component], root, options, words)
        self.started.append(running)
        return running

    def run(self, spec: Spec, root: Path, how: Start | None = None) -> tuple[int, Running]:
        running = self.start(spec, root, how)
        return running.wait(), running

    def output(self, spec: Spec, root: Path, name: str) -> Path:
        return root / spec.inside("output", name).removeprefix("/opt/ml/")

    def keep(self, spec: Spec, root: Path) -> None:
        """Let later jobs read what this one wrote."""
        for name in spec.outputs:
            target = self.stored((spec.name, name))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(self.output(spec, root, name), target)


def configure(spec: Spec, root: Path, how: Start, hyperparameters: Mapping[str, str]) -> None:
    """The files the service writes before it starts a container."""
    resources = {"current_host": how.host, "hosts": list(how.hosts)}
    kind = {name: "ShardedByS3Key" if name in how.sharded else "FullyReplicated" for name in spec.inputs}
    if spec.trains:
        config = root / "input" / "config"
        channels = {name: {"TrainingInputMode": "File", "S3DistributionType": kind[name]} for name in spec.inputs}
        written = {"hyperparameters": dict(hyperparameters), "inputdataconfig": channels, "resourceconfig": resources}
    else:
        config = root / "config"
        sources = [{"InputName": name, "S3Input": {"S3DataDistributionType": kind[name]}} for name in spec.inputs]
        written = {"processingjobconfig": {"ProcessingInputs": sources}, "resourceconfig": resources}
    config.mkdir(parents=True)
    for name, value in written.items():
        (config / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


class Server:
    """The algorithm's image in serve mode, at a free port of the loopback interface."""

    def __init__(self, contract: Contract, root: Path, options: Sequence[str] = ()) -> None:
        shutil.copytree(contract.stored(("algorithm train", "model")), root / "model")
        self.begun = time.monotonic()
        published = ["--publish", "127.0.0.1::8080", "--env", "SAGEMAKER_BATCH=true", *options]
        published += ["--volume", f"{root / 'model'}:/opt/ml/model:ro", "--tmpfs", "/tmp"]
        self.running = Running(contract.images["algorithm"], root, published, ["serve"])
        self.port, self.ready = 0, 0.0

    def healthy(self) -> bool:
        """Whether it answers; a server that has ended fails the test with its log."""
        state = said("docker", "inspect", "--format", "{{.State.Status}}", self.running.identity).strip()
        assert state != "exited", self.running.log()
        if not self.port:
            listed = subprocess.run(["docker", "port", self.running.identity, "8080"], check=False, capture_output=True)
            self.port = int(listed.stdout.split()[0].rpartition(b":")[2]) if listed.stdout.strip() else 0
        try:
            return self.ask("GET", "/ping", seconds=2)[0] == 200
        except OSError:
            return False

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds: float = LIMIT,
    ) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body if method == "POST" else None, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def invoke(self, body: bytes, content_type: str, accept: str = "") -> tuple[int, bytes]:
        """What the model says to a table."""
        headers = {"Content-Type": content_type, **({"Accept": accept} if accept else {})}
        return self.ask("POST", "/invocations", body, headers)


@contextmanager
def serving(contract: Contract, root: Path, *options: str) -> Iterator[Server]:
    server = Server(contract, root, options)
    try:
        until(server.healthy)
        server.ready = time.monotonic() - server.begun
        yield server
    finally:
        server.running.remove()


def excerpt(source: Path, target: Path) -> None:
    """The first rows of the first table in a folder, in its own format."""
    file = sorted(path for path in source.rglob("*") if path.is_file() and path.name[0] not in "._")[0]
    separator = HERE.tables()["data"].get("separator", ",")
    target.mkdir(parents=True)
    if file.suffix == ".parquet":
        pl.read_parquet(file, n_rows=ROWS, glob=False).write_parquet(target / "rows.parquet")
    else:
        rows = pl.read_csv(file, infer_schema=False, n_rows=ROWS, separator=separator)
        rows.write_csv(target / "rows.csv", separator=separator)


def tables(folder: Path) -> tuple[Path, Path]:
    """Where labelled and new rows lie: the use case's own, or a sample for this process alone."""
    learned, production = HERE.data("train"), HERE.data("production")
    if not learned.exists():
        command = [sys.executable, "-m", "data.sample", "--rows", str(ROWS), "--output", str(folder / "sample")]
        subprocess.run(command, cwd=HERE.root, check=True, capture_output=True)
        return folder / "sample" / "train", folder / "sample" / "production"
    return learned, production if production.exists() else learned


@pytest.fixture(scope="session")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    """Every job has run once, the next on what the one before has written."""
    folder = tmp_path_factory.mktemp("contract")
    learned, production = tables(tmp_path_factory.mktemp("tables"))
    excerpt(learned, folder / "data" / "train")
    excerpt(production, folder / "data" / "production")
    if HERE.tables().get("split", {}).get("method") == "given":
        excerpt(HERE.data("validation"), folder / "data" / "validation")
    (folder / "data" / "absent").mkdir()
    (folder / "data" / "absent" / "manifest.json").write_text(json.dumps({"component": "none"}))
    built = {image.component: image.name for image in images.build(HERE)}
    values = HERE.tables()["hyperparameters"] | {"trials": 0, "continue_training": False}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    found = Contract(built, folder, texts)
    try:
        for spec in JOBS:
            if spec.name == "monitoring serve":
                score(found, tmp_path_factory.mktemp("server"))
            root = tmp_path_factory.mktemp("job")
            code, running = found.run(spec, root)
            assert code == 0, running.log()
            found.keep(spec, root)
        yield found
    finally:
        for running in found.started:
            running.remove()


def score(contract: Contract, root: Path) -> None:
    """What batch transform does: every file of features is a request, every answer a file."""
    target = contract.stored(("algorithm serve", "predictions"))
    target.mkdir(parents=True)
    with serving(contract, root) as server:
        for file in sorted(contract.stored(("processing serve", "features")).iterdir()):
            status, body = server.invoke(file.read_bytes(), PARQUET, PARQUET)
            assert status == 200, body
            (target / f"{file.name}.out").write_bytes(body)
