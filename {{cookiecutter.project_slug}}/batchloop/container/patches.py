"""Pictures in explanations: the attributions of pixels as patches that have a name, and as a map beside the picture."""

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchloop.container import matrices
from batchloop.container.protocols import Feature

SIDES = 4  # patches across, and down
SHOWN = 6  # pictures with a map on a page
AROUND = 32  # a pixel of a map is a mean as far around as this part of the picture
STRONG = 0.99  # of a map's values: what this share stays below has the full colour
COLOURS = np.array([[194, 87, 26], [47, 111, 222]], dtype=np.uint8)  # against, and for; as bars have them


def parts(features: Sequence[Feature]) -> list[Feature]:
    """What is explained: every feature, and in the place of a picture its patches, named by their pixels from 1."""
    made = list[Feature]()
    for feature in features:
        if feature.get("kind") != "image":
            made.append(feature)
            continue
        rows, columns = (_borders(length) for length in feature["shape"][:2])
        for top, bottom in pairwise(rows):
            for left, right in pairwise(columns):
                name = f"{feature['name']}, rows {top + 1}-{bottom}, columns {left + 1}-{right}"
                made.append({"name": name, "source": feature["source"], "kind": "patch"})
    return made


def _borders(length: int) -> list[int]:
    return [length * place // SIDES for place in range(SIDES + 1)]


def added(values: NDArray[Any], features: Sequence[Feature]) -> NDArray[np.float64]:
    """Attributions of the matrix's columns (the last axis) as those of `parts`: a patch has the sum of its pixels."""
    made = list[NDArray[np.float64]]()
    for feature, place in zip(features, matrices.places(features), strict=True):
        part = values[..., place].astype(np.float64)
        if feature["kind"] == "image":
            pixels = part.reshape(*part.shape[:-1], *feature["shape"]).sum(axis=-1)
            rows, columns = (_borders(length)[:-1] for length in feature["shape"][:2])
            pixels = np.add.reduceat(np.add.reduceat(pixels, rows, axis=-2), columns, axis=-1)
            part = pixels.reshape(*part.shape[:-1], -1)
        made.append(part)
    return np.concatenate(made, axis=-1)


def means(matrix: NDArray[Any], features: Sequence[Feature]) -> NDArray[np.float64]:
    """Rows as `parts`: a patch has the mean of its pixels, its brightness from 0 to 255."""
    return added(matrix, features) / added(np.ones((1, matrix.shape[1])), features)


def shown(row: NDArray[Any], values: NDArray[np.float64], features: Sequence[Feature]) -> list[dict[str, str]]:
    """Each picture of a row and the map of its attributions, as data: URIs; blue is for the score, orange against.

    A pixel has the mean of its neighbourhood: strided convolutions leave a grid in which no shape would be seen.
    """
    figures = []
    for feature, place in zip(features, matrices.places(features), strict=True):
        if feature["kind"] == "image":
            shape = feature["shape"]
            pixels = row[place].reshape(shape).astype(np.uint8)
            reach = max(1, min(shape[:2]) // AROUND)
            padded = np.pad(values[place].reshape(shape).sum(axis=-1), reach, mode="edge")
            moved = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1,) * 2).mean(axis=(2, 3))
            strength = np.clip(np.abs(moved) / (np.quantile(np.abs(moved), STRONG) or 1.0), 0, 1)
            coloured = np.dstack([COLOURS[(moved > 0).astype(int)], (255 * strength).astype(np.uint8)])
            figures.append({"picture": uri(pixels), "map": uri(coloured)})
    return figures


def uri(pixels: NDArray[np.uint8]) -> str:
    """A PNG (rows × columns × 1, 3 or 4 channels) that a page holds in itself."""
    from PIL import Image  # noqa: PLC0415 - only where the contract has pictures

    target = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(target, "PNG")
    return f"data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}"


def has_pictures(features: Sequence[Mapping[str, Any]]) -> bool:
    return any(feature["kind"] == "image" for feature in features)
