"""What stands for SSM, ECR, SNS and CloudWatch: as much of each as the control plane's functions use.

Requests and answers have the shapes of the services' own API; tests/test_simulating.py holds them against botocore.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from operations.simulating.state import State, refused

Answer = dict[str, Any]


class Pages:
    """A paginator: everything is on one page."""

    def __init__(self, call: Callable[..., Answer]) -> None:
        self.call = call

    def paginate(self, **request: Any) -> Iterator[Answer]:
        yield self.call(**request)


class Ssm:
    """Parameters with all their versions, oldest first."""

    def __init__(self, state: State) -> None:
        self.state = state

    def get_parameter(self, **request: Any) -> Answer:
        """The newest version, or the one of `Name:version`."""
        name, _, version = request["Name"].partition(":")
        versions = self._versions("GetParameter", name)
        place = int(version or len(versions))
        if not 1 <= place <= len(versions):
            raise refused("GetParameter", "ParameterVersionNotFound", f"{name} has no version {version}")
        return {"Parameter": _parameter(name, versions[place - 1], place)}

    def put_parameter(self, **request: Any) -> Answer:
        name, known = request["Name"], self.state["parameters"]
        if name in known and not request.get("Overwrite"):
            raise refused("PutParameter", "ParameterAlreadyExists", f"{name} exists")
        known.setdefault(name, []).append(request["Value"])
        self.state.save()
        return {"Version": len(known[name]), "Tier": "Standard"}

    def get_parameter_history(self, **request: Any) -> Answer:
        name = request["Name"]
        versions = self._versions("GetParameterHistory", name)
        return {"Parameters": [_parameter(name, value, place) for place, value in enumerate(versions, 1)]}

    def get_paginator(self, name: str) -> Pages:
        return Pages(getattr(self, name))

    def _versions(self, call: str, name: str) -> list[str]:
        if name not in self.state["parameters"]:
            raise refused(call, "ParameterNotFound", name)
        found: list[str] = self.state["parameters"][name]
        return found


def _parameter(name: str, value: str, version: int) -> Answer:
    return {"Name": name, "Type": "String", "Value": value, "Version": version}


class Ecr:
    """Images that were pushed: their digests, a set for each repository."""

    def __init__(self, digests: dict[str, str]) -> None:
        self.digests = digests

    def describe_images(self, **request: Any) -> Answer:
        name, [wanted] = request["repositoryName"], request["imageIds"]
        if self.digests.get(name) != wanted.get("imageDigest"):
            raise refused("DescribeImages", "ImageNotFoundException", f"{name} has no image {wanted}")
        return {"imageDetails": [{"repositoryName": name, "imageDigest": wanted["imageDigest"]}]}


class Sns:
    """Messages, a line each in a file; as in AWS one can come twice."""

    def __init__(self, state: State, file: Path) -> None:
        self.state, self.file = state, file

    def publish(self, **request: Any) -> Answer:
        append(self.file, {"time": self.state["now"], **request})
        return {"MessageId": f"{len(request['Message'])}"}


class CloudWatch:
    """Metrics, a line for each call in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def put_metric_data(self, **request: Any) -> Answer:
        for entry in request["MetricData"]:
            line = {"time": entry["Timestamp"].isoformat(), "namespace": request["Namespace"]}
            append(self.file, {**line, "name": entry["MetricName"], "value": entry["Value"]})
        return {}


def append(file: Path, line: Answer) -> None:
    """One more line of JSON."""
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
