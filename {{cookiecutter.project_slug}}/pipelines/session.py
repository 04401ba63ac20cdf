"""The SageMaker SDK without AWS: compiling needs no account, no credentials and no network."""

import logging
import os
import warnings
from typing import Any


def offline(region: str, bucket: str) -> Any:
    """A pipeline session that answers everything compiling asks for by itself.

    The SDK reads these variables while it is being imported, so this comes before any other import of it.
    """
    os.environ["AWS_DEFAULT_REGION"] = region
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["SAGEMAKER_VALIDATE_ROLE"] = "false"  # else ModelTrainer asks IAM
    os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "offline"  # noqa: S105 - never used
    os.environ.pop("AWS_PROFILE", None)
    logging.disable(logging.WARNING)  # it tells of every name that it leaves to the service
    warnings.filterwarnings("ignore", message="Running within a PipelineSession")
    import boto3  # noqa: PLC0415
    from sagemaker.core.telemetry import telemetry_logging  # noqa: PLC0415
    from sagemaker.core.workflow.pipeline_context import PipelineSession  # noqa: PLC0415

    class OfflineSession(PipelineSession):  # type: ignore[misc]  # the SDK has no types
        """`register()` and `train()` ask for a default bucket, which would be looked up and created."""

        def default_bucket(self) -> str:
            return bucket

    # The SDK reports its use from a thread. Opting out by its configuration makes every lookup of a default slower.
    telemetry_logging._send_telemetry_request = lambda *_, **__: None
    return OfflineSession(boto_session=boto3.Session(region_name=region), default_bucket=bucket)
