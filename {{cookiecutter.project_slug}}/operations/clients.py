"""boto3 clients beyond those that signing in needs."""

from typing import Any

from operations.bootstrap.account import CONNECT_SECONDS, READ_SECONDS


def client(service: str, region: str) -> Any:
    """A client with the credentials that boto3 finds."""
    import boto3  # noqa: PLC0415 - takes a while, and most commands do without
    from botocore.config import Config  # noqa: PLC0415

    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"mode": "standard"})
    return boto3.client(service, region_name=region, config=config)
