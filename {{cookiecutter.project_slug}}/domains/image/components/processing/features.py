"""★ From typed raw columns to the features the model sees: change `fit` and `transform` together.

`fit` looks at the training split only. What it returns is plain data (it becomes preprocessor.json), and `transform`
needs nothing else, so training and scoring can't drift apart. Pictures come in their final size; turning and moving
them at random is a part of training, in model.py.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from batchloop.container.job import InputError
from batchloop.container.usecase import Column, Features

Feature = dict[str, Any]
OTHER = "other"  # the category of rare and unknown values


def fit(frame: pl.LazyFrame, columns: Sequence[Column], settings: Features) -> list[Feature]:
    """Learn a feature a column, in the columns' order.

    A feature has a `name`, the raw column it comes from (`source`), a `kind` (the column's type), for an image its
    `shape` (rows, columns, channels), for a category its `categories` in code order, and for a number the `fill` that
    stands for a missing value, where one was asked for. Raises InputError for a column of another type.
    """
    features = list[Feature]()
    for column in columns:
        learned: Feature = {"name": column.name, "source": column.name, "kind": column.type}
        match column.type:
            case "image":
                learned["shape"] = list(column.shape)
            case "category":
                learned["categories"] = _vocabulary(frame, column.name, settings)
            case "number" if settings.impute == "median":
                learned["fill"] = frame.select(pl.col(column.name).median()).collect(engine="streaming").item()
            case "date" | "text":
                raise InputError(f"column {column.name!r} is a {column.type}, and features.py makes nothing of those.")
        features.append(learned)
    return features


def transform(features: Sequence[Feature]) -> list[pl.Expr]:
    """The features as expressions over typed raw columns; null is missing.

    Float32, an Enum for a category, and for an image Binary: a byte for each of its values.
    """
    return [_feature(feature).alias(feature["name"]) for feature in features]


def _feature(feature: Feature) -> pl.Expr:
    source = pl.col(feature["source"])
    match feature["kind"]:
        case "image":
            return source.struct.field("pixels")
        case "category":
            codes = pl.Enum(feature["categories"])
            coded = source.cast(codes, strict=False).fill_null(pl.lit(OTHER, dtype=codes))
            return pl.when(source.is_not_null()).then(coded)
    value = source.cast(pl.Float32)
    return value.fill_null(feature["fill"]) if feature.get("fill") is not None else value


def _vocabulary(frame: pl.LazyFrame, name: str, settings: Features) -> list[str]:
    """ "other", then the frequent values: the most frequent first, ties in alphabetical order."""
    counts = frame.select(pl.col(name).alias("value")).group_by("value").len()
    kept = counts.filter((pl.col("len") >= settings.rare) & (pl.col("value") != OTHER))
    frequent = kept.sort(["len", "value"], descending=[True, False]).head(settings.vocabulary)
    return [OTHER, *frequent.collect(engine="streaming")["value"]]
