"""What of series is monitored: not the values, which move with season and trend, but what is left beyond them.

A number of the past, the label first of all, counts by how far it lies from the value whole seasons before, at least a
horizon back, in units of what such values usually differ by. What is known in advance counts as it is, of the rows to
come. Rows of one time have much in common: by how much less they say is learned, the design effect.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.container import files, measured, raw, series
from batchloop.container.metrics import FORECAST
from batchloop.container.raw import GROUP, NO_ID, SERIES
from batchloop.container.series import PERIOD
from batchloop.container.usecase import UseCase

BLOCK, LONGER = "__block", 8  # number of a horizon; seasons that say what values usually differ by
SHOWN, PAST = 4, 3  # series in a picture, and horizons (or seasons) of their past
Parts = dict[tuple[str, ...], pl.LazyFrame]  # by the columns that are monitored on these rows


def monitored(folder: Path, case: UseCase, new: bool) -> Parts:
    """Of training the rows with a label, and all rows for what is known in advance.

    Of a window that is `new` the last horizon of rows with a label, and the rows to come.
    """
    assert case.series is not None
    label, horizon = pl.col(case.data.label), case.series.horizon
    known = case.series.known
    past = tuple(measured.kinds(one for one in case.sources() if one.name not in (*known, case.data.time)))
    advance = tuple(measured.kinds(one for one in case.columns if one.name in known))
    buckets, last = series.Buckets(), -(2**62)
    for batch in raw.stream(folder, case)[1]:
        rows = series.taken(batch, case).filter(pl.col(SERIES).is_not_null() & pl.col(PERIOD).is_not_null())
        rows = measured.measured(rows, case.columns)
        end = rows.filter(label.is_not_null())[PERIOD].max()
        last = max(last, end) if isinstance(end, int) else last
        buckets.add(rows)
    folders = files.scratch("past-"), files.scratch("ahead-")
    for number, rows in enumerate(buckets):
        grid = series.grid(rows, case).with_columns(_beyond(case)).filter(pl.col(NO_ID).is_not_null())
        grid = grid.with_columns((pl.col(PERIOD) // horizon).alias(BLOCK))
        seen = grid.filter(label.is_not_null() & (pl.col(PERIOD) > last - horizon if new else pl.lit(True)))
        ahead = grid.filter(label.is_null() & (pl.col(PERIOD) > last)) if new else grid
        for place, part in zip(folders, (seen.filter(pl.col("__known")), ahead), strict=True):
            part.write_parquet(place / f"{number:05d}.parquet", compression="lz4", statistics=False)
    frames = [pl.scan_parquet(place, glob=False) for place in folders]
    return {names: frame for names, frame in zip((past, advance), frames, strict=True) if names}


def _beyond(case: UseCase) -> list[pl.Expr]:
    """Each number of the past as its distance from the one whole seasons before; whether the label's is known."""
    assert case.series is not None
    season = case.series.season_length
    back, found = -(-case.series.horizon // season) * season, []
    for column in case.sources():
        value = pl.col(column.name)
        if column.type != "number" or column.name in case.series.known:
            continue
        usual = (value - value.shift(season)).abs().rolling_mean(max(LONGER * season, 4), min_samples=1).forward_fill()
        size = value.abs().rolling_mean(max(LONGER * season, 4), min_samples=1).forward_fill()
        unit = pl.when(usual > 1e-6 * size).then(usual).when(size > 0).then(size).otherwise(1.0)
        found.append(((value - value.shift(back)) / unit.shift(back)).over(SERIES).alias(column.name))
    label = pl.col(case.data.label)
    return [*found, label.shift(back).over(SERIES).is_not_null().alias("__known")]


def forecasts(folder: Path, case: UseCase, predictions: pl.LazyFrame) -> list[dict[str, Any]]:
    """Some series for a picture: `name`, the last of their `past` and what is `ahead`, by the names of periods."""
    if case.series is None:
        return []
    series_of, time_of = pl.col(NO_ID).str.replace(r"\|?[^|]*$", ""), pl.col(NO_ID).str.extract(r"([^|]*)$")
    split = [series_of.alias(SERIES), time_of.alias("time")]
    ahead = predictions.filter(pl.col("error").is_null()).with_columns(split).collect(engine="streaming")
    names = ahead[SERIES].unique().sort()
    chosen = names.gather_every(max(1, len(names) // SHOWN)).head(SHOWN)
    length, parts = PAST * max(case.series.horizon, case.series.season_length), list[pl.DataFrame]()
    for batch in raw.stream(folder, case)[1]:
        known = batch.filter(pl.col(SERIES).is_in(chosen.implode()) & pl.col(case.data.label).is_not_null())
        parts.append(known.select(SERIES, case.data.time, NO_ID, case.data.label))
    past = pl.concat(parts).sort(case.data.time).with_columns(split)
    return [
        {
            "name": name or case.data.label,
            "past": past.filter(pl.col(SERIES) == name).tail(length).select("time", case.data.label).rows(),
            "ahead": ahead.filter(pl.col(SERIES) == name).sort("step").select("time", *FORECAST[:3]).rows(),
        }
        for name in chosen
    ]


def scores(scored: pl.LazyFrame, case: UseCase) -> pl.LazyFrame | Parts:
    """Predictions as they are monitored: forecasts by how far they lie from the seasonal naive ones."""
    if case.series is None:
        return scored
    beyond = (pl.col("prediction") - pl.col("seasonal_naive")) / pl.col("seasonal_error")
    blocks = [pl.col(GROUP).str.split("|").list.last().alias(BLOCK)] if GROUP in scored.collect_schema() else []
    return {("prediction",): scored.with_columns(beyond, *blocks)}


def design_effect(column: Mapping[str, Any], frame: pl.LazyFrame) -> float:
    """Pearson's statistic of "all blocks have the same distribution" over its degrees of freedom, 1 if they have.

    It is as large as so many blocks allow: the upper 95 % limit of a variance (by Wilson and Hilferty, 1931). Counts
    divided by it are as sure as those of independent rows (Rao and Scott, 1987).
    """
    name = pl.col(column["name"])
    if "edges" in column:
        code = pl.sum_horizontal(pl.lit(0), *(name > edge for edge in column["edges"]))
        code = pl.when(name.is_not_null()).then(code).otherwise(-1)
    else:
        code = name.cast(pl.String).replace_strict(column["values"], range(len(column["values"])), default=-1)
    counts = frame.select(BLOCK, code.alias("code")).group_by(BLOCK, "code").len().collect(engine="streaming")
    wide = counts.sort("code", BLOCK).pivot("code", index=BLOCK, values="len").fill_null(0).drop(BLOCK)
    table = wide.to_numpy().astype(float)
    blocks, bins = table.shape
    if blocks < 2 or bins < 2:
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    found = float(((table - expected) ** 2 / expected).sum() / (blocks - 1) / (bins - 1))
    free = 2 / (9 * (blocks - 1))
    return float(max(1.0, found / max(0.05, 1 - free - 1.645 * math.sqrt(free)) ** 3))
