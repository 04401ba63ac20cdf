"""Both pipelines compile offline for every environment and task, and the checker finds whatever is broken in them."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from moto.utilities.utils import load_resource

from batchloop import environment
from batchloop.container import usecase
from batchloop.container.job import InputError
from batchloop.cost import STEPS
from batchloop.environment import has_gpu, has_own_disks, own_disks
from batchloop.pipelines import check, expressions
from batchloop.pipelines import definitions as pipeline_definitions
from batchloop.repository import Repository
from plumbing.rendered import ROOT

USECASE = """
[usecase]
name = "loans"
namespace = "bank"
[data]
task = "{task}"
id = "id"
label = "repaid"
classes = {classes}
[columns]
income = {{ type = "number" }}
[split]
method = "{method}"
[hyperparameters]
learning_rate = 0.05
native_categories = false
[gate]
metric = "{metric}"
minimum = 0.5
"""
SLICES = '[slices]\ncolumns = ["income"]\nlimit = 10\n'  # of regression
CASES = {
    "dev": {"task": "binary", "metric": "auc", "classes": '["no", "yes"]', "method": "random"},
    "staging": {
        "task": "multiclass",
        "metric": "log_loss",
        "classes": '["a", "b", "c"]',
        "method": "given",
        "slices": "",
    },
    "prod": {"task": "regression", "metric": "rmse", "classes": "[]", "method": "random"},
}
# any use of the network, and any credentials, would end the process; one process, as the SDK takes seconds to import
NO_NETWORK = """
import socket, sys
def refuse(*_, **__):
    raise SystemExit("the network was used")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from botocore.session import Session
from batchloop.pipelines.compile import main
def made(*_, **__):
    raise SystemExit("a client was made: it reads the model of its service, and dozens take longer than all the rest")
Session.create_client = made
for folder in sys.argv[1:]:
    if main(folder, folder.rpartition("/")[2], folder + "/out"):
        raise SystemExit(1)
"""
PIPELINES = ("training", "inference")
JOBS = ("Processing", "Training", "Tuning", "Transform")  # types of steps
TAGGED = {"Processing", "Training", "Model", "Transform"}  # types of steps
Definition = dict[str, Any]
Definitions = dict[str, Definition]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder, called like the environment, with usecase.toml and environments of one of the cases."""

    def written(name: str) -> Path:
        folder = tmp_path_factory.mktemp("repository") / name
        folder.mkdir()
        (folder / "usecase.toml").write_text(USECASE.format(**CASES[name]) + SLICES * (name == "prod"))
        (folder / "environments").mkdir()
        for file in (ROOT / "environments").glob("*.toml"):
            text = file.read_text(encoding="utf-8")
            lines = ['region = "eu-central-1"' if line.startswith("region") else line for line in text.splitlines()]
            (folder / "environments" / file.name).write_text("\n".join(lines))
        changed = folder / "environments" / "staging.toml"
        changed.write_text(changed.read_text().replace("create_key = false", "create_key = true"))
        return folder

    return written


