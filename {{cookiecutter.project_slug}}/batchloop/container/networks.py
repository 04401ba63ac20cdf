"""What a neural network of any library needs: a matrix as scaled inputs, weights as bytes, hyperparameters in limits.

A network sees pictures as they are, rows × height × width × channels, and all else side by side in one input: a number
in standard deviations and whether it is missing, a category as a column for each of its values.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchloop.container import matrices, settings
from batchloop.container.protocols import Feature, Matrix, Predicted, Problem, Table

Arrays = list[NDArray[Any]]


def learned(train: Table, problem: Problem) -> dict[str, Any]:
    """What `inputs` has to know of the training rows, and what the labels are like: plain data."""
    plain = _columns(train.features, problem.features).astype(np.float64)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns without any value
        means, scales = np.nan_to_num(np.nanmean(plain, axis=0)), np.nan_to_num(np.nanstd(plain, axis=0))
    return {
        "task": problem.task,
        "features": [dict(each) for each in problem.features],
        "outputs": len(problem.classes) if problem.task == "multiclass" else 1,
        "mean": float(train.labels.mean()),
        "scale": float(train.labels.std()) or 1.0,
        "means": means.tolist(),
        "scales": np.where(scales > 0, scales, 1.0).tolist(),
    }


def inputs(features: Matrix, known: Mapping[str, Any]) -> Arrays:
    """Rows of a matrix as a network takes them: each picture, then all else in one, where there is anything."""
    described: Sequence[Feature] = known["features"]
    made = list[NDArray[Any]]()
    for feature, place in zip(described, matrices.places(described), strict=True):
        if feature["kind"] == "image":
            made.append(features[:, place].reshape(len(features), *feature["shape"]))
    if known["means"]:
        scaled = (_columns(features, described) - known["means"]) / known["scales"]
        made.append(np.nan_to_num(scaled, nan=0.0).astype(np.float32))
    return made


def _columns(features: Matrix, described: Sequence[Feature]) -> NDArray[np.float32]:
    made = [np.empty((len(features), 0), np.float32)]
    for feature, place in zip(described, matrices.places(described), strict=True):
        part = features[:, place]
        if feature["kind"] == "category":
            made.append((part == np.arange(len(feature["categories"]))).astype(np.float32))
        elif feature["kind"] != "image":
            made += [part, np.isnan(part).astype(np.float32)]
    return np.concatenate(made, axis=1)


def by_column(found: Arrays, known: Mapping[str, Any]) -> NDArray[np.float64]:
    """Values of inputs (each outputs × rows × its shape) as rows × outputs × columns of the matrix, parts added up."""
    described: Sequence[Feature] = known["features"]
    outputs, rows = found[0].shape[:2]
    places, pictures, start = matrices.places(described), iter(found), 0
    values = np.zeros((rows, outputs, places[-1].stop))
    for feature, place in zip(described, places, strict=True):
        if feature["kind"] == "image":
            values[:, :, place] = np.moveaxis(next(pictures).reshape(outputs, rows, -1), 0, 1)
        else:
            end = start + (len(feature["categories"]) if feature["kind"] == "category" else 2)
            values[:, :, place.start] = found[-1][:, :, start:end].sum(axis=2).T
            start = end
    return values


def in_full(features: Matrix, size: int) -> Matrix:
    """The rows repeated to as many as are always taken at once: a compiled network is one of a number of rows."""
    return np.resize(features, (size, features.shape[1])) if len(features) < size else features


def in_batches(
    features: Matrix, size: int, known: Mapping[str, Any], score: Callable[[Arrays], Any]
) -> NDArray[np.float32]:
    """What `score` makes of the rows' inputs, always so many at once."""
    parts = list[NDArray[np.float32]]()
    for start in range(0, len(features), size):
        batch = features[start : start + size]
        parts.append(np.asarray(score(inputs(in_full(batch, size), known)), dtype=np.float32)[: len(batch)])
    return np.concatenate(parts)


def batches(rows: int, size: int, seed: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Each row once in an order of chance, and its weight; the last batch is filled with rows that weigh nothing."""
    order = np.random.default_rng(seed).permutation(rows)
    places = np.resize(order, -(-rows // size) * size)
    weights = (np.arange(len(places)) < rows).astype(np.float32)
    for start in range(0, len(places), size):
        yield places[start : start + size], weights[start : start + size]


def predicted(raw: NDArray[np.float32], task: str) -> Predicted:
    """Raw scores (rows × outputs) as probabilities, or as a regression's values."""
    scores = raw.astype(np.float64)
    if task == "multiclass":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Predicted = powers / powers.sum(axis=1, keepdims=True)
        return shares
    one: Predicted = 1 / (1 + np.exp(-scores[:, 0])) if task == "binary" else scores[:, 0]
    return one


def refused(hyperparameters: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
    """Names, and why their values can't be: known are a default of the same type and, of a number, its limits."""
    for name, value in hyperparameters.items():
        default, *limits = known.get(name, (None,))
        if name not in known:
            yield name, f"there is no such setting; {settings.nearest(name, known)}"
        elif type(value) is not type(default) and not (type(default) is float and type(value) is int):
            yield name, f"it is not {settings.wanted(type(default))}"
        elif limits and not limits[0] <= value <= limits[1]:
            yield name, f"it is from {limits[0]:g} to {limits[1]:g}"


def packed(arrays: Sequence[NDArray[Any]]) -> bytes:
    """Arrays as the bytes of an .npz file, which are the same for the same arrays, and can't hold code."""
    target = io.BytesIO()
    np.savez(target, allow_pickle=False, **{f"{number:05d}": np.asarray(each) for number, each in enumerate(arrays)})
    return target.getvalue()


def unpacked(content: bytes) -> Arrays:
    """The arrays in the bytes of an .npz file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return [arrays[name] for name in sorted(arrays.files)]
