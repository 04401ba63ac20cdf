"""usecase.toml and environments/*.toml with all their checks; what is wrong in them is a Failure."""

from collections.abc import Mapping
from typing import Any

from operations.failures import Failure
from operations.repository import Repository
from pipelines import environment as environments
from pipelines.environment import Environment
from runtime import settings, usecase
from runtime.failures import InputError
from runtime.usecase import UseCase

# pipeline parameters, and the settings that they stand in for; a job's instances besides
PLACES: dict[str, tuple[str, ...]] = {
    "QualityLimit": ("gate", "minimum"),
    "MinimumLead": ("gate", "minimum_lead"),
    "Trials": ("tuning", "trials"),
}
PLACES |= {
    f"{job.capitalize()}Instance{key.capitalize()}": ("instances", job, key)
    for job in environments.JOBS
    for key in ("type", "count")
}


def read(repository: Repository, environment: str) -> tuple[UseCase, Environment]:
    """The use case and one environment of it. Raises Failure with the file, the line, the key and what is right."""
    case = read_case(repository)
    try:
        return case, environments.load(repository.root / "environments", environment, case)
    except InputError as error:
        raise Failure(str(error)) from None


def read_case(repository: Repository) -> UseCase:
    """The use case alone. Raises Failure."""
    try:
        return usecase.load(repository.root / "usecase.toml")
    except InputError as error:
        raise Failure(str(error)) from None


def check_chosen(repository: Repository, environment: str, chosen: Mapping[str, Any]) -> None:
    """Check pipeline parameters as the settings that they stand in for. Raises Failure."""
    tables = repository.tables()
    where = settings.read(repository.root / "environments" / f"{environment}.toml", environment)[0]
    for name in set(chosen) & set(PLACES):
        *path, key = PLACES[name]
        inner: Any = where if path[0] in where else tables
        for part in path:
            inner = inner.setdefault(part, {})
        inner[key] = chosen[name]
    try:
        environments.parse(where, environment, usecase.parse(tables))
    except InputError as error:
        said = " ".join(f"{name}={value}" for name, value in chosen.items())
        raise Failure(f"SET={said}: {str(error).removeprefix('usecase.toml: ')}") from None
