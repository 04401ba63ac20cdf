"""What each type of step does here: jobs, models, packages, failures.

Source: "Use Your Own Inference Code with Batch Transform" and the API reference in the SageMaker documentation.
"""

import gzip
import json
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from itertools import chain
from pathlib import Path
from typing import Any

from batchloop.container import artifacts
from batchloop.container.job import SHARDED, InputError
from batchloop.engine.processes import Backend, Container, Job, request
from batchloop.engine.storage import Cache, Mount, Properties, Registry, Storage
from batchloop.pipelines.expressions import DEFAULT_PAYLOAD

MEGABYTE = 2**20
GROUP = {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": ["algo-1"]}
HOST = {  # a training job's resourceconfig.json
    **{"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"},
    **{"current_instance_type": "local", "current_group_name": "homogeneousCluster", "instance_groups": [GROUP]},
}
CHANNELS = "/opt/ml/input/data"
LIMITS = {  # what a transform job tells its container
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "MaxPayloadInMB",
    "SAGEMAKER_BATCH_STRATEGY": "BatchStrategy",
    "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "MaxConcurrentTransforms",
}
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class PipelineExecution:
    """One run of a pipeline, with what its steps work on."""

    identity: str
    folder: Path
    storage: Storage
    cache: Cache
    backend: Backend
    registry: Registry
    models: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def log(self, step: str) -> Path:
        file = self.folder / "logs" / f"{step}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def job(self, step: str, container: Container, mounts: Sequence[Mount] = (), host: str = "") -> Job:
        """A job with an empty /opt/ml of its own."""
        root = self.folder / step / host / "ml"
        root.mkdir(parents=True)
        return Job(container, root, self.log(step), tuple(mounts))

    def job_name(self, step: str) -> str:
        """As the service names the jobs of a pipeline."""
        return f"pipelines-{self.identity}-{step}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _mounts(storage: Storage, source: Arguments, folder: str, number: int = 0, hosts: int = 1) -> list[Mount]:
    """One of a job's inputs on one of its hosts."""
    uri = source["S3Uri"]
    if hosts > 1 and source.get("S3DataDistributionType") == SHARDED:
        return [Mount(f"{folder}/{name}", file.resolve()) for name, file in storage.files(uri)[number::hosts]]
    return storage.mounts(uri, folder, source.get("S3DataType") == "ManifestFile")


def _container(image: str, about: Arguments, arguments: Arguments, resources: Arguments) -> Container:
    """What a job runs; `about` is its AppSpecification or AlgorithmSpecification."""
    words, first = (tuple(map(str, about.get(f"Container{part}", ()))) for part in ("Arguments", "Entrypoint"))
    return Container(image, words, first, arguments.get("Environment", {}), resources.get("InstanceType", ""))


def processing(name: str, arguments: Arguments, run: PipelineExecution) -> Properties:
    """A processing job; several hosts work one after another, each with its part of what is sharded."""
    application = arguments["AppSpecification"]
    cluster = arguments.get("ProcessingResources", {}).get("ClusterConfig", {})
    container = _container(application["ImageUri"], application, arguments, cluster)
    sources = [item["S3Input"] for item in arguments.get("ProcessingInputs", [])]
    outputs = {item["OutputName"]: item for item in arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])}
    targets = [item["S3Output"] for item in outputs.values()]
    jobs, hosts = list[Job](), [f"algo-{number + 1}" for number in range(int(cluster.get("InstanceCount", 1)))]
    for number, host in enumerate(hosts):
        inputs = (_mounts(run.storage, source, source["LocalPath"], number, len(hosts)) for source in sources)
        job = run.job(name, container, [*chain.from_iterable(inputs)], host if len(hosts) > 1 else "")
        resources = {"current_host": host, "hosts": hosts}
        _configure(job.root / "config", {"processingjobconfig": arguments, "resourceconfig": resources})
        for target in targets:
            job.inside(target["LocalPath"]).mkdir(parents=True, exist_ok=True)
        run.backend.run(job)
        jobs.append(job)
    for target in targets:
        folders = [job.inside(target["LocalPath"]) for job in jobs]
        for folder in folders[1:]:  # they are stored in one place
            shutil.copytree(folder, folders[0], symlinks=True, dirs_exist_ok=True)
        run.storage.take(folders[0], target["S3Uri"])
    return {
        "ProcessingJobName": run.job_name(name),
        "ProcessingJobStatus": "Completed",
        "ProcessingOutputConfig": {"Outputs": outputs},
        "AppSpecification": application,
    }


