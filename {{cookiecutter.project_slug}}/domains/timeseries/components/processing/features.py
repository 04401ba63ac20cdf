"""★ From series to the features the model sees: change `examples`, `fit` and `transform` together.

`examples` looks at a series up to an origin, and at what is known in advance of the period that is forecast. Everything
that has the label's unit is taken relative to the series' level at the origin, so that large and small series learn
from each other. `fit` looks at the training split only. What it returns is plain data (it becomes preprocessor.json),
and `transform` needs nothing else, so training and scoring can't drift apart.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from batchloop.container import measured
from batchloop.container.usecase import Column, Features, UseCase

Feature = dict[str, Any]
OTHER = "other"  # the category of rare and unknown values
SHORT, LONG, LONGER = 1, 4, 8  # seasons of a moving window
LEAST = 4  # periods of the shortest window, where seasons are short or there are none
LAGS, SEASONS = 7, 4  # last periods, and values of the same place in earlier seasons
YEARS = {"h": 8736, "d": 364, "w": 52}  # periods of whole weeks in about a year
SCALE = ("series_level", "series_size")  # of a series at the origin: what the model adds and multiplies
GIVEN = ("seasonal_naive", "seasonal_error", *SCALE)  # in the label's unit
RELATIVE = (
    "mean_recent",
    "mean_long",
    "deviation_recent",
    "lowest_recent",
    "highest_recent",
    "season_mean",
    "year_ago",
)
SHAPE = (*RELATIVE, *(f"lag_{n}" for n in range(1, LAGS + 1)), *(f"season_{n}" for n in range(1, SEASONS + 1)))
WEEK, SEASON, HOUR = ("weekday", "day"), ("month", "day_of_year"), "hour"  # parts of a date
YEAR = 365  # days that training must span before a year's seasons say something of later rows


def examples(grid: pl.DataFrame, wanted: pl.DataFrame, case: UseCase) -> pl.DataFrame:
    """What is known of each wanted period at its origin: moving windows, last values, those of seasons before, columns.

    What a frame holds is said in batchloop/container/protocols.py.
    """
    assert case.series is not None
    season, label, series = case.series.season_length, case.data.label, "__series"
    short, year = max(season * SHORT, LEAST), _year(case.series.frequency)
    grid = grid.with_columns(_windows(label, season, series))
    origin, own, start = wanted["__origin"], wanted["__row"], wanted["__start"]
    then = grid[origin]
    level, size = then["__level"], then["__size"]

    def relative(values: pl.Series) -> pl.Series:
        return (values - level) / size

    def at(name: str, row: pl.Series) -> pl.Series:
        """A column at a row of the grid, null before the series begins."""
        return grid[name].gather(row.set(row < start, None))

    ahead = (wanted["step"] + season - 1) // season * season  # whole seasons that lead back to before the origin
    seasons = [at(label, own - ahead - season * n) for n in range(SEASONS)]
    naive = pl.select(pl.coalesce(*seasons, level)).to_series()
    mean = pl.select(pl.mean_horizontal(*seasons)).to_series()
    last_year = at("__centred", own - year) - at("__short", origin - year)
    usable = year - short > case.series.horizon  # its window ends before the origin
    columns = {
        "step": wanted["step"],
        "seasonal_naive": naive,
        "seasonal_error": then["__error"],
        "__stand_in": then["__stand_in"],
        "series_level": level,
        "series_size": size,
        "mean_recent": relative(then["__short"]),
        "mean_long": relative(then["__longer"]),
        "deviation_recent": then["__deviation"] / size,
        "lowest_recent": relative(then["__low"]),
        "highest_recent": relative(then["__high"]),
        "season_mean": relative(mean),
        "year_ago": last_year / size if usable else pl.repeat(None, len(wanted), dtype=pl.Float64, eager=True),
        **{f"lag_{n + 1}": relative(at(label, origin - n)) for n in range(LAGS)},
        **{f"season_{n + 1}": relative(values) for n, values in enumerate(seasons)},
        case.data.time: at(case.data.time, own),
        **{
            column.name: at(column.name, own if column.name in case.series.known else origin) for column in case.columns
        },
    }
    return pl.DataFrame({name: values.alias(name) for name, values in columns.items()})


def _windows(label: str, season: int, series: str) -> list[pl.Expr]:
    """Of the periods up to each one: level, size, spread, and the error of the seasonal naive forecast; all by series.

    A series of zeros has the size 1; one that did not move has an error as if its next value did (`__stand_in`).
    """
    target, change = pl.col(label), (pl.col(label) - pl.col(label).shift(season)).abs()
    short, long, longer = (max(season * window, LEAST) for window in (SHORT, LONG, LONGER))
    mean = target.rolling_mean(long, min_samples=1)
    level = pl.coalesce(mean, mean.forward_fill())
    size = target.abs().rolling_mean(long, min_samples=1).forward_fill()
    rounding = (target.abs().cum_max().forward_fill() * 1e-12).clip(1e-30)  # the features are Float32
    size = pl.when(size > rounding).then(size).otherwise(1.0)
    moves = (change, (target - target.shift(1)).abs())  # the second where a season is not over, or repeats to the digit
    errors = [move.rolling_mean(longer, min_samples=1).forward_fill() for move in moves]
    error = pl.coalesce(pl.when(each > rounding).then(each) for each in errors)
    values = target.is_not_null().cast(pl.Float64).rolling_sum(longer, min_samples=1).clip(1)
    found = {
        "__level": level,
        "__size": size,
        "__error": pl.coalesce(error, size / values),
        "__stand_in": error.is_null(),
        "__short": target.rolling_mean(short, min_samples=1).forward_fill(),
        "__longer": target.rolling_mean(longer, min_samples=1).forward_fill(),
        "__centred": target.rolling_mean(short, min_samples=1, center=True),
        "__deviation": target.rolling_std(short, min_samples=2),
        "__low": target.rolling_min(short, min_samples=1),
        "__high": target.rolling_max(short, min_samples=1),
    }
    return [expression.over(series).alias(name) for name, expression in found.items()]


def _year(frequency: str) -> int:
    """A year in periods, 0 where a season is one, or none fits."""
    unit = frequency.lstrip("0123456789")
    return YEARS.get(unit, 0) // int(frequency.removesuffix(unit))


def fit(frame: pl.LazyFrame, columns: Sequence[Column], settings: Features) -> list[Feature]:
    """Learn one or more features a column; `columns` end with the time and the label.

    A feature has a `name`, the raw column it comes from (`source`), a `kind` (the column's type), and for a category
    its `categories` in code order.
    """
    *others, time, label = columns
    target = {"source": label.name, "kind": "number"}
    features: list[Feature] = [{"name": "step", "source": time.name, "kind": "number"}]
    features += [{"name": name, **target} for name in (*GIVEN, *SHAPE)]
    features += [{"name": f"{time.name}__{part}", "source": time.name, "kind": "date"} for part in _parts(frame, time)]
    for column in others:
        common = {"name": column.name, "source": column.name, "kind": column.type}
        if column.type == "category":
            features.append({**common, "categories": _vocabulary(frame, column.name, settings)})
        elif column.type == "text":
            features += measured.terms(frame, column, settings)
        elif column.type == "date":
            features += [{**common, "name": f"{column.name}__{part}"} for part in (*SEASON, *WEEK)]
        else:
            features.append(common)
    return features


def transform(features: Sequence[Feature]) -> list[pl.Expr]:
    """The features as expressions over the examples: Float32, or an Enum for a category; null is missing."""
    return [_feature(feature) for feature in features]


def _feature(feature: Feature) -> pl.Expr:
    name = feature["name"]
    if "term" in feature:
        return measured.tf_idf(feature)
    match feature["kind"]:
        case "category":
            codes, source = pl.Enum(feature["categories"]), pl.col(name)
            coded = source.cast(codes, strict=False).fill_null(pl.lit(OTHER, dtype=codes))
            return pl.when(source.is_not_null()).then(coded).alias(name)
        case "date":
            return _date_part(pl.col(feature["source"]), name.rpartition("__")[2]).cast(pl.Float32).alias(name)
    return pl.col(name).cast(pl.Float32).alias(name)


def _date_part(date: pl.Expr, part: str) -> pl.Expr:
    parts = {
        "month": date.dt.month(),
        "day": date.dt.day(),
        "weekday": date.dt.weekday(),
        "day_of_year": date.dt.ordinal_day(),
        "hour": (date - date.dt.truncate("1d")).dt.total_microseconds() / (3600 * 1_000_000),  # minutes as a fraction
    }
    return parts[part]


def _vocabulary(frame: pl.LazyFrame, name: str, settings: Features) -> list[str]:
    """ "other", then the frequent values: the most frequent first, ties in alphabetical order."""
    counts = frame.select(pl.col(name).alias("value")).group_by("value").len()
    kept = counts.filter((pl.col("len") >= settings.rare) & (pl.col("value") != OTHER))
    frequent = kept.sort(["len", "value"], descending=[True, False]).collect(engine="streaming")["value"]
    return [OTHER, *frequent.head(settings.vocabulary)]


def _parts(frame: pl.LazyFrame, column: Column) -> tuple[str, ...]:
    """Which parts of the time say something of rows to come."""
    time = pl.col(column.name)
    clocked, span = (time.dt.truncate("1d") != time).any(), (time.max() - time.min()).dt.total_days()
    row = frame.select(clocked.alias("clock"), span.alias("span")).collect(engine="streaming").row(0, named=True)
    return (*(SEASON if (row["span"] or 0) >= YEAR else ()), *WEEK, *([HOUR] if row["clock"] else []))
