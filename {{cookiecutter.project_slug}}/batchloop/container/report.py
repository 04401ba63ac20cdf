"""Jinja for the report pages: every text from the data is escaped here, every number written as people read it."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

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


TERMS = {
    "PSI": "Population stability index, 0 upwards: how much the shares of the values have moved. Chance alone gives "
    "more than 0, the more so the fewer rows; 0.1 is often called a small change, 0.25 a large one.",
    "KS": "Kolmogorov–Smirnov distance, 0 to 1: the largest gap between the two cumulative distributions; "
    "numbers and dates only.",
    "JS": "Jensen–Shannon distance, 0 (the same distribution) to 1 (nothing in common).",
    "Wasserstein": "How far the values have moved on average, in standard deviations of the training data; "
    "numbers and dates only.",
    "p corrected": "How likely chance alone makes a change this large, corrected for testing many columns at once "
    "(Holm).",
    "missing %": "Share of the rows without a value, in percent.",
    "invalid %": "Share of the rows whose value cannot be read as the column's type, in percent.",
    "distinct": "How many values have a bin of their own; the rarer ones share one.",
    "reasons %": "The column's share of all attributions in training: how much the model uses it, in percent.",
    "importance": "Mean absolute attribution: how far a feature moves the raw score of a row, on average.",
    "direction": "Correlation of a number with its own attribution, -1 to 1: near 1, larger values push the score up; "
    "near -1, down.",
    "raw score": "What the model adds up before it becomes a probability or a class.",
    "attribution": "What one feature adds to the raw score of one row; all of them and the base value make the score.",
}


def anchor(term: str) -> str:
    """The place of a term on the page."""
    return f"term-{list(TERMS).index(term) + 1}"


def linked(header: str) -> tuple[str, str] | None:
    """Anchor and explanation of a table's header, if it has any; a unit after a comma is no part of the term."""
    term = header if header in TERMS else header.partition(",")[0]
    return (anchor(term), TERMS[term]) if term in TERMS else None


def used(bodies: Iterable[str]) -> list[tuple[str, str, str]]:
    """Anchor, term and explanation of what the tables link to."""
    text = "".join(bodies)
    return [(anchor(term), term, TERMS[term]) for term in TERMS if f'href="#{anchor(term)}"' in text]


LONG = 28  # characters from which on a cell's text may wrap
TALL = 20  # rows from which on a table has a height of its own, so that its header can stay in sight


@dataclass(frozen=True)
class Column:
    """A header, what it means, how its cells are set, and their text (a list of lines each)."""

    header: str
    term: tuple[str, str] | None
    kind: str  # number, text or long
    cells: list[list[str]]


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, marked: Sequence[int] = (), caption: str = ""
) -> Markup:
    """A table; numbers are rounded to four significant digits and right-aligned, a list in a cell is written in lines.

    `marked` rows (counted from 0) stand out. A header that the glossary knows is explained.
    """
    columns = [_column(header, [row[place] for row in rows]) for place, header in enumerate(headers)]
    lines = [[(column.kind, column.cells[place]) for column in columns] for place in range(len(rows))]
    return render("table", columns=columns, rows=lines, marked=set(marked), caption=caption, tall=len(rows) > TALL)


def matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
    unit: str = "",
) -> Markup:
    """A table whose numbers are tinted: from pale (lowest) to strong (highest), or by sign where some are negative."""
    known = [value for line in values for value in line if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    texts = [aligned(list(column)) for column in zip(*values, strict=True)] or [[]]
    lines = [
        (name, [(texts[place][line], *_tint(value, low, high)) for place, value in enumerate(values[line])])
        for line, name in enumerate(rows)
    ]
    scale = "" if low == high else _scale(low, high)
    return render("matrix", columns=columns, rows=lines, title=title, unit=unit, scale=scale, tall=len(rows) > TALL)


def _column(header: str, values: list[object]) -> Column:
    term = linked(header)
    if all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values):
        return Column(header, term, "number", [[text] for text in aligned(values)])
    cells = [[number(line) for line in value] if isinstance(value, list) else [number(value)] for value in values]
    longest = max((len(line) for cell in cells for line in cell), default=0)
    return Column(header, term, "long" if longest > LONG else "text", cells)


def _scale(low: float, high: float) -> str:
    if low < 0:
        return "the stronger the larger, orange below zero"
    return f"pale {number(low)} to strong {number(high)}"


def _tint(value: float | None, low: float, high: float) -> tuple[str, float]:
    """Which of the two colours, and how strong (0 to 1)."""
    if value is None or low == high:
        return "plus", 0.0
    if low >= 0:
        return "plus", (value - low) / (high - low)
    return ("minus" if value < 0 else "plus"), abs(value) / max(-low, abs(high))


