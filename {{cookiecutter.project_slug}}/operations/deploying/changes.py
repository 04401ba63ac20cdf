"""What a change set would do, as a table for the person who has to say yes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ACTIONS = {"Add": "add", "Modify": "change", "Remove": "remove", "Import": "take over", "Dynamic": "perhaps change"}
REPLACED = {"True": "yes", "Conditional": "perhaps", "False": "no"}
KEPT = ("Retain", "ReplaceAndRetain")


@dataclass(frozen=True)
class Change:
    """Of one resource; `policy` is what CloudFormation would do with the one that is there now."""

    action: str
    name: str
    kind: str
    replacement: str
    policy: str

    @property
    def loss(self) -> str:
        """In words, what becomes of the resource that is there now; "" where it stays."""
        kept = self.policy in KEPT
        if self.action == "Remove":
            return "leaves the stack, and is kept" if kept else "is deleted"
        if self.replacement in ("True", "Conditional"):
            perhaps = "perhaps " if self.replacement == "Conditional" else ""
            return f"is {perhaps}replaced: a new one is made, and {'this one is kept' if kept else 'this one deleted'}"
        return ""


def read(described: Sequence[Mapping[str, Any]]) -> list[Change]:
    """The `Changes` of DescribeChangeSet's answers."""
    return [
        Change(
            action=found["Action"],
            name=found["LogicalResourceId"],
            kind=found["ResourceType"],
            replacement=found.get("Replacement", "") if found["Action"] in ("Modify", "Dynamic") else "",
            policy=found.get("PolicyAction", ""),
        )
        for entry in described
        if (found := entry.get("ResourceChange"))
    ]


def table(changes: Sequence[Change]) -> Iterator[str]:
    """Action, logical id, type, replacement; then whatever would be lost."""
    rows = [("action", "resource", "type", "replaced")]
    rows += [
        (ACTIONS.get(its.action, its.action), its.name, its.kind, REPLACED.get(its.replacement, "")) for its in changes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for its in changes:
        if its.loss:
            yield f"  ATTENTION: {its.name} ({its.kind}) {its.loss}"
