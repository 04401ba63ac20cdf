"""Metrics of predictions, with numpy alone, and how sure they are; their names stand in metrics.py.

A metric that the labels don't allow (the AUC of one class, the R² of a constant) is NaN.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10  # of the reliability table, equally wide
SMALLEST = float(np.finfo(np.float64).eps)  # a probability of 0 would make the log loss infinite


def measure(task: str, labels: Floats, predicted: Floats, threshold: float) -> dict[str, float]:
    """All metrics of a task. `predicted` is what model.predict gave; labels are class positions, or values."""
    match task:
        case "binary":
            return binary(labels, predicted, threshold)
        case "multiclass":
            return multiclass(labels, predicted)
    return regression(labels, predicted)


def binary(labels: Floats, scores: Floats, threshold: float) -> dict[str, float]:
    """`scores` is the positive class's probability; from `threshold` on the positive class is predicted."""
    positive, chosen = labels == 1, scores >= threshold
    hits = float(np.sum(positive & chosen))
    precision = _ratio(hits, float(chosen.sum()))
    recall = _ratio(hits, float(positive.sum()))
    return {
        "auc": auc(positive, scores),
        "average_precision": average_precision(positive, scores),
        "log_loss": log_loss(labels, np.column_stack([1 - scores, scores])),
        "brier": float(np.mean((scores - labels) ** 2)),
        "accuracy": float(np.mean(positive == chosen)),
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "expected_calibration_error": calibration_error(reliability(positive, scores)),
    }


def multiclass(labels: Floats, scores: Floats) -> dict[str, float]:
    """`scores` is rows × classes; averages over classes count only those the labels hold (F1: or the predictions)."""
    chosen = scores.argmax(axis=1)
    held = [position for position in range(scores.shape[1]) if np.any(labels == position)]
    named = [position for position in range(scores.shape[1]) if position in held or np.any(chosen == position)]
    recalls = [float(np.mean(chosen[labels == position] == position)) for position in held]
    return {
        "log_loss": log_loss(labels, scores),
        "accuracy": float(np.mean(chosen == labels)),
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_f1": float(np.mean([_f1(labels == position, chosen == position) for position in named])),
        "auc": float(np.mean([auc(labels == position, scores[:, position]) for position in held])),
        "brier": float(np.mean(np.sum((scores - np.eye(scores.shape[1])[labels.astype(int)]) ** 2, axis=1))),
        "expected_calibration_error": calibration_error(reliability(chosen == labels, scores.max(axis=1))),
    }


def regression(labels: Floats, values: Floats) -> dict[str, float]:
    """The percentage error is over the labels that are not zero: a share of nothing means nothing."""
    errors = np.abs(values - labels)
    spread, nonzero = float(np.sum((labels - labels.mean()) ** 2)), labels != 0
    shares = errors[nonzero] / np.abs(labels[nonzero])
    return {
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(errors)),
        "r2": 1 - float(np.sum(errors**2)) / spread if spread > 0 else float("nan"),
        "mean_absolute_percentage_error": float(np.mean(shares)) if shares.size else float("nan"),
        "median_absolute_error": float(np.median(errors)),
    }


def auc(positive: NDArray[np.bool_], scores: Floats) -> float:
    """The chance that a positive row scores above a negative one; a tie counts half (Mann and Whitney, 1947)."""
    count = int(positive.sum())
    if count in (0, positive.size):
        return float("nan")
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[place]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (positive.size - count)))


def average_precision(positive: NDArray[np.bool_], scores: Floats) -> float:
    """The precision at each score that occurs, weighted by the recall it adds."""
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(positive[order])[last_of_tie]
    precision = hits / (np.flatnonzero(last_of_tie) + 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / hits[-1])


def log_loss(labels: Floats, scores: Floats) -> float:
    """The mean negative logarithm of the probability given to what happened; scores are rows × classes."""
    given = np.take_along_axis(scores, labels.astype(int)[:, None], axis=1)[:, 0]
    return float(-np.mean(np.log(np.clip(given, SMALLEST, 1.0))))


def reliability(happened: NDArray[np.bool_], scores: Floats) -> list[dict[str, Any]]:
    """In each tenth of the score's range that holds rows: their mean score, and the share for which it came true."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    table = []
    for position in np.unique(bins):
        inside = bins == position
        table.append(
            {
                "from": int(position) / BINS,
                "to": (int(position) + 1) / BINS,
                "mean_score": float(scores[inside].mean()),
                "observed": float(happened[inside].mean()),
                "rows": int(inside.sum()),
            }
        )
    return table


def calibration(task: str, labels: Floats, predicted: Floats) -> list[dict[str, Any]]:
    """The reliability table of the positive class (binary) or the predicted one (multiclass); none for regression."""
    match task:
        case "binary":
            return reliability(labels == 1, predicted)
        case "multiclass":
            return reliability(predicted.argmax(axis=1) == labels, predicted.max(axis=1))
    return []


def calibration_error(table: list[dict[str, Any]]) -> float:
    """The mean distance between what was scored and what happened, weighted by rows."""
    distances = [row["rows"] * abs(row["mean_score"] - row["observed"]) for row in table]
    return float(sum(distances) / sum(row["rows"] for row in table))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _f1(actual: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> float:
    return _ratio(2 * float(np.sum(actual & chosen)), float(actual.sum() + chosen.sum()))
