"""One execution of a pipeline, with the parameters that schedule and retraining give it, and those the user sets."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from functions import executions, learning, measuring, release, start_inference, storage
from functions.clients import Aws
from functions.memory import Settings
from functions.places import Places
from functions.release import NotReleased
from operations import compiling, parameters, upserting
from operations.bootstrap.calls import answered
from operations.deploying.target import Target
from operations.failures import Failure

PARTS = {"inference": "production", "training": "train"}
UNUSED = ("cloudwatch", "sns")  # telling people is for the functions


@dataclass(frozen=True)
class Asked:
    """`window` is "" for the newest one with data; `chosen` are Name=value pairs of pipeline parameters.

    A `fresh` training has no champion.
    """

    pipeline: str
    window: str = ""
    chosen: tuple[str, ...] = ()
    fresh: bool = False


def start(target: Target, client: Any, asked: Asked) -> str:
    """The execution's ARN. Raises Failure where the pipeline, its data or a release is missing."""
    if asked.pipeline not in compiling.NAMES:
        raise Failure(f"PIPELINE={asked.pipeline} is none of {', '.join(compiling.NAMES)}.")
    places, aws = where(target), reach(target, client)
    name = places.pipeline(asked.pipeline)
    declared = _declared(target, client, name)
    try:
        with answered(f"starting {name}", target.where.region):
            window = _window(target, aws, places, asked)
            values, said = _values(aws, places, asked, window)
            every = parameters.values(declared, values, asked.chosen)
            chosen = parameters.chosen(asked.chosen, every)
            compiling.check_chosen(target.repository, target.where.name, declared, chosen)
            values |= {
                name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in chosen.items()
            }
            print(f"{name}: {said}", flush=True)
            # a token of its own: whoever asks again wants it again, unlike an event that comes twice
            return executions.start(aws, name, values, (uuid.uuid4().hex,), said)
    except NotReleased as why:
        raise Failure(f"the release can't be read: {why}") from None


def where(target: Target) -> Places:
    """As the functions have it, without the topic."""
    tables = target.repository.tables()
    given = tables.get("split", {}).get("method") == "given"
    settings = Settings.of(tables)
    environment = target.where
    names = (environment.namespace, environment.slug, environment.name, environment.bucket)
    return Places(*names, topic="", settings=settings, given_validation=given)


def reach(target: Target, sagemaker: Any) -> Aws:
    """The functions' clients, with the credentials at hand."""
    known = dict.fromkeys(UNUSED) | {"sagemaker": sagemaker, "ssm": target.account.ssm, "ecr": target.account.ecr}
    return Aws(**{its.name: known[its.name] if its.name in known else target.client(its.name) for its in fields(Aws)})


def _declared(target: Target, client: Any, name: str) -> Mapping[str, Any]:
    """The definition in SageMaker: it, and not the one in this folder, is what runs."""
    there = upserting.there(client, name)
    if there is None:
        raise Failure(f"there is no pipeline {name}; `make deploy ENV={target.where.name}` makes it.")
    return dict(json.loads(there["PipelineDefinition"]))


def _window(target: Target, aws: Aws, places: Places, asked: Asked) -> str:
    """The one that is asked for, or the newest with data. Raises Failure where there are no rows."""
    part = PARTS[asked.pipeline]
    window = asked.window or storage.newest_window(aws, places, part)
    parts = places.labelled if part == "train" else (part,)
    for needed in parts:
        uri = places.data(window or "<window>", needed)
        if not window or places.window(uri, needed) != window or not storage.exists(aws, uri):
            local = f"data/{target.repository.window()}/{needed}"
            raise Failure(f"there are no rows at {uri}/; for example: aws s3 cp --recursive {local} {uri}")
    return window


def _values(aws: Aws, places: Places, asked: Asked, window: str) -> tuple[dict[str, str], str]:
    """What the functions would give it, and the run in a sentence. Raises Failure where nothing is released."""
    if asked.pipeline == "training":
        planned = learning.plan(aws, places, window, asked.fresh)
        besides = f" and {planned.besides}" if planned.besides else ""
        return planned.values, f"learns from window {window}{besides}. {planned.champion}."
    _, released = release.current(aws, places)
    if released is None:
        raise Failure(
            f"nothing is released yet: `make run PIPELINE=training ENV={places.environment}`, and approve its model."
        )
    values = start_inference.scoring(places, released, places.data(window, "production"))
    said = f"Window {window} is scored with release {released['version']}."
    return values | measuring.given(aws, places, window), said
