"""What stands after a deployment, what it costs, and what comes next."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from operations import costing
from operations.bootstrap.calls import ask
from operations.bootstrap.parameters import NO_VALUE
from operations.deploying.stack import Found
from operations.deploying.target import Target
from operations.upserting import UNCHANGED


def lines(target: Target, stack: Found, changed: Mapping[str, str]) -> Iterator[str]:
    """`changed` says of stack and pipelines whether they were created, updated or left."""
    if set(changed.values()) == {UNCHANGED}:
        yield f"{target.where.name} is as this repository says; nothing was changed."
    yield from (f"{name}: {word}" for name, word in changed.items())
    for output in stack.get("Outputs", []):
        yield f"{output['OutputKey']}: {output['OutputValue']} ({output.get('Description', '')})"
    release = _release(target)
    yield f"release: {_told(release)}"
    yield f"schedule: {target.where.schedule or f'none, until {target.needs.file} has one'}"
    yield from ("", *costing.summary(target.repository, target.where.name))
    yield from ("", "next:", *(f"  {line}" for line in _next(target, release)))


def _release(target: Target) -> str:
    name = f"/{target.storage}/{target.where.name}/release"
    return str(ask(target.account.ssm, "get_parameter", "Parameter", Name=name)["Value"])


def _told(release: str) -> str:
    """The manifest in a few words; what it has to hold is for those to check who use it."""
    if release == NO_VALUE:
        return "none yet"
    try:
        manifest: dict[str, Any] = json.loads(release)
        return f"{manifest['version']} of {manifest['created'][:10]}, {manifest['model_package']}"
    except (ValueError, KeyError, TypeError):
        return "damaged; `make rollback` brings an earlier one back"


def _next(target: Target, release: str) -> Iterator[str]:
    where, window = target.where, target.repository.window()
    data = f"s3://{where.bucket}/{target.storage}/data/{window}"
    if where.notice_email:
        yield f"confirm the mail that {where.notice_email} got, once, or no notices come"
    if release == NO_VALUE:
        yield f"aws s3 cp --recursive data/{window}/train {data}/train"
        yield f"make run PIPELINE=training ENV={where.name} WINDOW={window}"
        if where.approval != "Approved":
            yield f"approve the model in the Model Registry, group {target.name}: that releases it"
    yield f"aws s3 cp --recursive data/{window}/production {data}/production"
    yield f"make run PIPELINE=inference ENV={where.name} WINDOW={window}"
