"""What a column looks like: bins that were learned once, and counts over them, in one streaming pass.

A number's bins end at quantiles of the training data; the outer ones are open. A value that is a quantile more than
once is frequent enough for a bin of its own: else a spike inside a wide bin could vanish unseen. A date counts as days
since 1970. A category's bins are its most frequent values, and one for all others. The last bin is always "missing".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runtime import raw

Bins = dict[str, Any]  # name, kind, and edges (numbers) or values (categories): what baseline.json holds
BATCH, CELLS = 131_072, 4_000_000  # rows counted at once, and cells
COLUMNS_AT_ONCE = 200  # in one query: the cost of a plan grows with the square of its columns
CATEGORIES = 200  # bins of a category at most
EXAMPLES = 5  # of unknown categories
MICROSECONDS_A_DAY = 86_400_000_000


@dataclass
class Counted:
    """Of one column: rows a bin (the last is "missing"), and for numbers the bins' sums and the extremes."""

    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    squares: float = 0.0
    invalid: int = 0
    low: float | None = None
    high: float | None = None
    unknown: list[str] = field(default_factory=list)


def values(name: str, kind: str) -> pl.Expr:
    """A column as it is counted: Float64 for numbers and dates, text for categories and booleans."""
    column = pl.col(name)
    if kind == "date":
        return (column.dt.epoch("us") / MICROSECONDS_A_DAY).alias(name)
    return column.cast(pl.Float64 if kind == "number" else pl.String).alias(name)


def learn(frame: pl.LazyFrame, kinds: Mapping[str, str], bins: int) -> list[Bins]:
    """The bins of each column, from all rows of the frame."""
    numbers = [name for name, kind in kinds.items() if kind in ("number", "date")]
    others = [name for name in kinds if name not in numbers]
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    edges: dict[str, list[float]] = {}
    for some in _slices(numbers, min(COLUMNS_AT_ONCE, CELLS // max(1, rows))):  # quantiles need whole columns
        edges |= _edges(frame, {name: kinds[name] for name in some}, bins)
    known: dict[str, list[str]] = {}
    for some in _slices(others, COLUMNS_AT_ONCE):
        known |= _frequent(frame, {name: kinds[name] for name in some})
    return [
        {"name": name, "kind": kind} | ({"edges": edges[name]} if name in edges else {"values": known[name]})
        for name, kind in kinds.items()
    ]


def _slices(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), max(1, size)):
        yield names[start : start + max(1, size)]


def _edges(frame: pl.LazyFrame, kinds: Mapping[str, str], bins: int) -> dict[str, list[float]]:
    """Right ends of all bins but the last; a spike v has the bin between the number before it and v itself."""
    shares = [place / bins for place in range(1, bins)]
    numbers = frame.select(values(name, kind) for name, kind in kinds.items())
    quantiles = numbers.select(
        pl.col(name).filter(pl.col(name).is_finite()).quantile(shares, "lower") for name in kinds
    )
    found = quantiles.collect(engine="streaming")
    return {name: _ends(found[name].item()) for name in kinds}


def _ends(quantiles: pl.Series | None) -> list[float]:
    if quantiles is None or len(quantiles) == 0 or quantiles[0] is None:
        return []
    found, repeats = np.unique(quantiles.to_numpy(), return_counts=True)
    before = np.nextafter(found[repeats > 1], -np.inf)
    return [float(edge) for edge in np.unique(np.concatenate([found, before]))]


def _frequent(frame: pl.LazyFrame, kinds: Mapping[str, str]) -> dict[str, list[str]]:
    """The most frequent values, ties in alphabetical order."""
    texts = frame.select(values(name, kind) for name, kind in kinds.items()).unpivot(variable_name="name")
    counts = texts.filter(pl.col("value").is_not_null()).group_by("name", "value").len()
    found = counts.sort(["len", "value"], descending=[True, False]).collect(engine="streaming")
    return {name: found.filter(pl.col("name") == name)["value"].head(CATEGORIES).to_list() for name in kinds}


def count(frame: pl.LazyFrame, bins: Sequence[Bins]) -> tuple[int, dict[str, Counted]]:
    """Rows of the frame, and each column's counts over its bins; memory does not grow with the rows."""
    found = {column["name"]: Counted(np.zeros(size(column)), np.zeros(size(column))) for column in bins}
    held = set(frame.collect_schema())
    flags = [flag for column in bins if (flag := raw.INVALID + column["name"]) in held]
    wanted = frame.select(*[values(column["name"], column["kind"]) for column in bins], *flags)
    rows = 0
    most = max(1, min(BATCH, CELLS // max(1, len(bins) + len(flags))))
    for batch in wanted.collect_batches(chunk_size=most, maintain_order=True):
        rows += batch.height
        for column in bins:
            _add(found[column["name"]], batch[column["name"]], column)
        for flag in flags:
            found[flag.removeprefix(raw.INVALID)].invalid += int(batch[flag].sum())
    return rows, found


def size(column: Bins) -> int:
    """The number of bins, "missing" included: one more than edges, or "other" beside the known values."""
    return len(column["edges"] if "edges" in column else column["values"]) + 2


def _add(found: Counted, series: pl.Series, column: Bins) -> None:
    if "edges" in column:
        _add_numbers(found, series, column["edges"])
    else:
        _add_categories(found, series, column["values"])


def _add_numbers(found: Counted, series: pl.Series, edges: list[float]) -> None:
    present = series.drop_nulls().to_numpy()
    present = present[np.isfinite(present)]
    places = np.searchsorted(np.asarray(edges), present, side="left")
    found.counts[:-1] += np.bincount(places, minlength=len(edges) + 1)
    found.counts[-1] += len(series) - len(present)
    if len(present):
        found.sums[:-1] += np.bincount(places, weights=present, minlength=len(edges) + 1)
        found.squares += float(np.square(present).sum())
        found.low = min(float(present.min()), np.inf if found.low is None else found.low)
        found.high = max(float(present.max()), -np.inf if found.high is None else found.high)


def _add_categories(found: Counted, series: pl.Series, known: list[str]) -> None:
    codes = series.cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int64)
    unknown = series.is_not_null() & codes.is_null()
    found.counts[: len(known)] += np.bincount(codes.drop_nulls().to_numpy(), minlength=len(known))
    found.counts[-2] += int(unknown.sum())
    found.counts[-1] += series.null_count()
    if len(found.unknown) < EXAMPLES and unknown.any():
        new = series.filter(unknown).unique(maintain_order=True).head(2 * EXAMPLES).to_list()
        found.unknown += [value for value in new if value not in found.unknown][: EXAMPLES - len(found.unknown)]


def labels(column: Bins) -> list[str]:
    """A name for each bin, as people read it."""
    if "values" in column:
        return [*column["values"], "other", "missing"]
    edges = [_edge(column, edge) for edge in column["edges"]]
    return [*(f"≤ {edge}" for edge in edges), f"> {edges[-1]}" if edges else "any", "missing"]


def _edge(column: Bins, edge: float) -> str:
    if column["kind"] == "date" and abs(edge) < 1e6:
        return str(np.datetime64(int(edge), "D"))
    return f"{edge:,.4g}"
