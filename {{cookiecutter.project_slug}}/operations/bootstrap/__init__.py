"""`operations bootstrap plan|create`: the image repositories and parameters this use case needs in AWS.

Naming them takes the standard library only, because the template's hook runs this before any environment is installed;
boto3 is imported where the account is looked at.
"""

from pathlib import Path

from operations.bootstrap.account import Account, Connect, NotSignedIn, connect, sign_in
from operations.bootstrap.wanted import Wanted, read
from operations.failures import Failure


def run(root: Path, choice: str, environment: str, connecting: Connect = connect) -> int:
    """Print what there should be and what is there; `create` makes the difference. Raises Failure with what to do."""
    wanted = read(root, environment)
    try:
        account = sign_in(wanted, connecting)
    except Failure as failure:
        if choice == "create":
            reason = f"nothing was created, and what exists is not known: {failure}."
            raise Failure(f"{reason}\nTo finish: {wanted.command}") from None
        _names(wanted)
        _cost(root, environment)
        print(f"nothing was created: this is the plan. It could not look at the account: {failure}.", flush=True)
        return 0 if isinstance(failure, NotSignedIn) else 1
    code = _act(wanted, account, choice)
    if choice == "plan":
        _cost(root, environment)
    return code


def _cost(root: Path, environment: str) -> None:
    """What the whole environment would cost once it is deployed; what is planned here costs next to nothing."""
    from operations import costing  # noqa: PLC0415 - reads files that bootstrap can do without
    from operations.repository import Repository  # noqa: PLC0415

    print(*costing.summary(Repository(root), environment), sep="\n", flush=True)


def _names(wanted: Wanted) -> None:
    """The plan of somebody who can't see the account."""
    print(wanted.title())
    for title, names in (("ECR repositories", wanted.repositories), ("SSM parameters", wanted.parameters)):
        print(f"  {len(names)} {title}", *names, sep="\n    ")


def _act(wanted: Wanted, account: Account, choice: str) -> int:
    from operations.bootstrap import creating, planning  # noqa: PLC0415 - they need botocore
    from operations.bootstrap.parameters import Parameters  # noqa: PLC0415
    from operations.bootstrap.repositories import Repositories  # noqa: PLC0415

    kinds = (Repositories(account.ecr, wanted), Parameters(account.ssm, wanted))
    print(wanted.title(account.number), flush=True)
    return planning.plan(wanted, kinds) if choice == "plan" else creating.create(wanted, kinds, account.number)
