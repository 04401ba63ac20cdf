"""What the service asks of a request in words, which neither the API's model nor ParamValidator knows.

Sources, pages of the SageMaker API reference: "CreateTransformJob", payload times requests at once; "ResourceConfig",
"ProcessingClusterConfig", "TransformResources", instances with disks of their own take no key and no larger volume;
"StoppingCondition", waiting includes running; "S3DataSource", prefixes are matched as text; "CreateModelPackage", tags
are the group's; "AddTags", what a key may not begin with. And of the developer guide: "Default cache key attributes by
pipeline step type", "Resource Limits for Automatic Model Tuning".
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from batchloop.control.names import FINGERPRINT
from batchloop.environment import has_own_disks
from batchloop.pipelines import expressions
from batchloop.pipelines.expressions import DEFAULT_PAYLOAD, MOST_PAYLOAD

MOST_RANGES, MOST_TRIALS = 30, 750  # of one tuning job


@cache
def own_disks() -> dict[str, dict[str, int]]:
    """batchloop/disks.toml: family → size → GB."""
    return tomllib.loads((Path(__file__).parents[1] / "disks.toml").read_text(encoding="utf-8"))


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
    """Of a tuning job, whose types are right; what is searched, and by which metric, is not asked again."""
    if not 0 < (found := len(ranges(arguments))) <= MOST_RANGES:
        yield f"{found} hyperparameters are searched: 1 to {MOST_RANGES} can be"
    limits = arguments["HyperParameterTuningJobConfig"]["ResourceLimits"]
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
