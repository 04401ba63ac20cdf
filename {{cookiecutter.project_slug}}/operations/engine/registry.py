"""The model registry and the release on this machine: what was registered, and which one scoring uses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from operations.engine.storage import write_json
from operations.failures import Failure

APPROVED = "Approved"


class Registry:
    """Model packages in one file; versions count up within a group."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def packages(self) -> list[dict[str, Any]]:
        """Every registered package, oldest first."""
        try:
            found: list[dict[str, Any]] = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        return found

    def package(self, arn: str) -> dict[str, Any]:
        """One package. Raises Failure where there is none of that name."""
        for package in self.packages():
            if package["ModelPackageArn"] == arn:
                return package
        raise Failure(f"{arn} is not registered.")

    def find(self, identity: str) -> dict[str, Any] | None:
        """The newest package that was registered with the same contents."""
        return next((package for package in reversed(self.packages()) if package["Identity"] == identity), None)

    def register(self, arguments: Mapping[str, Any], identity: str, created: str) -> dict[str, Any]:
        """Add a package under the group's next version."""
        packages, group = self.packages(), arguments["ModelPackageGroupName"]
        version = 1 + sum(package["ModelPackageGroupName"] == group for package in packages)
        package = {
            "ModelPackageArn": f"arn:aws:sagemaker:local:000000000000:model-package/{group}/{version}",
            "ModelPackageVersion": version,
            "ModelPackageStatus": "Completed",
            "CreationTime": created,
            "Identity": identity,
            **arguments,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, [*packages, package])
        return package


def released(file: Path) -> dict[str, Any] | None:
    """The manifest of the release, or None before the first. Raises Failure for a damaged one."""
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise Failure(f"{file.name} is damaged; `make models` lists what can be released again.") from None
    return manifest


def manifest(package: Mapping[str, Any], metrics: Mapping[str, float], created: str) -> dict[str, Any]:
    """What is released: one model package with everything that belongs to it."""
    about = package["CustomerMetadataProperties"]
    ends = "_image"
    return {
        "version": package["ModelPackageVersion"],
        "created": created,
        "model_package": package["ModelPackageArn"],
        "images": {key.removesuffix(ends): value for key, value in about.items() if key.endswith(ends)},
        "artifacts": {name: about[name] for name in ("preprocessor", "model", "baseline", "explainer")},
        "metrics": dict(metrics),
        "data": about.get("training_data", ""),
        "contract": about.get("contract", ""),
        "git_commit": about.get("git_commit", ""),
    }


def publish(file: Path, value: Mapping[str, Any]) -> None:
    """Make it the release, in one rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, dict(value))
