"""What a column looks like: bins that were learned once, and counts over them, in one streaming pass.

A number's bins are told by their right ends, a category's by its known values, and there is one for all others. A date
counts as days since 1970. The last bin is always "missing". Several hosts that have parts of a table count their own;
what they wrote adds up, and a sample of all draws the bins.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import appearance, files, job, measured, raw, samples, seasonal
from batchloop.container.job import InputError
from batchloop.container.protocols import Bins, DriftFile
from batchloop.container.report import dated
from batchloop.container.samples import NAME, Sample
from batchloop.container.usecase import UseCase

BATCH, CELLS, LEAST = 131_072, 4_000_000, 2_048  # rows counted at once, and cells, but not fewer rows
DRAWN, DRAWN_CELLS = 131_072, 32_000_000  # rows that draw the bins of numbers at most, and cells of them
CACHED = 16_384  # values that a processor's cache holds
EDGES = 100  # that a value is compared with one by one; among more it is searched for
EXAMPLES = 5  # of unknown categories
MICROSECONDS_A_DAY = 86_400_000_000
PLACE, HALF = "__place", 2**31  # of a row among all, from 0 to 2^32: those of the first half draw the bins
CODE = "__code:"  # of a category's bin
GOLDEN = 2_654_435_761  # 2^32 times the golden ratio: the halves fall evenly on rows of any period (Knuth, 6.4)
ROWS_A_BIN = 20  # half of them are counted
EXACT = ("missing", "invalid", "low", "high", "mean", "deviation")  # of a column of the baseline
One = pl.LazyFrame | Callable[[], Iterable[pl.DataFrame]]  # read each time anew
Rows = One | Mapping[tuple[str, ...], pl.LazyFrame]  # or, for some columns each, rows of their own


@dataclass
class Counted:
    """Of one column: rows a bin (the last is "missing"), and for numbers the bins' sums and the extremes.

    `held` are the counts of those rows alone that drew no bins, `unknown` examples of unknown categories and where they
    stand: file and row of a raw table.
    """

    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    held: NDArray[np.float64]
    squares: float = 0.0
    invalid: int = 0
    low: float | None = None
    high: float | None = None
    unknown: dict[str, list[Any]] = field(default_factory=dict)

    def add_numbers(self, series: pl.Series, edges: NDArray[np.float64], held: pl.Series | None) -> None:
        """Count a batch of a number or date; `held` says of each row whether it drew no bins."""
        series = series if isfinite(series.sum()) else series.set(~series.is_finite(), None)
        if gone := series.null_count():
            self.counts[-1] += gone
            if held is not None:
                self.held[-1] += int(held.filter(series.is_null()).sum())
                held = held.filter(series.is_not_null())
        present = series.drop_nulls().to_numpy()
        if len(present):
            bins = _bins(present, edges)
            self._add(bins, held)
            self.sums += np.bincount(bins, weights=present, minlength=len(self.sums))
            self.squares += float(np.square(present).sum())
            self.low = min(float(present.min()), np.inf if self.low is None else self.low)
            self.high = max(float(present.max()), -np.inf if self.high is None else self.high)

    def add_categories(self, cells: pl.DataFrame, bins: NDArray[np.uint32], held: pl.Series | None) -> None:
        """Count a batch of a category or boolean; the columns of `cells` are the values and where they stand."""
        before, other = self.counts[-2], len(self.counts) - 2
        self._add(bins, held)
        if len(self.unknown) < EXAMPLES and self.counts[-2] > before:
            new = cells.filter(bins == other).unique(cells.columns[0], keep="first", maintain_order=True)
            for value, *place in new.head(2 * EXAMPLES).iter_rows():
                if len(self.unknown) < EXAMPLES:
                    self.unknown.setdefault(value, place)

    def merge(self, other: "Counted") -> "Counted":
        """The counts of two parts of a table; the examples are those that stand first in the whole."""
        low = [each for each in (self.low, other.low) if each is not None]
        high = [each for each in (self.high, other.high) if each is not None]
        unknown = dict(self.unknown)
        for value, place in other.unknown.items():
            unknown[value] = min(place, unknown.get(value, place))
        return Counted(
            self.counts + other.counts,
            self.sums + other.sums,
            self.held + other.held,
            self.squares + other.squares,
            self.invalid + other.invalid,
            min(low, default=None),
            max(high, default=None),
            dict(sorted(unknown.items(), key=itemgetter(1))[:EXAMPLES]),
        )

    def _add(self, bins: NDArray[Any], held: pl.Series | None) -> None:
        size = len(self.counts)
        if held is None:
            self.counts += np.bincount(bins, minlength=size)
            return
        both = np.bincount(bins + bins.dtype.type(size) * held.to_numpy(), minlength=2 * size).reshape(2, size)
        self.counts += both.sum(axis=0)
        self.held += both[1]


Tally = tuple[int, dict[str, Counted]]  # how many rows there are, and each column's counts


def _bins(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[Any]:
    """The number of each value's bin: how many edges are below it. Few are compared many times faster than searched."""
    if len(edges) > EDGES:
        return np.searchsorted(edges, values, side="left")
    bins = np.zeros(len(values), np.uint8)
    for start in range(0, len(values), CACHED):
        some, below = values[start : start + CACHED], bins[start : start + CACHED]
        for edge in edges:
            below += (some > edge).view(np.uint8)
    return bins


