"""Jinja for the report pages: every text from the data is escaped here, every number written as people read it."""

import math
import unicodedata
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup


@cache
def environment() -> jinja2.Environment:
    """The templates beside this file; whatever they are given becomes text."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def render(part: str, **values: object) -> Markup:
    """A macro of parts.html."""
    macro = getattr(environment().get_template("parts.html").module, part)
    return Markup(macro(**values))  # noqa: S704 - Jinja has escaped what came from the data


def number(value: object) -> str:
    """A number as people read it, anything else as it is; no value is a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if isinstance(value, int) or (abs(value) < 1e15 and (value == round(value) or abs(value) >= 1000)):
        return f"{value:,.0f}"
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1000 else f"{value:.3g}"


def aligned(values: list[object]) -> list[str]:
    """Numbers of one column, with as many decimals each where that keeps them short and hides none of their digits."""
    texts = [number(value) for value in values]
    finite = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    if decimals > 4 or any("e" in text for text in texts) or any(abs(value) >= 1000 for value in finite):
        return texts
    return [
        f"{value:.{decimals}f}" if isinstance(value, int | float) and math.isfinite(value) else text
        for value, text in zip(values, texts, strict=True)
    ]


def share(value: float) -> str:
    """A share of 1 in percent."""
    return f"{100 * value:.3g} %"


def room(text: str) -> int:
    """How many letters' room a text takes; wide characters (CJK) take that of two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def short(text: str, limit: int = 38) -> str:
    """What fits on a line of a chart."""
    if room(text) <= limit:
        return text
    fitting = next(length for length in range(limit, 0, -1) if room(text[:length]) < limit)
    return f"{text[:fitting]}…"