def training_job(name: str, arguments: Arguments, run: PipelineExecution) -> Job:
    """A training job, ready to run. Its checkpoints lie where CheckpointConfig says, and it finds what lies there."""
    algorithm = arguments["AlgorithmSpecification"]
    about = {"ContainerArguments": ["train"], **algorithm}
    container = _container(algorithm["TrainingImage"], about, arguments, arguments.get("ResourceConfig", {}))
    inputs = {item["ChannelName"]: item for item in arguments["InputDataConfig"]}
    sources = {channel: item["DataSource"]["S3DataSource"] for channel, item in inputs.items()}
    places = (_mounts(run.storage, source, f"{CHANNELS}/{channel}") for channel, source in sources.items())
    mounts = [*chain.from_iterable(places)]
    if kept := arguments.get("CheckpointConfig"):
        checkpoints = run.storage.path(kept["S3Uri"])
        checkpoints.mkdir(parents=True, exist_ok=True)
        mounts.append(Mount(kept.get("LocalPath", "/opt/ml/checkpoints"), checkpoints.resolve(), writable=True))
    job = run.job(name, container, mounts)
    channels = {
        channel: {
            "ContentType": item.get("ContentType", ""),
            "TrainingInputMode": item.get("InputMode", "File"),
            "S3DistributionType": sources[channel].get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": item.get("RecordWrapperType", "None"),
        }
        for channel, item in inputs.items()
    }
    given = arguments.get("HyperParameters", {})
    files = {"resourceconfig": HOST, "hyperparameters": given, "inputdataconfig": channels}
    _configure(job.root / "input" / "config", files)
    for folder in ("model", "output/data"):
        (job.root / folder).mkdir(parents=True, exist_ok=True)
    return job


def measured(job: Job, regex: str) -> list[float]:
    """What a metric's regular expression finds in the whole lines that a job has printed."""
    printed = job.log.read_text(encoding="utf-8", errors="replace") if job.log.exists() else ""
    return [float(found) for found in re.findall(regex, printed[: printed.rfind("\n") + 1])]


def training(name: str, arguments: Arguments, run: PipelineExecution) -> Properties:
    """A training job; one that was interrupted goes on from its checkpoints, as it would on a spot instance."""
    job = training_job(name, arguments, run)
    run.backend.run(job)
    metrics = arguments["AlgorithmSpecification"].get("MetricDefinitions", [])
    values = {item["Name"]: measured(job, item["Regex"]) for item in metrics}
    target = f"{arguments['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{run.job_name(name)}"
    packed = job.root.parent / "packed"
    if not _pack(job.root / "model", packed / "output" / "model.tar.gz"):
        raise InputError("the job left no file in /opt/ml/model.")
    _pack(job.root / "output" / "data", packed / "output" / "output.tar.gz")
    run.storage.take(packed, target)
    return {
        "TrainingJobName": run.job_name(name),
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": f"{target}/output/model.tar.gz"},
        "OutputDataConfig": {"S3OutputPath": arguments["OutputDataConfig"]["S3OutputPath"]},
        "HyperParameters": arguments.get("HyperParameters", {}),
        "FinalMetricDataList": {
            name: {"MetricName": name, "Value": found[-1]} for name, found in values.items() if found
        },
    }


def _configure(folder: Path, values: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=2), encoding="utf-8")


