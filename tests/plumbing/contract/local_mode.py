"""Both pipelines under the SageMaker SDK's own Local Mode: `python -m plumbing.contract.local_mode …`, see `main`.

A process of its own, because the SDK is set up by its environment and keeps jobs in its classes. The steps are those of
pipelines/, from the functions that make the definitions.

Local Mode (SDK 3.27) does not take them as they are. What is left out or put right for it, and nothing else:
- RegisterModel is refused, so the branch that registers is empty; the gate itself and RejectModel are run.
- An input that is ShardedByS3Key is refused; it becomes FullyReplicated, which is the same for one host.
- A ManifestFile is taken for a prefix (amazon-sagemaker-feedback #201); it gets the empty artifact itself.
- A training job is described without FinalMetricDataList, at which the gate looks; it is read from the container's log
  with the job's own metric definitions.
- All of /opt/ml/output is packed as output.tar.gz; the service, says its guide, packs /opt/ml/output/data.
- A transform's answers lie in a folder named after the job, but the folder above is described as their place.
It knows no network isolation, no instance sizes, no checkpoints and no second host: of those it is no witness.
"""

import io
import json
import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from batchloop import environment
from batchloop.container import usecase
from batchloop.pipelines import compile
from plumbing.rendered import ROOT

REGION, BUCKET, STORAGE = "eu-central-1", "witness", "s3://witness"  # of an S3 that is on this machine


