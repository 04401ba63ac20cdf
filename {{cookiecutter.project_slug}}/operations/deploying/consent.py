"""Whether the user wants it, in so many words."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Consent:
    """`given` was said beforehand, with CONFIRM=yes."""

    given: bool

    def asked(self, question: str) -> bool:
        """True where it was said beforehand, or is typed now; nobody at a terminal is no yes."""
        return self.given or typed(f"{question} Type yes: ") == "yes"


def typed(prompt: str) -> str:
    """What a person types, "" where there is none."""
    if not sys.stdin.isatty():
        return ""
    try:
        return input(prompt).strip()
    except EOFError:
        return ""
