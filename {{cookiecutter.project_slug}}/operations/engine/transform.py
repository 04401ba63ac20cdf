"""Batch transform jobs: the model's server started, every input file sent to it, the answers stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operations.engine import folders, requests
from operations.engine.backend import component
from operations.engine.execution import Execution, Outcome, Stored, need

LIMITS = {
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "MaxPayloadInMB",
    "SAGEMAKER_BATCH_STRATEGY": "BatchStrategy",
    "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "MaxConcurrentTransforms",
}


@dataclass(frozen=True)
class Transform:
    """What of a Create Transform Job request matters here, and the data of the model it names."""

    request: Mapping[str, Any]
    component: str
    environment: Mapping[str, str]
    model: str
    source: str
    target: str


def step(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """Run the job, unless the same server answered the same files with the same model before."""
    container = run.models[need(arguments, "ModelName")]
    job = Transform(
        arguments,
        component(container["Image"]),
        container.get("Environment", {}) | arguments.get("Environment", {}),
        container["ModelDataUrl"],
        arguments["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"],
        arguments["TransformOutput"]["S3OutputPath"],
    )
    return run.once(_identity(job, run), lambda _key: _work(name, job, run))


def _identity(job: Transform, run: Execution) -> dict[str, Any]:
    return {
        "type": "Transform",
        "code": [job.component, run.version(job.component)],
        "environment": dict(job.environment),
        "model": run.cache.content(job.model),
        "inputs": run.cache.content(job.source),
        "request": [job.request["TransformInput"].get("ContentType"), job.request["TransformOutput"].get("Accept")],
        "payload": job.request.get("MaxPayloadInMB"),
    }


def _work(name: str, job: Transform, run: Execution) -> Stored:
    files = run.storage.files(job.source)
    requests.check(files, int(job.request.get("MaxPayloadInMB") or requests.DEFAULT_PAYLOAD))
    environment = {**job.environment, **batch_environment(job.request)}
    process = run.job(name, job.component, ["python", "-m", job.component, "serve"], environment)
    folders.unpack(run.storage.existing(job.model), process.root / "model")
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
