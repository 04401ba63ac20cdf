"""Report pages with Jinja; tables and charts are macros of parts.html, and what they are given is computed here."""

import math
import os
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from batchloop.container.job import listed

HERE = Path(__file__).parent
BYTECODE = HERE / "__pycache__"  # of templates too: compiling those of a page takes 0.07 s
LONG = 28  # characters from which on a cell's text may wrap
TOP, HEIGHT = 12, 150  # pixels above and of the field of an upright chart
LEFT = 10.0  # percent kept for the numbers of an upright chart's scale
FEW = 7  # bins up to which each has a line of its own
TICKS = 4  # on a scale, about
PHONE, CHARACTER, GAP = 320, 7.5, 12  # pixels that ticks share on a phone, of a character, and between two ticks
EPOCH = date(1970, 1, 1)

Interval = tuple[str, float | None, float | None, float | None]  # label, lower bound, value, upper bound


@dataclass(frozen=True)
class Scale:
    """`low` lies at `start`, `high` at `end`, whatever the unit of these (percent across, pixels down)."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float | None) -> float | None:
        """The place of a value, None for what is no finite number; halves keep the largest numbers from overflowing."""
        if (value := finite(value)) is None:
            return None
        span = (self.high / 2 - self.low / 2) or 1.0
        return self.start + (value / 2 - self.low / 2) / span * (self.end - self.start)


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


def dated(value: float | None, kind: str) -> float | str | None:
    """What a column of a kind holds: a date, which counts as days since 1970, as people write it."""
    if kind == "date" and value is not None:
        with suppress(OverflowError, ValueError):  # no day that the calendar has
            return (EPOCH + timedelta(math.floor(value))).isoformat()
    return value


def aligned(values: Sequence[object]) -> list[str]:
    """Numbers of one column, with as many decimals each where that keeps them short and hides none of their digits."""
    texts = [number(value) for value in values]
    numbers = [value if isinstance(value, int | float) and math.isfinite(value) else None for value in values]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    if decimals > 4 or any("e" in text for text in texts) or any(abs(value or 0) >= 1000 for value in numbers):
        return texts
    pairs = zip(texts, numbers, strict=True)
    return [text if value is None else f"{value:.{decimals}f}" for text, value in pairs]


def width(text: str) -> int:
    """How many letters' room a text takes; wide characters (CJK) take that of two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def short(text: str, limit: int = 38) -> str:
    """What fits on a line of a chart."""
    if width(text) <= limit:
        return text
    fitting = next(length for length in range(limit, 0, -1) if width(text[:length]) < limit)
    return f"{text[:fitting]}…"


def finite(value: float | None) -> float | None:
    """A finite number, or None."""
    return value if value is not None and math.isfinite(value) else None


