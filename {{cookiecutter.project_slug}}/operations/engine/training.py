"""Training jobs: channels linked, `train` run, model and output packed, metrics read from the log."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operations.engine import folders
from operations.engine.backend import Container, Mount
from operations.engine.execution import Execution, Outcome, Stored, need
from operations.failures import Failure


@dataclass(frozen=True)
class Training:
    """What of a Create Training Job request matters here; `channels` maps a name to its URI."""

    request: Mapping[str, Any]
    container: Container
    metrics: list[Mapping[str, str]]
    channels: dict[str, str]
    target: str


def step(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """Run the job, unless the same code learned from the same channels with the same hyperparameters before."""
    job = _read(name, arguments, run)
    return run.once(_identity(job, run), lambda key: _work(name, job, run, key))


def _read(name: str, arguments: Mapping[str, Any], run: Execution) -> Training:
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


def _identity(job: Training, run: Execution) -> dict[str, Any]:
    return {
        "type": "Training",
        "code": run.backend.code(job.container.image),
        "container": job.container.identity,
        "hyperparameters": job.request.get("HyperParameters", {}),
        "metrics": job.metrics,
        "inputs": {channel: run.cache.content(uri) for channel, uri in job.channels.items()},
    }


def _work(name: str, job: Training, run: Execution, key: str) -> Stored:
    channels = [run.storage.mount(uri, f"/opt/ml/input/data/{channel}") for channel, uri in job.channels.items()]
    # an interrupted fit goes on from where it was, as it would on a spot instance
    checkpoints = run.cache.folder / "checkpoints" / key
    checkpoints.mkdir(parents=True, exist_ok=True)
    kept = Mount("/opt/ml/checkpoints", checkpoints.resolve(), writable=True)
    process = run.job(name, job.container, [*channels, kept])
    folders.write_training(process.root, job.request)
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
    if not folders.pack(root / "model", packed / "output" / "model.tar.gz"):
        raise Failure("the job left no file in /opt/ml/model.")
    folders.pack(root / "output" / "data", packed / "output" / "output.tar.gz")
    run.storage.take(packed, target)


def final_metrics(log: Path, definitions: list[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """The last value each metric's expression found in the log, by the metric's name."""
    said = log.read_text(encoding="utf-8", errors="replace")
    found = {item["Name"]: re.findall(item["Regex"], said) for item in definitions}
    return {name: {"MetricName": name, "Value": float(values[-1])} for name, values in found.items() if values}
