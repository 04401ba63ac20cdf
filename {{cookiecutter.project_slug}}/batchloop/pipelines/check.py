"""What is wrong with a definition: against the SageMaker API as botocore knows it, and by rules in words.

Definitions are the SDK's: what it makes of its own objects (keys, types of parameters, retries) is not looked at again.
The rules in words are those of pages of the SageMaker API reference: "CreateTransformJob", payload times requests at
once; "ResourceConfig", "ProcessingClusterConfig", "TransformResources", instances with disks of their own take no key
and no larger volume; "StoppingCondition", waiting includes running; "S3DataSource", prefixes are matched as text;
"CreateModelPackage", tags are the group's; "AddTags", what a key may not begin with. And of the developer guide:
"Default cache key attributes by pipeline step type", "Resource Limits for Automatic Model Tuning".
"""

import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from batchloop.control.names import FINGERPRINT
from batchloop.environment import has_own_disks, own_disks
from batchloop.pipelines import expressions
from batchloop.pipelines.expressions import DEFAULT_PAYLOAD, MOST_PAYLOAD, ExpressionError

# step type → the call it makes, the name the service fills in, the call that describes the result
CALLS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName", "DescribeProcessingJob"),
    "Training": ("CreateTrainingJob", "TrainingJobName", "DescribeTrainingJob"),
    "Model": ("CreateModel", "ModelName", "DescribeModel"),
    "Tuning": ("CreateHyperParameterTuningJob", "HyperParameterTuningJobName", "DescribeHyperParameterTuningJob"),
    "Transform": ("CreateTransformJob", "TransformJobName", "DescribeTransformJob"),
    "RegisterModel": ("CreateModelPackage", "", "DescribeModelPackage"),
}
JOBS = ("Processing", "Training", "Tuning", "Transform")
EXPERIMENT = "PipelineExperimentConfig"
BRANCHES = ("IfSteps", "ElseSteps")  # steps inside a step are checked by themselves
MOST_RANGES, MOST_TRIALS = 30, 750  # of one tuning job
LARGEST, MOST_PARAMETERS, LONGEST = 2**20, 200, 1024
Step = Mapping[str, Any]


class Text(str):
    """A text that is known only when the pipeline runs: no pattern or enum can be checked on it."""


class Whole(int):
    """A whole number that is known only when the pipeline runs."""


class Number(float):
    """A number that is known only when the pipeline runs."""


SAMPLES = {"string": Text("sample"), "integer": Whole(1), "long": Whole(1), "float": Number(1), "double": Number(1)}


