"""Charts as inline SVG: lengths across in percent, lengths down in pixels, so that text keeps its size on a phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from runtime.report.rendering import aligned, number, render, room, share, short
from runtime.report.scales import Scale, known, spread, ticks
from runtime.report.tables import table

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
