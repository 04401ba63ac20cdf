"""The simulated account with an engine of a few lines: what is started ends at once, as the stages' names say.

Every call that the functions make, and its answer, is held against botocore's model of the service.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.validate import ParamValidator

from batchloop.container import usecase
from batchloop.control.names import Aws, Places, Settings
from batchloop.engine import running
from batchloop.engine.graph import StepStatus
from batchloop.engine.running import Order
from batchloop.pipelines import check
from batchloop.repository import Repository
from batchloop.simulate.account import Account
from batchloop.simulate.loop import Loop, Stage, bootstrap

COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")
ACCOUNT = "arn:aws:sagemaker:eu-central-1:123456789012"
IMAGES = {name: f"local/team/case/{name}:1" for name in COMPONENTS}
RULES = Settings(cooldown_hours=24, budget=3, budget_days=30, minimum_rows=200)
CASE = usecase.parse(
    {
        "usecase": {"name": "case", "namespace": "team"},
        "data": {"task": "binary", "id": "customer_id", "label": "churned", "classes": ["no", "yes"]},
        "columns": {"age": {"type": "number"}, "plan": {"type": "category"}},
        "gate": {"metric": "auc", "minimum": 0.7},
    }
)
DECLARED = {
    "training": [
        *("TrainingData", "DataFingerprint", "EarlierData", "ArtifactsPrefix"),
        *("ChampionPreprocessor", "ChampionModel"),
    ],
    "inference": [
        *("ProductionData", "DataFingerprint", "ArtifactsPrefix", "Preprocessor", "Model", "Baseline", "Explainer"),
        *("LabelledData", "LabelsVersion"),
    ],
}
SCORING = [
    {"Name": "ScoreFeatures", "Type": "Transform"},
    {"Name": "DetectDrift", "Type": "Processing", "DependsOn": ["ScoreFeatures"]},
]


class Killed(BaseException):
    """In the place of SIGKILL: nothing catches it."""


@dataclass(frozen=True)
class Dying(Account):
    """Is killed right before or right after its write number `last`."""

    last: int = 0
    after: bool = False
    writes: list[str] = field(default_factory=list)

    def put_parameter(self, **request: Any) -> Any:
        return self._write(super().put_parameter, request)

    def put_object(self, **request: Any) -> Any:
        return self._write(super().put_object, request)

    def start_pipeline_execution(self, **request: Any) -> Any:
        return self._write(super().start_pipeline_execution, request)

    def _write(self, call: Callable[..., Any], request: dict[str, Any]) -> Any:
        self.writes.append(call.__name__)
        dies = len(self.writes) == self.last
        if dies and not self.after:
            raise Killed
        answer = call(**request)
        if dies:
            raise Killed
        return answer


class Quick(Loop):
    """A stage with `drift` in its name drifts for a model from another stage; a `bad` one gives no good model.

    A `worse` one is expected to score worse.
    """

    @property
    def aws(self) -> Aws:
        return Aws(**{field.name: Checked(self.account, field.name) for field in fields(Aws)})

    def run(self, order: Order) -> Any:
        name, given = order.name, order.parameters
        place = self.places.runs(name.rpartition("-")[2]) + f"/{order.identity}"
        failed = {}
        if name.endswith("training"):
            failed = self._train(place, given)
        else:
            stage, learned = (self._about(given[name]) for name in ("ProductionData", "Baseline"))
            drifted = "drift" in stage and stage != learned
            found = report(drifted, "worse" in stage and stage != learned)
            if "LabelledData" in given and "known" in stage:
                found["realised"] = realised("wrong" in stage)
            self._write(f"{place}/DetectDrift/drift/drift.json", found)
        return Ended(failed, {step["Name"]: Step("", StepStatus.DONE) for step in order.definition["Steps"]})

    def _train(self, place: str, given: Mapping[str, Any]) -> dict[str, Any]:
        stage = self._about(given["TrainingData"])
        if "bad" in stage:
            return {"RejectModel": Step("The model is not good enough.")}
        artifacts = {name: f"{place}/{name}/" for name in ("preprocessor", "model", "baseline", "explainer")}
        for uri in artifacts.values():
            self._write(f"{uri}about.json", {"stage": stage})
        about = {**artifacts, **{f"{name}_image": image for name, image in IMAGES.items()}}
        about |= {"training_data": given["TrainingData"], "git_commit": "0", "contract": "0"}
        registry = self.account.registry
        known = [package["CustomerMetadataProperties"]["model"] for package in registry.packages()]
        if about["model"] not in known:
            status = "PendingManualApproval" if "person" in stage else "Approved"
            package = {"ModelPackageGroupName": self.places.prefix, "ModelApprovalStatus": status}
            registry.register({**package, "CustomerMetadataProperties": about}, "now")
        return {}

    def _about(self, uri: str) -> str:
        return str(json.loads((self.account.storage.path(uri) / "about.json").read_text())["stage"])

    def _write(self, uri: str, value: object) -> None:
        self.account.storage.write_json(uri, value)


@dataclass
class Step:
    message: str
    status: str = "failed"


@dataclass
class Ended:
    failed: dict[str, Step]
    steps: dict[str, Step]


def report(drifted: bool, worse: bool) -> dict[str, Any]:
    expected = {"metric": "auc", "estimated": 0.7, "reference": 0.8, "drop": 0.1, "alarm": True}
    return {
        "verdict": "drift" if drifted else "no drift",
        "reason": "because",
        "rows": 1000,
        "drifted": ["age"] if drifted else [],
        **({"performance": expected} if worse else {}),
    }


def realised(worse: bool) -> dict[str, Any]:
    about = {"metric": "auc", "reference": 0.8, "expected": 0.8, "rows": 900, "alarm": worse}
    return about | ({"value": 0.7, "drop": 0.1} if worse else {"value": 0.81, "drop": -0.01})


def open_quick(folder: Path, names: list[str], kind: Callable[..., Account] = Account, rules: Settings = RULES) -> Loop:
    """The loop of a new account in a folder, where another may have been killed, with a stage for each name."""
    repository = Repository(folder, folder / "local" / "simulation")
    repository.local.mkdir(parents=True, exist_ok=True)
    places = Places("team", "case", "dev", "bucket", "arn:aws:sns:eu-central-1:123456789012:notices", rules)
    images = [f"{name.capitalize()}Image" for name in COMPONENTS]
    definitions = {
        name: {"Parameters": [_parameter(entry) for entry in [*declared, *images]], "Steps": steps}
        for (name, declared), steps in zip(DECLARED.items(), ([], SCORING), strict=True)
    }
    known = {places.pipeline(name): definition for name, definition in definitions.items()}
    account = kind(running.storage(repository), running.registry(repository), known, ACCOUNT)
    stages = [_stage(folder, place, name) for place, name in enumerate(names, 1)]
    loop = Quick(repository, CASE, places, account, stages)
    bootstrap(loop, IMAGES)
    return loop


def _parameter(name: str) -> dict[str, str]:
    """As the compiled pipelines declare them: one has no default."""
    return {"Name": name, "Type": "String"} | ({} if name == "DataFingerprint" else {"DefaultValue": "none"})


def _stage(folder: Path, place: int, name: str) -> Stage:
    stage = Stage(place, folder / "stages" / f"{place}" / name)
    for part in ("production", *([] if "unlabelled" in name else ["train"])):
        (stage.folder / part).mkdir(parents=True, exist_ok=True)
        (stage.folder / part / "about.json").write_text(json.dumps({"stage": name}))
    return stage


def lasting(loop: Loop) -> dict[str, Any]:
    """What must be the same however often a simulation was interrupted."""
    state = loop.state
    return {name: state[name] for name in ("parameters", "executions", "approvals", "ticks")}


def without(rules: Settings = RULES, **changes: Any) -> Settings:
    return replace(rules, **changes)


class Checked:
    """A client whose requests and answers fit the service's model."""

    def __init__(self, client: Any, service: str) -> None:
        self.client, self.service = client, service

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        return self._call(name) if callable(found) and name in _operations(self.service) else found

    def get_paginator(self, name: str) -> "Paginator":
        return Paginator(self.client.get_paginator(name), self._call(name))

    def _call(self, name: str) -> Any:
        operation = _operations(self.service)[name]

        def call(**request: Any) -> Any:
            fits(request, operation.input_shape)
            if self.service == "sagemaker":  # patterns, lengths and words too
                assert list(check.request(operation.name, request)) == []
            answer = getattr(self.client, name)(**request)
            fits(answer, operation.output_shape)
            return answer

        return call


class Paginator:
    """The pages, after a first page was checked."""

    def __init__(self, pages: Any, call: Any) -> None:
        self.pages, self.call = pages, call

    def paginate(self, **request: Any) -> Iterator[Any]:
        self.call(**request)
        yield from self.pages.paginate(**request)


@cache
def _operations(service: str) -> dict[str, Any]:
    model = botocore.session.Session().get_service_model(service)
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


def fits(value: Mapping[str, Any], shape: Any) -> None:
    """Answers may leave out members that nobody here reads."""
    problems = [] if shape is None else ParamValidator().validate(value, shape).generate_report().splitlines()
    assert [line for line in problems if line and not line.startswith("Missing required")] == []
