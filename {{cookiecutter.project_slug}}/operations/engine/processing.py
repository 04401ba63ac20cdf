"""Processing jobs: inputs linked, entrypoint run, outputs stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operations.engine import folders
from operations.engine.backend import Container
from operations.engine.execution import Execution, Outcome, Stored, need


@dataclass(frozen=True)
class Processing:
    """What of a Create Processing Job request matters here; inputs and outputs are (path, URI)."""

    request: Mapping[str, Any]
    container: Container
    inputs: list[tuple[str, str]]
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
        [(source["LocalPath"], source["S3Uri"]) for source in sources],
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
        "inputs": [[path, run.cache.content(uri)] for path, uri in job.inputs],
        "outputs": {name: path for name, (path, _) in job.outputs.items()},
    }


def _work(name: str, job: Processing, run: Execution) -> Stored:
    process = run.job(name, job.container, [run.storage.mount(uri, path) for path, uri in job.inputs])
    folders.write_processing(process.root, job.request)
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
