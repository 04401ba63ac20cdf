"""What batch transform does with a running server: every file becomes a request, every answer a file.

Source: "Use Your Own Inference Code with Batch Transform" in the SageMaker developer guide.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from batchloop import repository
from batchloop.container import artifacts
from batchloop.container.job import InputError
from batchloop.engine import storage
from batchloop.engine.cache import Execution, Outcome, Stored, need, now
from batchloop.engine.storage import Container, Mount
from batchloop.repository import Failure

MEGABYTE = 2**20
DEFAULT_PAYLOAD = 6  # megabytes, the service's


@dataclass(frozen=True)
class Delivery:
    """How the files are sent; `timeout` in seconds."""

    port: int
    headers: Mapping[str, str]
    concurrent: int
    timeout: int


def delivery(port: int, arguments: Mapping[str, Any]) -> Delivery:
    """From a transform job's arguments; the server is asked for what they leave open."""
    source = arguments["TransformInput"]
    headers = {"Content-Type": source.get("ContentType"), "Accept": arguments["TransformOutput"].get("Accept")}
    concurrent = int(arguments.get("MaxConcurrentTransforms") or _suggested(port).get("MaxConcurrentTransforms", 1))
    timeout = int(arguments.get("ModelClientConfig", {}).get("InvocationsTimeoutInSeconds", 600))
    return Delivery(port, {name: value for name, value in headers.items() if value}, concurrent, timeout)


def _suggested(port: int) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/execution-parameters")
        response = connection.getresponse()
        body = response.read()
        return dict(json.loads(body)) if response.status == 200 else {}
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()


def check(files: list[tuple[str, Path]], payload: int) -> None:
    """Refuse what would be too large to send. Raises Failure."""
    if not files:
        raise Failure("there is no file to transform.")
    for name, path in files:
        size = path.stat().st_size
        if payload and size > payload * MEGABYTE:
            raise Failure(f"{name} has {size / MEGABYTE:.1f} MB, a request may have {payload}; raise MaxPayloadInMB.")


def send_all(files: list[tuple[str, Path]], into: Path, how: Delivery) -> None:
    """Write `<name>.out` for each file, several at a time. Raises Failure for the first that is refused."""
    with ThreadPoolExecutor(how.concurrent) as pool:
        sent = [pool.submit(_send, name, path, into / f"{name}.out", how) for name, path in files]
        try:
            for future in sent:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _send(name: str, path: Path, target: Path, how: Delivery) -> None:
    connection = HTTPConnection("127.0.0.1", how.port, timeout=how.timeout)
    try:
        with path.open("rb") as body:
            headers = {**how.headers, "Content-Length": str(path.stat().st_size)}
            connection.request("POST", "/invocations", body, headers)
            _receive(name, connection.getresponse(), target)
    except TimeoutError:
        raise Failure(f"{name}: the server gave no answer within {how.timeout} seconds.") from None
    except (OSError, HTTPException) as error:
        raise Failure(f"{name}: the server broke off ({type(error).__name__}: {error}).") from None
    finally:
        connection.close()


