"""What one environment needs in AWS, from usecase.toml and environments/<name>.toml: names, tags, keys."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operations.failures import Failure
from operations.repository import COMPONENTS, Repository
from runtime import settings
from runtime.failures import InputError

NO_ACCOUNT = "000000000000"
SHARED = "shared"  # image repositories belong to every environment of the account


@dataclass(frozen=True)
class Wanted:
    """`account` and `kms_key` may be unset: twelve zeros and ""."""

    namespace: str
    usecase: str
    environment: str
    account: str
    region: str
    kms_key: str

    @property
    def repositories(self) -> tuple[str, ...]:
        """The names of the image repositories, which all environments share."""
        return tuple(f"{self.namespace}/{self.usecase}/{component}" for component in COMPONENTS)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of this environment's parameters."""
        prefix = f"/{self.namespace}/{self.usecase}/{self.environment}"
        pairs = [f"components/{component}/{kind}" for component in COMPONENTS for kind in ("image", "artifact")]
        return tuple(f"{prefix}/{name}" for name in (*pairs, "release", "retraining"))

    @property
    def owner(self) -> dict[str, str]:
        """The tags by which something is known to be this use case's."""
        return {"namespace": self.namespace, "usecase": self.usecase}

    def tags(self, environment: str) -> dict[str, str]:
        """Every tag of something that belongs to one environment, or to all of them."""
        return {**self.owner, "environment": environment, "managed-by": "cookiecutter-template"}

    @property
    def account_is_set(self) -> bool:
        return self.account != NO_ACCOUNT

    @property
    def file(self) -> str:
        """The file that says where, as a person would type it."""
        return f"environments/{self.environment}.toml"

    @property
    def command(self) -> str:
        """What creates all that is missing."""
        return f"make bootstrap CREATE=yes ENV={self.environment}"

    def title(self, account: str = "") -> str:
        """The line above the list of what is needed; the account is the file's unless one is given."""
        number = account or (self.account if self.account_is_set else "not set")
        return f"{self.usecase} needs in AWS ({self.environment}, account {number}, region {self.region or 'not set'}):"


def read(root: Path, environment: str) -> Wanted:
    """What the files ask for. Raises Failure where one is missing or no TOML."""
    namespace, name = Repository(root).names()
    values = _environment(root / "environments" / f"{environment}.toml")
    return Wanted(
        namespace=namespace,
        usecase=name,
        environment=environment,
        account=str(values.get("account", NO_ACCOUNT)),
        region=str(values.get("region", "")),
        kms_key=str(values.get("kms_key", "")),
    )


def _environment(file: Path) -> dict[str, Any]:
    try:
        return settings.read(file, f"environments/{file.name}")[0]
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.toml"))) or "none"
        raise Failure(f"there is no environment {file.stem!r}; there are: {known}.") from None
    except InputError as error:
        raise Failure(str(error)) from None
