"""One environment in the account of the credentials at hand: what is deployed, run and torn down."""

from dataclasses import dataclass
from typing import Any

from operations import clients, settings
from operations.bootstrap import account, wanted
from operations.bootstrap.account import Account
from operations.bootstrap.wanted import Wanted
from operations.failures import Failure
from operations.repository import Repository
from pipelines.environment import Environment


@dataclass(frozen=True)
class Target:
    """`where` is the environment's file, `needs` what `make bootstrap` makes for it."""

    repository: Repository
    where: Environment
    needs: Wanted
    account: Account

    @property
    def name(self) -> str:
        """The stack's name, and what begins every other one."""
        return self.where.prefix

    @property
    def storage(self) -> str:
        """Begins the keys of everything of the use case in the bucket."""
        return f"{self.where.namespace}/{self.where.slug}"

    @property
    def tags(self) -> dict[str, str]:
        return self.needs.tags(self.where.name)

    @property
    def owner(self) -> dict[str, str]:
        """The tags by which something is known to be this environment's."""
        return {**self.needs.owner, "environment": self.where.name}

    def client(self, service: str) -> Any:
        return clients.client(service, self.where.region)


def opened(repository: Repository, environment: str) -> Target:
    """Read the environment's file and sign in. Raises Failure where either is wrong, or they name two accounts."""
    needs = wanted.read(repository.root, environment)
    where = settings.read(repository, environment)[1]
    if not needs.account_is_set:
        raise Failure(f'write the number of your AWS account into {needs.file} first: account = "…".')
    return Target(repository, where, needs, account.sign_in(needs, account.connect))


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """As most of AWS's requests take them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_map(tags: list[dict[str, str]]) -> dict[str, str]:
    """The other way round."""
    return {tag["Key"]: tag["Value"] for tag in tags}
