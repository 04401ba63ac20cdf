"""usecase.toml and environments/*.toml with all their checks; what is wrong in them is a Failure."""

from operations.failures import Failure
from operations.repository import Repository
from pipelines import environment as environments
from pipelines.environment import Environment
from runtime import usecase
from runtime.failures import InputError
from runtime.usecase import UseCase


def read(repository: Repository, environment: str) -> tuple[UseCase, Environment]:
    """The use case and one environment of it. Raises Failure with the file, the key and what would be right."""
    try:
        case = usecase.load(repository.root / "usecase.toml")
        return case, environments.load(repository.root / "environments", environment, case)
    except InputError as error:
        raise Failure(str(error)) from None
