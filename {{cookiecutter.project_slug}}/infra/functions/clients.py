"""The AWS clients of the functions, made in one place, so that a simulation can put its own in their stead."""

from dataclasses import dataclass, fields
from typing import Any


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
