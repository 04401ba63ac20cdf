"""`operations models`: the models registered here, which one is released, and a way back to an earlier one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from operations.engine import registry, running
from operations.failures import Failure
from operations.repository import Repository


def manifest(repository: Repository, package: Mapping[str, Any]) -> Path:
    """The file that keeps what releasing this package means."""
    return repository.local / "releases" / f"{package['ModelPackageGroupName']}-{package['ModelPackageVersion']}.json"


def show(repository: Repository) -> int:
    """One line a version, newest first."""
    current = registry.undamaged(repository.release) or {}
    packages = running.registry(repository).packages()
    if not packages:
        print("no model is registered here yet; run `make train`.")
    for package in reversed(packages):
        mark = "released" if package["ModelPackageArn"] == current.get("model_package") else ""
        doubt = (registry.undamaged(manifest(repository, package)) or {}).get("untrusted")
        mark += f"  not to be trusted on new rows: {doubt}" if doubt else ""
        status, version = package.get("ModelApprovalStatus", ""), package["ModelPackageVersion"]
        print(f"{version:>4}  {package['CreationTime']}  {status:<22} {mark}".rstrip())
    return 0


def use(repository: Repository, version: int) -> int:
    """Release a registered version. Raises Failure where there is none."""
    for package in running.registry(repository).packages():
        if package["ModelPackageVersion"] == version:
            kept = registry.released(manifest(repository, package))
            if kept is None:
                raise Failure(f"what belongs to version {version} is no longer in local/releases; train again.")
            if gone := registry.gone(running.storage(repository), kept):
                raise Failure(f"version {version} can't be released: {gone}; train again.")
            registry.publish(repository.release, kept)
            print(f"version {version} is released.")
            return 0
    raise Failure(f"version {version} is not registered; `make models` lists what is.")
