"""What was found in the account in place of what is wanted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Difference:
    """In words, how something differs from what is wanted; `mend` changes it, None where AWS allows no change."""

    what: str
    mend: Callable[[], object] | None = None


@dataclass(frozen=True)
class Finding:
    """`create` makes what is missing; `stranger` says why what is there is somebody else's. Neither: it is there."""

    create: Callable[[], object] | None = None
    stranger: str = ""
    differences: tuple[Difference, ...] = ()

    @property
    def mendable(self) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if difference.mend)

    def mend(self) -> None:
        """Change what can be changed. Raises CallFailed."""
        for difference in self.differences:
            if difference.mend:
                difference.mend()

    @property
    def told(self) -> str:
        """The differences, for a person."""
        return "; ".join(difference.what for difference in self.differences)


class Kind(Protocol):
    """Resources of one kind, by name."""

    @property
    def title(self) -> str: ...

    @property
    def names(self) -> Sequence[str]: ...

    def look(self, name: str) -> Finding:
        """What is there now. Raises CallFailed where AWS does not say."""
        ...


def stranger(tags: Mapping[str, str], owner: Mapping[str, str]) -> str:
    """Why something with these tags is not the owner's, "" where it is."""
    for key, value in owner.items():
        if tags.get(key) != value:
            has = f"has the tag {key}={tags[key]}" if key in tags else f"has no tag {key}"
            needed = ", ".join(f"{name}={text}" for name, text in owner.items())
            return f"it is there but {has}; if it is this use case's, give it the tags {needed}"
    return ""


def tag_differences(
    tags: Mapping[str, str], wanted: Mapping[str, str], mend: Callable[[], object]
) -> tuple[Difference, ...]:
    """One difference for all tags that are missing or wrong; other people's further tags are theirs."""
    wrong = [f"{key}={value}" for key, value in wanted.items() if tags.get(key) != value]
    return (Difference(f"tags: {', '.join(wrong)}", mend),) if wrong else ()
