"""Tables of many series as examples: what was known at an origin, and the value that came some periods later.

Times become whole numbers, the periods of [series] frequency, so that a gap is one, however it is written. Rows are put
aside by series first: no more than some series are in memory at once, and each is there whole.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from batchloop.container import files, raw, usecase
from batchloop.container.datasets import FAR, module
from batchloop.container.horizons import Series
from batchloop.container.job import InputError
from batchloop.container.metrics import GIVEN
from batchloop.container.raw import BROKEN, ERROR, GROUP, INVALID, NO_ID, PART, SERIES, SLICE, RawTable
from batchloop.container.usecase import UseCase

log = logging.getLogger(__name__)
PERIOD, ROW, ORIGIN, START, STEP, LAST = "__period", "__row", "__origin", "__start", "step", "__last"
ROUNDING = 6e-7  # ten times the one of a Float32: an error as small is one of rounding too
STAND_IN = "__stand_in"  # true where the past has no error to measure a forecast by
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MONTHS = {"mo": 1, "q": 3, "y": 12}
MONDAY = 3 * 86_400_000_000  # microseconds from a Monday to 1970-01-01: weeks begin on one
BUCKETS, AT_ONCE = 64, 100_000  # parts that series are put aside in, and rows of some that are read together
EXAMPLES = 300_000  # of training: with fewer rows, each is forecast from several origins
SPARSE, FEW = 50, 100_000  # periods a row, and periods, that a table has at most
STRAY, SHIFT = 0.001, 0.05  # the share of rows that may lie apart, and of the time between the ends that they make
BLOCKS = 5  # origins whose forecasts are drawn as wholes; where validation or test has fewer, periods are
HISTORY, SEASONS = 12_000, 10  # periods of a series that a forecast may look back on, or so many seasons


def spread() -> tuple[str, ...]:
    """The inputs of scoring of which each host may have a part: none where a series may lie in several files."""
    return () if usecase.load().series else ("raw",)


def period(time: pl.Expr, frequency: str) -> pl.Expr:
    """The number of the period that a time lies in; consecutive periods have consecutive numbers."""
    unit = frequency.lstrip("0123456789")
    number = int(frequency.removesuffix(unit))
    if unit in MONTHS:
        months = time.dt.year().cast(pl.Int64) * 12 + time.dt.month() - 1
        return months // (number * MONTHS[unit])
    since = time.dt.epoch("us") + (MONDAY if unit == "w" else 0)
    return since // (number * SECONDS[unit] * 1_000_000)


class Buckets:
    """Rows put aside by series, and given back some whole series at a time; at least one frame, which may be empty."""

    def __init__(self) -> None:
        self.folder, self.parts, self.rows = files.scratch("series-"), defaultdict[int, list[Path]](list), 0
        self.empty = pl.DataFrame()

    def add(self, batch: pl.DataFrame) -> None:
        self.empty, self.rows = batch.clear(), self.rows + len(batch)
        marked = batch.with_columns((pl.col(SERIES).hash() % BUCKETS).alias("__bucket"))
        for (code,), part in marked.partition_by("__bucket", as_dict=True, include_key=False).items():
            places = self.parts[int(code)]
            places.append(self.folder / f"{code:02d}-{len(places):05d}.parquet")
            part.write_parquet(places[-1], compression="lz4", statistics=False)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        held = [self.empty]
        for code in sorted(self.parts):
            held += [pl.read_parquet(part, glob=False) for part in self.parts[code]]
            if sum(map(len, held)) > AT_ONCE:
                yield pl.concat(held)
                held = []
        if held:
            yield pl.concat(held)


def taken(batch: pl.DataFrame, case: UseCase) -> pl.DataFrame:
    """The columns that examples are made of, and the period."""
    series = _series(case)
    names = [NO_ID, SERIES, case.data.time, case.data.label, *(column.name for column in case.columns)]
    names += [flag for name in names if (flag := INVALID + name) in batch.columns]
    names += [name for name in batch.columns if name.startswith(SLICE)]
    return batch.select(*names, BROKEN, ERROR, period(pl.col(case.data.time), series.frequency).alias(PERIOD))


def _series(case: UseCase) -> Series:
    if case.series is None:
        raise InputError("usecase.toml has no [series].")
    return case.series


def _borders(low: int, high: int, case: UseCase) -> tuple[int, int]:
    """The first period of validation and of test, in whole horizons. Raises InputError where too little is left."""
    horizon, periods = _series(case).horizon, high - low + 1
    shares = case.split.test, case.split.validation
    test, validation = (horizon * max(1, round(share * periods / horizon)) for share in shares)
    if periods - test - validation < horizon + 1:
        raise InputError(
            f"column {case.data.time!r} spans {periods:,} periods of [series] frequency = "
            f"{_series(case).frequency!r}; validation and test take a horizon of {horizon:,} each, and training "
            "needs more than one: give more data, or a shorter horizon."
        )
    return high - test - validation + 1, high - test + 1


def _split(times: pl.DataFrame, case: UseCase) -> tuple[tuple[int, int], int]:
    """The borders and the last period that they are drawn by; `times`: PERIOD, `first` (its time), `len` (its rows).

    Few rows far from all others don't move them, and belong to the first or the last part.
    """
    times = times.group_by(PERIOD).agg(pl.col("first").min(), pl.col("len").sum()).sort(PERIOD)
    until, total, name = times["len"].cum_sum(), int(times["len"].sum()), repr(case.data.time)
    most = times.filter((until > STRAY * total) & (until - times["len"] < (1 - STRAY) * total))
    if most[PERIOD][-1] - most[PERIOD][0] < (1 - SHIFT) * (times[PERIOD][-1] - times[PERIOD][0]):
        few = f"{total - int(most['len'].sum()):,}"
        log.warning("the split goes by %s from %s to %s; rows far from these: %s", name, *_ends(most), few)
    else:
        most = times
    last = int(most[PERIOD][-1])
    borders = _borders(int(most[PERIOD][0]), last, case)
    before = [int(times.filter(pl.col(PERIOD) < border)["len"].sum()) for border in borders]
    held = {"validation": (before[1] - before[0], case.split.validation), "test": (total - before[1], case.split.test)}
    for part, (rows, share) in held.items():
        if rows < FAR * share * total:
            words = "%s has %.1f %% of the rows instead of %.0f %%: is each %s right, from %s to %s?"
            log.warning(words, part, 100 * rows / total, 100 * share, name, *_ends(times))
    return borders, last


def _ends(times: pl.DataFrame) -> tuple[str, str]:
    first, last = times["first"].gather([0, -1]).dt.to_string("%Y-%m-%d %H:%M")
    return first, last


def examples(table: pl.LazyFrame, case: UseCase) -> pl.LazyFrame:
    """Examples of all usable rows of series, with the part that each belongs to, by the time of its value.

    Each value of validation and test is forecast once, one of training from as many origins as EXAMPLES allow. Values
    of validation and test that have no unit to be measured in, since their series did not move before, are left out.
    """
    if case.series is None:
        return table
    buckets, times = Buckets(), list[pl.DataFrame]()
    for batch in table.collect_batches(chunk_size=250_000, maintain_order=True):
        buckets.add(rows := taken(batch, case))
        times.append(rows.group_by(PERIOD).agg(pl.col(case.data.time).min().alias("first"), pl.len()))
    (borders, last), folder = _split(pl.concat(times), case), files.scratch("examples-")
    horizons = min(borders[1] - borders[0], last - borders[1] + 1) // case.series.horizon
    steps, still = max(1, min(case.series.horizon, EXAMPLES // buckets.rows)), 0
    rounded, (naive, error, _) = 0, map(pl.col, GIVEN)
    for number, rows in enumerate(buckets):
        whole = grid(rows, case)
        wanted = _origins(whole, borders, steps, case)
        # series share their days, good and bad ones: those of one time stand and fall together
        block = pl.col(PERIOD) - (wanted[STEP] if horizons >= BLOCKS else 0)
        made = _made(whole, wanted, case, block.cast(pl.String).alias(GROUP))
        if STAND_IN in made.columns:
            every, made = len(made), made.filter((pl.col(PART) == "train") | ~pl.col(STAND_IN)).drop(STAND_IN)
            still += every - len(made)
        rounded += len(made.filter(naive.abs() * ROUNDING > error))
        made.write_parquet(folder / f"{number:05d}.parquet", compression="lz4", statistics=False)
    if still:
        words = "%s values of validation and test are not measured: their series did not move before them"
        log.warning(words, f"{still:,}")
    if rounded:
        words = "%s forecasts are of values too large for what they differ by: of seven digits; take a constant from %r"
        log.warning(words, f"{rounded:,}", case.data.label)
    return pl.scan_parquet(folder, glob=False)


def grid(rows: pl.DataFrame, case: UseCase) -> pl.DataFrame:
    """A row a series and period, sorted: gaps filled, labels by their mean. Raises InputError where most are gaps."""
    others = [name for name in rows.columns if name not in (SERIES, PERIOD, case.data.label)]
    label = pl.col(case.data.label)
    each = rows.group_by(SERIES, PERIOD).agg(label.mean(), pl.col(others).last(), label.n_unique().alias("__differ"))
    if again := len(each.filter(pl.col("__differ") > 1)):
        words = "%s periods of [series] frequency = %r have rows with different labels of one series; their mean counts"
        log.warning(words, f"{again:,}", _series(case).frequency)
    each = each.drop("__differ")
    ends = each.group_by(SERIES).agg(pl.col(PERIOD).min(), (pl.col(PERIOD).max() + 1).alias(LAST)).sort(SERIES)
    size = int((ends[LAST] - ends[PERIOD]).sum())
    if size > SPARSE * len(each) + FEW:
        raise InputError(
            f"column {case.data.time!r} spans {size:,} periods of [series] frequency = {_series(case).frequency!r} "
            f"with {len(each):,} rows: is the frequency right, and is each time?"
        )
    if size > len(each):
        whole = ends.select(SERIES, pl.int_ranges(PERIOD, LAST).alias(PERIOD)).explode(PERIOD)
        each = whole.join(each, on=[SERIES, PERIOD], how="left")
    numbered = each.sort(SERIES, PERIOD).with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
    return numbered.with_columns(pl.col(ROW).min().over(SERIES).alias(START))


def _origins(grid: pl.DataFrame, borders: tuple[int, int], steps: int, case: UseCase) -> pl.DataFrame:
    """Which values are forecast from where: ROW, ORIGIN, STEP and PART."""
    horizon, here, (validation, test) = _series(case).horizon, pl.col(PERIOD), borders
    part = pl.when(here >= test).then(pl.lit("test")).when(here >= validation)
    known = grid.filter(pl.col(case.data.label).is_not_null())
    known = known.with_columns(part.then(pl.lit("validation")).otherwise(pl.lit("train")).alias(PART))
    held, learned = pl.col(PART) != "train", pl.struct(SERIES, PERIOD).hash().cast(pl.UInt64) % horizon
    chosen = [known.filter(held).with_columns((1 + (here - validation) % horizon).alias(STEP))]
    for number in range(steps):
        step = 1 + (learned.cast(pl.Int64) + number * horizon // steps) % horizon
        chosen.append(known.filter(~held).with_columns(step.alias(STEP)))
    wanted = pl.concat(chosen).with_columns((pl.col(ROW) - pl.col(STEP)).alias(ORIGIN))
    return wanted.filter(pl.col(ORIGIN) >= pl.col(START)).select(ROW, ORIGIN, START, STEP, PART).sort(ROW, STEP)


def _made(grid: pl.DataFrame, wanted: pl.DataFrame, case: UseCase, group: pl.Expr) -> pl.DataFrame:
    """What features.py makes of them, beside id, label and group."""
    made = module().examples(grid, wanted, case)
    own = grid[wanted[ROW]]
    known = own.select(NO_ID, case.data.label, group, wanted[PART], pl.selectors.starts_with(SLICE))
    return pl.concat([known, made], how="horizontal").drop_nulls(GIVEN)


def stream(folder: Path, case: UseCase) -> tuple[RawTable, Iterator[pl.DataFrame]]:
    """A raw table and its batches, as raw.stream gives them; of series the examples to forecast."""
    table, batches = raw.stream(folder, case)
    return table, to_forecast(table, batches, case) if case.series else batches


def to_forecast(table: RawTable, batches: Iterable[pl.DataFrame], case: UseCase) -> Iterator[pl.DataFrame]:
    """The rows without a label after the last one of their series, as examples; broken rows stay what they are.

    A row that can't be forecast is broken too, and says why; a gap in the past is none to come. Counts in `table`.
    Raises InputError for a table without a row that can be forecast.
    """
    buckets, done, gaps, labelled = Buckets(), 0, 0, 0
    for batch in batches:
        buckets.add(taken(batch, case))
    for rows in buckets:
        usable, label = rows.filter(~pl.col(BROKEN)), pl.col(case.data.label)
        history = usable.filter(label.is_not_null())
        every = _asked(history, usable.filter(label.is_null()), case)
        asked = every.filter((pl.col(STEP) >= 1).fill_null(True))
        gaps, labelled = gaps + len(every) - len(asked), labelled + len(history)
        near = history.join(asked.select(SERIES, LAST).unique(), on=SERIES)
        back = max(HISTORY, SEASONS * _series(case).season_length)
        near = near.filter(pl.col(PERIOD) > pl.col(LAST) - back).select(rows.columns)
        possible = asked.filter(pl.col(ERROR).is_null())
        whole = grid(pl.concat([near, possible.select(rows.columns)]), case)
        places = whole.select(SERIES, PERIOD, ROW, START)
        wanted = possible.join(places, on=[SERIES, PERIOD], maintain_order="left")
        wanted = wanted.with_columns((pl.col(ROW) - pl.col(STEP)).alias(ORIGIN))
        made = module().examples(whole, wanted, case).drop(STAND_IN, strict=False)
        forecast = pl.concat([wanted.select(NO_ID, BROKEN, ERROR), made], how="horizontal")
        refused = asked.drop_nulls(ERROR)
        if len(refused):
            table.first = table.first or "{}: {}".format(*refused.select(NO_ID, ERROR).row(0))
        table.refused, done = table.refused + len(refused), done + len(forecast)
        broken = pl.concat([rows.filter(pl.col(BROKEN)), refused.select(rows.columns)])
        broken = broken.select(NO_ID, pl.lit(True).alias(BROKEN), ERROR)
        yield pl.concat([forecast, broken], how="diagonal")
    table.past = table.rows - table.broken - table.refused - done
    _check(table, done, labelled, case)
    if gaps:
        table.warnings.append(f"{gaps:,} rows of the past have no {case.data.label!r}; they are gaps, and not answered")


def _check(table: RawTable, done: int, labelled: int, case: UseCase) -> None:
    """Raises InputError where rows keep the contract, and none can be forecast."""
    label, names = repr(case.data.label), (*case.keys(), *_series(case).known)
    if done or table.broken == table.rows:
        return
    if not labelled:
        raise InputError(f"no row has a {label}: a batch brings its past, with {label}, beside the rows to come.")
    if table.refused:
        raise InputError(f"none of {table.refused:,} rows to come can be forecast; first: {table.first}.")
    raise InputError(
        f"no row is to be forecast: each has a {label}, or a later one of its series has. Add the rows to come, with "
        f"{', '.join(map(repr, names))} and without {label}."
    )


def _asked(history: pl.DataFrame, rows: pl.DataFrame, case: UseCase) -> pl.DataFrame:
    """Rows to forecast with LAST, the period of their series' last label, STEP, and why they can't be forecast."""
    label, horizon = case.data.label, _series(case).horizon
    ends = history.group_by(SERIES).agg(pl.col(PERIOD).max().alias(LAST))
    known = rows.join(ends, on=SERIES, how="left", maintain_order="left")
    step = pl.col(PERIOD) - pl.col(LAST)
    ahead = f" periods after the last {label!r} of its series, and [series] horizon = {horizon:,}"
    error = (
        pl.when(pl.col(LAST).is_null())
        .then(pl.lit(f"no row of its series has a {label!r}: there is nothing to forecast it from"))
        .when(step > horizon)
        .then(pl.concat_str(pl.lit("it is "), step, pl.lit(ahead)))
    )
    return known.with_columns(step.alias(STEP), error.alias(ERROR))