def check(definition: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a definition, a sentence each; an empty list is what one wants."""
    definition, problems = {"Parameters": [], "Steps": [], **definition}, list[str]()
    if definition.get(EXPERIMENT):
        problems.append("each run would make an experiment and a trial, which its role may not: leave it out")
    for path in expressions.gets(definition["Steps"]):
        try:
            expressions.parts(path)
        except ExpressionError as error:
            problems.append(str(error))
    if problems:
        return problems
    if len(json.dumps(definition).encode()) > LARGEST:
        problems.append("the definition is larger than 1 MiB")
    problems += [*_parameters(definition), *_structure(definition["Steps"])]
    if not problems:
        checker = _Arguments(definition)
        for name, step in checker.steps.items():
            problems += [f"{name}: {problem}" for problem in checker.problems(step)]
    return problems


def _all(steps: list[Step]) -> Iterator[Step]:
    """Every step, those in the branches of a condition too."""
    for step in steps:
        yield step
        if step.get("Type") == "Condition":
            yield from _all([inner for branch in BRANCHES for inner in (step.get("Arguments") or {}).get(branch, [])])


def _parameters(definition: Mapping[str, Any]) -> Iterator[str]:
    declared = definition["Parameters"]
    names = [parameter["Name"] for parameter in declared]
    if len(declared) > MOST_PARAMETERS:
        yield f"{len(declared)} parameters are more than {MOST_PARAMETERS}"
    used = {path.partition(".")[2] for path in expressions.gets(definition["Steps"]) if path.startswith("Parameters.")}
    for parameter, name in zip(declared, names, strict=True):
        wrong = {
            "is declared twice or is no legal name": names.count(name) > 1
            or not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,255}", name),
            f"has a default of more than {LONGEST:,} letters": len(str(parameter.get("DefaultValue"))) > LONGEST,
            "is not used": name not in used,
        }
        yield from (f"parameter {name!r} {problem}" for problem, is_wrong in wrong.items() if is_wrong)


def _structure(steps: list[Step]) -> Iterator[str]:
    """Names, types, caches, order: what must hold before a step can be looked into."""
    names = [step["Name"] for step in _all(steps)]
    for step in _all(steps):
        if not re.fullmatch(r"[A-Za-z0-9-_]{1,64}", step["Name"]) or names.count(step["Name"]) > 1:
            yield f"step {step['Name']!r}: the name is taken twice or is not legal"
        if step["Type"] not in {*CALLS, "Condition", "Fail"}:
            yield f"{step['Name']}: unknown step type {step['Type']!r}"
        if expressions.seconds(step.get("CacheConfig", {}).get("ExpireAfter", "P1D")) is None:
            yield f"{step['Name']}: CacheConfig needs an ISO 8601 duration in ExpireAfter, of years to minutes"
    yield from _order(steps, set())


def _order(steps: list[Step], before: set[str]) -> Iterator[str]:
    """A step may use only steps before it: siblings without a cycle (a condition with its branches), those around."""
    needs: dict[str, set[str]] = {}
    for step in steps:
        inside = list(_all([step]))
        used = [expressions.producers(inner.get("Arguments")) | set(inner.get("DependsOn", [])) for inner in inside]
        needs[step.get("Name", "")] = set().union(*used) - {inner.get("Name") for inner in inside} - before
    for name, wanted in needs.items():
        if missing := sorted(wanted - set(needs)):
            yield f"{name}: needs {', '.join(missing)}, which can't run before it"
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        yield f"the steps {', '.join(sorted(set(error.args[1])))} wait for each other"
    for step in steps:
        if step.get("Type") == "Condition":
            for branch in BRANCHES:
                yield from _order((step.get("Arguments") or {}).get(branch, []), before | set(needs))


class _Arguments:
    """Checks the arguments of steps, in which every expression is replaced by a sample of its type."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.steps = {step["Name"]: step for step in _all(definition["Steps"])}
        self.parameters = {parameter["Name"]: parameter for parameter in definition["Parameters"]}

    def problems(self, step: Step) -> Iterator[str]:
        kind = step["Type"]
        try:
            arguments = self._sampled(step["Arguments"])
        except ValueError as error:
            yield str(error)
            return
        if kind == "Condition":
            yield from expressions.check_conditions(arguments["Conditions"])
        elif kind != "Fail":
            call, filled_in, _ = CALLS[kind]
            wrong = [*request(call, arguments | ({filled_in: "sample"} if filled_in else {}))]
            yield from wrong or job(arguments)
            yield from folders(arguments)
            yield from tags(kind, arguments)
            yield from self._prefixes(step["Arguments"])
            if step.get("CacheConfig", {}).get("Enabled"):
                yield from cached(expressions.keyed(kind, step["Arguments"]))

    def _prefixes(self, value: Any) -> Iterator[str]:
        """Inputs that would take whatever begins like them: `…/test` takes `…/test_old/` too ("S3DataSource")."""
        if isinstance(value, list):
            yield from (problem for item in value for problem in self._prefixes(item))
        elif isinstance(value, Mapping) and not expressions.is_expression(value):
            uri = value.get("S3Uri", "/")
            end = self._end(uri) if value.get("S3DataType") == "S3Prefix" else "/"
            if not end.endswith("/") and "." not in end.rpartition("/")[2]:
                yield f"the input {json.dumps(uri)} takes whatever begins so: end a folder with '/'"
            yield from (problem for item in value.values() for problem in self._prefixes(item))

    def _end(self, uri: Any) -> str:
        """How the text ends that an expression stands for; a slash where only the run knows."""
        if not expressions.is_expression(uri):
            return str(uri)
        if join := uri.get("Std:Join"):
            return self._end(join["Values"][-1]) if join["Values"] else ""
        kind, _, path = str(uri.get("Get")).partition(".")
        if kind == "Parameters":
            return str(self.parameters[path].get("DefaultValue", "/"))
        return "" if path.endswith(("S3Uri", "S3OutputPath")) else "/"

    def _sampled(self, value: Any) -> Any:
        """Raises ValueError for an expression that points at nothing."""
        if expressions.is_expression(value):
            return self._sample(value)
        if isinstance(value, Mapping):
            return {key: self._sampled(item) for key, item in value.items() if key not in BRANCHES}
        return [self._sampled(item) for item in value] if isinstance(value, list) else value

    def _sample(self, expression: Mapping[str, Any]) -> Any:
        if "Std:JsonGet" in expression:
            return Number(1)
        if join := expression.get("Std:Join"):
            inner = [self._sampled(item) for item in join["Values"]]
            if not all(isinstance(item, str | int | float) for item in inner):
                raise ValueError("a Std:Join joins single values only")
            known = not any(isinstance(item, Text) for item in inner)
            return str(join["On"]).join(map(str, inner)) if known else Text("sample")
        kind, _, path = expression["Get"].partition(".")
        if kind == "Parameters" and path in self.parameters:
            default = self.parameters[path].get("DefaultValue")
            return SAMPLES[self.parameters[path]["Type"].lower()] if default is None else default
        if kind == "Execution":
            return Text("sample")
        if kind == "Steps" and path.split(".")[0] in self.steps:
            return self._result(path)
        raise ValueError(f"{expression['Get']!r} points at nothing")

    def _result(self, path: str) -> Any:
        """A sample of a step's result, typed by the shape of the call that describes it. Raises ValueError."""
        name, *parts = expressions.parts(path)
        step = self.steps[str(name)]
        if step["Type"] not in CALLS:
            raise ValueError(f"Steps.{path}: a {step['Type']} step has no such result")
        shape = _shape_at(parts, service().operation_model(CALLS[step["Type"]][2]).output_shape)
        arguments, known = step["Arguments"], None
        if parts[:2] == ["ProcessingOutputConfig", "Outputs"]:
            outputs = arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
            known = [output.get("OutputName") for output in outputs]
        elif parts[:1] == ["FinalMetricDataList"]:
            metrics = arguments.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
            known = [metric.get("Name") for metric in metrics]
        elif "TunedHyperParameters" in parts:
            known = [option["Name"] for option in ranges(arguments)]
        name = next((part for part in parts[1:] if part not in ("Outputs", "TunedHyperParameters")), "")
        if known is not None and name not in known:
            raise ValueError(f"{step['Name']} has no {name!r}; it has {', '.join(map(str, known))}")
        if shape.type_name not in SAMPLES:
            raise ValueError(f"Steps.{path} is a {shape.type_name}, not a single value")
        return SAMPLES[shape.type_name]


@cache
def service() -> Any:
    """SageMaker's API as botocore knows it; read from the package, without network or credentials."""
    return botocore.session.Session().get_service_model("sagemaker")


def request(call: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    shape = service().operation_model(call).input_shape
    report = ParamValidator().validate(arguments, shape)
    if report.has_errors():
        yield " ".join(report.generate_report().split())
    yield from _limits(arguments, shape, "")


def _shape_at(path: list[str | int], shape: Any) -> Any:
    """The shape that a path leads to, below a botocore shape. Raises ValueError where it leads nowhere."""
    for part in path:
        if shape.type_name == "structure" and part in shape.members:
            shape = shape.members[part]
        elif shape.type_name == "list":
            shape = shape.member
        elif shape.type_name == "map" and isinstance(part, str):
            shape = shape.value
        else:
            raise ValueError(f"{part!r} is not in {shape.name}")
    return shape


def _limits(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Enums, patterns and largest values, which ParamValidator leaves out."""
    if shape.type_name == "structure" and isinstance(value, Mapping):
        for key in [key for key in value if key in shape.members]:
            yield from _limits(value[key], shape.members[key], f"{path}.{key}")
    elif shape.type_name == "map" and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _limits(key, shape.key, f"{path}.{key} (its name)")
            yield from _limits(item, shape.value, f"{path}.{key}")
    elif shape.type_name == "list" and isinstance(value, list):
        for position, item in enumerate(value):
            yield from _limits(item, shape.member, f"{path}[{position}]")
    if not isinstance(value, Text | Whole | Number | bool):
        yield from (f"{path.lstrip('.')} {problem}" for problem in _beyond(value, shape.metadata))


def _beyond(value: Any, limits: Mapping[str, Any]) -> Iterator[str]:
    size = value if isinstance(value, int | float) else len(value) if hasattr(value, "__len__") else None
    if size is not None and size > limits.get("max", size):
        yield f"has more than the maximum of {limits['max']}"
    if size is not None and size < limits.get("min", size):
        yield f"has less than the minimum of {limits['min']}"
    if isinstance(value, str):
        if value not in limits.get("enum", [value]):
            yield f"= {value!r} is none of the values the API knows"
        if (pattern := limits.get("pattern", "")) and not _matches(value, pattern):
            yield f"= {value!r} does not match {pattern}"


def _matches(value: str, java: str) -> bool:
    """Whether a Java pattern takes a value: no number after an end, \\p classes by the value's own characters."""

    def held(found: re.Match[str]) -> str:
        if found[1] == "Alnum":
            return "0-9A-Za-z"
        return "".join(re.escape(one) for one in {*value} if unicodedata.category(one).startswith(found[1])) or "\uffff"

    return bool(re.fullmatch(re.sub(r"\\p\{(\w+)\}", held, re.sub(r"\$\{\d+,\d+\}$", "", java)), value))


def job(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Of the arguments of any step, whose types are right."""
    if "HyperParameterTuningJobConfig" in arguments:
        yield from tuning(arguments)
        yield from job(arguments.get("TrainingJobDefinition", {}))
        return
    payload, several = (arguments.get(key) for key in ("MaxPayloadInMB", "MaxConcurrentTransforms"))
    payload = DEFAULT_PAYLOAD if payload is None else payload
    if payload > MOST_PAYLOAD or payload * (several or 1) > MOST_PAYLOAD:
        yield f"MaxPayloadInMB {payload} × MaxConcurrentTransforms {several or 1} is more than {MOST_PAYLOAD}"
    cluster = arguments.get("ProcessingResources", {}).get("ClusterConfig", {})
    for resources in (cluster, arguments.get("ResourceConfig", {}), arguments.get("TransformResources", {})):
        instance, volume = str(resources.get("InstanceType")), resources.get("VolumeSizeInGB", 0)
        if resources.get("VolumeKmsKeyId") and has_own_disks(instance):
            yield f"{instance} has disks of its own, which take no VolumeKmsKeyId"
        _, family, size = f"{instance}..".split(".")[:3]
        if volume > (own := own_disks().get(family, {}).get(size, volume)):
            yield f"VolumeSizeInGB {volume} is more than the disks of {instance} have, which are {own} GB"
    stopping = arguments.get("StoppingCondition", {})
    longest = stopping.get("MaxWaitTimeInSeconds", math.inf)
    if longest < stopping.get("MaxRuntimeInSeconds", 0):
        yield f"MaxWaitTimeInSeconds {longest} is less than MaxRuntimeInSeconds, which it includes"
    if ("MaxWaitTimeInSeconds" in stopping) != bool(arguments.get("EnableManagedSpotTraining")):
        yield "MaxWaitTimeInSeconds goes with EnableManagedSpotTraining, and with nothing else"


def tags(kind: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    """By which costs are counted and people find what is theirs; a model package has those of its group."""
    keys = [str(tag.get("Key")) for tag in arguments.get("Tags", [])]
    if kind == "RegisterModel":
        if keys and arguments.get("ModelPackageGroupName"):
            yield "a version of a model package group takes no Tags: it has those of its group"
    elif not keys:
        yield "it has no Tags, so nobody can tell whose it is or count what it costs: tags=context.tags"
    yield from (f"the tag {key!r} stands there twice" for key in sorted({key for key in keys if keys.count(key) > 1}))
    yield from (f"the tag {key!r} begins like AWS's own" for key in keys if key.lower().startswith("aws:"))


def ranges(arguments: Mapping[str, Any]) -> list[Any]:
    kinds = arguments["HyperParameterTuningJobConfig"].get("ParameterRanges", {})
    return [option for options in kinds.values() for option in options]


def tuning(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Of a tuning job, whose types are right."""
    config, trial = arguments["HyperParameterTuningJobConfig"], arguments["TrainingJobDefinition"]
    names = [option["Name"] for option in ranges(arguments)]
    if not 0 < len(names) <= MOST_RANGES:
        yield f"{len(names)} hyperparameters are searched: 1 to {MOST_RANGES} can be"
    given = [*names, *trial.get("StaticHyperParameters", {})]
    yield from (f"the hyperparameter {name!r} is given twice" for name in {*names} if given.count(name) > 1)
    for option in (option for option in ranges(arguments) if "MinValue" in option):
        low, high, scale = float(option["MinValue"]), float(option["MaxValue"]), option.get("ScalingType")
        if low >= high or (low <= 0 and scale == "Logarithmic"):
            yield f"{option['Name']} from {low:g} to {high:g} is no range ({scale})"
    metrics = [metric["Name"] for metric in trial["AlgorithmSpecification"].get("MetricDefinitions", [])]
    if (objective := config["HyperParameterTuningJobObjective"]["MetricName"]) not in metrics:
        yield f"the objective {objective!r} is none of the metrics, which are {', '.join(metrics)}"
    limits = config["ResourceLimits"]
    jobs, at_once = limits.get("MaxNumberOfTrainingJobs", 1), limits["MaxParallelTrainingJobs"]
    if not at_once <= jobs <= MOST_TRIALS:
        yield f"{at_once} training jobs at once of {jobs}: at most as many as there are, and {MOST_TRIALS} in all"


def cached(request: Mapping[str, Any]) -> Iterator[str]:
    """A cached step is found by this part of its request alone, whatever lies behind the URIs in it."""
    given = set(expressions.gets([value for key, value in request.items() if "Input" in key]))
    used = set(expressions.gets(request))
    if any(path.startswith("Parameters.") for path in given) and f"Parameters.{FINGERPRINT}" not in used:
        yield f"it is cached, reads what a parameter names, and would not see it change: give it {FINGERPRINT}"
    for path in sorted(path for path in used if path.startswith("Execution.")):
        yield f"it is cached and never reused: {path} is another one in each run"


def folders(arguments: Mapping[str, Any]) -> Iterator[str]:
    """An input or output is called like its folder in the container: components find their files by that name."""
    outputs = arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
    names = [str(output.get("OutputName")) for output in outputs]
    for name, other in ((name, other) for name in names for other in names):
        if name != other and other.startswith(name):
            yield f"the output {name!r} begins {other!r}: a prefix in S3 is matched as text, and takes both"
    for entry in [*arguments.get("ProcessingInputs", []), *outputs]:
        name = entry.get("InputName", entry.get("OutputName"))
        path = entry.get("S3Input", entry.get("S3Output", {})).get("LocalPath")
        if str(path or "").rpartition("/")[2] != name:
            yield f"{name!r} lies in {path!r}: the folder must have the same name"


def main(files: Iterable[Path]) -> int:
    """Check files; the exit code says whether all are right."""
    problems = [f"{file}: {problem}" for file in files for problem in check(json.loads(file.read_text("utf-8")))]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0
