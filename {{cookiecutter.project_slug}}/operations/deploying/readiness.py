"""Whether `make bootstrap` was done: what it makes is there before anything else is deployed."""

from operations.bootstrap.findings import Finding
from operations.bootstrap.parameters import Parameters
from operations.bootstrap.repositories import Repositories
from operations.deploying.target import Target
from operations.failures import Failure


def check(target: Target) -> None:
    """Raises Failure with the command that makes what is missing."""
    kinds = (Repositories(target.account.ecr, target.needs), Parameters(target.account.ssm, target.needs))
    found = {name: kind.look(name) for kind in kinds for name in kind.names}
    for name, finding in found.items():
        if finding.stranger:
            raise Failure(f"{name}: {finding.stranger}.")
    if missing := [name for name, finding in found.items() if _missing(finding)]:
        names = "\n  ".join(missing)
        raise Failure(
            f"{len(missing)} of {len(found)} image repositories and parameters are not there yet:\n  {names}\n"
            f"`{target.needs.command}` makes them; then `make push ENV={target.where.name}`."
        )


def _missing(finding: Finding) -> bool:
    return finding.create is not None
