"""Where everything of one environment lies: names in AWS, from the function's environment variables."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from batchloop.control.memory import Settings

COMPONENTS = {
    "processing": "preprocessor",
    "algorithm": "model",
    "monitoring": "baseline",
    "explainability": "explainer",
}
WINDOW = r"[A-Za-z0-9][A-Za-z0-9._-]*"


@dataclass(frozen=True)
class Names:
    """What everything of one environment is called in AWS."""

    namespace: str
    usecase: str
    environment: str
    bucket: str

    @property
    def prefix(self) -> str:
        """Begins the names of what belongs to the environment; the stack and the model package group have no more."""
        return f"{self.namespace}-{self.usecase}-{self.environment}"

    @property
    def folder(self) -> str:
        """Begins the names of image repositories and the keys of objects."""
        return f"{self.namespace}/{self.usecase}"

    @property
    def storage(self) -> str:
        """The S3 prefix under which everything of the use case lies."""
        return f"s3://{self.bucket}/{self.folder}"

    @property
    def tags(self) -> dict[str, str]:
        """The tags of everything that belongs to the environment."""
        return {"namespace": self.namespace, "usecase": self.usecase, "environment": self.environment}

    @property
    def repositories(self) -> list[str]:
        """The image repositories, which all environments of an account share."""
        return [f"{self.folder}/{component}" for component in COMPONENTS]

    @property
    def parameters(self) -> list[str]:
        pairs = [f"components/{component}/{kind}" for component in COMPONENTS for kind in ("image", "artifact")]
        return [self.parameter(name) for name in (*pairs, "release", "retraining")]

    def parameter(self, name: str) -> str:
        return f"/{self.folder}/{self.environment}/{name}"

    def pipeline(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def runs(self, pipeline: str) -> str:
        """Below it a pipeline's executions write: <execution id>/<step>/<output>."""
        return f"{self.storage}/{self.environment}/{pipeline}"

    def data(self, window: str, part: str) -> str:
        return f"{self.storage}/data/{window}/{part}"

    def window(self, uri: str, *parts: str) -> str:
        """The window whose part lies at or above a URI, "" where it is none of this use case."""
        pattern = rf"{re.escape(self.storage)}/data/({WINDOW})/({'|'.join(parts)})(/.*)?"
        found = re.fullmatch(pattern, uri)
        return found[1] if found else ""


@dataclass(frozen=True)
class Places(Names):
    """Names and settings; `given_validation`: the use case brings validation files ([split] method = "given")."""

    topic: str
    settings: Settings
    given_validation: bool = False

    @classmethod
    def of(cls, names: Names, tables: Mapping[str, Any], topic: str = "") -> "Places":
        """With the settings in the tables of usecase.toml."""
        given = tables.get("split", {}).get("method") == "given"
        own = (names.namespace, names.usecase, names.environment, names.bucket)
        return cls(*own, topic, Settings.of(tables), given)

    @property
    def labelled(self) -> tuple[str, ...]:
        """The parts of a window that a retraining reads."""
        return ("train", "validation") if self.given_validation else ("train",)


def here() -> Places:
    """Of the function that is running: its variables, and the usecase.toml that lies beside its code."""
    tables = tomllib.loads((Path(__file__).resolve().parents[2] / "usecase.toml").read_text(encoding="utf-8-sig"))
    names = Names(*(os.environ[name] for name in ("NAMESPACE", "USECASE", "ENVIRONMENT", "BUCKET")))
    return Places.of(names, tables, os.environ["TOPIC_ARN"])


@dataclass(frozen=True)
class Aws:
    """boto3 clients, or what answers as they do."""

    cloudwatch: Any
    ecr: Any
    s3: Any
    sagemaker: Any
    sns: Any
    ssm: Any


def connect() -> Aws:
    """Clients with the function's own role and region; each connects at its first call."""
    import boto3  # noqa: PLC0415 - nothing happens at import

    session = boto3.Session()
    return Aws(**{field.name: session.client(field.name) for field in fields(Aws)})
