"""The names of the metrics, a task each, and which of them are better when smaller."""

from runtime.failures import InputError

BINARY = (
    "auc",
    "average_precision",
    "log_loss",
    "brier",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "expected_calibration_error",
)
MULTICLASS = (
    "log_loss",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auc",
    "brier",
    "expected_calibration_error",
)
REGRESSION = ("rmse", "mae", "r2", "mean_absolute_percentage_error", "median_absolute_error")
NAMES = {"binary": BINARY, "multiclass": MULTICLASS, "regression": REGRESSION}
SMALLER_IS_BETTER = frozenset(
    (
        "log_loss",
        "brier",
        "expected_calibration_error",
        "rmse",
        "mae",
        "mean_absolute_percentage_error",
        "median_absolute_error",
    )
)


def check(metric: str, task: str) -> None:
    """Raises InputError for a metric that this task's evaluation does not hold."""
    if metric not in NAMES[task]:
        raise InputError(
            f"usecase.toml [gate] metric = {metric!r} is not a metric of a {task} task; "
            f"it has {', '.join(NAMES[task])}."
        )


def lead(metric: str, value: float, other: float) -> float:
    """By how much `value` is better than `other`: positive is better, whichever way the metric points."""
    return other - value if metric in SMALLER_IS_BETTER else value - other
