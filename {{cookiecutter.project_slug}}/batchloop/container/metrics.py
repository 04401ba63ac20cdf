"""The names of the metrics, a task each, which of them are better when smaller, and the values they can have."""

from math import inf
from typing import Any, TypeVar

from batchloop.container.settings import SettingError, nearest

CALIBRATION = "expected_calibration_error"
BINARY = ("auc", "average_precision", "log_loss", "brier", "accuracy", "precision", "recall", "f1", CALIBRATION)
MULTICLASS = ("log_loss", "accuracy", "balanced_accuracy", "macro_f1", "auc", "brier", CALIBRATION)
REGRESSION = ("rmse", "mae", "r2", "mean_absolute_percentage_error", "median_absolute_error")
CLASSES = ("binary", "multiclass")  # tasks
FORECASTING = ("mase", "smape", "pinball", "mae", "rmse", "relative_mase", "coverage")
NAMES = {"binary": BINARY, "multiclass": MULTICLASS, "regression": REGRESSION, "forecasting": FORECASTING}
FORECAST = ("prediction", "lower", "upper", "seasonal_naive", "seasonal_error", "step")  # the columns of a forecast
NAIVE, GIVEN = 3, FORECAST[3:]  # the position of the naive forecast; columns that are features too
INTERVAL = 0.9  # what a prediction interval is to cover
Value = TypeVar("Value")  # a number, or an array of them
UNBOUNDED = frozenset(("log_loss", *REGRESSION, *FORECASTING)) - {"r2", "smape", "coverage"}
SMALLER_IS_BETTER = UNBOUNDED | {"brier", CALIBRATION, "smape"}


def values(metric: str, task: str) -> tuple[float, float]:
    """The lowest and the highest value that a metric can have."""
    if metric == "r2":
        return -inf, 1
    return 0, inf if metric in UNBOUNDED else 2 if (metric, task) in (("brier", "multiclass"), ("smape", task)) else 1


def check_gate(task: str, metric: str, minimum: float, minimum_lead: float, drop: float) -> None:
    """Raises SettingError for a limit that no model can reach, or none can miss by the nature of the metric."""
    check_limit(task, metric, minimum, "[gate] minimum")
    low, high = values(metric, task)
    for key, value in (("[gate] minimum_lead", minimum_lead), ("[drift] performance_drop", drop)):
        if not low - high <= value < high - low:
            span = f"{metric} is from {low:g} to {high:g}"
            raise SettingError(f"{key} = {value:g}: {span}, so none can differ by as much.")


def check_limit(task: str, metric: str, minimum: float, name: str) -> None:
    """Raises SettingError for a limit beyond all values of the metric, or for a metric that the task does not have."""
    if metric not in NAMES[task]:
        close = nearest(metric, NAMES[task])
        raise SettingError(f"[gate] metric = {metric!r} is not a metric of a {task} task; {close}.")
    low, high = values(metric, task)
    if not low <= minimum <= high:
        never = (minimum > high) != (metric in SMALLER_IS_BETTER)
        span = f"from {low:g} to {high:g}" if high < inf else f"{low:g} or more"
        span = span if low > -inf else f"{high:g} or less"
        share = f"; is {minimum / 100:g} meant?" if high == 1 < minimum <= 100 else "."
        said = f"{metric} is {span}, so no model can {'reach' if never else 'miss'} it{share}"
        raise SettingError(f"{name} = {minimum:g}: {said}")


def passes_all(task: str, metric: str, minimum: float) -> bool:
    """Whether a limit is the worst value there is, so that every model keeps to it."""
    low, high = values(metric, task)
    return minimum == (high if metric in SMALLER_IS_BETTER else low)


def lead(metric: str, value: Value, other: Value) -> Value:
    """By how much `value` is better than `other`: positive is better, whichever way the metric points."""
    better: Any = (other, value) if metric in SMALLER_IS_BETTER else (value, other)
    difference: Value = better[0] - better[1]
    return difference
