"""What predictions were worth: the gate's metric of a table of predictions and labels, by scikit-learn."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.usecase import UseCase

if TYPE_CHECKING:
    import polars as pl

Measure = Callable[[UseCase, "pl.DataFrame"], float]
FALLBACK = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}


def name(case: UseCase) -> str:
    """The gate's metric, or, where it can't be measured here, another one of the task."""
    return case.gate.metric if case.gate.metric in MEASURES[case.data.task] else FALLBACK[case.data.task]


def measure(case: UseCase, rows: "pl.DataFrame") -> float | None:
    """Of rows with `label`, `prediction`, `score` and `error`; None without any, or where labels don't allow it.

    Rows that could not be scored have no prediction and count for nothing.
    """
    judged = rows.filter(rows["error"].is_null() & rows["label"].is_not_null())
    if judged.is_empty() or (case.data.task != "regression" and judged["label"].n_unique() < 2):
        return None
    return float(MEASURES[case.data.task][name(case)](case, judged))


def _library() -> Any:
    import sklearn.metrics  # noqa: PLC0415 - takes a second

    return sklearn.metrics


def _scored(function: str) -> Measure:
    """Of a binary task: the positive class against its score."""
    return lambda case, rows: getattr(_library(), function)(rows["label"] == case.data.classes[-1], rows["score"])


def _named(function: str, **options: Any) -> Measure:
    """The label against the prediction."""
    return lambda _case, rows: getattr(_library(), function)(rows["label"], rows["prediction"], **options)


def _positive(function: str) -> Measure:
    return lambda case, rows: _named(function, pos_label=case.data.classes[-1], zero_division=0)(case, rows)


def _shares(function: str, **options: Any) -> Measure:
    """Of several classes: the label against every class's score."""

    def measured(case: UseCase, rows: "pl.DataFrame") -> float:
        shares = rows.select(f"score:{name}" for name in sorted(case.data.classes)).to_numpy()
        found: float = getattr(_library(), function)(rows["label"], shares, labels=sorted(case.data.classes), **options)
        return found

    return measured


MEASURES: dict[str, dict[str, Measure]] = {
    "binary": {
        "auc": _scored("roc_auc_score"),
        "average_precision": _scored("average_precision_score"),
        "log_loss": _scored("log_loss"),
        "brier": _scored("brier_score_loss"),
        "accuracy": _named("accuracy_score"),
        "precision": _positive("precision_score"),
        "recall": _positive("recall_score"),
        "f1": _positive("f1_score"),
    },
    "multiclass": {
        "accuracy": _named("accuracy_score"),
        "balanced_accuracy": _named("balanced_accuracy_score"),
        "macro_f1": _named("f1_score", average="macro"),
        "auc": _shares("roc_auc_score", multi_class="ovr"),
        "log_loss": _shares("log_loss"),
    },
    "regression": {
        "rmse": _named("root_mean_squared_error"),
        "mae": _named("mean_absolute_error"),
        "r2": _named("r2_score"),
        "mean_absolute_percentage_error": _named("mean_absolute_percentage_error"),
        "median_absolute_error": _named("median_absolute_error"),
    },
}
