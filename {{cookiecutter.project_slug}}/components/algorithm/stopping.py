"""When to stop boosting, in a way that survives an interruption."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
from lightgbm.callback import EarlyStopException


@dataclass(frozen=True)
class Best:
    """The number of trees (rounds of trees for several classes) with the lowest validation loss so far."""

    iteration: int = 0
    loss: float = float("inf")


Watch = Callable[[lgb.Booster, int, Best], None]


class Stopping:
    """Remembers the best round, and stops when there was none better for `patience` rounds (0: never).

    LightGBM's own callback can't take up where an interrupted run left off.
    """

    order, before_iteration = 30, False

    def __init__(self, patience: int, best: Best, watch: Watch | None) -> None:
        self.patience, self.best, self.watch = patience, best, watch

    def __call__(self, env: Any) -> None:
        _, _, value, larger_is_better, *_ = env.evaluation_result_list[0]
        rounds, loss = env.iteration + 1, -float(value) if larger_is_better else float(value)
        if loss < self.best.loss:
            self.best = Best(rounds, loss)
        if self.watch:
            self.watch(env.model, rounds, self.best)
        if self.patience == 0:
            self.best = Best(rounds, loss)
        if rounds == env.end_iteration or 0 < self.patience <= rounds - self.best.iteration:
            raise EarlyStopException(self.best.iteration - 1, env.evaluation_result_list)
