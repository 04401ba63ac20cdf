"""An environment to try the control plane in: moto stands where SSM, S3, SNS, ECR and CloudWatch would.

SageMaker, which moto does not model this far, is a stand-in whose requests and answers are held against botocore's
model. The events are shaped as AWS documents them.
"""

import copy
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from moto import mock_aws

from batchloop.control import decision, handlers, release, storage
from batchloop.control.decision import Memory
from batchloop.control.names import Aws, Places, Settings
from batchloop.pipelines import check
from plumbing.parameter_store import parameter_tier

ACCOUNT, REGION = "123456789012", "eu-central-1"
BUCKET = "team-case-dev-123456789012-euc1"
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
KEYS = {"region_name": REGION, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")
WINDOW = "2026-11-24"
INFERENCE = ("PrepareFeatures", "CreateModel-CreateModel", "ScoreFeatures", "DetectDrift", "ExplainPredictions")
TRAINING = ("PrepareTrainingData", "TrainModel", "LearnBaseline", "LearnExplainer", "CheckQuality")
Event = dict[str, Any]

# "Events that Amazon SageMaker AI sends to Amazon EventBridge" in the SageMaker developer guide
RUN_CHANGED: Event = {
    "version": "0",
    "id": "315c1398-40ff-a850-213b-158f73kd93ir",
    "detail-type": "SageMaker Model Building Pipeline Execution Status Change",
    "source": "aws.sagemaker",
    "account": ACCOUNT,
    "time": "2021-03-15T16:10:11Z",
    "region": REGION,
    "resources": [f"{ARN}:pipeline/myPipeline-123", f"{ARN}:pipeline/myPipeline-123/execution/p4jn9xou8a8s"],
    "detail": {
        "pipelineExecutionDisplayName": "SomeDisplayName",
        "currentPipelineExecutionStatus": "Succeeded",
        "previousPipelineExecutionStatus": "Executing",
        "executionStartTime": "2021-03-15T16:03:13Z",
        "executionEndTime": "2021-03-15T16:10:10Z",
        "pipelineExecutionDescription": "SomeDescription",
        "pipelineArn": f"{ARN}:pipeline/myPipeline-123",
        "pipelineExecutionArn": f"{ARN}:pipeline/myPipeline-123/execution/p4jn9xou8a8s",
    },
}
PACKAGE_CHANGED: Event = {
    "version": "0",
    "id": "844e2571-85d4-695f-b930-0153b71dcb42",
    "detail-type": "SageMaker Model Package State Change",
    "source": "aws.sagemaker",
    "account": ACCOUNT,
    "time": "2021-02-24T17:00:14Z",
    "region": REGION,
    "resources": [f"{ARN}:model-package/versionedmp-p-idy6c3e1fiqj/2"],
    "detail": {
        "ModelPackageGroupName": "versionedmp-p-idy6c3e1fiqj",
        "ModelPackageVersion": 2,
        "ModelPackageArn": f"{ARN}:model-package/versionedmp-p-idy6c3e1fiqj/2",
        "CreationTime": "2021-02-24T17:00:14Z",
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": "Rejected",
        "MetadataProperties": {"GeneratedBy": f"{ARN}:pipeline/versionedmp-p-idy6c3e1fiqj/execution/4r83jejmhorv"},
        "LastModifiedTime": "2021-02-24T17:00:14Z",
    },
}
# "EventBridge event message structure" in the S3 user guide
OBJECT_CREATED: Event = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": ACCOUNT,
    "time": "2021-11-12T00:00:00Z",
    "region": REGION,
    "resources": ["arn:aws:s3:::amzn-s3-demo-bucket1"],
    "detail": {
        "version": "0",
        "bucket": {"name": "amzn-s3-demo-bucket1"},
        "object": {"key": "example-key", "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184"},
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": ACCOUNT,
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    },
}


