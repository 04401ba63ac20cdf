"""Features side by side as the model's matrix: float32, and uint8 where there are nothing but pictures."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import polars as pl

from batchloop.container.protocols import Feature, Matrix


def width(feature: Feature) -> int:
    """How many columns a feature has."""
    return prod(feature["shape"]) if feature["kind"] == "image" else 1


def cells(features: Sequence[Feature]) -> int:
    """What a row takes, in numbers of 4 bytes."""
    return sum(max(1, width(feature) // 4) for feature in features)


def places(features: Sequence[Feature]) -> list[slice]:
    """The columns of each feature."""
    ends = np.cumsum([0, *map(width, features)]).tolist()
    return [slice(start, end) for start, end in pairwise(ends)]


def empty(rows: int, features: Sequence[Feature]) -> Matrix:
    pixels = bool(features) and all(feature["kind"] == "image" for feature in features)
    kind: Any = np.uint8 if pixels else np.float32
    made: Matrix = np.empty((rows, sum(map(width, features))), dtype=kind)
    return made


def unknown(features: Sequence[Feature]) -> Matrix:
    """A row without any value: NaN, or a black picture."""
    row: Matrix = empty(1, features)
    row[:] = 0 if row.dtype.kind == "u" else np.nan
    return row


def joined(columns: pl.DataFrame, features: Sequence[Feature]) -> Matrix:
    """Columns with the features' names: numbers (Float32), pictures (Binary, a byte a value; black where missing)."""
    if not any(feature["kind"] == "image" for feature in features):
        return columns.select(feature["name"] for feature in features).to_numpy(order="c")
    made = empty(columns.height, features)
    for feature, place in zip(features, places(features), strict=True):
        column = columns[feature["name"]]
        if feature["kind"] == "image":
            pixels = column.fill_null(bytes(width(feature))).bin.reinterpret(dtype=pl.Array(pl.UInt8, width(feature)))
            made[:, place] = pixels.to_numpy()
        else:
            made[:, place] = column.to_numpy()[:, np.newaxis]
    return made
