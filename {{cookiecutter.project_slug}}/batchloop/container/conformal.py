"""Prediction intervals for any model of forecasts: split conformal (Lei et al., "Distribution-free predictive inference
for regression", 2018).

What validation values missed their forecasts by, step by step and in units of the seasonal naive forecast's error, is
what new ones will miss them by. Neighbouring steps lend values where a step has few.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchloop.container.metrics import INTERVAL

Floats = NDArray[np.float64]
ENOUGH = 200  # values that the ends of an interval are drawn from


def ends(missed: Floats, step: Floats) -> list[list[float]]:
    """The interval's ends beside the forecast for each step, from 1 to the last one that validation has."""
    return [_ends(missed[_near(step, number)]) for number in range(1, int(step.max()) + 1)]


def _near(step: Floats, number: int) -> Any:
    """Which values are of a step, and of those beside it as far as it takes to have enough."""
    distances = np.abs(step - number)
    return distances <= np.sort(distances)[min(ENOUGH, distances.size) - 1]


def _ends(missed: Floats) -> list[float]:
    """Half of what the interval may miss lies below it, half above; quantiles are corrected for the values' number."""
    level = (1 + INTERVAL) / 2
    share = min(1.0, np.ceil((missed.size + 1) * level) / missed.size)
    return [-float(np.quantile(-missed, share, method="higher")), float(np.quantile(missed, share, method="higher"))]


def interval(forecast: Floats, error: Floats, step: Floats, learned: list[list[float]]) -> Floats:
    """Rows × 2; a step beyond those that were learned has the last one's."""
    place = np.clip(np.nan_to_num(step, nan=1.0).astype(int) - 1, 0, len(learned) - 1)
    both: Floats = forecast[:, None] + error[:, None] * np.asarray(learned)[place]
    return both
