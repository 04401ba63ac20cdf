"""Features of a frame as the model's matrix: float32, one row an example, one column a feature."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from runtime.protocols import Feature, Matrix


def matrix(frame: pl.DataFrame, features: Sequence[Feature]) -> Matrix:
    """The features of a frame (numeric columns, and Enum or text columns for categories) in the model's order."""
    return fill(np.empty((frame.height, len(features)), dtype=np.float32), frame, features)


def fill(target: Matrix, frame: pl.DataFrame, features: Sequence[Feature]) -> Matrix:
    """Write the frame's features into `target`, rows × features, one column at a time; the answer is `target`."""
    for position, feature in enumerate(features):
        column = frame[feature["name"]]
        if feature["kind"] == "category":
            column = column.cast(pl.Enum(feature["categories"]), strict=False).to_physical()
        target[:, position] = column.cast(pl.Float32).to_numpy()
    return target
