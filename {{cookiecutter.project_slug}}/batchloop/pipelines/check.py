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
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import permutations
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from batchloop.container.job import InputError
from batchloop.control.names import FINGERPRINT
from batchloop.environment import has_own_disks, own_disks
from batchloop.pipelines import expressions
from batchloop.pipelines.expressions import DEFAULT_PAYLOAD, MOST_PAYLOAD, Node, Scope, Text

# step type → the call it makes, the name the service fills in, the call that describes the result
CALLS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName", "DescribeProcessingJob"),
    "Training": ("CreateTrainingJob", "TrainingJobName", "DescribeTrainingJob"),
    "Model": ("CreateModel", "ModelName", "DescribeModel"),
    "Tuning": ("CreateHyperParameterTuningJob", "HyperParameterTuningJobName", "DescribeHyperParameterTuningJob"),
    "Transform": ("CreateTransformJob", "TransformJobName", "DescribeTransformJob"),
    "RegisterModel": ("CreateModelPackage", "", "DescribeModelPackage"),
}
MOST_RANGES, MOST_TRIALS = 30, 750  # of one tuning job
LARGEST, MOST_PARAMETERS, LONGEST = 2**20, 200, 1024
# what stands for a value that only the run knows: numbers within any limits, and texts that may end as a folder does
SAMPLES: dict[str, Any] = {"integer": 1, "long": 1, "float": 1.0, "double": 1.0, "boolean": True}
SAMPLES |= dict.fromkeys(("string", "timestamp"), Text("?/"))