def witness(data: Path, output: Path, label: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run both pipelines, the second on what the first has learned; how each went."""
    case = usecase.load(ROOT / "usecase.toml")
    where = environment.load(ROOT / "environments", "dev", case)
    offline = compile.offline(where.region, where.bucket)
    from sagemaker.core.common_utils import download_folder  # noqa: PLC0415 - the SDK needs the session first

    from pipelines import inference, training  # noqa: PLC0415

    with storage() as url:
        local = session_of_local_mode(url, label)
        local.upload_data(str(data), BUCKET, "data")
        whole, scoring = training.pipeline(case, where, offline), inference.pipeline(case, where, offline)
        refused = [refusal(local, pipeline) for pipeline in (whole, scoring)]
        put_right(local, label)
        whole.steps[-1].if_steps = []
        trained = run(local, whole, given | training_parameters())
        scored = run(local, scoring, given | inference_parameters(trained))
        for name, execution in (("training", trained), ("inference", scored)):
            download_folder(BUCKET, f"{name}/{execution.pipeline_execution_name}/", str(output / name), local)
    return {"refused": refused, "training": told(trained), "inference": told(scored)}


def training_parameters() -> dict[str, Any]:
    """Where the data is; there is no champion, and no earlier window."""
    parts = {"TrainingData": "train", "ValidationData": "validation"}
    parts |= {"ChampionPreprocessor": "absent", "ChampionModel": "absent", "EarlierData": "absent"}
    own = {"ArtifactsPrefix": f"{STORAGE}/training", "DataFingerprint": "of-local-mode"}
    return own | {name: f"{STORAGE}/data/{part}" for name, part in parts.items()}


def inference_parameters(trained: Any) -> dict[str, Any]:
    """The artifacts of a finished training run."""
    steps = {name: step.properties for name, step in trained.step_execution.items()}

    def stored(step: str, output: str) -> Any:
        return steps[step]["ProcessingOutputConfig"]["Outputs"][output]["S3Output"]["S3Uri"]

    return {
        "ArtifactsPrefix": f"{STORAGE}/inference",
        "ProductionData": f"{STORAGE}/data/production",
        "DataFingerprint": "of-local-mode",
        "Preprocessor": stored("PrepareTrainingData", "preprocessor"),
        "Model": steps["TrainModel"]["ModelArtifacts"]["S3ModelArtifacts"],
        "Baseline": stored("LearnBaseline", "baseline"),
        "Explainer": stored("LearnExplainer", "explainer"),
        "LabelledData": f"{STORAGE}/data/absent",
    }


def run(local: Any, pipeline: Any, given: Mapping[str, Any]) -> Any:
    """The execution, ended; of what is given a pipeline gets the parameters that it declares."""
    declared = {parameter.name for parameter in pipeline.parameters}
    local.create_pipeline(pipeline, "")
    parameters = {name: value for name, value in given.items() if name in declared}
    return local.start_pipeline_execution(PipelineName=pipeline.name, PipelineParameters=parameters)


def refusal(local: Any, pipeline: Any) -> str:
    """What Local Mode says to a pipeline as it is."""
    try:
        return str(run(local, pipeline, {"DataFingerprint": "of-local-mode"}).failure_reason)
    except ClientError as error:
        return str(error)


def told(execution: Any) -> dict[str, Any]:
    """Each step's state, what each measured, and why it failed."""
    steps = execution.step_execution
    measured = {name: step.properties.get("FinalMetricDataList") for name, step in steps.items()}
    states = {name: step.status for name, step in steps.items()}
    return {"steps": states, "metrics": measured, "failure": execution.failure_reason}


@contextmanager
def storage() -> Iterator[str]:
    """An S3 at a free port of the loopback interface; its URL."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def session_of_local_mode(url: str, label: str) -> Any:
    """Local Mode with that S3, a free port for the model's server, and containers that can be told by their label."""
    import boto3  # noqa: PLC0415
    from sagemaker.mlops.local import LocalPipelineSession  # noqa: PLC0415

    local = LocalPipelineSession(boto_session=boto3.Session(region_name=REGION), s3_endpoint_url=url)
    local.s3_client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    containers = {"labels": [label], "pull_policy": "never"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        local.config = {"local": {"serving_port": free.getsockname()[1], "container_config": containers}}
    return local


def put_right(local: Any, label: str) -> None:
    """Give the session a client that makes up for what Local Mode does not do."""
    from sagemaker.core.local.local_session import LocalSagemakerClient  # noqa: PLC0415

    metrics: dict[str, Any] = {}

    class Client(LocalSagemakerClient):  # type: ignore[misc]  # the SDK has no types
        """Differs from the SDK's own only in what the module's text says."""

        def create_processing_job(self, name: str, **request: Any) -> None:
            for item in request["ProcessingInputs"]:
                item["S3Input"]["S3DataDistributionType"] = "FullyReplicated"
            super().create_processing_job(name, **request)

        def create_training_job(self, name: str, **request: Any) -> None:
            for channel in request["InputDataConfig"]:
                channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "FullyReplicated"
            super().create_training_job(name, **request)
            definitions = request["AlgorithmSpecification"]["MetricDefinitions"]
            metrics[name] = final_metrics(log_of_the_newest(label), definitions)
            place = f"{request['OutputDataConfig']['S3OutputPath']}/{name}/output/output.tar.gz"
            file = local.s3_resource.Object(BUCKET, place.removeprefix(f"{STORAGE}/"))
            file.put(Body=as_the_service_packs(file.get()["Body"].read()))

        def describe_training_job(self, name: str) -> dict[str, Any]:
            return {**super().describe_training_job(name), "FinalMetricDataList": metrics[name]}

        def describe_transform_job(self, name: str) -> dict[str, Any]:
            described = super().describe_transform_job(name)
            place = described["TransformOutput"]
            return {**described, "TransformOutput": {**place, "S3OutputPath": f"{place['S3OutputPath']}/{name}"}}

    local.sagemaker_client = Client(local)


def log_of_the_newest(label: str) -> str:
    """What the last container said."""
    listing = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}"]
    newest = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()[0]
    return subprocess.run(["docker", "logs", newest], check=True, capture_output=True, text=True).stdout


def final_metrics(log: str, definitions: list[Mapping[str, str]]) -> dict[str, Any]:
    """The last value of each metric, as Describe Training Job gives it and pipelines refer to it."""
    found = {item["Name"]: re.findall(item["Regex"], log) for item in definitions}
    return {name: {"MetricName": name, "Value": float(values[-1])} for name, values in found.items() if values}


def as_the_service_packs(archive: bytes) -> bytes:
    """The archive of what lay in `data`, without that folder."""
    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as source, tarfile.open(fileobj=target, mode="w:gz") as out:
        for member in source:
            if member.isfile() and member.name.startswith("data/"):
                member.name = member.name.removeprefix("data/")
                out.addfile(member, source.extractfile(member))
    return target.getvalue()


def main(data: str, output: str, label: str, given: str) -> None:
    """From the folder `data` to the folder `output`, with `label` on containers and `given`, parameters as JSON."""
    outcome = witness(Path(data), Path(output), label, json.loads(given))
    (Path(output) / "outcome.json").write_text(json.dumps(outcome, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