def module() -> DriftFile:
    """★ components/monitoring/drift.py."""
    return cast(DriftFile, import_module("components.monitoring.drift"))


def values(name: str, kind: str) -> pl.Expr:
    """A column as it is counted: Float64 for numbers and dates, text for categories and booleans."""
    column = pl.col(name)
    if kind == "date":
        return (column.dt.epoch("us") / MICROSECONDS_A_DAY).alias(name)
    return column.cast(pl.Float64 if kind == "number" else pl.String).alias(name)


def _codes(column: Bins) -> pl.Expr:
    """The number of each value's bin, of a category."""
    known, cells = column["values"], values(column["name"], column["kind"])
    codes = cells.cast(pl.Enum(known), strict=False).to_physical().cast(pl.UInt32).fill_null(len(known))
    return (
        pl.when(cells.is_null()).then(pl.lit(len(known) + 1, pl.UInt32)).otherwise(codes).alias(CODE + column["name"])
    )


def count(rows: Rows, bins: Sequence[Bins], halves: bool = False) -> Tally:
    """How many rows there are, and each column's counts over its bins; memory does not grow with the rows.

    With `halves` the rows that drew no bins are counted once more by themselves.
    """
    if isinstance(rows, Mapping):
        parts = [count(part, [one for one in bins if one["name"] in names], halves) for names, part in rows.items()]
        return parts[0][0], {name: one for _, part in parts for name, one in part.items()}
    found = {column["name"]: Counted(*np.zeros((3, len(labels(column))))) for column in bins}
    edges = {column["name"]: np.asarray(column["edges"], float) for column in bins if "edges" in column}
    wanted = [values(column["name"], column["kind"]) for column in bins]
    wanted += [_codes(column) for column in bins if "values" in column]
    total = 0
    for batch in _batches(rows, list(found)):
        held = pl.Series(_places(total, len(batch)) >= HALF) if halves else None
        total += len(batch)
        typed, flags = batch.select(wanted), set(batch.columns)
        origin = batch.select(raw.FILE, raw.ROW) if raw.FILE in flags else pl.DataFrame()
        for name, counted in found.items():
            if name in edges:
                counted.add_numbers(typed[name], edges[name], held)
            else:
                cells = typed.select(name).hstack(origin)
                counted.add_categories(cells, typed[CODE + name].to_numpy(), held)
            if (flag := raw.INVALID + name) in flags:
                counted.invalid += int(batch[flag].sum())
    return total, found


