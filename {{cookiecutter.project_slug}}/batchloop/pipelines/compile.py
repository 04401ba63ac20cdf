"""The SageMaker SDK without AWS: compiling needs no account, no credentials and no network."""

import argparse
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
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


class Nobody:
    """Stands for every client of AWS: the SDK makes dozens for one definition, and is to ask none of them."""

    _user_agent_creator = SimpleNamespace(to_string=str)  # the SDK puts a function of its own around it

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"compiling needs no account, and yet AWS was asked for {name}")


@contextmanager
def _light() -> Iterator[None]:
    """Without clients, of which each reads a service's model, and without a search for garbage: there is none."""
    import boto3  # noqa: PLC0415

    session = boto3.Session
    before = session.client, session.resource
    session.client = session.resource = lambda *_, **__: Nobody()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        session.client, session.resource = before


def compile_all(root: Path, name: str, output: Path) -> list[Path]:
    """Write training.json and inference.json. Raises InputError for wrong settings."""
    case = usecase.load(root / "usecase.toml")
    settings = environment.load(root / "environments", name, case)
    output.mkdir(parents=True, exist_ok=True)
    files = {pipeline: output / f"{pipeline}.json" for pipeline in ("training", "inference")}
    with _light():
        session = offline(settings.region, settings.bucket)
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