def compiled(folders: list[Path]) -> dict[str, Definitions]:
    """Both definitions of each folder's environment, compiled by a process that must not use the network."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    variables = kept | {"PYTHONPATH": str(ROOT), "HOME": str(folders[0])}
    subprocess.run([sys.executable, "-c", NO_NETWORK, *map(str, folders)], env=variables, check=True)
    return {folder.name: written(folder) for folder in folders}


def written(folder: Path) -> Definitions:
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in (folder / "out").glob("*.json")}


@pytest.fixture(scope="session")
def everything(repository: Callable[[str], Path]) -> dict[str, Definitions]:
    """What every environment compiles to."""
    return compiled([repository(name) for name in CASES])


@pytest.fixture(params=list(CASES))
def definitions(request: pytest.FixtureRequest, everything: dict[str, Definitions]) -> Definitions:
    return everything[request.param]


@pytest.fixture
def dev(everything: dict[str, Definitions]) -> Definitions:
    return everything["dev"]


def test_every_definition_passes_the_checker(definitions: dict[str, Definition]) -> None:
    assert set(definitions) == set(PIPELINES)
    for definition in definitions.values():
        assert check.check(definition) == []


@pytest.fixture(scope="session")
def several(repository: Callable[[str], Path]) -> Definitions:
    """What an environment compiles to whose jobs have two instances each, those of batch transform with a GPU."""
    folder = repository("dev")
    file = folder / "environments" / "dev.toml"
    text = file.read_text().replace("count = 1", "count = 2")
    file.write_text(text.replace('transform = { type = "ml.m5.large"', 'transform = { type = "ml.g5.xlarge"'))
    return compiled([folder])["dev"]


def test_several_instances_share_a_step_and_one_does_the_rest(several: Definitions) -> None:
    for definition in several.values():
        assert check.check(definition) == []
    found = steps(several["inference"])
    kinds = {
        entry["InputName"]: entry["S3Input"]["S3DataDistributionType"]
        for entry in found["CountProductionData"]["Arguments"]["ProcessingInputs"]
    }
    assert kinds == {"raw": "ShardedByS3Key", "baseline": "FullyReplicated"}
    counted, judged = (found[name]["Arguments"] for name in ("CountProductionData", "DetectDrift"))
    assert counted["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == {
        "Get": "Parameters.MonitoringInstanceCount"
    }
    assert judged["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 1
    shared = {(job.pipeline, job.shared) for job in STEPS if job.shared}
    known = {(job.pipeline, job.name) for job in STEPS} | shared
    jobs = {(pipeline, name) for pipeline in several for name in steps(several[pipeline])}
    assert {job for job in jobs if steps(several[job[0]])[job[1]]["Type"] in JOBS} == known
    inputs = {entry["InputName"] for entry in judged["ProcessingInputs"]}
    assert inputs == {"counts", "predictions", "baseline", "explainer", "labels"}


def test_batch_transform_on_a_gpu_asks_for_a_driver_that_takes_cuda_12(several: Definitions, dev: Definitions) -> None:
    one, other = (steps(each["inference"])["ScoreFeatures"]["Arguments"] for each in (several, dev))
    assert one["TransformResources"]["TransformAmiVersion"] == "al2-ami-sagemaker-batch-gpu-535"
    assert "TransformAmiVersion" not in other["TransformResources"]


def test_types_with_a_gpu_are_told_from_others() -> None:
    """All that the services take: families g, gr and p, and none of other accelerators."""
    shapes = [check.service().shape_for(f"{job}InstanceType") for job in ("Processing", "Training", "Transform")]
    names = {kind for shape in shapes for kind in shape.enum}
    families = {name.split(".")[1] for name in names if has_gpu(name)}
    listed = load_resource("ec2/resources/instance_types.json")
    for name in names:
        if about := listed.get(name.removeprefix("ml.")):
            makers = {gpu["Manufacturer"] for gpu in about.get("GpuInfo", {}).get("Gpus", [])}
            assert has_gpu(name) == ("NVIDIA" in makers), name
    assert {"g5", "g6", "p4d", "p5"} <= families
    assert not families & {"inf1", "inf2", "trn1", "c5", "m5", "r5"}


def test_compiling_twice_gives_the_same_bytes(repository: Callable[[str], Path], dev: dict[str, Definition]) -> None:
    again = compiled([repository("dev")])["dev"]
    assert json.dumps(again) == json.dumps(dev)


def steps(definition: Definition) -> dict[str, Any]:
    return {node.name: node.step for node in expressions.walk(definition["Steps"])}


def test_what_varies_is_a_parameter_and_every_output_lies_under_the_execution_s_id(dev: dict[str, Definition]) -> None:
    for definition in dev.values():
        for step in steps(definition).values():
            for output in step["Arguments"].get("ProcessingOutputConfig", {}).get("Outputs", []):
                parts = output["S3Output"]["S3Uri"]["Std:Join"]["Values"]
                assert parts[:2] == [{"Get": "Parameters.ArtifactsPrefix"}, {"Get": "Execution.PipelineExecutionId"}]
    train = steps(dev["training"])["TrainModel"]["Arguments"]
    assert train["HyperParameters"]["learning_rate"] == {"Get": "Parameters.LearningRate"}
    assert train["AlgorithmSpecification"]["TrainingImage"] == {"Get": "Parameters.AlgorithmImage"}


def minutes(policy: Definition) -> float:
    """That a retry policy can wait: until it expires, or between its attempts, which wait longer each time."""
    if "ExpireAfterMin" in policy:
        return float(policy["ExpireAfterMin"])
    tries = range(policy["MaxAttempts"])
    return float(sum(policy["IntervalSeconds"] * policy["BackoffRate"] ** number for number in tries)) / 60


def test_jobs_have_no_network_are_cached_and_retried_in_three_tiers(dev: dict[str, Definition]) -> None:
    for definition in dev.values():
        for step in steps(definition).values():
            if step["Type"] == "Processing":
                assert step["Arguments"]["NetworkConfig"]["EnableNetworkIsolation"] is True
                again = step["Name"] == "DetectDrift"  # with more labels at the same place its request is the same
                assert step.get("CacheConfig") == (None if again else {"Enabled": True, "ExpireAfter": "P30D"})
                assert len(step["RetryPolicies"]) == 3
                quota = step["RetryPolicies"][1]
                assert quota["ExceptionType"] == ["SageMaker.RESOURCE_LIMIT"]
                assert quota["MaxAttempts"] <= 4, "a quota of zero is no reason to wait for hours"
    every = [step.get("RetryPolicies", []) for definition in dev.values() for step in definition["Steps"]]
    assert round(max(sum(map(minutes, policies)) for policies in every) / 60, 1) == 3.8, "docs/aws.md says it"
    assert steps(dev["training"])["TrainModel"]["Arguments"]["EnableNetworkIsolation"] is True
    assert steps(dev["inference"])["CreateModel"]["Arguments"]["EnableNetworkIsolation"] is True


def test_everything_that_a_pipeline_makes_has_its_owner_s_tags(definitions: dict[str, Definition]) -> None:
    """But for a model package, which has those of its group ("CreateModelPackage" in the API reference)."""
    makers = [its for definition in definitions.values() for its in steps(definition).values() if its["Type"] in TAGGED]
    assert {its["Type"] for its in makers} == TAGGED
    for step in makers:
        tags = {tag["Key"]: tag["Value"] for tag in step["Arguments"]["Tags"]}
        assert tags.keys() == {"namespace", "usecase", "environment"}, step["Name"]
        assert tags["environment"] in CASES


def test_a_model_package_names_documents_that_people_can_open_and_what_the_gate_measured(
    definitions: dict[str, Definition],
) -> None:
    request = steps(definitions["training"])["RegisterModel"]["Arguments"]
    shown = request["ModelMetrics"]
    sources = {
        "LearnBaseline report evaluation.json": shown["ModelQuality"]["Statistics"],
        "LearnBaseline baseline baseline.json": shown["ModelDataQuality"]["Statistics"],
        "LearnExplainer report report.html": shown["Explainability"]["Report"],
    }
    for named, source in sources.items():
        step, output, file = named.split()
        uri = json.dumps(source["S3Uri"])
        assert f"Steps.{step}.ProcessingOutputConfig.Outputs['{output}']" in uri
        assert file in uri
        assert source["ContentType"] == ("text/html" if file.endswith("html") else "application/json")
    assert request["DriftCheckBaselines"]["ModelDataQuality"]["Statistics"] == shown["ModelDataQuality"]["Statistics"]
    about = request["CustomerMetadataProperties"]
    assert "gate:value" in json.dumps(about["gate_value"])
    assert "gate:lead" in json.dumps(about["gate_lead"])
    parts = request["ModelCard"]["ModelCardContent"]["Std:Join"]["Values"]
    card = json.loads("".join(part if isinstance(part, str) else "0.5" for part in parts))
    [measured] = card["evaluation_details"][0]["metric_groups"]
    assert [(entry["type"], entry["value"]) for entry in measured["metric_data"]] == [("number", 0.5)] * 2
    assert set(card) <= CARD


CARD = {  # "Model package model card schema" in the SageMaker developer guide
    "model_overview",
    "business_details",
    "intended_uses",
    "training_details",
    "evaluation_details",
    "additional_information",
}


def test_given_validation_files_are_an_input_of_their_own(definitions: dict[str, Definition]) -> None:
    inputs = steps(definitions["training"])["PrepareTrainingData"]["Arguments"]["ProcessingInputs"]
    declared = {parameter["Name"] for parameter in definitions["training"]["Parameters"]}
    given = "staging" in steps(definitions["training"])["RegisterModel"]["Arguments"]["ModelPackageGroupName"]
    assert ("validation" in {entry["InputName"] for entry in inputs}) is given
    assert ("ValidationData" in declared) is given


def test_earlier_windows_are_a_manifest_of_files_and_by_default_none(definitions: dict[str, Definition]) -> None:
    inputs = steps(definitions["training"])["PrepareTrainingData"]["Arguments"]["ProcessingInputs"]
    kinds = {entry["InputName"]: entry["S3Input"]["S3DataType"] for entry in inputs}
    assert kinds.pop("earlier") == "ManifestFile"
    assert set(kinds.values()) == {"S3Prefix"}
    [default] = [entry for entry in definitions["training"]["Parameters"] if entry["Name"] == "EarlierData"]
    assert default["DefaultValue"].endswith("/none/earlier.manifest")
    baseline = steps(definitions["training"])["LearnBaseline"]["Arguments"]["ProcessingInputs"]
    assert "earlier" not in {entry["InputName"] for entry in baseline}  # drift is from the newest data


def test_the_gate_points_the_way_of_its_metric(definitions: dict[str, Definition]) -> None:
    step = steps(definitions["training"])["CheckQuality"]["Arguments"]
    message = json.dumps(steps(definitions["training"])["RejectModel"])
    smaller = "auc" not in message
    assert step["Conditions"][0]["Type"] == ("LessThanOrEqualTo" if smaller else "GreaterThanOrEqualTo")
    assert [inner["Type"] for inner in step["Conditions"][1]["Conditions"]] == [
        "LessThanOrEqualTo",
        "GreaterThanOrEqualTo",
    ]


def test_what_the_gate_says_is_a_sentence(definitions: dict[str, Definition]) -> None:
    names = ("value", "other", "lead", "disagreement", "worst_slice", "slices_not_evaluable")
    found = {f"gate:{name}": {"Value": number / 4} for number, name in enumerate(names)}
    limits = {"QualityLimit": 0.5, "MinimumLead": -0.01}
    scope = expressions.Scope(limits, {}, lambda _uri: {}, {"TrainModel": {"FinalMetricDataList": found}})
    said = expressions.resolve(steps(definitions["training"])["RejectModel"]["Arguments"]["ErrorMessage"], scope)
    assert " is asked). Lead over the champion, where there is one: 0.5 (at least -0.01 is asked)" in said
    assert said.endswith(". LearnBaseline's report compares the two, and says how sure that is.")
    assert not re.search(r" [.,;)]|\( |  ", said)


@pytest.mark.parametrize(("worst", "unknown", "passes"), [(9.0, 0, True), (10.5, 0, False), (9.0, 1, False)])
def test_the_worst_slice_is_held_against_its_limit(
    definitions: dict[str, Definition], worst: float, unknown: int, passes: bool
) -> None:
    found = {"gate:worst_slice": {"Value": worst}, "gate:slices_not_evaluable": {"Value": float(unknown)}}
    scope = expressions.Scope({}, {}, lambda _uri: {}, {"TrainModel": {"FinalMetricDataList": found}})
    asked = steps(definitions["training"])["CheckQuality"]["Arguments"]["Conditions"][2:]
    message = json.dumps(steps(definitions["training"])["RejectModel"])
    limited = "rmse" in message
    assert len(asked) == 2 * limited
    assert all(expressions.holds(condition, scope) for condition in asked) is (passes or not limited)
    assert ("worst slice" in message) is limited


@pytest.mark.parametrize(
    ("compared", "lead", "passes"), [(0.0, 0.0, True), (1.0, 0.0, False), (1.0, 0.01, True), (1.0, -0.2, False)]
)
def test_a_lead_is_asked_only_where_a_champion_could_be_compared(
    definitions: dict[str, Definition], compared: float, lead: float, passes: bool
) -> None:
    """Also of the first model, where the lead that is asked is above zero."""
    asked = steps(definitions["training"])["CheckQuality"]["Arguments"]["Conditions"][1]
    found = {"gate:compared": {"Value": compared}, "gate:lead": {"Value": lead}}
    train = {"TrainModel": {"FinalMetricDataList": found}}
    scope = expressions.Scope({"MinimumLead": 0.01}, {}, lambda _uri: {}, train)
    assert expressions.holds(asked, scope) is passes


def broken(definition: Definition, change: Callable[[Definition], Any]) -> list[str]:
    """The checker's answer to a changed copy."""
    changed = json.loads(json.dumps(definition))  # four times as fast as a deep copy
    change(changed)
    assert changed != definition
    return check.check(changed)


