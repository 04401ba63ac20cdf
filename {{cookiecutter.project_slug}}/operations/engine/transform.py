"""Batch transform jobs: the model's server started, every input file sent to it, the answers stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operations.engine import requests
from operations.engine.backend import Container
from operations.engine.execution import Execution, Outcome, Stored, need
from operations.failures import Failure
from runtime import artifacts
from runtime.failures import InputError

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


def step(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
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
    return run.once(_identity(job, run), lambda _key: _work(name, job, run))


def _identity(job: Transform, run: Execution) -> dict[str, Any]:
    return {
        "type": "Transform",
        "code": run.backend.code(job.container.image),
        "container": job.container.identity,
        "model": run.cache.content(job.model),
        "inputs": run.cache.content(job.source),
        "request": [job.request["TransformInput"].get("ContentType"), job.request["TransformOutput"].get("Accept")],
        "payload": job.request.get("MaxPayloadInMB"),
    }


def _work(name: str, job: Transform, run: Execution) -> Stored:
    files = run.storage.files(job.source)
    requests.check(files, int(job.request.get("MaxPayloadInMB") or requests.DEFAULT_PAYLOAD))
    process = run.job(name, job.container)
    try:
        artifacts.extract(run.storage.existing(job.model), process.root / "model")
    except InputError as error:
        raise Failure(str(error)) from None
    answers = process.root.parent / "answers"
    answers.mkdir()
    with run.backend.serving(process) as port:
        requests.send_all(files, answers, requests.delivery(port, job.request))
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
