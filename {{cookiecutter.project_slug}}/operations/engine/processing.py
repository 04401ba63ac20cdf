"""Processing jobs: inputs linked, entrypoint run, outputs stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operations.engine import folders
from operations.engine.backend import component
from operations.engine.execution import Execution, Outcome, Stored, need


@dataclass(frozen=True)
class Processing:
    """What of a Create Processing Job request matters here; inputs and outputs are (path, URI)."""

    request: Mapping[str, Any]
    component: str
    command: list[str]
    environment: Mapping[str, str]
    inputs: list[tuple[str, str]]
    outputs: dict[str, tuple[str, str]]


def step(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """Run the job, unless the same code did the same to the same inputs before."""
    job = _read(arguments)
    return run.once(_identity(job, run), lambda _key: _work(name, job, run))


def _read(arguments: Mapping[str, Any]) -> Processing:
    application = need(arguments, "AppSpecification")
    part = component(application["ImageUri"])
    entrypoint = application.get("ContainerEntrypoint") or ["python", "-m", part]
    sources = [item["S3Input"] for item in arguments.get("ProcessingInputs", [])]
    return Processing(
        arguments,
        part,
        [str(word) for word in [*entrypoint, *application.get("ContainerArguments", [])]],
        arguments.get("Environment", {}),
        [(source["LocalPath"], source["S3Uri"]) for source in sources],
        {
            item["OutputName"]: (item["S3Output"]["LocalPath"], item["S3Output"]["S3Uri"])
            for item in arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
        },
    )


def _identity(job: Processing, run: Execution) -> dict[str, Any]:
    return {
        "type": "Processing",
        "code": [job.component, run.version(job.component)],
        "command": job.command,
        "environment": dict(job.environment),
        "inputs": [[path, run.cache.content(uri)] for path, uri in job.inputs],
        "outputs": {name: path for name, (path, _) in job.outputs.items()},
    }


def _work(name: str, job: Processing, run: Execution) -> Stored:
    process = run.job(name, job.component, job.command, job.environment)
    folders.write_processing(process.root, job.request)
    for path, uri in job.inputs:
        run.storage.link(uri, folders.inside(process.root, path))
    for path, _ in job.outputs.values():
        folders.inside(process.root, path).mkdir(parents=True, exist_ok=True)
    run.backend.run(process)
    for path, uri in job.outputs.values():
        run.storage.take(folders.inside(process.root, path), uri)
    outputs = job.request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    properties = {
        "ProcessingJobName": run.job_name(name),
        "ProcessingJobStatus": "Completed",
        "ProcessingOutputConfig": {"Outputs": {item["OutputName"]: item for item in outputs}},
        "AppSpecification": job.request["AppSpecification"],
    }
    return properties, [uri for _, uri in job.outputs.values()]