CHANGES: dict[str, Callable[[Definition], Any]] = {
    "a number among the hyperparameters": lambda d: step(d, "TrainModel")["HyperParameters"].update(trials=3),
    "a numeric parameter as hyperparameter": lambda d: step(d, "TrainModel")["HyperParameters"].update(
        trials={"Get": "Parameters.Trials"}
    ),
    "an unknown enum value": lambda d: step(d, "TrainModel")["AlgorithmSpecification"].update(TrainingInputMode="Fle"),
    "a pattern that does not match": lambda d: step(d, "TrainModel").update(RoleArn="nobody"),
    "an input that also takes what begins so": lambda d: step(d, "PrepareTrainingData")["ProcessingInputs"][0][
        "S3Input"
    ].update(S3Uri="s3://bucket/data/train"),
    "a folder by default that also takes what begins so": lambda d: d["Parameters"][0].update(
        DefaultValue="s3://bucket/data/train"
    ),
    "another step's folder without its slash": lambda d: step(d, "TrainModel")["InputDataConfig"][0]["DataSource"][
        "S3DataSource"
    ].update(S3Uri={"Get": "Steps.PrepareTrainingData.ProcessingOutputConfig.Outputs['train'].S3Output.S3Uri"}),
    "an output whose name begins another": lambda d: step(d, "PrepareTrainingData")["ProcessingOutputConfig"][
        "Outputs"
    ].append(
        {
            "OutputName": "train_old",
            "S3Output": {
                "S3Uri": "s3://bucket/x",
                "LocalPath": "/opt/ml/processing/output/train_old",
                "S3UploadMode": "EndOfJob",
            },
        }
    ),
    "a cached step that can't see its data change": lambda d: step(d, "PrepareTrainingData")["Environment"].pop(
        "DATA_FINGERPRINT"
    ),
    "a cached step that is never reused": lambda d: step(d, "TrainModel")["CheckpointConfig"].update(
        S3Uri={"Std:Join": {"On": "/", "Values": ["s3://bucket", {"Get": "Execution.PipelineExecutionId"}]}}
    ),
    "more at once than a transform job may send": lambda d: default(d, "MaxConcurrentTransforms", 17),
    "a larger payload than there is": lambda d: default(d, "MaxPayloadInMB", 101),
    "a key for a volume of the hardware's own": lambda d: step(d, "TrainModel")["ResourceConfig"].update(
        InstanceType="ml.g5.xlarge", VolumeKmsKeyId="0000"
    ),
    "a volume larger than the disks that there are": lambda d: step(d, "TrainModel")["ResourceConfig"].update(
        InstanceType="ml.g5.xlarge", VolumeSizeInGB=251
    ),
    "less time to wait than to run": lambda d: step(d, "TrainModel")["StoppingCondition"].update(
        MaxWaitTimeInSeconds=1
    ),
    "a transform's Model that nobody can tell whose it is": lambda d: step(d, "CreateModel").pop("Tags"),
    "a job without a tag": lambda d: step(d, "TrainModel").update(Tags=[]),
    "a tag twice": lambda d: step(d, "TrainModel")["Tags"].append(step(d, "TrainModel")["Tags"][0]),
    "a tag of AWS's own": lambda d: step(d, "TrainModel")["Tags"][0].update(Key="aws:usecase"),
    "a version of a group with tags": lambda d: step(d, "RegisterModel").update(Tags=step(d, "TrainModel")["Tags"]),
    "a tag with a sign that tags don't have": lambda d: step(d, "TrainModel")["Tags"][0].update(Value="a & b"),
    "metadata that is too long": lambda d: step(d, "RegisterModel")["CustomerMetadataProperties"].update(x="a" * 257),
    "metadata without a value": lambda d: step(d, "RegisterModel")["CustomerMetadataProperties"].update(x=""),
    "metadata with a sign that it does not have": lambda d: step(d, "RegisterModel")[
        "CustomerMetadataProperties"
    ].update(x="a & b"),
    "a hyperparameter that is too long": lambda d: step(d, "TrainModel")["HyperParameters"].update(x="a" * 2501),
    "no time to run": lambda d: step(d, "TrainModel")["StoppingCondition"].update(MaxRuntimeInSeconds=0),
    "an undeclared parameter": lambda d: step(d, "TrainModel")["HyperParameters"].update(x={"Get": "Parameters.No"}),
    "an unused parameter": lambda d: d["Parameters"].append({"Name": "Extra", "Type": "String"}),
    "a default that no run may be given": lambda d: default(d, "LearningRate", "1" * 1025),
    "a parameter twice": lambda d: d["Parameters"].append(d["Parameters"][0]),
    "a step twice": lambda d: d["Steps"].append(copy.deepcopy(d["Steps"][0])),
    "a step called like the condition that it is in": lambda d: step(d, "CheckQuality")["IfSteps"][0].update(
        Name="CheckQuality"
    ),
    "a step that is gone": lambda d: d["Steps"].pop(0),
    "a cycle": lambda d: d["Steps"][0].update(DependsOn=["TrainModel"]),
    "a step that waits for one in a branch": lambda d: d["Steps"][0].update(DependsOn=["RegisterModel"]),
    "an unknown step type": lambda d: d["Steps"][0].update(Type="Magic"),
    "a cache that expires in words": lambda d: d["Steps"][0]["CacheConfig"].update(ExpireAfter="a month"),
    "a metric that nobody prints": lambda d: step(d, "TrainModel")["AlgorithmSpecification"]["MetricDefinitions"].pop(),
    "text where numbers are compared": lambda d: step(d, "CheckQuality")["Conditions"][0].update(RightValue="high"),
    "text in one of two comparisons": lambda d: step(d, "CheckQuality")["Conditions"][1]["Conditions"][0].update(
        RightValue="high"
    ),
    "an experiment, which the role may not make": lambda d: d.update(
        PipelineExperimentConfig={"ExperimentName": {"Get": "Execution.PipelineName"}}
    ),
    "more than a mebibyte": lambda d: d["Parameters"][0].update(DefaultValue="x" * 2**20),
    "a step that waits for one of the other branch": lambda d: steps(d)["RejectModel"].update(
        DependsOn=["RegisterModel"]
    ),
    "a condition that waits for what waits for it": lambda d: (
        d["Steps"].append({**steps(d)["LearnBaseline"], "Name": "After", "DependsOn": ["CheckQuality"]}),
        steps(d)["RejectModel"].update(DependsOn=["After"]),
    ),
    **{
        f"{path} as one value": partial(lambda path, d: step(d, "RejectModel").update(ErrorMessage={"Get": path}), path)
        for path in (
            *("Steps", "Parameters", "Steps.TrainModel", "Steps.TrainModel.AlgorithmSpecification"),
            "Steps.TrainModel.HyperParameters[0]",
        )
    },
}


