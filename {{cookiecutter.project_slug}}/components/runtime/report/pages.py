"""The page around the sections: what to know and to do comes first, what the words mean comes last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from runtime.report import glossary
from runtime.report.rendering import environment

Tone = Literal["good", "bad", "unknown"]
NOTHING = Markup("")


@dataclass(frozen=True)
class Verdict:
    """What the page says first: a word, its colour, why, and what to do now."""

    word: str
    tone: Tone
    reason: str
    next_step: str


@dataclass(frozen=True)
class Section:
    """A part of the page; `body` is a table or a chart, or several of them from `join`."""

    title: str
    text: str = ""
    body: Markup = NOTHING


def page(title: str, verdict: Verdict, sections: Sequence[Section]) -> str:
    """The whole page as text."""
    terms = glossary.used(str(section.body) for section in sections)
    template = environment().get_template("page.html")
    return template.render(title=title, verdict=verdict, sections=sections, terms=terms)


def join(*parts: Markup) -> Markup:
    """Parts of a section, one after the other; charts stand side by side where there is room."""
    return NOTHING.join(parts)
