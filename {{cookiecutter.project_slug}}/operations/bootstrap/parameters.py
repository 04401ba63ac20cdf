"""The SSM parameters: created with the text `none`, and never written again from here."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from operations.bootstrap.calls import CallFailed, ask
from operations.bootstrap.findings import Difference, Finding, stranger, tag_differences
from operations.bootstrap.wanted import Wanted

NO_VALUE = "none"
TYPE = "String"


@dataclass(frozen=True)
class Parameters:
    """Looking needs ssm:GetParameter and ListTagsForResource; the rest PutParameter and AddTagsToResource."""

    client: Any
    wanted: Wanted
    title: str = "SSM parameters"

    @property
    def names(self) -> tuple[str, ...]:
        return self.wanted.parameters

    def look(self, name: str) -> Finding:
        """What is there under this name. Raises CallFailed."""
        try:
            found = ask(self.client, "get_parameter", "Parameter", Name=name)
        except CallFailed as failed:
            if failed.code != "ParameterNotFound":
                raise
            return Finding(create=partial(self._create, name))
        resource = {"ResourceType": "Parameter", "ResourceId": name}
        listed = ask(self.client, "list_tags_for_resource", **resource).get("TagList", [])
        tags = {tag["Key"]: tag["Value"] for tag in listed}
        if other := stranger(tags, self.wanted.owner):
            return Finding(stranger=other)
        mend = partial(ask, self.client, "add_tags_to_resource", **resource, Tags=self._tags)
        tagging = tag_differences(tags, self.wanted.tags(self.wanted.environment), mend)
        return Finding(differences=(*_typed(found["Type"]), *tagging))

    def _create(self, name: str) -> None:
        """Without Overwrite: a value that came in between stays ("PutParameter" in the API reference)."""
        ask(
            self.client,
            "put_parameter",
            Name=name,
            Value=NO_VALUE,
            Type=TYPE,
            Tier="Standard",
            Overwrite=False,
            Tags=self._tags,
        )

    @property
    def _tags(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.wanted.tags(self.wanted.environment).items()]


def _typed(found: str) -> Iterator[Difference]:
    if found != TYPE:
        yield Difference(f"of type {found}, not {TYPE}, which AWS never changes")
