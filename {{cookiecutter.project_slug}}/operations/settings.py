"""usecase.toml and environments/*.toml with all their checks; what is wrong in them is a Failure."""

from functions.memory import Settings as Loop
from operations.failures import Failure
from operations.repository import Repository
from pipelines import environment as environments
from pipelines.environment import Environment
from runtime import settings, usecase
from runtime.failures import InputError
from runtime.usecase import UseCase


def read(repository: Repository, environment: str) -> tuple[UseCase, Environment]:
    """The use case and one environment of it. Raises Failure with the file, the line, the key and what is right."""
    try:
        case = usecase.load(repository.root / "usecase.toml")
        retraining(repository)
        return case, environments.load(repository.root / "environments", environment, case)
    except InputError as error:
        raise Failure(str(error)) from None


def retraining(repository: Repository) -> Loop:
    """[retraining], whose rules are the control plane's. Raises InputError."""
    tables, text = settings.read(repository.root / "usecase.toml", "usecase.toml")
    with settings.explained("usecase.toml", text):
        try:
            settings.table(Loop, ("retraining",), tables.get("retraining", {}), minimum_rows=1)
            return Loop.of(tables)
        except ValueError as error:
            raise settings.refused(str(error).removeprefix("usecase.toml ")) from None