def step(definition: Definition, name: str) -> Any:
    return steps(definition)[name]["Arguments"]


def default(definition: Definition, name: str, value: Any) -> None:
    """Give a parameter another default."""
    next(entry for entry in definition["Parameters"] if entry["Name"] == name)["DefaultValue"] = value


@pytest.mark.parametrize("name", CHANGES)
def test_the_checker_refuses(dev: dict[str, Definition], name: str) -> None:
    assert broken(dev["inference" if "transform" in name or "payload" in name else "training"], CHANGES[name])


def test_a_structure_where_a_request_wants_a_value_is_said_by_its_path(dev: dict[str, Definition]) -> None:
    given = {"Get": "Steps.PrepareTrainingData.AppSpecification"}
    [said] = broken(dev["training"], lambda d: step(d, "TrainModel")["HyperParameters"].update(more=given))
    assert said == "TrainModel: PrepareTrainingData/AppSpecification is a structure, not a single value"


@pytest.mark.parametrize(("file", "right"), [("Summary", True), ("Other", False)])
def test_a_condition_reads_the_property_files_that_a_step_declares(dev: Definitions, file: str, right: bool) -> None:
    def read(definition: Definition) -> None:
        declared = {"PropertyFileName": "Summary", "OutputName": "train", "FilePath": "summary.json"}
        next(its for its in definition["Steps"] if its["Name"] == "PrepareTrainingData")["PropertyFiles"] = [declared]
        named = {"Get": f"Steps.PrepareTrainingData.PropertyFiles.{file}"}
        condition = step(definition, "CheckQuality")["Conditions"][0]
        condition["LeftValue"] = {"Std:JsonGet": {"PropertyFile": named, "Path": "rows['a b'][0]"}}

    assert (broken(dev["training"], read) == []) is right


