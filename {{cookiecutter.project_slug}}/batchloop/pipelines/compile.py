"""The SageMaker SDK without AWS: compiling needs no account, no credentials and no network."""

import gc
import json
import logging
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
from pydantic import BaseModel

from batchloop import environment
from batchloop.container import usecase
from batchloop.container.job import InputError
from batchloop.pipelines import check


def offline(region: str, bucket: str) -> Any:
    """A session that answers all that compiling asks for; it comes before any other import of the SDK."""
    os.environ |= {"AWS_DEFAULT_REGION": region, "AWS_EC2_METADATA_DISABLED": "true"}
    os.environ["SAGEMAKER_VALIDATE_ROLE"] = "false"  # else ModelTrainer asks IAM
    os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "offline"  # noqa: S105 - never used
    os.environ.pop("AWS_PROFILE", None)
    logging.disable(logging.WARNING)  # it tells of every name that it leaves to the service
    warnings.filterwarnings("ignore", message="Running within a PipelineSession")
    from sagemaker.core.telemetry import telemetry_logging  # noqa: PLC0415
    from sagemaker.core.workflow.pipeline_context import PipelineSession  # noqa: PLC0415

    # The SDK reports its use from a thread. Opting out by its configuration makes every lookup of a default slower.
    telemetry_logging._send_telemetry_request = lambda *_, **__: None
    session = PipelineSession(boto_session=boto3.Session(region_name=region), default_bucket=bucket)
    session.default_bucket = lambda: bucket  # `register()` and `train()` ask for it; it would be looked up and created
    return session


class Nobody:
    """Stands for every client of AWS: the SDK makes dozens for one definition, and is to ask none of them."""

    _user_agent_creator = SimpleNamespace(to_string=str)  # the SDK puts a function of its own around it

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"compiling needs no account, and yet AWS was asked for {name}")


def compile_all(root: Path, name: str, output: Path) -> list[Path]:
    """Write training.json and inference.json. Raises InputError for wrong settings, and for what is wrong with them."""
    case = usecase.load(root / "usecase.toml")
    settings = environment.load(root / "environments", name, case)
    output.mkdir(parents=True, exist_ok=True)
    files = {pipeline: output / f"{pipeline}.json" for pipeline in ("training", "inference")}
    session, problems = offline(settings.region, settings.bucket), list[str]()
    for pipeline, file in files.items():
        build = import_module(f"pipelines.{pipeline}").pipeline  # takes seconds, and needs the session
        definition = json.loads(build(case, settings, session).definition())
        file.write_text(json.dumps(definition, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        problems += [f"{file}: {problem}" for problem in check.check(definition)]
    if problems:
        raise InputError("\n".join(problems))
    return list(files.values())


def main(root: str, name: str, output: str) -> int:
    """Compile and check; the exit code. In a process of its own, where no clients of AWS and no garbage cost time."""
    gc.disable()
    BaseModel.model_config["defer_build"] = True  # the SDK has two thousand of them, and a definition needs a few
    boto3.Session.client = boto3.Session.resource = lambda *_, **__: Nobody()
    try:
        compile_all(Path(root), name, Path(output))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
