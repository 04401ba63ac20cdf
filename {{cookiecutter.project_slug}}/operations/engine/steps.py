"""One function a step type: resolved arguments in, the finished step's properties out.

Properties have the shapes of the service's Describe… answers, because that is what expressions refer to.
KMS keys, VPCs, roles and instances mean nothing here and are left alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

from operations import fingerprints
from operations.engine import processing, training, transform
from operations.engine.execution import Execution, Outcome, need, now
from operations.failures import Failure

Step = Callable[[str, Mapping[str, Any], Execution], Outcome]
PASSING = ("git_commit",)  # says nothing about what the model is


def model(name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """A model is only a name for an image and its data; transform looks it up."""
    container = arguments.get("PrimaryContainer") or need(arguments, "Containers")[0]
    called = arguments.get("ModelName") or run.job_name(name)
    run.storage.existing(need(container, "ModelDataUrl"))
    run.models[called] = container
    return Outcome({"ModelName": called, "PrimaryContainer": container})


def register(_name: str, arguments: Mapping[str, Any], run: Execution) -> Outcome:
    """A model package: a new version, unless a package with the same contents and approval is there."""
    about = arguments.get("CustomerMetadataProperties", {})
    contents = {key: _content(value, run) for key, value in about.items() if key not in PASSING}
    contents["status"] = arguments.get("ModelApprovalStatus", "")
    identity = fingerprints.of([need(arguments, "ModelPackageGroupName"), contents])
    known = run.registry.find(identity)
    if known is not None and all(_stored(value, run) for value in known["CustomerMetadataProperties"].values()):
        return Outcome(known, reused=True)
    return Outcome(run.registry.register(arguments, identity, now()))


def _stored(value: str, run: Execution) -> bool:
    """Whether a place that a package names is still there: it may have been registered before storage was cleared."""
    return not value.startswith("s3://") or run.storage.path(value).exists()


def _content(value: str, run: Execution) -> str:
    return run.cache.content(value) if value.startswith(("s3://", "file://")) else value


def fail(_name: str, arguments: Mapping[str, Any], _run: Execution) -> Outcome:
    """End the run with the definition's own message."""
    raise Failure(str(arguments.get("ErrorMessage") or "the pipeline ended here."))


BY_TYPE: Mapping[str, Step] = {
    "Processing": processing.step,
    "Training": training.step,
    "Model": model,
    "Transform": transform.step,
    "RegisterModel": register,
    "Fail": fail,
}
