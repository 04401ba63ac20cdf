"""What monitoring measures of a picture, so that a batch of them can be held against those of training as numbers are.

No trained model: light, focus, size, in which directions edges run, and the strongest low frequencies of a thumbnail.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import patches, raw
from batchloop.container.usecase import Column, UseCase

THUMBNAIL = 16
DIRECTIONS = ("level", "rising", "upright", "falling")  # of edges, 45 degrees apart
PATTERNS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2))  # frequencies down and across
COLOURS = ("red", "green", "blue")
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's
EXAMPLES = 8  # pictures that a report shows
FLAT = 1.0  # added to variances, of 255 squared: a picture without any contrast has values too
Values = NDArray[np.float64]


def names(column: Column) -> list[str]:
    """What is measured of its pictures."""
    colours = [f"{colour} share" for colour in COLOURS] if column.colour else []
    edges = [f"{direction} edges" for direction in DIRECTIONS]
    patterns = [f"pattern {down}-{across}" for down, across in PATTERNS]
    return ["brightness", "contrast", "sharpness", "width", "height", *colours, *edges, *patterns]


def measured(pictures: pl.Series, column: Column) -> pl.Series:
    """Of a column of typed pictures (pictures.CELL) a Struct of numbers, null where there is no picture."""
    present = pictures.drop_nulls()
    kind = pl.Array(pl.UInt8, column.cells)
    pixels = present.struct.field("pixels").bin.reinterpret(dtype=kind).to_numpy().reshape(-1, *column.shape)
    found = {**_of_pixels(pixels), **{side: present.struct.field(side).to_numpy() for side in ("width", "height")}}
    frame = pl.DataFrame({name: np.asarray(found[name], np.float64) for name in names(column)})
    places = pl.Series(np.cumsum(pictures.is_not_null().to_numpy()) - 1).set(pictures.is_null(), None)
    struct = frame.to_struct(pictures.name)
    return struct.gather(places) if len(present) else pl.Series(pictures.name, [None] * len(pictures), struct.dtype)


def _of_pixels(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """Rows × height × width × channels as named values, one a row."""
    colours = pixels.astype(np.float32)
    grey = colours @ GREY.astype(np.float32) if pixels.shape[3] == 3 else colours[..., 0]
    found: dict[str, Any] = {"brightness": grey.mean(axis=(1, 2)), "contrast": grey.std(axis=(1, 2))}
    variance, inner = grey.var(axis=(1, 2)) + FLAT, grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    found["sharpness"] = np.log(laplacian.var(axis=(1, 2)) + FLAT / 100) - np.log(variance)
    if pixels.shape[3] == 3:
        shares = (colours.mean(axis=(1, 2)) + FLAT) / (colours.mean(axis=(1, 2)) + FLAT).sum(axis=1, keepdims=True)
        found |= {f"{colour} share": share for colour, share in zip(COLOURS, shares.T, strict=True)}
    return {**found, **_edges(grey), **_patterns(grey, np.sqrt(variance))}


def _edges(grey: Any) -> dict[str, Values]:
    """The share of the gradients' energy that is in edges of each direction."""
    down, across = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1], grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    # an edge runs at a right angle to its gradient; up is the direction in which rows fall
    angle = np.arctan2(across, down) % np.pi
    nearest = np.round(angle / (np.pi / len(DIRECTIONS))).astype(int) % len(DIRECTIONS)
    energy = down**2 + across**2
    total = energy.sum(axis=(1, 2)) + FLAT
    sums = [np.where(nearest == place, energy, 0.0).sum(axis=(1, 2)) / total for place in range(len(DIRECTIONS))]
    return {f"{direction} edges": share for direction, share in zip(DIRECTIONS, sums, strict=True)}


def _patterns(grey: Any, deviation: Any) -> dict[str, Values]:
    """Magnitudes of low frequencies (a two-dimensional cosine transform) of a thumbnail, in its own contrast."""
    step = grey.shape[1] // THUMBNAIL
    small = grey.reshape(len(grey), THUMBNAIL, step, THUMBNAIL, step).mean(axis=(2, 4)) / deviation[:, None, None]
    places = np.arange(THUMBNAIL) + 0.5
    waves = np.cos(np.pi / THUMBNAIL * np.outer(np.arange(3), places)) * np.sqrt(2 / THUMBNAIL)
    found = np.abs(np.einsum("fy,nyx,gx->nfg", waves, small, waves))
    return {f"pattern {down}-{across}": found[:, down, across] for down, across in PATTERNS}


def examples(folder: Path, seen: UseCase) -> dict[str, Any]:
    """`pictures`: the first of each column of a raw table as data: URIs, for people to look at; {} without columns."""
    columns = [column for column in seen.columns if column.type == "image"]
    if not columns:
        return {}
    first, found = next(raw.stream(folder, seen)[1]), dict[str, list[str]]()
    for column in columns:
        some = first[column.name].drop_nulls().struct.field("pixels").head(EXAMPLES)
        found[column.name] = [patches.uri(np.frombuffer(cell, np.uint8).reshape(column.shape)) for cell in some]
    return {"pictures": found}
