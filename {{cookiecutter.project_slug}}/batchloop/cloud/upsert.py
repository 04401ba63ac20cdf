"""`make upsert`: the pipelines in SageMaker, written where they differ from the compiled definitions."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchloop.cloud import session
from batchloop.cloud.session import CallFailed, ask
from batchloop.pipelines import definitions
from batchloop.repository import Failure, Repository

COMMIT = "GitCommit"
CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"
MISSING = ("ResourceNotFound", "ValidationException")


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline in SageMaker is to be."""

    name: str
    definition: Mapping[str, Any]
    role: str
    tags: list[dict[str, str]]


def upsert(repository: Repository, environment: str) -> int:
    """Compile, check, and create or update what differs; the exit code. Raises Failure."""
    needs = session.read(repository.root, environment)
    session.sign_in(needs)
    client = session.client("sagemaker", needs.region)
    for pipeline in pipelines(repository, environment):
        print(f"{pipeline.name}: {write(client, pipeline)}", flush=True)
    return 0


def pipelines(repository: Repository, environment: str) -> list[Pipeline]:
    """Both, as they are to be: with the images that were pushed last. Raises Failure."""
    needs, commit = session.read(repository.root, environment), definitions.git_commit(repository)
    images = {f"{name.capitalize()}Image": place for name, place in _digests(repository, environment).items()}
    tags = [{"Key": key, "Value": value} for key, value in _tags(needs, commit).items()]

    role = definitions.read(repository, environment)[1].role  # as the definitions' own jobs have it
    return [
        Pipeline(
            repository.pipeline(environment, name),
            with_defaults(definitions.definition(repository, environment, name), {**images, COMMIT: commit}),
            role,
            tags,
        )
        for name in definitions.NAMES
    ]


def with_defaults(definition: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """The definition with other defaults, so that a run started by hand takes what was deployed."""
    declared = [
        parameter | ({"DefaultValue": values[parameter["Name"]]} if parameter["Name"] in values else {})
        for parameter in definition["Parameters"]
    ]
    return {**definition, "Parameters": declared}


def difference(client: Any, pipeline: Pipeline) -> str:
    """What writing it would do: created, updated or unchanged."""
    now = there(client, pipeline.name)
    return CREATED if now is None else UNCHANGED if _same(now, pipeline) else UPDATED


def write(client: Any, pipeline: Pipeline) -> str:
    """Create or update it where it differs; what was done."""
    now, text = there(client, pipeline.name), json.dumps(pipeline.definition)
    request = {"PipelineName": pipeline.name, "PipelineDefinition": text, "RoleArn": pipeline.role}
    if now is None:
        ask(client, "create_pipeline", **request, Tags=pipeline.tags, ClientRequestToken=uuid.uuid4().hex)
        return CREATED
    if _same(now, pipeline):
        return UNCHANGED
    # tags first: where the second call fails, the next run still finds a difference
    ask(client, "add_tags", ResourceArn=now["PipelineArn"], Tags=pipeline.tags)
    ask(client, "update_pipeline", **request)
    return UPDATED


def there(client: Any, name: str) -> Any:
    """What DescribePipeline answers, None where there is no such pipeline."""
    try:
        return ask(client, "describe_pipeline", PipelineName=name)
    except CallFailed as failed:
        if failed.code not in MISSING:
            raise
        return None


def _same(there: Mapping[str, Any], pipeline: Pipeline) -> bool:
    """The commit alone is no difference: it says where the pipeline was last changed."""
    unstamped = [
        with_defaults(definition, {COMMIT: ""})
        for definition in (json.loads(there["PipelineDefinition"]), pipeline.definition)
    ]
    return unstamped[0] == unstamped[1] and there["RoleArn"] == pipeline.role


def _digests(repository: Repository, environment: str) -> dict[str, str]:
    file = repository.local / f"images-{environment}.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise Failure(f"no images were pushed from here; run `make push ENV={environment}` first.") from None


def _tags(needs: session.Wanted, commit: str) -> dict[str, str]:
    return {**needs.tags(needs.environment), "git_commit": commit}
