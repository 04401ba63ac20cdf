"""What a column looks like: bins that were learned once, and counts over them, in one streaming pass.

A number's bins are told by their right ends, a category's by its known values, and there is one for all others. A date
counts as days since 1970. The last bin is always "missing".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import raw
from batchloop.container.protocols import Bins, DriftFile

BATCH, CELLS = 131_072, 4_000_000  # rows counted at once, and cells
EXAMPLES = 5  # of unknown categories
MICROSECONDS_A_DAY = 86_400_000_000
ROW = "__place"  # number of a row, from 0
GOLDEN = 2_654_435_761  # 2^32 times the golden ratio: the halves fall evenly on rows of any period (Knuth, 6.4)
ROWS_A_BIN = 20  # half of them are counted


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

    def add_numbers(self, series: pl.Series, edges: list[float]) -> None:
        """Count a batch of a number or date."""
        present = series.drop_nulls().to_numpy()
        present = present[np.isfinite(present)]
        bins = np.searchsorted(np.asarray(edges), present, side="left")
        self.counts[:-1] += np.bincount(bins, minlength=len(edges) + 1)
        self.counts[-1] += len(series) - len(present)
        if len(present):
            self.sums[:-1] += np.bincount(bins, weights=present, minlength=len(edges) + 1)
            self.squares += float(np.square(present).sum())
            self.low = min(float(present.min()), np.inf if self.low is None else self.low)
            self.high = max(float(present.max()), -np.inf if self.high is None else self.high)

    def add_categories(self, series: pl.Series, known: list[str]) -> None:
        """Count a batch of a category or boolean."""
        codes = series.cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int64)
        unknown = series.is_not_null() & codes.is_null()
        self.counts[: len(known)] += np.bincount(codes.drop_nulls().to_numpy(), minlength=len(known))
        self.counts[-2] += int(unknown.sum())
        self.counts[-1] += series.null_count()
        if len(self.unknown) < EXAMPLES and unknown.any():
            new = series.filter(unknown).unique(maintain_order=True).head(2 * EXAMPLES).to_list()
            self.unknown += [value for value in new if value not in self.unknown][: EXAMPLES - len(self.unknown)]


def module() -> DriftFile:
    """★ components/monitoring/drift.py."""
    return cast(DriftFile, import_module("components.monitoring.drift"))


def values(name: str, kind: str) -> pl.Expr:
    """A column as it is counted: Float64 for numbers and dates, text for categories and booleans."""
    column = pl.col(name)
    if kind == "date":
        return (column.dt.epoch("us") / MICROSECONDS_A_DAY).alias(name)
    return column.cast(pl.Float64 if kind == "number" else pl.String).alias(name)


def count(frame: pl.LazyFrame, bins: Sequence[Bins]) -> tuple[int, dict[str, Counted]]:
    """Rows of the frame, and each column's counts over its bins; memory does not grow with the rows."""
    sizes = {column["name"]: len(column["edges"] if "edges" in column else column["values"]) + 2 for column in bins}
    found = {name: Counted(np.zeros(size), np.zeros(size)) for name, size in sizes.items()}
    known = set(frame.collect_schema())
    flags = [flag for name in sizes if (flag := raw.INVALID + name) in known]
    wanted = frame.select(*[values(column["name"], column["kind"]) for column in bins], *flags)
    rows, most = 0, max(1, min(BATCH, CELLS // max(1, len(bins) + len(flags))))
    for batch in wanted.collect_batches(chunk_size=most, maintain_order=True):
        rows += batch.height
        for column in bins:
            if "edges" in column:
                found[column["name"]].add_numbers(batch[column["name"]], column["edges"])
            else:
                found[column["name"]].add_categories(batch[column["name"]], column["values"])
        for flag in flags:
            found[flag.removeprefix(raw.INVALID)].invalid += int(batch[flag].sum())
    return rows, found


def learned(frame: pl.LazyFrame, kinds: Mapping[str, str], bins: int) -> tuple[int, list[dict[str, Any]]]:
    """Rows, and of each column its bins and what was counted in them, as plain data.

    One half of the rows draws the bins, and the other half is counted in them: rows that are counted in bins which
    were drawn through them look like no other sample of the same distribution.
    """
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    draws = pl.col(ROW).cast(pl.Int64) * GOLDEN % 2**32 < 2**31
    numbered = frame.with_row_index(ROW)
    found = module().profile(numbered.filter(draws), kinds, max(1, min(bins, rows // ROWS_A_BIN)))
    _, counted = count(frame, found)
    _, held = count(numbered.filter(~draws), found)
    return rows, [
        {
            **_described(column, counted[column["name"]], rows),
            "counts": held[column["name"]].counts.astype(int).tolist(),
        }
        for column in found
    ]


def _described(column: Bins, counted: Counted, rows: int) -> dict[str, Any]:
    """A column of baseline.json but for its counts: bins, and what people ask for."""
    present = float(counted.counts[:-1].sum())
    shared = {
        **column,
        "missing": (counted.counts[-1] - counted.invalid) / rows if rows else 0.0,
        "invalid": counted.invalid / rows if rows else 0.0,
    }
    if "values" in column:
        return shared
    mean = float(counted.sums.sum()) / present if present else 0.0
    variance = counted.squares / present - mean**2 if present else 0.0
    ends = [*column["edges"], column["edges"][-1] if column["edges"] else 0.0]
    triples = zip(counted.sums[:-1], counted.counts[:-1], ends, strict=True)
    return {
        **shared,
        "means": [float(total / each) if each else end for total, each, end in triples],  # what a bin stands for
        "low": counted.low,
        "high": counted.high,
        "mean": mean,
        "deviation": float(np.sqrt(max(0.0, variance))),
    }


def labels(column: Bins) -> list[str]:
    """A name for each bin, as people read it."""
    if "values" in column:
        return [*column["values"], "other", "missing"]
    dates = column["kind"] == "date"
    edges = [
        str(np.datetime64(int(edge), "D")) if dates and abs(edge) < 1e6 else f"{edge:,.4g}" for edge in column["edges"]
    ]
    return [*(f"≤ {edge}" for edge in edges), f"> {edges[-1]}" if edges else "any", "missing"]
