"""The SageMaker SDK without AWS: compiling needs no account, no credentials and no network."""

import argparse
import json
import logging
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from batchloop import environment
from batchloop.container import usecase
from batchloop.container.job import InputError
from batchloop.pipelines import check


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


def compile_all(root: Path, name: str, output: Path) -> list[Path]:
    """Write training.json and inference.json. Raises InputError for wrong settings."""
    case = usecase.load(root / "usecase.toml")
    settings = environment.load(root / "environments", name, case)
    session = offline(settings.region, settings.bucket)
    output.mkdir(parents=True, exist_ok=True)
    files = {pipeline: output / f"{pipeline}.json" for pipeline in ("training", "inference")}
    for pipeline, file in files.items():
        build = import_module(f"pipelines.{pipeline}").pipeline  # takes seconds, and needs the session
        definition = json.loads(build(case, settings, session).definition())
        file.write_text(json.dumps(definition, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return list(files.values())


def main() -> int:
    """Compile and check; the exit code says whether both definitions were written and are right."""
    parser = argparse.ArgumentParser(prog="python -m batchloop.pipelines.compile")
    parser.add_argument("--env", default="dev")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        return check.main(compile_all(options.root, options.env, options.output))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
