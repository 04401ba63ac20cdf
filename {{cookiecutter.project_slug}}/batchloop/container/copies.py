"""Pictures of validation and test that training has too: the same ones or nearly, as they are, mirrored or turned.

Each is held against all of training by its light and dark, whatever the contrast: thumbnails find the likest one, and
their pixels decide. A picture of one grey is like none.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchloop.container.protocols import Feature, Matrix

ROWS, EVALUATED, AT_ONCE = 50_000, 500, 50  # pictures of training, of each other split, and of these at once
THUMBNAIL = 16
NEARLY = 0.999  # the correlation of pixels of a copy; of drawn shapes, digits and faces none were as alike by nature
SHARE = 0.01  # of the pictures of a split: fewer copies are only logged
Grey = NDArray[Any]  # pictures × rows × columns


def find(train: Matrix, evaluated: Mapping[str, Matrix], feature: Feature, place: slice) -> dict[str, tuple[int, int]]:
    """Of some pictures of each split how many are the same as one of training, and how many are nearly."""
    known = _grey(_some(train, ROWS)[:, place], feature)
    small = _unit(_thumbnails(known))
    found = {}
    for name, matrix in evaluated.items():
        pictures, same, near = _grey(_some(matrix, EVALUATED)[:, place], feature), 0, 0
        for start in range(0, len(pictures), AT_ONCE):
            alike = np.zeros(len(pictures[start : start + AT_ONCE]))
            for turned in _turned(pictures[start : start + AT_ONCE]):
                likest = known[(_unit(_thumbnails(turned)) @ small.T).argmax(axis=1)]
                equal = np.isclose(turned, likest, atol=1e-3).all(axis=(1, 2)) & (np.ptp(turned, axis=(1, 2)) > 0)
                alike = np.maximum(alike, np.where(equal, 2.0, (_unit(turned) * _unit(likest)).sum(axis=1)))
            same, near = same + int((alike > 1.5).sum()), near + int(((alike >= NEARLY) & (alike <= 1.5)).sum())
        found[name] = (same, near)
    return found


def _some(matrix: Matrix, most: int) -> Matrix:
    """At most so many rows, evenly spread."""
    return matrix[:: max(1, -(-len(matrix) // most))]


def _grey(pixels: Matrix, feature: Feature) -> Grey:
    grey: Grey = pixels.reshape(-1, *feature["shape"]).mean(axis=3, dtype=np.float32)
    return grey


def _turned(pictures: Grey) -> Iterator[Grey]:
    """As they are, turned by quarters, and mirrored."""
    for sides in (pictures, pictures[:, :, ::-1]):
        yield from (np.rot90(sides, quarters, (1, 2)) for quarters in range(4))


def _thumbnails(pictures: Grey) -> Grey:
    side = min(THUMBNAIL, pictures.shape[1])
    borders = [pictures.shape[1] * place // side for place in range(side)]
    sums = np.add.reduceat(np.add.reduceat(pictures, borders, axis=1), borders, axis=2)
    lengths = np.diff([*borders, pictures.shape[1]])
    thumbnails: Grey = sums / np.outer(lengths, lengths).astype(np.float32)
    return thumbnails


def _unit(pictures: Grey) -> Grey:
    """Pictures × pixels around zero and of length 1, so that products are correlations; zeros for one grey."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    made: Grey = np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-3)
    return made
