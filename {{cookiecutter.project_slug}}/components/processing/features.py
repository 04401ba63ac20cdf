"""★ From typed raw columns to the features the model sees: change `fit` and `transform` together.

`fit` looks at the training split only. What it returns is plain data (it becomes preprocessor.json), and `transform`
needs nothing else, so training and scoring can't drift apart.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from batchloop.container import measured
from batchloop.container.usecase import Column, Features

Feature = dict[str, Any]
OTHER = "other"  # the category of rare and unknown values
COLUMNS_AT_ONCE = 200  # in one query: the cost of a plan grows with the square of its columns
TREND, SEASON, WEEK = ("days",), ("month", "day_of_year"), ("day", "weekday")  # parts of a date
HOUR = "hour"  # a part of those dates that have a time of day
YEAR = 365  # days that a column must span before its seasons say something of later rows


def fit(frame: pl.LazyFrame, columns: Sequence[Column], settings: Features) -> list[Feature]:
    """Learn one or more features a column, in the columns' order.

    A feature has a `name`, the raw column it comes from (`source`), a `kind` (the column's type), for a category its
    `categories` in code order, and for a number the `fill` that stands for a missing value, where one was asked for.
    """
    vocabularies = _vocabularies(frame, [column.name for column in columns if column.type == "category"], settings)
    fills = _medians(frame, [column.name for column in columns if column.type == "number"], settings)
    parts = _date_parts(frame, [column for column in columns if column.type == "date"])
    features: list[Feature] = []
    for column in columns:
        common = {"name": column.name, "source": column.name, "kind": column.type}
        match column.type:
            case "category":
                features.append({**common, "categories": vocabularies[column.name]})
            case "date":
                features += [{**common, "name": f"{column.name}__{part}"} for part in parts[column.name]]
            case "text":
                features += measured.terms(frame, column, settings)
            case "number" if column.name in fills:
                features.append({**common, "fill": fills[column.name]})
            case _:
                features.append(common)
    return features


def transform(features: Sequence[Feature]) -> list[pl.Expr]:
    """The features as expressions over typed raw columns: Float32, or an Enum for a category; null is missing."""
    return [_feature(feature) for feature in features]


def _feature(feature: Feature) -> pl.Expr:
    source = pl.col(feature["source"])
    match feature["kind"]:
        case "category":
            codes = pl.Enum(feature["categories"])
            coded = source.cast(codes, strict=False).fill_null(pl.lit(OTHER, dtype=codes))
            return pl.when(source.is_not_null()).then(coded).alias(feature["name"])
        case "date":
            return _date_part(source, feature["name"].rpartition("__")[2]).cast(pl.Float32).alias(feature["name"])
        case _ if "term" in feature:
            return measured.tf_idf(feature)
    value = source.cast(pl.Float32)
    return (value.fill_null(feature["fill"]) if "fill" in feature else value).alias(feature["name"])


def _date_part(date: pl.Expr, part: str) -> pl.Expr:
    match part:
        case "days":  # since 1970-01-01, with the time of day as a fraction
            return date.dt.epoch("us") / (24 * 3600 * 1_000_000)
        case "month":
            return date.dt.month()
        case "day":
            return date.dt.day()
        case "weekday":
            return date.dt.weekday()
        case "day_of_year":
            return date.dt.ordinal_day()
        case "hour":  # 0 to 24, minutes as a fraction
            return (date - date.dt.truncate("1d")).dt.total_microseconds() / (3600 * 1_000_000)
    raise ValueError(f"no such part of a date: {part}")


def _vocabularies(frame: pl.LazyFrame, names: list[str], settings: Features) -> dict[str, list[str]]:
    """For each column "other", then its frequent values: the most frequent first, ties in alphabetical order."""
    vocabularies: dict[str, list[str]] = {}
    for start in range(0, len(names), COLUMNS_AT_ONCE):
        chunk = names[start : start + COLUMNS_AT_ONCE]
        counts = frame.select(chunk).unpivot(variable_name="name").group_by("name", "value").len()
        kept = counts.filter((pl.col("len") >= settings.rare) & (pl.col("value") != OTHER))
        frequent = kept.sort(["len", "value"], descending=[True, False]).collect(engine="streaming")
        for name in chunk:
            values = frequent.filter(pl.col("name") == name)["value"]
            vocabularies[name] = [OTHER, *values.head(settings.vocabulary)]
    return vocabularies


def _date_parts(frame: pl.LazyFrame, columns: Sequence[Column]) -> dict[str, tuple[str, ...]]:
    """Which parts of each date say something of rows to come: of a time that goes on (drift = false), no trend."""
    if not columns:
        return {}
    dates = [pl.col(column.name) for column in columns]
    clocked = [(date.dt.truncate("1d") != date).any().alias(f"clock {n}") for n, date in enumerate(dates)]
    spans = [(date.max() - date.min()).dt.total_days().alias(f"span {n}") for n, date in enumerate(dates)]
    row = frame.select(*clocked, *spans).collect(engine="streaming").row(0, named=True)
    return {
        column.name: (
            *(TREND if column.drift else ()),
            *(SEASON if column.drift or (row[f"span {n}"] or 0) >= YEAR else ()),
            *WEEK,
            *([HOUR] if row[f"clock {n}"] else []),
        )
        for n, column in enumerate(columns)
    }


def _medians(frame: pl.LazyFrame, names: list[str], settings: Features) -> dict[str, float]:
    if settings.impute == "none" or not names:
        return {}
    medians = frame.select(pl.col(name).median() for name in names).collect(engine="streaming").row(0, named=True)
    return {name: value for name, value in medians.items() if value is not None}