def _receive(name: str, response: HTTPResponse, target: Path) -> None:
    if response.status != 200:
        said = response.read(1024).decode(errors="replace").strip()
        raise Failure(f"{name} was refused with status {response.status}: {said or response.reason}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        while block := response.read(MEGABYTE):
            out.write(block)


@dataclass(frozen=True)
class Input:
    """What lies at a URI, or is `listed` in the manifest there, at a path of the container."""

    path: str
    uri: str
    listed: bool


@dataclass(frozen=True)
class Processing:
    """What of a Create Processing Job request matters here; outputs are (path, URI)."""

    request: Mapping[str, Any]
    container: Container
    inputs: list[Input]
    outputs: dict[str, tuple[str, str]]


def step(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """Run the job, unless the same code did the same to the same inputs before."""
    job = _read(arguments)
    return run.once(_identity(job, run), lambda _key: _work(name, job, run))


def _read(arguments: Mapping[str, Any]) -> Processing:
    application = need(arguments, "AppSpecification")
    sources = [item["S3Input"] for item in arguments.get("ProcessingInputs", [])]
    return Processing(
        arguments,
        Container(
            application["ImageUri"],
            tuple(str(word) for word in application.get("ContainerArguments", [])),
            tuple(application.get("ContainerEntrypoint", [])),
            arguments.get("Environment", {}),
            arguments.get("ProcessingResources", {}).get("ClusterConfig", {}).get("InstanceType", ""),
        ),
        [Input(source["LocalPath"], source["S3Uri"], source.get("S3DataType") == "ManifestFile") for source in sources],
        {
            item["OutputName"]: (item["S3Output"]["LocalPath"], item["S3Output"]["S3Uri"])
            for item in arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
        },
    )


def _identity(job: Processing, run: Execution) -> dict[str, Any]:
    return {
        "type": "Processing",
        "code": run.backend.code(job.container.image),
        "container": job.container.identity,
        "inputs": [[source.path, run.cache.content(source.uri, source.listed)] for source in job.inputs],
        "outputs": {name: path for name, (path, _) in job.outputs.items()},
    }


def _mounts(source: Input, run: Execution) -> list[Mount]:
    if source.listed:
        return run.storage.mounts(source.uri, source.path)
    return [run.storage.mount(source.uri, source.path)]


def _work(name: str, job: Processing, run: Execution) -> Stored:
    mounts = [mount for source in job.inputs for mount in _mounts(source, run)]
    process = run.job(name, job.container, mounts)
    storage.write_processing(process.root, job.request)
    for path, _ in job.outputs.values():
        storage.inside(process.root, path).mkdir(parents=True, exist_ok=True)
    run.backend.run(process)
    for path, uri in job.outputs.values():
        run.storage.take(storage.inside(process.root, path), uri)
    outputs = job.request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    properties = {
        "ProcessingJobName": run.job_name(name),
        "ProcessingJobStatus": "Completed",
        "ProcessingOutputConfig": {"Outputs": {item["OutputName"]: item for item in outputs}},
        "AppSpecification": job.request["AppSpecification"],
    }
    return properties, [uri for _, uri in job.outputs.values()]


@dataclass(frozen=True)
class Training:
    """What of a Create Training Job request matters here; `channels` maps a name to its URI."""

    request: Mapping[str, Any]
    container: Container
    metrics: list[Mapping[str, str]]
    channels: dict[str, str]
    target: str


def training_step(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """Run the job, unless the same code learned from the same channels with the same hyperparameters before."""
    job = _read_training(name, arguments, run)
    return run.once(_training_identity(job, run), lambda key: _run_training(name, job, run, key))


def _read_training(name: str, arguments: Mapping[str, Any], run: Execution) -> Training:
    algorithm = need(arguments, "AlgorithmSpecification")
    return Training(
        arguments,
        Container(
            algorithm["TrainingImage"],
            tuple(algorithm.get("ContainerArguments") or ["train"]),
            tuple(algorithm.get("ContainerEntrypoint", [])),
            arguments.get("Environment", {}),
            arguments.get("ResourceConfig", {}).get("InstanceType", ""),
        ),
        algorithm.get("MetricDefinitions", []),
        {item["ChannelName"]: item["DataSource"]["S3DataSource"]["S3Uri"] for item in arguments["InputDataConfig"]},
        f"{arguments['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{run.job_name(name)}",
    )


def _training_identity(job: Training, run: Execution) -> dict[str, Any]:
    return {
        "type": "Training",
        "code": run.backend.code(job.container.image),
        "container": job.container.identity,
        "hyperparameters": job.request.get("HyperParameters", {}),
        "metrics": job.metrics,
        "inputs": {channel: run.cache.content(uri) for channel, uri in job.channels.items()},
    }


def _run_training(name: str, job: Training, run: Execution, key: str) -> Stored:
    channels = [run.storage.mount(uri, f"/opt/ml/input/data/{channel}") for channel, uri in job.channels.items()]
    # an interrupted fit goes on from where it was, as it would on a spot instance
    checkpoints = run.cache.folder / "checkpoints" / key
    checkpoints.mkdir(parents=True, exist_ok=True)
    kept = Mount("/opt/ml/checkpoints", checkpoints.resolve(), writable=True)
    process = run.job(name, job.container, [*channels, kept])
    storage.write_training(process.root, job.request)
    run.backend.run(process)
    metrics = final_metrics(process.log, job.metrics)
    _pack(process.root, run, job.target)
    shutil.rmtree(checkpoints, ignore_errors=True)
    properties = {
        "TrainingJobName": run.job_name(name),
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": f"{job.target}/output/model.tar.gz"},
        "OutputDataConfig": {"S3OutputPath": job.request["OutputDataConfig"]["S3OutputPath"]},
        "HyperParameters": job.request.get("HyperParameters", {}),
        "FinalMetricDataList": metrics,
    }
    return properties, [job.target]


def _pack(root: Path, run: Execution, target: str) -> None:
    """Store <target>/output/{model,output}.tar.gz in one rename."""
    packed = root.parent / "packed"
    if not storage.pack(root / "model", packed / "output" / "model.tar.gz"):
        raise Failure("the job left no file in /opt/ml/model.")
    storage.pack(root / "output" / "data", packed / "output" / "output.tar.gz")
    run.storage.take(packed, target)


def final_metrics(log: Path, definitions: list[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """The last value each metric's expression found in the log, by the metric's name."""
    said = log.read_text(encoding="utf-8", errors="replace")
    found = {item["Name"]: re.findall(item["Regex"], said) for item in definitions}
    return {name: {"MetricName": name, "Value": float(values[-1])} for name, values in found.items() if values}


LIMITS = {
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "MaxPayloadInMB",
    "SAGEMAKER_BATCH_STRATEGY": "BatchStrategy",
    "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "MaxConcurrentTransforms",
}


@dataclass(frozen=True)
class Transform:
    """What of a Create Transform Job request matters here, and the data of the model it names."""

    request: Mapping[str, Any]
    container: Container
    model: str
    source: str
    target: str


def transform_step(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """Run the job, unless the same server answered the same files with the same model before."""
    model = run.models[need(arguments, "ModelName")]
    environment = {**model.get("Environment", {}), **arguments.get("Environment", {}), **batch_environment(arguments)}
    instance = arguments.get("TransformResources", {}).get("InstanceType", "")
    job = Transform(
        arguments,
        Container(model["Image"], ("serve",), environment=environment, instance=instance),
        model["ModelDataUrl"],
        arguments["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"],
        arguments["TransformOutput"]["S3OutputPath"],
    )
    return run.once(_transform_identity(job, run), lambda _key: _run_transform(name, job, run))


def _transform_identity(job: Transform, run: Execution) -> dict[str, Any]:
    return {
        "type": "Transform",
        "code": run.backend.code(job.container.image),
        "container": job.container.identity,
        "model": run.cache.content(job.model),
        "inputs": run.cache.content(job.source),
        "request": [job.request["TransformInput"].get("ContentType"), job.request["TransformOutput"].get("Accept")],
        "payload": job.request.get("MaxPayloadInMB"),
    }


def _run_transform(name: str, job: Transform, run: Execution) -> Stored:
    files = run.storage.files(job.source)
    check(files, int(job.request.get("MaxPayloadInMB") or DEFAULT_PAYLOAD))
    process = run.job(name, job.container)
    try:
        artifacts.extract(run.storage.existing(job.model), process.root / "model")
    except InputError as error:
        raise Failure(str(error)) from None
    answers = process.root.parent / "answers"
    answers.mkdir()
    with run.backend.serving(process) as port:
        send_all(files, answers, delivery(port, job.request))
    run.storage.take(answers, job.target)
    properties = {
        "TransformJobName": run.job_name(name),
        "TransformJobStatus": "Completed",
        "TransformOutput": job.request["TransformOutput"],
    }
    return properties, [job.target]


def batch_environment(request: Mapping[str, Any]) -> dict[str, str]:
    """What the service tells a transform container; limits only where the job sets them."""
    limits = {name: str(request[key]) for name, key in LIMITS.items() if key in request}
    return {"SAGEMAKER_BATCH": "true", **limits}


Step = Callable[[str, Mapping[str, Any], Execution], Outcome]
PASSING = ("git_commit",)  # says nothing about what the model is


def model(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """A model is only a name for an image and its data; transform looks it up."""
    container = arguments.get("PrimaryContainer") or need(arguments, "Containers")[0]
    called = arguments.get("ModelName") or run.job_name(name)
    run.storage.existing(need(container, "ModelDataUrl"))
    run.models[called] = container
    return Outcome({"ModelName": called, "PrimaryContainer": container})


def register(_name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """A model package: a new version, unless a package with the same contents and approval is there."""
    about = arguments.get("CustomerMetadataProperties", {})
    contents = {key: _content(value, run) for key, value in about.items() if key not in PASSING}
    contents["status"] = arguments.get("ModelApprovalStatus", "")
    identity = repository.of([need(arguments, "ModelPackageGroupName"), contents])
    known = run.registry.find(identity)
    if known is not None and all(_stored(value, run) for value in known["CustomerMetadataProperties"].values()):
        return Outcome(known, reused=True)
    return Outcome(run.registry.register(arguments, identity, now()))


def _stored(value: str, run: Execution) -> bool:
    """Whether a place that a package names is still there: it may have been registered before storage was cleared."""
    return not value.startswith("s3://") or run.storage.path(value).exists()


def _content(value: str, run: Execution) -> str:
    return run.cache.content(value) if value.startswith(("s3://", "file://")) else value


def fail(_name: str, arguments: Mapping[str, Any], _run: Execution) -> Outcome:
    """End the run with the definition's own message."""
    raise Failure(str(arguments.get("ErrorMessage") or "the pipeline ended here."))


BY_TYPE: Mapping[str, Step] = {
    "Processing": step,
    "Training": training_step,
    "Model": model,
    "Transform": transform_step,
    "RegisterModel": register,
    "Fail": fail,
}