def test_values_of_set_are_held_against_the_service_s_rules_too(dev: dict[str, Definition]) -> None:
    words, definition = ["MaxPayloadInMB=60"], dev["inference"]
    values = pipeline_definitions.values(definition, {"DataFingerprint": "x"}, words)
    with pytest.raises(InputError, match=r"SET=MaxPayloadInMB=60: .*is more than 100"):
        pipeline_definitions.chosen(Repository(ROOT), definition, words, values)


def test_the_checker_reads_java_s_classes_of_characters(dev: dict[str, Definition]) -> None:
    def tagged(definition: Definition) -> None:
        step(definition, "TrainModel")["Tags"][0].update(Value="Größe 100 %".replace("%", "Ⅻ") + " 東京/a_b:c=d+e-f@g")

    assert not broken(dev["training"], tagged)


def test_a_key_is_left_out_where_the_hardware_encrypts_the_disks() -> None:
    has_own = ["ml.g5.xlarge", "ml.g4dn.xlarge", "ml.m5d.large", "ml.m6id.large", "ml.c5d.9xlarge", "ml.p4d.24xlarge"]
    assert all(map(has_own_disks, has_own))
    assert not any(map(has_own_disks, ["ml.m5.large", "ml.c6i.xlarge", "ml.r7i.large", "ml.p3.2xlarge"]))


