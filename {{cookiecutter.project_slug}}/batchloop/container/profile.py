"""What a column looks like: bins that were learned once, and counts over them, in one streaming pass.

A number's bins are told by their right ends, a category's by its known values, and there is one for all others. A date
counts as days since 1970. The last bin is always "missing".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import raw
from batchloop.container.protocols import Bins

BATCH, CELLS = 131_072, 4_000_000  # rows counted at once, and cells
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