def limits(values: Sequence[float | None]) -> tuple[float, float]:
    """The lowest and the highest, apart even where all are one and the same."""
    known = [value for value in map(finite, values) if value is not None] or [0.0]
    low, high = min(known), max(known)
    return (low, high) if low < high else (low - (abs(low) / 10 or 1.0), high + (abs(high) / 10 or 1.0))


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Few round values from low to high with their texts."""
    size = high / TICKS - low / TICKS
    if not max(1e-12, 1e-12 * max(abs(low), abs(high))) < size < 1e15:  # nor finer than numbers of this size are
        return [(low, f"{low:.3g}"), (high, f"{high:.3g}")]
    exponent = math.floor(math.log10(size))
    factor = next(factor for factor in (1, 2, 2.5, 5, 10) if factor * 10.0**exponent >= size * (1 - 1e-9))
    step, decimals = factor * 10.0**exponent, max(0, (factor == 2.5) - (factor == 10) - exponent)
    multiples = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(multiple * step, f"{multiple * step:,.{decimals}f}") for multiple in multiples]


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, marked: Sequence[int] = ()) -> Markup:
    """A table; a list in a cell is written in lines, `marked` rows (from 0) stand out, known headers are explained."""
    columns = [_column([row[position] for row in rows]) for position in range(len(headers))]
    kinds = [kind for kind, _ in columns]
    lines = [list(zip(kinds, cells, strict=True)) for cells in zip(*(cells for _, cells in columns), strict=True)]
    heads = list(zip(headers, kinds, strict=True))
    return _part("table", columns=heads, rows=lines, marked=marked)


def _column(values: Sequence[object]) -> tuple[str, list[list[str]]]:
    """How the cells of a column are set (number, text or long), and their text, a list of lines each."""
    if all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values):
        return "number", [[text] for text in aligned(values)]
    cells = [[number(line) for line in value] if isinstance(value, list) else [number(value)] for value in values]
    return "long" if max(len(line) for cell in cells for line in cell) > LONG else "text", cells


def bars(items: Sequence[tuple[str, float]], unit: str, title: str) -> Markup:
    """Horizontal bars from a common zero; negative values go to the left."""
    values, texts = [finite(value) or 0.0 for _, value in items], aligned([value for _, value in items])
    triples = zip(items, texts, values, strict=True)
    drawn = [{"label": label, "text": text, "value": value} for (label, _), text, value in triples]
    across = Scale(min([0.0, *values]), max([0.0, *values]), 0.0, 100.0)
    return _part("bars", items=drawn, across=across, unit=unit, title=title)


def compare(labels: Sequence[str], baseline: Sequence[float], current: Sequence[float], title: str) -> Markup:
    """Two shares of the rows for each label, what was learned beside what is now: lines if few, else columns."""
    few, highest = len(labels) <= FEW, max([*baseline, *current, 1e-12])
    text = "{:.3g} % → {:.3g} %" if few else "learned {:.3g} %, now {:.3g} %"
    drawn: list[dict[str, Any]] = [
        {"label": label, "text": text.format(100 * before, 100 * now), "before": before, "now": now}
        for label, before, now in zip(labels, baseline, current, strict=True)
    ]
    if few:
        return _part("pairs", items=drawn, across=Scale(0.0, highest, 0.0, 100.0), title=title)
    numbers = [[item["label"], 100 * item["before"], 100 * item["now"]] for item in drawn]
    texts = [short(label, 14) for label in labels]  # as many as do not touch on a phone
    every = max(1, math.ceil(len(texts) * (max(map(width, texts)) * CHARACTER + GAP) / PHONE))
    centres = [(text, LEFT + (place + 0.5) * (100 - LEFT) / len(texts)) for place, text in enumerate(texts)]
    return _part(
        "columns",
        items=drawn,
        title=title,
        grid=ticks(0.0, 100 * highest),
        down=Scale(0.0, 100 * highest, TOP + HEIGHT, TOP),
        numbers=table(["", "learned, % of rows", "now, % of rows"], numbers),
        **{"labels": centres[::every], "left": LEFT, "bottom": TOP + HEIGHT},
    )


def interval(
    items: Sequence[Interval], unit: str, title: str, *, limit: float | tuple[str, float | None] | None = None
) -> Markup:
    """A dot between its bounds, a line each, on one scale; `limit` draws a line down: a number, or its name and it."""
    name, value = limit if isinstance(limit, tuple) else ("limit", limit)
    edge = finite(value)
    low, high = limits([edge, *(end for _, *ends in items for end in ends)])
    drawn = []
    for label, lower, middle, upper in items:
        text, start, end = aligned([middle, lower, upper])
        text += "" if lower is upper is None else f" ({start} to {end})"
        drawn.append({"label": label, "text": text, "low": lower, "value": middle, "high": upper})
    line = (f"{short(name, 24)} {number(value)}", edge)
    across, grid = Scale(low, high, 2.0, 98.0), ticks(low, high)
    return _part("interval", items=drawn, across=across, grid=grid, limit=line, unit=unit, title=title)


def forecast(past: Sequence[tuple[str, float]], ahead: Sequence[tuple[str, float, float, float]], title: str) -> Markup:
    """A series' values by their names, and those to come with the ends of their interval."""
    ends = [end for _, *values in ahead for end in values]
    down = Scale(*limits([*ends, *(value for _, value in past)]), TOP + HEIGHT, TOP)
    names, total = [str(row[0]) for row in (*past, *ahead)], max(1, len(past) + len(ahead))
    step = (100 - LEFT) / total
    points = [(LEFT + (place + 0.5) * step, value) for place, (_, value, *_) in enumerate((*past, *ahead))]
    every = max(1, math.ceil(total * (max(map(width, names), default=0) * CHARACTER + GAP) / PHONE))
    return _part(
        "forecast",
        title=title,
        lines=[(*start, *end, place >= len(past)) for place, (start, end) in enumerate(pairwise(points), 1)],
        band=[(x - step / 2, low, high) for (x, _), (_, _, low, high) in zip(points[len(past) :], ahead, strict=True)],
        grid=ticks(down.low, down.high),
        down=down,
        numbers=table(["", "forecast", "from", "to"], [list(one) for one in ahead]),
        **{"labels": list(zip(names, [x for x, _ in points], strict=True))[every // 2 :: every], "step": step},
        **{"left": LEFT, "bottom": TOP + HEIGHT},
    )


@cache
def _environment(folder: Path) -> jinja2.Environment:
    """The templates beside this file and in another folder; whatever they are given becomes text."""
    kept = not sys.dont_write_bytecode and os.access(BYTECODE, os.W_OK)
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE, folder]),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.do"],
        # a template's text and Jinja's version are part of the key, and other options are not: they need another name
        bytecode_cache=jinja2.FileSystemBytecodeCache(str(BYTECODE), "page-1-%s") if kept else None,
    )
    made.filters |= {"number": number, "short": short, "listed": listed, "dated": dated}
    made.filters |= {
        "rounded": lambda value, digits: round(value, digits) if isinstance(value, float) else value,
        "oneline": lambda text: Markup(" ".join(text.split())),  # noqa: S704 - a block of a template, escaped by Jinja
        "first_of": lambda metrics, name: sorted(metrics.items(), key=lambda item: item[0] != name),
    }
    made.globals |= {"table": table, "bars": bars, "compare": compare, "interval": interval}
    return made


def _part(part: str, **values: object) -> Markup:
    """A macro of parts.html."""
    macro = getattr(_environment(HERE).get_template("parts.html").module, part)
    return Markup(macro(**values))  # noqa: S704 - Jinja has escaped what came from the data


def render(template: str, folder: Path = HERE, **data: object) -> str:
    """The page that a template makes of its data; `folder` holds those that are not the container's own."""
    return _environment(folder).get_template(template).render(**data)


def sentence(name: str, **data: object) -> str:
    """What a macro of sentences.jinja says, on one line."""
    said: str = getattr(_environment(HERE).get_template("sentences.jinja").module, name)(**data)
    return " ".join(said.split())