def _pack(folder: Path, archive: Path) -> bool:
    """Write a .tar.gz whose bytes depend on names and contents only; False, and no file, for an empty folder."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.mode, member.uid, member.gid = 0, 0o644, 0, 0
        member.uname = member.gname = ""
        return member

    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files:
            tar.add(file, arcname=file.relative_to(folder).as_posix(), filter=anonymous)
    return True


def transform(name: str, arguments: Arguments, run: PipelineExecution) -> Properties:
    """A transform job: every file becomes a request to a running server, every answer a file.

    Answers lie in a folder that is called like that of the requests ("TransformOutput" in the API reference). Others
    have found them right below the output's prefix, so whoever reads them looks wherever they lie below it.
    """
    model = run.models[arguments["ModelName"]]
    limits = {variable: str(arguments[key]) for variable, key in LIMITS.items() if key in arguments}
    environment = {**model.get("Environment", {}), **arguments.get("Environment", {}), "SAGEMAKER_BATCH": "true"}
    instance = arguments.get("TransformResources", {}).get("InstanceType", "")
    container = Container(model["Image"], ("serve",), environment=environment | limits, instance=instance)
    source = arguments["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    output = arguments["TransformOutput"]
    files = run.storage.files(source)
    payload = int(arguments.get("MaxPayloadInMB") or DEFAULT_PAYLOAD)
    if not files:
        raise InputError("there is no file to transform.")
    for file, path in files:
        if payload and (size := path.stat().st_size / MEGABYTE) > payload:
            raise InputError(f"{file} has {size:.1f} MB, a request may have {payload}; raise MaxPayloadInMB.")
    job = run.job(name, container)
    artifacts.extract(run.storage.existing(model["ModelDataUrl"]), job.root / "model")
    answers = job.root.parent / "answers"
    with run.backend.serving(job) as port:
        _send_all(files, answers / source.rpartition("/")[0].rpartition("/")[2], port, arguments, run.log(name))
    run.storage.take(answers, output["S3OutputPath"])
    return {"TransformJobName": run.job_name(name), "TransformJobStatus": "Completed", "TransformOutput": output}


def _send_all(files: list[tuple[str, Path]], answers: Path, port: int, arguments: Arguments, log: Path) -> None:
    """Write `<name>.out` for each file, several at a time. Raises InputError for the first that is refused."""
    types = {"Content-Type": arguments["TransformInput"].get("ContentType")}
    types["Accept"] = arguments["TransformOutput"].get("Accept")
    seconds = int(arguments.get("ModelClientConfig", {}).get("InvocationsTimeoutInSeconds", 600))

    def send(file: tuple[str, Path]) -> None:
        name, path = file
        headers = {"Content-Length": str(path.stat().st_size), **{key: value for key, value in types.items() if value}}
        target = answers / f"{name}.out"
        try:
            with path.open("rb") as body, closing(HTTPConnection("127.0.0.1", port, timeout=seconds)) as connection:
                connection.request("POST", "/invocations", body, headers)
                response = connection.getresponse()
                if response.status != 200:
                    reason = response.read(1024).decode(errors="replace").strip() or response.reason
                    raise InputError(f"{name} was refused with status {response.status}: {reason}")
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(response, out, MEGABYTE)
        except TimeoutError:
            raise InputError(f"{name}: the server gave no answer within {seconds} seconds.") from None
        except (OSError, HTTPException) as error:
            raise InputError(f"{name}: the server broke off ({type(error).__name__}: {error}).") from None

    several = arguments.get("MaxConcurrentTransforms")
    if not several:  # then it is the server's to say
        with suppress(ValueError):
            several = json.loads(request(port, "/execution-parameters", 10) or "{}").get("MaxConcurrentTransforms")
    with ThreadPoolExecutor(int(several or 1)) as pool, log.open("a", encoding="utf-8") as out:
        for number, _ in enumerate(pool.map(send, files), 1):  # where one is refused, it sends no more
            print(f"{number} of {len(files)} files are answered", file=out, flush=True)


def model(name: str, arguments: Arguments, run: PipelineExecution) -> Properties:
    """A model is only a name for an image and its data; transform looks it up."""
    container: Arguments = arguments.get("PrimaryContainer") or next(iter(arguments.get("Containers", [])), {})
    if "ModelDataUrl" not in container:
        raise InputError("the definition gives its first container no ModelDataUrl.")
    model_name = arguments.get("ModelName") or run.job_name(name)
    run.storage.existing(container["ModelDataUrl"])
    run.models[model_name] = container
    return {"ModelName": model_name, "PrimaryContainer": container}


def register(_name: str, arguments: Arguments, run: PipelineExecution) -> Properties:
    """A model package: a new version each time, as in the Model Registry."""
    return run.registry.register(arguments, now())


def fail(_name: str, arguments: Arguments, _run: PipelineExecution) -> Properties:
    """End the run with the definition's own message."""
    raise InputError(str(arguments.get("ErrorMessage") or "the pipeline ended here."))