class SageMaker:
    """Executions and model packages; what is asked and answered fits botocore's model, patterns and lengths included.

    `remembers`: whether a token that was used starts nothing again.
    """

    def __init__(self) -> None:
        self.executions: dict[str, dict[str, Any]] = {}
        self.packages: dict[str, dict[str, Any]] = {}
        self.remembers = True
        self.refusing = ""
        self.versions: dict[str, int] = {"team-case-dev-inference": 1, "team-case-dev-training": 1}
        self.cached: dict[str, str] = {}
        self.models: list[str] = ["pipelines-another-CreateModel-CreateM-0123456789"]

    def started(self, pipeline: str) -> list[dict[str, Any]]:
        return [run for run in self.executions.values() if run["pipeline"] == f"team-case-dev-{pipeline}"]

    def start_pipeline_execution(self, **request: Any) -> dict[str, Any]:
        if self.refusing:
            raise refused("StartPipelineExecution", self.refusing)
        for arn, run in self.executions.items():
            if self.remembers and run["token"] == request["ClientRequestToken"]:
                return checked("StartPipelineExecution", request, {"PipelineExecutionArn": arn})
        name = request["PipelineName"]
        version = request.get("PipelineVersionId") or self.versions[name]
        if version > self.versions[name]:
            raise refused("StartPipelineExecution", "ResourceNotFound")
        arn = f"{ARN}:pipeline/{name}/execution/{len(self.executions):012}"
        values = {entry["Name"]: entry["Value"] for entry in request["PipelineParameters"]}
        if "DataFingerprint" not in values:  # the one parameter of both pipelines without a default
            raise refused("StartPipelineExecution", "ValidationException")
        source = request.get("SelectiveExecutionConfig", {}).get("SourcePipelineExecutionArn")
        if source and self.executions[source]["status"] not in ("Succeeded", "Failed", "Stopped"):
            raise refused("StartPipelineExecution", "ValidationException")
        about = {"pipeline": name, "parameters": values, "status": "Executing", "token": request["ClientRequestToken"]}
        self.executions[arn] = {**about, "why": "", "request": request, "version": version}
        if name.endswith("-inference") and not source:
            self.models.append(f"pipelines-{arn.rpartition('/')[2]}-CreateModel-CreateM-0123456789")
        return checked("StartPipelineExecution", request, {"PipelineExecutionArn": arn})

    def list_pipeline_parameters_for_execution(self, **request: Any) -> dict[str, Any]:
        values = self.executions[request["PipelineExecutionArn"]]["parameters"]
        entries = [{"Name": name, "Value": value} for name, value in values.items()]
        return checked("ListPipelineParametersForExecution", request, {"PipelineParameters": entries})

    def describe_pipeline_execution(self, **request: Any) -> dict[str, Any]:
        run = self.executions.get(request["PipelineExecutionArn"])
        if run is None:
            raise refused("DescribePipelineExecution", "ResourceNotFound")
        why = {"FailureReason": run["why"]} if run["why"] else {}
        selective = {key: run["request"][key] for key in ("SelectiveExecutionConfig",) if key in run["request"]}
        version = {"PipelineVersionId": run["version"]}
        about = {"PipelineExecutionStatus": run["status"], **why, **selective, **version}
        return checked("DescribePipelineExecution", request, about)

    def list_pipeline_executions(self, **request: Any) -> dict[str, Any]:
        found = [
            {
                "PipelineExecutionArn": arn,
                "PipelineExecutionStatus": run["status"],
                "PipelineExecutionDescription": run["request"]["PipelineExecutionDescription"],
            }
            for arn, run in self.executions.items()
            if run["pipeline"] == request["PipelineName"]
        ]
        return checked("ListPipelineExecutions", request, {"PipelineExecutionSummaries": found[::-1]})

    def list_pipeline_versions(self, **request: Any) -> dict[str, Any]:
        name = request["PipelineName"]
        if name not in self.versions:
            raise refused("ListPipelineVersions", "ResourceNotFound")
        assert request.get("SortOrder") == "Descending"
        found = [{"PipelineVersionId": number} for number in range(self.versions[name], 0, -1)]
        found = found[: request.get("MaxResults", 10)]
        return checked("ListPipelineVersions", request, {"PipelineVersionSummaries": found})

    def list_pipeline_execution_steps(self, **request: Any) -> dict[str, Any]:
        """Every step of the pipeline has run, but for those that were `cached` from another execution."""
        steps = INFERENCE if "-inference/" in request["PipelineExecutionArn"] else TRAINING
        found = [
            {"StepName": name, "StepStatus": "Succeeded"}
            | ({"CacheHitResult": {"SourcePipelineExecutionArn": self.cached[name]}} if name in self.cached else {})
            for name in steps
        ]
        return checked("ListPipelineExecutionSteps", request, {"PipelineExecutionSteps": found})

    def list_models(self, **request: Any) -> dict[str, Any]:
        found = [{"ModelName": name} for name in self.models if request["NameContains"] in name]
        return checked("ListModels", request, {"Models": found[: request.get("MaxResults", 10)]})

    def delete_model(self, **request: Any) -> None:
        assert list(check.request("DeleteModel", request)) == []
        if request["ModelName"] not in self.models:
            raise refused("DeleteModel", "ValidationException")
        self.models.remove(request["ModelName"])

    def get_paginator(self, name: str) -> Any:
        return SimpleNamespace(paginate=lambda **request: iter([getattr(self, name)(**request)]))

    def describe_model_package(self, **request: Any) -> dict[str, Any]:
        return checked("DescribeModelPackage", request, self.packages[request["ModelPackageName"]])


