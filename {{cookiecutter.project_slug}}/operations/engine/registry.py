"""The model registry and the release on this machine: what was registered, and which one scoring uses."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from operations.engine.storage import Storage, write_json
from operations.failures import Failure

APPROVED = "Approved"
ARTIFACTS = ("preprocessor", "model", "baseline", "explainer")
NEEDED = ("version", "created", "model_package", "images")


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
        except ValueError:
            raise Failure(f"{self.file} is damaged; remove it, and models are numbered from 1 again.") from None
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
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if not set(manifest["artifacts"]) >= set(ARTIFACTS) or not set(manifest) >= set(NEEDED):
            raise KeyError
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise Failure(
            f"{file.name} is damaged; `make models` lists what `make models USE=…` can release again, and "
            "`make train FRESH=yes` trains without a champion."
        ) from None
    return dict(manifest)


def undamaged(file: Path) -> dict[str, Any] | None:
    """As `released`, and None for a damaged one too: for whoever writes over it."""
    with suppress(Failure):
        return released(file)
    return None


def gone(storage: Storage, manifest: Mapping[str, Any], names: Iterable[str] = ARTIFACTS) -> str:
    """In words, which artifacts of a release are no longer stored here; "" where all are."""
    found = [name for name in names if not storage.path(manifest["artifacts"][name]).exists()]
    return f"its {' and '.join(found)} {'is' if len(found) == 1 else 'are'} gone from local/" if found else ""


def manifest(package: Mapping[str, Any], metrics: Mapping[str, float], created: str) -> dict[str, Any]:
    """What is released: one model package with everything that belongs to it."""
    about = package["CustomerMetadataProperties"]
    ends = "_image"
    return {
        "version": package["ModelPackageVersion"],
        "created": created,
        "model_package": package["ModelPackageArn"],
        "images": {key.removesuffix(ends): value for key, value in about.items() if key.endswith(ends)},
        "artifacts": {name: about[name] for name in ARTIFACTS},
        "metrics": dict(metrics),
        "data": about.get("training_data", ""),
        "contract": about.get("contract", ""),
        "git_commit": about.get("git_commit", ""),
    }


def publish(file: Path, value: Mapping[str, Any]) -> None:
    """Make it the release, in one rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, dict(value))