@dataclass(frozen=True)
class Scale:
    """`low` lies at `start`, `high` at `end`, whatever the unit of these (percent across, pixels down)."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value; halves, so that not even the largest numbers overflow."""
        span = (self.high / 2 - self.low / 2) or 1.0
        return self.start + (value / 2 - self.low / 2) / span * (self.end - self.start)

    def place(self, value: float | None) -> float | None:
        """The same, and none for what is no finite number."""
        value = known(value)
        return None if value is None else self.at(value)


def known(value: float | None) -> float | None:
    """A finite number, or none."""
    return value if value is not None and math.isfinite(value) else None


def spread(values: Sequence[float | None]) -> tuple[float, float]:
    """The lowest and the highest, apart even where all are one and the same."""
    finite = [value for value in map(known, values) if value is not None] or [0.0]
    low, high = min(finite), max(finite)
    return (low, high) if low < high else (low - (abs(low) / 10 or 1.0), high + (abs(high) / 10 or 1.0))


def ticks(low: float, high: float, most: int = 4) -> list[tuple[float, str]]:
    """Up to `most` round values from low to high with their texts."""
    size = high / most - low / most
    if not 1e-12 < size < 1e15:
        return [(low, f"{low:.3g}"), (high, f"{high:.3g}")]
    exponent = math.floor(math.log10(size))
    factor = next(factor for factor in (1, 2, 2.5, 5, 10) if factor * 10.0**exponent >= size * (1 - 1e-9))
    step, decimals = factor * 10.0**exponent, max(0, (factor == 2.5) - (factor == 10) - exponent)
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(place * step, f"{place * step:,.{decimals}f}") for place in places]


LINE, TWO_LINES = 36, 44  # pixels of a labelled bar, of a labelled pair of bars
TOP, HEIGHT, ROOM = 12, 150, 16  # pixels above and of the field of an upright chart; for the numbers of its points
LEFT = 10.0  # percent kept for the numbers of an upright chart's scale
FEW = 8  # bins up to which each has a line, points up to which each has its number
PHONE, CHARACTER, GAP = 320, 7.5, 12  # pixels that ticks share on a phone, of a character, and between two ticks

Limit = float | tuple[str, float] | None


@dataclass(frozen=True)
class Point:
    """A tick and its value, None for a gap; marked points stand out."""

    label: str
    value: float | None
    marked: bool = False


@dataclass(frozen=True)
class Interval:
    """A value between its lower and upper bound; None for what is not known."""

    label: str
    low: float | None
    value: float | None
    high: float | None


def bars(items: Sequence[tuple[str, float]], unit: str, title: str) -> Markup:
    """Horizontal bars from a common zero; negative values go to the left."""
    values = [known(value) or 0.0 for _, value in items]
    texts = aligned([value for _, value in items])
    across = Scale(min([0.0, *values]), max([0.0, *values]), 0.0, 100.0)
    drawn = [
        _line(label, text)
        | {"y": place * LINE, "x": across.at(min(length, 0)), "width": abs(across.at(length) - across.at(0))}
        | {"tone": "minus" if length < 0 else "plus"}
        for place, ((label, _), text, length) in enumerate(zip(items, texts, values, strict=True))
    ]
    zero = across.at(0) if across.low < 0 else None
    return render("bars", items=drawn, unit=unit, title=title, zero=zero, height=LINE * len(items))


def compare(labels: Sequence[str], baseline: Sequence[float], current: Sequence[float], title: str) -> Markup:
    """Two shares of the rows for each label, what was learned beside what is now: lines if few, else columns."""
    pairs = list(zip(labels, baseline, current, strict=True))
    across = Scale(0.0, max([*baseline, *current, 1e-12]), 0.0, 100.0)
    if len(pairs) > FEW:
        return _columns(pairs, across.high, title)
    drawn = [
        _line(label, f"{share(before)} → {share(after)}")
        | {"y": place * TWO_LINES, "before": across.at(before), "after": across.at(after)}
        for place, (label, before, after) in enumerate(pairs)
    ]
    return render("pairs", items=drawn, title=title, height=TWO_LINES * len(pairs))