def test_the_sizes_of_such_disks_are_those_that_ec2_lists() -> None:
    listed, model = load_resource("ec2/resources/instance_types.json"), check.service()
    for name in {
        kind for job in ("Processing", "Training", "Transform") for kind in model.shape_for(f"{job}InstanceType").enum
    }:
        _, family, size = name.split(".")
        if about := listed.get(f"{family}.{size}"):
            total = about.get("InstanceStorageInfo", {}).get("TotalSizeInGB")
            assert (has_own_disks(name), own_disks().get(family, {}).get(size)) == (bool(total), total), name


def test_outputs_and_volumes_are_encrypted_with_the_key_that_the_stack_makes(
    everything: dict[str, Definitions],
) -> None:
    """Under the ARN of no key yet: a training job's volume takes no alias ("ResourceConfig", API reference)."""
    key = f"arn:aws:kms:eu-central-1:000000000000:key/{environment.NO_KEY}"
    assert "KmsKeyId" not in json.dumps(everything["dev"])
    jobs = [job for one in everything["staging"].values() for job in steps(one).values() if job["Type"] in JOBS]
    for job in jobs:
        given = dict(re.findall(r'"(\w*KmsKeyId)": "([^"]*)"', json.dumps(job["Arguments"])))
        assert given == {"VolumeKmsKeyId": key, "KmsKeyId": key}, job["Name"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every object in a JSON value."""
    if isinstance(value, dict):
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def setting(path: tuple[Any, ...], value: Any) -> Callable[[Definition], Any]:
    """A change that puts a value at a path."""
    return lambda definition: at(definition, path[:-1]).update({path[-1]: value})


def removing(path: tuple[Any, ...]) -> Callable[[Definition], Any]:
    """A change that takes away what is at a path."""
    return lambda definition: at(definition, path[:-1]).pop(path[-1])


FREE = ("HyperParameters", "CustomerMetadataProperties", "Environment")  # maps of the API: any key is right


def called(definition: Definition, path: tuple[Any, ...]) -> bool:
    """Whether a path leads into the arguments of a step that makes a call."""
    depth = max((number for number, key in enumerate(path) if key == "Arguments"), default=0)
    return bool(depth) and at(definition, path[:depth])["Type"] in check.CALLS


def test_an_unknown_key_anywhere_in_a_request_is_refused(definitions: Definitions) -> None:
    for definition in definitions.values():
        tried = [path for path in places(definition) if not set(path) & {*FREE, "Std:Join"}]
        tried = [path for path in tried if called(definition, path)]
        assert len(tried) > 80
        assert [path for path in tried if not broken(definition, setting((*path, "Surprise"), "!"))] == []


def required(definition: Definition) -> Iterator[tuple[Any, ...]]:
    """The path of every member that an API call demands."""
    for place in places(definition):
        if place[-1:] == ("Arguments",) and called(definition, place):
            kind = at(definition, place[:-1])["Type"]
            call = check.service().operation_model(check.CALLS[kind][0]).input_shape
            yield from members(at(definition, place), call, place)


def members(value: Any, shape: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if shape.type_name == "structure" and isinstance(value, dict):
        for key in value:
            if key in shape.required_members:
                yield (*path, key)
            if key in shape.members:
                yield from members(value[key], shape.members[key], (*path, key))
    elif shape.type_name == "list" and isinstance(value, list):
        for position, item in enumerate(value):
            yield from members(item, shape.member, (*path, position))


def test_any_required_field_that_is_missing_is_noticed(definitions: Definitions) -> None:
    for definition in definitions.values():
        tried = list(required(definition))
        assert len(tried) > 80
        assert [path for path in tried if not broken(definition, removing(path))] == []


NAMES = ("InputName", "OutputName")


def test_renaming_any_input_output_or_parameter_is_noticed(definitions: Definitions) -> None:
    for definition in definitions.values():
        named = [(*path, key) for path in places(definition) for key in NAMES if key in at(definition, path)]
        named += [("Parameters", number, "Name") for number in range(len(definition["Parameters"]))]
        assert len(named) > 30
        assert [path for path in named if not broken(definition, setting(path, "renamed"))] == []


def test_the_training_job_s_channels_are_those_that_the_algorithm_reads(definitions: Definitions) -> None:
    """No API model and no folder knows their names, so the checker can't."""
    files = [*(ROOT / "components" / "algorithm").glob("*.py"), *(ROOT / "batchloop" / "container").glob("*.py")]
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    channels = step(definitions["training"], "TrainModel")["InputDataConfig"]
    assert channels
    assert [entry["ChannelName"] for entry in channels if f'"{entry["ChannelName"]}"' not in source] == []


def test_the_cost_preview_knows_every_job_of_both_pipelines(definitions: Definitions) -> None:
    found = {
        (pipeline, name, step["Type"].lower())
        for pipeline, definition in definitions.items()
        for name, step in steps(definition).items()
        if step["Type"] in JOBS
    }
    assert {(job.pipeline, job.name, job.kind) for job in STEPS} == found
    for pipeline, definition in definitions.items():
        for job in STEPS:
            if job.pipeline == pipeline:
                instances = f"Parameters.{job.job.capitalize()}InstanceType"
                assert instances in json.dumps(steps(definition)[job.name]), job


# both pipelines are the definition in a file
COMPILED = """
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from batchloop.pipelines import compile
made = SimpleNamespace(definition=Path(sys.argv[4]).read_text)
compile.offline, compile.import_module = lambda *_: None, lambda _: SimpleNamespace(pipeline=lambda *_: made)
raise SystemExit(compile.main(*sys.argv[1:4]))
"""


def test_what_the_checker_finds_ends_the_compiling_and_is_said(
    dev: Definitions, repository: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, text = repository("dev"), tmp_path / "definition.json"
    command = [sys.executable, "-c", COMPILED, str(folder), "dev", str(tmp_path), str(text)]
    said, environment = [], os.environ | {"PYTHONPATH": str(ROOT)}
    for wrong in ({}, {"PipelineExperimentConfig": {"ExperimentName": "x"}}):
        text.write_text(json.dumps(dev["inference"] | wrong))
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        said.append((done.returncode, done.stderr.count("would make an experiment")))
    assert said == [(0, 0), (1, 2)]


WRONG = [
    ("account", '"12"', "twelve digits"),
    ("region", '"Frankfurt"', "eu-central-1"),
    ("approval", '"Maybe"', "not one of Approved"),
    ("spot", '"yes"', "not true or false"),
    ("subnets", '["subnet-0123abcd"]', "go together"),
    ("surprise", "1", "unknown key 'surprise'"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), WRONG)
def test_a_wrong_environment_is_refused(repository: Callable[[str], Path], key: str, value: str, sentence: str) -> None:
    folder = repository("dev")
    case, file = usecase.load(folder / "usecase.toml"), folder / "environments" / "dev.toml"
    kept = [line for line in file.read_text().splitlines() if not line.startswith(f"{key} ")]
    file.write_text("\n".join([f"{key} = {value}", *kept]))
    with pytest.raises(InputError, match=sentence):
        environment.load(folder / "environments", "dev", case)
    shutil.rmtree(folder)


def test_an_unknown_environment_is_answered_with_the_known_ones(repository: Callable[[str], Path]) -> None:
    folder = repository("dev")
    with pytest.raises(InputError, match="there are dev, prod, staging"):
        environment.load(folder / "environments", "test", usecase.load(folder / "usecase.toml"))
