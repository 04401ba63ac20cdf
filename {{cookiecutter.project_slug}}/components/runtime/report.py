"""Self-contained HTML pages for people: verdict first, then sections of tables and inline charts.

Nothing is loaded from the network, nothing runs, and every text from the data is escaped by Jinja.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import jinja2
from markupsafe import Markup

Tone = Literal["good", "bad", "unknown"]
NOTHING = Markup("")
WIDTH, LABEL, ROW = 640, 190, 26  # of a chart, in the SVG's units


@dataclass(frozen=True)
class Verdict:
    """What the page says first: a word, its colour, why, and what to do now."""

    word: str
    tone: Tone
    reason: str
    next_step: str


@dataclass(frozen=True)
class Section:
    """A part of the page; `body` is what `table`, `bars`, `compare` or `join` made."""

    title: str
    text: str = ""
    body: Markup = NOTHING


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    return environment


def _render(part: str, **values: object) -> Markup:
    macro = getattr(_environment().get_template("parts.html").module, part)
    return Markup(macro(**values))  # noqa: S704 - Jinja has escaped what came from the data


def page(title: str, verdict: Verdict, sections: Sequence[Section]) -> str:
    """The whole page as text."""
    return _environment().get_template("report.html").render(title=title, verdict=verdict, sections=sections)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """A table; numbers are rounded to four significant digits and right-aligned."""
    numeric = [all(isinstance(row[place], int | float | None) for row in rows) for place in range(len(headers))]
    return _render("table", headers=headers, rows=rows, numeric=numeric)


def bars(items: Sequence[tuple[str, float]], unit: str, title: str) -> Markup:
    """Horizontal bars from a common zero; negative values go to the left."""
    low, high = min([0.0, *(value for _, value in items)]), max([0.0, *(value for _, value in items)])
    scale = (WIDTH - LABEL - 70) / ((high - low) or 1.0)
    zero = LABEL - low * scale
    drawn = [
        {
            "label": _short(label),
            "value": value,
            "y": 8 + place * ROW,
            "x": zero + min(value, 0) * scale,
            "width": max(abs(value) * scale, 1),
            "text": zero + max(value, 0) * scale + 6,
        }
        for place, (label, value) in enumerate(items)
    ]
    return _render("bars", items=drawn, unit=unit, title=title, zero=zero, height=16 + ROW * len(items), width=WIDTH)


def compare(labels: Sequence[str], baseline: Sequence[float], current: Sequence[float], title: str) -> Markup:
    """Paired columns, a share of the rows each: what was learned beside what is now."""
    highest = max([*baseline, *current, 1e-12])
    step, height = (WIDTH - 20) / max(len(labels), 1), 150
    pairs = [
        {
            "label": label,
            "x": 10 + place * step,
            "width": step * 0.4,
            "before": before,
            "after": after,
            "before_height": before / highest * height,
            "after_height": after / highest * height,
        }
        for place, (label, before, after) in enumerate(zip(labels, baseline, current, strict=True))
    ]
    return _render("compare", pairs=pairs, title=title, height=height, width=WIDTH, every=max(1, -(-len(labels) // 5)))


def join(*parts: Markup) -> Markup:
    """Parts of a section, one below the other."""
    return NOTHING.join(parts)


def number(value: object) -> str:
    """A number as people read it, anything else as it is; no value is a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value == round(value) and abs(value) < 1e15):
        return f"{value:,.0f}"
    return f"{value:,.4g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.3g}"


def _short(text: str) -> str:
    return text if len(text) <= 26 else f"{text[:25]}…"