def table(folder: Path, case: UseCase, again: bool = False, new: bool = False) -> Rows:
    """What is monitored of a raw table, to be read once; `again`: several times; `new`: see seasonal.monitored."""
    return seasonal.monitored(folder, case, new) if case.series else intact(folder, case, again)


def intact(folder: Path, case: UseCase, again: bool = False) -> Callable[[], Iterator[pl.DataFrame]]:
    """The rows of a raw table but those of ragged lines, with what is measured of texts and pictures in their place."""
    case, kept = measured.seen(case), list[Path]()
    scratch = files.scratch("counted-") if again else None

    def rows() -> Iterator[pl.DataFrame]:
        if kept:
            yield from map(pl.read_ipc, kept)
            return
        for batch in raw.stream(folder, case, named=False)[1]:
            ragged = batch[raw.RAGGED]
            whole = batch if ragged.null_count() == len(batch) else batch.filter(ragged.is_null())
            found = measured.measured(whole, case.columns).drop(raw.RAGGED, raw.ERROR, raw.BROKEN)
            if scratch:
                kept.append(scratch / f"{len(kept):06d}.arrow")
                found.write_ipc(kept[-1])
            yield found

    return rows


def _batches(rows: One, names: Sequence[str]) -> Iterable[pl.DataFrame]:
    if not isinstance(rows, pl.LazyFrame):
        return rows()
    schema = rows.collect_schema()
    flags = [flag for name in names if (flag := raw.INVALID + name) in schema]
    most = max(LEAST, min(BATCH, CELLS // max(1, len(names) + len(flags))))
    return rows.select(*names, *flags).collect_batches(chunk_size=most, maintain_order=True)


def _places(start: int, rows: int) -> NDArray[np.uint64]:
    return np.arange(start, start + rows, dtype=np.uint64) * GOLDEN % 2**32


def learned(rows: Rows, kinds: Mapping[str, str], bins: int) -> tuple[int, list[dict[str, Any]]]:
    """How many rows there are, and of each column its bins, which one half draws, and the other half's counts."""
    if isinstance(rows, Mapping):
        parts = [(part, *learned(part, {name: kinds[name] for name in names}, bins)) for names, part in rows.items()]
        return parts[0][1], [
            column | {"design_effect": seasonal.design_effect(column, part)}
            for part, _, columns in parts
            for column in columns
        ]
    numbers = {name: kind for name, kind in kinds.items() if kind in ("number", "date")}
    categories = {name: kind for name, kind in kinds.items() if name not in numbers}
    total, *drawn = _drawn(rows, list(numbers), list(categories))
    each, found = max(1, min(bins, total // ROWS_A_BIN)), dict[str, Bins]()
    for frame, part in zip(drawn, (numbers, categories), strict=True):
        found |= {column["name"]: column for column in module().profile(frame, part, each)} if part else {}
    _, counted = count(rows, [found[name] for name in kinds], halves=True)
    return total, [
        {**described(found[name], counted[name], total), "counts": counted[name].held.astype(int).tolist()}
        for name in kinds
    ]


def _drawn(rows: One, numbers: list[str], categories: list[str]) -> tuple[int, pl.LazyFrame, pl.LazyFrame]:
    """How many rows there are, and of the half that draws the bins the numbers (of some rows) and the categories."""
    total, below, most = 0, HALF, min(DRAWN, DRAWN_CELLS // max(1, len(numbers)))
    some, parts, scratch = list[pl.DataFrame](), list[Path](), files.scratch("categories-")
    for batch in _batches(rows, [*numbers, *categories]):
        places = pl.Series(PLACE, _places(total, len(batch)))
        if categories:
            parts.append(scratch / f"{len(parts):06d}.arrow")
            batch.select(categories).filter(places < HALF).write_ipc(parts[-1])
        total += len(batch)
        some.append(batch.select(*numbers, places).filter(places < below))
        while sum(map(len, some)) > 2 * most:
            below //= 2
            some = [part.filter(pl.col(PLACE) < below) for part in some]
    wanted = pl.concat(some).filter(pl.col(PLACE) < HALF * min(1, 2 * most / max(1, total)))
    return total, wanted.lazy(), files.in_parts(parts) if categories else pl.LazyFrame()


def described(column: Bins, counted: Counted, rows: int) -> dict[str, Any]:
    """A column of baseline.json but for its counts: bins, and what people ask for."""
    present = float(counted.counts[:-1].sum())
    parts = {"missing": counted.counts[-1] - counted.invalid, "invalid": counted.invalid}
    shared = column | {name: part / rows if rows else 0.0 for name, part in parts.items()}
    if "values" in column:
        return shared
    mean = float(counted.sums.sum()) / present if present else 0.0
    variance = counted.squares / present - mean * mean if present else 0.0
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
    ends = [dated(edge, column["kind"]) for edge in column["edges"]]
    edges = [end if isinstance(end, str) else f"{end:,.4g}" for end in ends]
    return [*(f"≤ {edge}" for edge in edges), f"> {edges[-1]}" if edges else "any", "missing"]


def write_tally(name: str, case: UseCase, bins: Sequence[Bins], sample: Sample | None = None) -> None:
    """What is counted of this host's raw files, of which there may be none; their rows are added to the sample."""
    folder = job.processing_input("raw")
    samples.whole_series(case, "monitoring")

    def batches() -> Iterator[pl.DataFrame]:
        for batch in intact(folder, case)() if job.holds_files(folder) else ():
            if sample:
                sample.add(batch)
            yield batch

    rows, counted = count(batches, bins)
    columns = {
        name: {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(one).items()}
        for name, one in counted.items()
    }
    pictures = appearance.examples(folder, measured.seen(case)) if job.holds_files(folder) else {}
    samples.write_share(name, {"rows": rows, "columns": columns, "examples": pictures})


def tally(name: str) -> Tally:
    """All hosts' counts together. Raises InputError."""
    total, counted = 0, dict[str, Counted]()
    for share in samples.shares(name):
        total += share["rows"]
        for column, its in share["columns"].items():
            arrays = {key: np.asarray(its[key], float) for key in ("counts", "sums", "held")}
            one = Counted(**its | arrays)
            counted[column] = counted[column].merge(one) if column in counted else one
    return total, counted


def examples(name: str, case: UseCase) -> dict[str, Any]:
    """appearance.examples of the raw files; where hosts had parts of them, the first host's that has any."""
    if job.holds_files(folder := job.processing_input("raw")):
        return appearance.examples(folder, measured.seen(case))
    return next((found for share in samples.shares(name) if (found := share["examples"])), {})


def write_baseline(case: UseCase) -> None:
    """Of monitoring: this host's rows counted without bins, and a sample to draw the bins from."""
    sample = Sample()
    write_tally(NAME, case, _unbinned(case), sample)
    sample.write()


def _unbinned(case: UseCase) -> list[Bins]:
    return [
        {"name": name, "kind": kind, "edges" if kind in ("number", "date") else "values": []}
        for name, kind in measured.kinds(case.sources()).items()
    ]


def baseline(case: UseCase) -> tuple[int, list[dict[str, Any]]]:
    """As learned, of raw; from a sample come bins, and what is counted in them. Raises InputError."""
    kinds, folder, sampled = measured.kinds(case.sources()), job.processing_input("raw"), bool(samples.spread())
    rows = samples.drawn() if sampled else table(folder, case, again=True)
    total, columns = learned(rows, kinds, case.drift.bins)
    if total == 0:
        raise InputError(f"{files.find(folder)[0].name} holds a header and no rows.")
    if not sampled:
        return total, columns
    total, counted = tally(NAME)
    exact = [described(column, counted[column["name"]], total) for column in _unbinned(case)]
    return total, [
        column | {key: of_all[key] for key in EXACT if key in of_all}
        for column, of_all in zip(columns, exact, strict=True)
    ]
