"""Where everything of one environment lies: names in AWS, from the function's environment variables."""

import os
import re
import tomllib
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
class Places:
    """Names and settings; `given_validation`: the use case brings validation files ([split] method = "given")."""

    namespace: str
    usecase: str
    environment: str
    bucket: str
    topic: str
    settings: Settings
    given_validation: bool = False

    @property
    def prefix(self) -> str:
        """Begins the names of what belongs to the environment; also the model package group's name."""
        return f"{self.namespace}-{self.usecase}-{self.environment}"

    @property
    def storage(self) -> str:
        return f"s3://{self.bucket}/{self.namespace}/{self.usecase}"

    @property
    def labelled(self) -> tuple[str, ...]:
        """The parts of a window that a retraining reads."""
        return ("train", "validation") if self.given_validation else ("train",)

    def parameter(self, name: str) -> str:
        return f"/{self.namespace}/{self.usecase}/{self.environment}/{name}"

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


def here() -> Places:
    """Of the function that is running: its variables, and the usecase.toml that lies beside its code."""
    tables = tomllib.loads((Path(__file__).resolve().parents[2] / "usecase.toml").read_text(encoding="utf-8-sig"))
    return Places(
        namespace=os.environ["NAMESPACE"],
        usecase=os.environ["USECASE"],
        environment=os.environ["ENVIRONMENT"],
        bucket=os.environ["BUCKET"],
        topic=os.environ["TOPIC_ARN"],
        settings=Settings.of(tables),
        given_validation=tables.get("split", {}).get("method") == "given",
    )


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