def timeline(points: Sequence[Point], title: str, unit: str, *, mark: str = "marked", limit: Limit = None) -> Markup:
    """A line over labelled ticks; `mark` says what the marked points are, `limit` draws a line
    across: a number, or its name and the number."""
    name, edge = _limit(limit)
    low, high = spread([edge, *(point.value for point in points)])
    grid = ticks(low, high)
    down = Scale(low, high, TOP + HEIGHT - ROOM, TOP + ROOM)
    drawn = _placed(points, down)
    return render(
        "timeline",
        points=drawn,
        lines=[(a, b) for a, b in pairwise(drawn) if a["y"] is not None and b["y"] is not None],
        numbers=table(["", unit, mark], [[p.label, p.value, "yes" if p.marked else ""] for p in points]),
        few=len(points) <= FEW,
        limit=None if edge is None else {"y": down.at(edge), "text": f"{name} {number(edge)}"},
        **_frame(grid, down, [(point["label"], point["x"]) for point in drawn]),
        **{"title": title, "unit": unit, "mark": mark if any(point.marked for point in points) else ""},
    )


def interval(items: Sequence[Interval], unit: str, title: str, *, limit: Limit = None) -> Markup:
    """A dot between its bounds, a line each, on one scale; `limit` draws a line down: a number, or its
    name and the number."""
    name, edge = _limit(limit)
    low, high = spread([edge, *(end for item in items for end in (item.low, item.value, item.high))])
    across = Scale(low, high, 2.0, 98.0)
    drawn = [
        _line(item.label, "{} ({} to {})".format(*aligned([item.value, item.low, item.high])))
        | {
            "y": place * LINE,
            "low": across.place(item.low),
            "x": across.place(item.value),
            "high": across.place(item.high),
        }
        for place, item in enumerate(items)
    ]
    return render(
        "interval",
        items=drawn,
        ticks=[(across.at(value), text) for value, text in ticks(low, high)],
        limit=None if edge is None else {"x": across.at(edge), "text": f"{name} {number(edge)}"},
        **{"title": title, "unit": unit, "height": LINE * len(items)},
    )


def _columns(pairs: Sequence[tuple[str, float, float]], highest: float, title: str) -> Markup:
    grid = ticks(0.0, 100 * highest)
    down = Scale(0.0, 100 * highest, TOP + HEIGHT, TOP)
    step = (100 - LEFT) / len(pairs)
    drawn: list[dict[str, Any]] = [
        {"label": label, "x": LEFT + place * step, "step": step, "before": share(before), "after": share(after)}
        | {"before_y": down.at(100 * before), "after_y": down.at(100 * after)}
        for place, (label, before, after) in enumerate(pairs)
    ]
    shares = [[label, 100 * before, 100 * after] for label, before, after in pairs]
    return render(
        "columns",
        pairs=drawn,
        title=title,
        numbers=table(["", "learned, % of rows", "now, % of rows"], shares),
        **_frame(grid, down, [(pair["label"], pair["x"] + step / 2) for pair in drawn]),
    )


def _placed(points: Sequence[Point], down: Scale) -> list[dict[str, Any]]:
    """Points with their places; a number stands below its point where the line comes from above."""
    step = (100 - LEFT) / max(len(points), 1)
    places = [down.place(point.value) for point in points]
    around = zip([None, *places], places, [*places[1:], None], strict=False)
    return [
        {"label": point.label, "text": number(point.value), "marked": point.marked, "x": LEFT + (place + 0.5) * step}
        | {"y": y, "below": y is not None and any(beside is not None and beside < y for beside in (before, after))}
        for place, (point, (before, y, after)) in enumerate(zip(points, around, strict=True))
    ]


def _frame(grid: Sequence[tuple[float, str]], down: Scale, labels: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """What upright charts share: grid lines, and as many labels of ticks as do not touch on a phone."""
    longest = max((room(short(label, 14)) for label, _ in labels), default=1)
    every = max(1, math.ceil(len(labels) * (longest * CHARACTER + GAP) / PHONE))
    shown = [
        {"text": short(label, 14), "x": x, "anchor": "end" if x > 88 else "middle"} for label, x in labels[::every]
    ]
    lines = [{"y": down.at(value), "text": text} for value, text in grid]
    return {"grid": lines, "labels": shown, "left": LEFT, "bottom": TOP + HEIGHT}


def _limit(limit: Limit) -> tuple[str, float | None]:
    name, value = limit if isinstance(limit, tuple) else ("limit", limit)
    return short(name, 24), known(value)


def _line(label: str, text: str) -> dict[str, Any]:
    return {"label": label, "short": short(label), "text": text}


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
    terms = used(str(section.body) for section in sections)
    template = environment().get_template("page.html")
    return template.render(title=title, verdict=verdict, sections=sections, terms=terms)


def join(*parts: Markup) -> Markup:
    """Parts of a section, one after the other; charts stand side by side where there is room."""
    return NOTHING.join(parts)
