"""Starting an image as SageMaker does: its own /opt/ml, no network, one of the two ways to name a mode."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

HOSTS = ("algo-1", "algo-2")
LIMIT = 120  # seconds that anything here may take
Output = tuple[str, str]  # a job and one of its outputs


@dataclass(frozen=True)
class Spec:
    """One job: the inputs it reads, from which job's output, and the outputs it writes.

    `artifact` is the output that a serve mode reads.
    """

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


MODEL = after("algorithm", "train", "model")
FEATURES = after("processing", "serve", "features")
BASELINE, EXPLAINER = after("monitoring", "train", "baseline"), after("explainability", "train", "explainer")
JOBS = (
    Spec(
        "processing",
        "train",
        {"raw": DATA["train"], "validation": DATA["validation"], "champion": DATA["absent"]},
        ("preprocessor", *SPLITS),
        "preprocessor",
    ),
    Spec(
        "algorithm",
        "train",
        after("processing", "train", *SPLITS) | {"champion": DATA["absent"]},
        ("model", "output/data"),
        "model",
    ),
    Spec(
        "monitoring",
        "train",
        {"raw": DATA["train"], "evaluation": ("algorithm train", "output/data")},
        ("baseline", "report"),
        "baseline",
    ),
    Spec(
        "explainability",
        "train",
        {"features": ("processing train", "validation"), **MODEL},
        ("explainer", "report"),
        "explainer",
    ),
    Spec(
        "processing",
        "serve",
        {"raw": DATA["production"], **after("processing", "train", "preprocessor")},
        ("features", "summary"),
    ),
    Spec(
        "monitoring",
        "serve",
        {"raw": DATA["production"], **after("algorithm", "serve", "predictions"), **BASELINE, **EXPLAINER},
        ("drift",),
    ),
    Spec("explainability", "serve", {**FEATURES, **MODEL, **EXPLAINER}, ("explanations",)),
)


@dataclass(frozen=True)
class Start:
    """What differs from an ordinary start: other inputs, settings, hosts, docker options."""

    inputs: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ("algo-1",)
    host: str = "algo-1"
    sharded: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Running:
    """A container at work in `root`; it is gone when the test is."""

    def __init__(self, image: str, root: Path, options: Sequence[str], words: Sequence[str]) -> None:
        self.root = root
        command = [
            "docker",
            "run",
            "--detach",
            "--pull",
            "never",
            "--volume",
            f"{root}:/opt/ml",
            *options,
            image,
            *words,
        ]
        self.identity = said(*command).strip()
        # asked for now: a job on few rows would be done while docker answers
        self.process = int(said("docker", "inspect", "--format", "{{.State.Pid}}", self.identity))

    def wait(self) -> int:
        """Its exit code."""
        done = subprocess.run(
            ["docker", "wait", self.identity], check=True, capture_output=True, text=True, timeout=LIMIT
        )
        return int(done.stdout)

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.identity], check=True, capture_output=True, timeout=LIMIT)
        return (done.stdout + done.stderr).decode(errors="replace")

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to its first process, at once where that is allowed."""
        assert self.process, "it was done before it could be asked for its process"
        try:
            os.kill(self.process, number)
        except (PermissionError, ProcessLookupError):
            subprocess.run(["docker", "kill", "--signal", number.name, self.identity], check=False, capture_output=True)

    def remove(self) -> None:
        subprocess.run(["docker", "rm", "--force", "--volumes", self.identity], check=False, capture_output=True)

    def failure(self) -> str:
        """What it wrote for the service, "" where it wrote nothing."""
        files = [self.root / "output" / name for name in ("failure", "message")]
        return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


def said(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT).stdout


def until(condition: Callable[[], Any], seconds: float = LIMIT) -> Any:
    """What the condition gives, as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.002)
    raise AssertionError("it did not come to that")


class Contract:
    """The images, and a finished run of each job for those that depend on it."""

    def __init__(self, images: Mapping[str, str], folder: Path, hyperparameters: Mapping[str, str]) -> None:
        self.images, self.folder, self.hyperparameters = images, folder, hyperparameters
        self.started: list[Running] = []

    def stored(self, output: Output) -> Path:
        """The folder of a finished job's output."""
        return self.folder / output[0] / output[1]

    def inputs(self, spec: Spec) -> dict[str, Path]:
        """The folders a job reads, where they are there: a validation table of one's own is optional."""
        return {name: self.stored(output) for name, output in spec.inputs.items() if self.stored(output).exists()}

    def start(self, spec: Spec, root: Path, how: Start | None = None) -> Running:
        """Start a job in an empty root."""
        how = how or Start()
        inputs = {**self.inputs(spec), **how.inputs}
        configure(spec, root, how, {**self.hyperparameters, **how.settings})
        options = ["--network", "none", *how.options]
        for name, path in inputs.items():
            options += ["--volume", f"{path}:{spec.inside('input', name)}:ro"]
        for name in spec.outputs:
            (root / spec.inside("output", name).removeprefix("/opt/ml/")).mkdir(parents=True, exist_ok=True)
        words = ["train"]
        if not spec.trains:
            options += ["--entrypoint", "python"]
            settings = (word for pair in how.settings.items() for word in pair)
            words = ["-m", "batchloop.container", spec.component, spec.mode, *settings]
        running = Running(self.images[spec.component], root, options, words)
        self.started.append(running)
        return running

    def run(self, spec: Spec, root: Path, how: Start | None = None) -> tuple[int, Running]:
        """Run a job to its end."""
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

    def remove_all(self) -> None:
        for running in self.started:
            running.remove()


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
        self.running = Running(contract.images["algorithm"], root, published, ["serve"])
        self.port, self.ready = 0, 0.0

    def healthy(self) -> bool:
        """Whether it answers; a server that has ended fails the test with its log."""
        if not self.port:
            found = subprocess.run(["docker", "port", self.running.identity, "8080"], check=False, capture_output=True)
            self.port = int(found.stdout.decode().splitlines()[0].rpartition(":")[2]) if found.stdout.strip() else 0
        state = said("docker", "inspect", "--format", "{{.State.Status}}", self.running.identity).strip()
        assert state != "exited", self.running.log()
        try:
            return self.ask("GET", "/ping", seconds=2)[0] == 200
        except OSError:
            return False

    def connection(self, seconds: float = LIMIT) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=seconds)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds: float = LIMIT,
    ) -> tuple[int, bytes]:
        """Status and body of one answer."""
        connection = self.connection(seconds)
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

    def memory(self) -> int:
        """Bytes that its process holds."""
        status = Path(f"/proc/{said('docker', 'inspect', '--format', '{{.State.Pid}}', self.running.identity).strip()}")
        [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", (status / "status").read_text())
        return int(kilobytes) * 1024


@contextmanager
def serving(contract: Contract, root: Path, *options: str) -> Iterator[Server]:
    """A server that is ended afterwards."""
    server = Server(contract, root, options)
    try:
        until(server.healthy)
        server.ready = time.monotonic() - server.begun
        yield server
    finally:
        server.running.remove()