def check(definition: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a definition, a sentence each; an empty list is what one wants."""
    definition, problems = {"Parameters": [], "Steps": [], **definition}, list[str]()
    if definition.get("PipelineExperimentConfig"):
        problems.append("each run would make an experiment and a trial, which its role may not: leave it out")
    try:
        nodes = [*expressions.walk(definition["Steps"])]
    except InputError as error:
        return [*problems, str(error)]
    if len(json.dumps(definition).encode()) > LARGEST:
        problems.append("the definition is larger than 1 MiB")
    problems += [*_parameters(definition), *_structure(nodes)]
    if not problems:
        scope = _scope(definition, nodes)
        problems += [f"{node.name}: {problem}" for node in nodes for problem in _step(node, scope)]
    return problems


def _parameters(definition: Mapping[str, Any]) -> Iterator[str]:
    declared = definition["Parameters"]
    names = [parameter["Name"] for parameter in declared]
    if len(declared) > MOST_PARAMETERS:
        yield f"{len(declared)} parameters are more than {MOST_PARAMETERS}"
    used = {*expressions.gets(definition["Steps"])}
    for parameter, name in zip(declared, names, strict=True):
        if names.count(name) > 1 or not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,255}", name):
            yield f"parameter {name!r} is declared twice or is no legal name"
        if len(str(parameter.get("DefaultValue"))) > LONGEST:
            yield f"parameter {name!r} has a default of more than {LONGEST:,} letters"
        if f"Parameters.{name}" not in used:
            yield f"parameter {name!r} is not used"


def _structure(nodes: list[Node]) -> Iterator[str]:
    """Names, types, caches, order: what must hold before a step can be looked into."""
    names = [node.name for node in nodes]
    for node in nodes:
        if not re.fullmatch(r"[A-Za-z0-9-_]{1,64}", node.name) or names.count(node.name) > 1:
            yield f"step {node.name!r}: the name is taken twice or is not legal"
        if node.type not in {*CALLS, "Condition", "Fail"}:
            yield f"{node.name}: unknown step type {node.type!r}"
        if expressions.seconds(node.step.get("CacheConfig", {}).get("ExpireAfter", "P1D")) is None:
            yield f"{node.name}: CacheConfig needs an ISO 8601 duration in ExpireAfter, of years to minutes"
    if len(set(names)) == len(names):
        yield from _order(nodes)


def _order(nodes: list[Node]) -> Iterator[str]:
    """A step may use only steps before it: those beside it, and those beside each condition around it."""
    around = dict[str, list[Any]]({"": []})  # where a step finds others: its branch, then those around
    for node in nodes:
        around[node.name] = [(node.condition, node.side), *around[node.condition]]
    waits = {node.name: {*node.needs} for node in nodes}
    for node in nodes:
        if missing := sorted({need for need in node.needs if around.get(need, [None])[0] not in around[node.name]}):
            yield f"{node.name}: needs {', '.join(missing)}, which can't run before it"
        for condition in {*dict(around[node.name])} - {""}:  # it waits for what the steps in it need
            inner = {name for name, places in around.items() if condition in dict(places)}
            waits[condition] |= {*node.needs} - inner - {condition}
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        yield f"the steps {', '.join(sorted(set(error.args[1])))} wait for each other"


class Anything(float):
    """What a JSON file will hold, at any path: a number."""

    def __getitem__(self, _part: str | int) -> "Anything":
        return self


class Result:
    """What a step will give, by the shape of the call that describes it; `names` are those that the step itself gives.

    A text at the end of a path is that path; it ends with a slash where it may be a folder's or a file's.
    """

    def __init__(self, shape: Any, names: Mapping[str, list[Any]], path: str) -> None:
        self.shape, self.names, self.path = shape, names, path

    def __getitem__(self, part: Any) -> Any:
        known, path = self.names.get(self.path.rpartition("/")[2], [part]), f"{self.path}/{part}"
        if part not in known:
            raise InputError(f"{self.path} has no {part!r}; it has {', '.join(map(str, known))}")
        if part == "PropertyFiles":
            return dict.fromkeys(self.names[part], SAMPLES["string"])
        shape, kind = self.shape, self.shape.type_name
        if kind == "map" and not isinstance(part, str):
            raise KeyError(part)
        inner = shape.members[part] if kind == "structure" else shape.member if kind == "list" else shape.value
        if inner.type_name == "string":
            return Text(path if part in ("S3Uri", "S3OutputPath") else f"{path}/")
        return SAMPLES.get(inner.type_name) or Result(inner, self.names, path)


def _result(node: Node) -> Result:
    outputs = node.arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
    metrics = node.arguments.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
    names = {
        "Outputs": [output.get("OutputName") for output in outputs],
        "FinalMetricDataList": [metric.get("Name") for metric in metrics],
        "TunedHyperParameters": [option.get("Name") for option in ranges(node.arguments)],
        "PropertyFiles": [file["PropertyFileName"] for file in node.step.get("PropertyFiles", [])],
    }
    return Result(service().operation_model(CALLS[node.type][2]).output_shape, names, node.name)


def _scope(definition: Mapping[str, Any], nodes: list[Node]) -> Scope:
    """Parameters are their defaults; what only the run knows is a sample of its type."""
    declared = definition["Parameters"]
    defaults = {its["Name"]: its.get("DefaultValue", SAMPLES[its["Type"].lower()]) for its in declared}
    results = {node.name: _result(node) for node in nodes if node.type in CALLS}
    return Scope(defaults, defaultdict(lambda: SAMPLES["string"]), lambda _uri: Anything(1), results)


def _step(node: Node, scope: Scope) -> Iterator[str]:
    try:
        arguments = expressions.resolve(node.arguments, scope)
    except InputError as error:
        yield str(error)
        return
    if several := [*_several(arguments)]:
        yield from several
        return
    if node.type == "Condition":
        yield from expressions.check_conditions(arguments["Conditions"])
    elif node.type != "Fail":
        call, filled_in, _ = CALLS[node.type]
        wrong = [*request(call, arguments | ({filled_in: "sample"} if filled_in else {}))]
        yield from wrong or job(arguments)
        yield from folders(arguments)
        yield from tags(node.type, arguments)
        yield from _prefixes(arguments)
        if node.step.get("CacheConfig", {}).get("Enabled"):
            yield from cached(expressions.keyed(node.type, node.arguments))


def _several(value: Any) -> Iterator[str]:
    """What is no single value where an expression stands for one."""
    if isinstance(value, Mapping | list):
        yield from (
            problem for item in (value.values() if isinstance(value, Mapping) else value) for problem in _several(item)
        )
    elif isinstance(value, Result):
        yield f"{value.path} is a {value.shape.type_name}, not a single value"


def _prefixes(value: Any) -> Iterator[str]:
    """Inputs that would take whatever begins like them: `…/test` takes `…/test_old/` too ("S3DataSource")."""
    if isinstance(value, list):
        yield from (problem for item in value for problem in _prefixes(item))
    elif isinstance(value, Mapping):
        uri = str(value.get("S3Uri", "/"))
        if value.get("S3DataType") == "S3Prefix" and not uri.endswith("/") and "." not in uri.rpartition("/")[2]:
            yield f"the input {re.sub('[?]/*', '…', uri)} takes whatever begins so: end a folder with '/'"
        yield from (problem for item in value.values() for problem in _prefixes(item))


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
    if not isinstance(value, Text | bool):
        yield from (f"{path.lstrip('.')} {problem}" for problem in _beyond(value, shape.metadata))


def _beyond(value: Any, limits: Mapping[str, Any]) -> Iterator[str]:
    size = value if isinstance(value, int | float) else len(value) if hasattr(value, "__len__") else None
    if size is not None and size > limits.get("max", size):
        yield f"has more than the maximum of {limits['max']}"
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
    kinds = arguments.get("HyperParameterTuningJobConfig", {}).get("ParameterRanges", {})
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
    for name, other in permutations(names, 2):
        if other.startswith(name):
            yield f"the output {name!r} begins {other!r}: a prefix in S3 is matched as text, and takes both"
    for entry in [*arguments.get("ProcessingInputs", []), *outputs]:
        name = entry.get("InputName", entry.get("OutputName"))
        path = entry.get("S3Input", entry.get("S3Output", {})).get("LocalPath")
        if str(path or "").rpartition("/")[2] != name:
            yield f"{name!r} lies in {path!r}: the folder must have the same name"