def checked(operation: str, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, after both were held against the model; answers may leave out members that nobody here reads."""
    assert list(check.request(operation, request)) == []
    shape = check.service().operation_model(operation).output_shape
    problems = ParamValidator().validate(answer, shape).generate_report().splitlines()
    assert [line for line in problems if line and not line.startswith("Missing required")] == []
    return copy.deepcopy(answer)


def refused(operation: str, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "because"}}, operation)


@cache
def session() -> Any:
    """Its clients share what it has read of the services: that takes longer than all the rest."""
    return boto3.Session(**KEYS)


class World:
    """An environment after `make bootstrap`, and what happens in it."""

    def __init__(self) -> None:
        names = [field.name for field in fields(Aws) if field.name != "sagemaker"]
        self.sagemaker = SageMaker()
        self.aws = Aws(sagemaker=self.sagemaker, **{name: session().client(name) for name in names})
        self.messages: list[dict[str, str]] = []
        self.measured: list[dict[str, float]] = []
        self.writes: list[str] = []
        self.layers: dict[str, bytes] = {}
        self._listen()
        self.aws.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.aws.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        topic = self.aws.sns.create_topic(Name="team-case-dev-notices")["TopicArn"]
        rules = Settings(cooldown_hours=24, budget=3, budget_days=30, minimum_rows=200)
        self.places = Places("team", "case", "dev", BUCKET, topic, rules)
        self.images = {name: self.push(name) for name in COMPONENTS}
        pairs = [f"components/{name}/{kind}" for name in COMPONENTS for kind in ("image", "artifact")]
        for name in (*pairs, "release", "retraining", "inference/latest", "training/latest"):
            self.aws.ssm.put_parameter(Name=self.places.parameter(name), Value="none", Type="String")
        self.writes.clear()

    def _listen(self) -> None:
        def tell(params: dict[str, str], **_: Any) -> None:
            self.messages.append(dict(params))

        def measure(params: dict[str, Any], **_: Any) -> None:
            assert params["Namespace"] == "team/case"
            for entry in params["MetricData"]:
                assert entry["Dimensions"] == [{"Name": "Environment", "Value": "dev"}]
            self.measured.append({entry["MetricName"]: entry["Value"] for entry in params["MetricData"]})

        def write(params: dict[str, Any], **_: Any) -> None:
            parameter_tier({"Type": "String"} | params)  # raises what the service refuses, and moto takes
            self.writes.append(params["Name"].removeprefix("/team/case/dev/"))

        self.aws.sns.meta.events.register("provide-client-params.sns.Publish", tell)
        self.aws.cloudwatch.meta.events.register("provide-client-params.cloudwatch.PutMetricData", measure)
        self.aws.ssm.meta.events.register("provide-client-params.ssm.PutParameter", write)

    def push(self, component: str) -> str:
        """An image in ECR; its name with the digest."""
        repository = f"team/case/{component}"
        self.aws.ecr.create_repository(repositoryName=repository)
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
        contents = [f"{part} of {component}".encode() for part in ("config", "packages", "code")]
        config, *layers = [{"digest": self._layer(repository, body), "size": len(body)} for body in contents]
        text = json.dumps({**manifest, "config": config, "layers": layers})
        pushed = self.aws.ecr.put_image(repositoryName=repository, imageManifest=text, imageTag="abc")
        digest = pushed["image"]["imageId"]["imageDigest"]
        return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{repository}@{digest}"

    def _layer(self, repository: str, body: bytes) -> str:
        """Its digest, after it was uploaded as a client of the registry does."""
        digest, named = f"sha256:{sha256(body).hexdigest()}", {"repositoryName": repository}
        upload = {**named, "uploadId": self.aws.ecr.initiate_layer_upload(**named)["uploadId"]}
        part = {"partFirstByte": 0, "partLastByte": len(body) - 1, "layerPartBlob": body}
        self.aws.ecr.upload_layer_part(**upload, **part)
        self.aws.ecr.complete_layer_upload(**upload, layerDigests=[digest])
        self.layers[digest] = body
        return digest

    def put(self, uri: str, body: bytes = b"x") -> None:
        bucket, key = storage.split(uri)
        self.aws.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def value(self, name: str) -> str:
        return str(self.aws.ssm.get_parameter(Name=self.places.parameter(name))["Parameter"]["Value"])

    def released(self) -> dict[str, Any]:
        return dict(json.loads(self.value("release")))

    def remembered(self) -> Memory:
        return decision.parse(self.value("retraining"))

    def register(self, version: int, window: str = "2026-11-01", **metadata: str) -> str:
        """A model package of the training pipeline, approved, with everything it names; its ARN."""
        arn = f"{ARN}:model-package/{self.places.prefix}/{version}"
        run = f"{self.places.runs('training')}/{version:012}"
        artifacts = {
            "preprocessor": f"{run}/PrepareTrainingData/preprocessor/",
            "model": f"{run}/TrainModel/output/job/output/model.tar.gz",
            "baseline": f"{run}/LearnBaseline/baseline/",
            "explainer": f"{run}/LearnExplainer/explainer/",
        }
        for name, uri in artifacts.items():
            self.put(uri if name == "model" else f"{uri}manifest.json")
        evaluation = f"{run}/LearnBaseline/report/evaluation.json"
        self.put(evaluation, EVALUATION)
        about = {
            **artifacts,
            "evaluation": evaluation,
            **{f"{name}_image": image for name, image in self.images.items()},
            "training_data": self.places.data(window, "train"),
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "contract": "37292a7f3b7932a2",
        }
        self.sagemaker.packages[arn] = {
            "ModelPackageArn": arn,
            "ModelPackageGroupName": self.places.prefix,
            "ModelPackageVersion": version,
            "ModelApprovalStatus": "Approved",
            "ApprovalDescription": "looks good",
            "LastModifiedBy": {"IamIdentity": {"Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/people/ada"}},
            "CustomerMetadataProperties": {**about, **metadata},
            "ModelMetrics": {"ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": evaluation}}},
        }
        return arn

    def approval(self, arn: str, time: str = "2026-11-20T10:00:00Z", **detail: Any) -> Event:
        event = copy.deepcopy(PACKAGE_CHANGED)
        event["time"] = time
        about = {"ModelPackageGroupName": self.places.prefix, "ModelPackageArn": arn, "ModelApprovalStatus": "Approved"}
        event["detail"] |= {**about, **detail}
        return event

    def publish(self, version: int, time: str = "2026-11-20T10:00:00Z", **metadata: str) -> str:
        event = self.approval(self.register(version, **metadata), time)
        return release.package_changed(event, self.aws, self.places, NOW)

    def start(self, window: str = WINDOW) -> str:
        """Data, and a run that scores it; the execution's ARN."""
        self.put(f"{self.places.data(window, 'production')}rows.parquet")
        self.mark(window, "production")
        return handlers.score({"window": window}, self.aws, self.places, NOW).split()[-1]

    def ended(self, arn: str, status: str = "Succeeded", start: str = "2026-11-24T06:00:00Z") -> Event:
        """The execution's end, and the event of it."""
        self.sagemaker.executions[arn]["status"] = status
        event = copy.deepcopy(RUN_CHANGED)
        event["detail"] |= {
            "pipelineArn": arn.partition("/execution")[0],
            "pipelineExecutionArn": arn,
            "currentPipelineExecutionStatus": status,
            "executionStartTime": start,
        }
        return event

    def scored(self, window: str = WINDOW, **report: Any) -> Event:
        """A run of a window with a drift report, and the event of its end."""
        arn = self.start(window)
        place = f"{self.places.runs('inference')}/{arn.rpartition('/')[2]}/DetectDrift/drift"
        self.put(f"{place}/drift.json", json.dumps({**DRIFT, **report}).encode())
        return self.ended(arn)

    def measured_by_labels(self, performance: Any = None, **realised: Any) -> Event:
        """The report of the execution that measures by labels, and the event of its end."""
        [arn] = [arn for arn, run in self.sagemaker.executions.items() if run["status"] == "Executing"]
        place = f"{self.places.runs('inference')}/{arn.rpartition('/')[2]}/DetectDrift/drift"
        report = {**DRIFT, **HEALTHY, "realised": REALISED | realised, "performance": performance}
        self.put(f"{place}/drift.json", json.dumps(report).encode())
        return self.ended(arn, start="2026-11-30T06:00:00Z")

    def judge(self, event: Event, now: datetime = NOW) -> str:
        return handlers.run_ended(event, self.aws, self.places, now)

    def mark(self, window: str, part: str) -> str:
        """Say that a part of a window is complete; the mark's URI."""
        uri = f"{self.places.data(window, part)}_SUCCESS"
        self.put(uri, b"")
        return uri

    def label(self, window: str = WINDOW, name: str = "rows.parquet", part: str = "train") -> Event:
        """Labels, their mark, and the event of that."""
        self.put(f"{self.places.data(window, part)}{name}")
        uri = self.mark(window, part)
        event = copy.deepcopy(OBJECT_CREATED)
        event["detail"] |= {"bucket": {"name": BUCKET}, "object": {"key": storage.split(uri)[1], "size": 5}}
        return event

    def arrived(self, event: Event, now: datetime = NOW) -> str:
        return handlers.object_created(event, self.aws, self.places, now)

    def state(self) -> dict[str, Any]:
        """Everything that lasts."""
        found = self.aws.ssm.get_parameters_by_path(Path="/team", Recursive=True)["Parameters"]
        versions = {entry["Name"]: (entry["Value"], entry["Version"]) for entry in found}
        return {"parameters": versions, "executions": copy.deepcopy(self.sagemaker.executions)}


def packed(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return out.getvalue()


EVALUATION = json.dumps(
    {
        "metric": "auc",
        "validation": {"auc": 0.8278093283},
        "test": {"auc": 0.84325542, "recall": None},
        "champion": None,
        "lead": 0.0,
    }
).encode()
DRIFT = {
    "verdict": "drift",
    "reason": "2 of 3 columns drifted, most of all age (PSI 1.20).",
    "rows": 1000,
    "errors": 0.003,
    "drifted": ["age", "income"],
    "columns": [
        {"name": "age", "psi_beyond_chance": 1.19},
        {"name": "income", "psi_beyond_chance": 0.3},
        {"name": "bought_on", "psi_beyond_chance": 7.5, "decides": False},
    ],
    "scores": {"score": {"name": "score", "psi_beyond_chance": 0.01, "mean": 0.25}},
}
REALISED: dict[str, Any] = {
    "metric": "auc",
    "value": 0.7,
    "low": 0.66,
    "high": 0.74,
    "expected": 0.81,
    "reference": 0.83,
    "drop": 0.13,
    "rows": 900,
    "alarm": True,
}
HEALTHY: dict[str, Any] = {"verdict": "no drift", "drifted": []}


@contextmanager
def connected(monkeypatch: pytest.MonkeyPatch, sagemaker: SageMaker) -> Iterator[World]:
    """A world with this SageMaker, to which every command is connected."""
    with mock_aws():
        made = World()
        made.sagemaker = sagemaker
        made.aws = replace(made.aws, sagemaker=sagemaker)
        known = {"sts": session().client("sts"), **{its.name: getattr(made.aws, its.name) for its in fields(made.aws)}}
        monkeypatch.setattr("batchloop.cloud.session.connect", lambda *_: known.__getitem__)
        yield made
