"""Processing jobs: inputs linked, entrypoint run, outputs stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operations.engine import folders
from operations.engine.backend import Container, Mount
from operations.engine.execution import Execution, Outcome, Stored, need


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
