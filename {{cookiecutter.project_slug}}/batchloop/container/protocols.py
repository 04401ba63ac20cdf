"""What the ★ files offer: everything else knows them through these protocols alone, and no model library by name.

A ★ file is a module of plain functions. What is marked optional may be left out: what depends on it is then not done,
and the run says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


# rows × features; a category is the position of its name in `categories`, NaN is missing. A picture has a column for
# each of its values, 0 to 255, row by row; a matrix of nothing but pictures is uint8 (batchloop/container/matrices.py).
Matrix: TypeAlias = "NDArray[np.float32]"
# binary: the positive class's probability a row; multiclass: rows × classes; else values; what models.predict makes of
# the values of a forecast is rows × metrics.FORECAST
Predicted: TypeAlias = "NDArray[np.float64]"
# name, source (the raw column), kind (its type); a category's `categories`; an image's `shape`: rows, columns, channels
Feature = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Examples: features (rows × features) and labels (rows; a class is its position in Problem.classes)."""

    features: Matrix
    labels: "NDArray[np.float64]"


@dataclass(frozen=True)
class Problem:
    """What there is to learn, from which features, with how many threads, and together with which hosts."""

    task: str  # binary | multiclass | regression | forecasting
    classes: tuple[str, ...]  # the label's values, for binary the positive one last; empty for regression
    features: tuple[Feature, ...]
    threads: int = 1
    machines: tuple[str, ...] = ()  # "address:port" of the hosts that learn together, this one first; () is one alone


class FeaturesFile(Protocol):
    """components/processing/features.py; `columns` are those of [columns], `settings` is [features] of usecase.toml."""

    def fit(self, frame: "pl.LazyFrame", columns: Sequence[Any], settings: Any) -> list[dict[str, Any]]:
        """What is learned of the training split: plain data, one entry a feature (see Feature)."""

    def transform(self, features: Sequence[dict[str, Any]]) -> "list[pl.Expr]":
        """The features as expressions over typed raw columns; null is missing.

        Float32, an Enum for a category, and for an image Binary: a byte for each of its values.
        """

    def examples(self, grid: "pl.DataFrame", wanted: "pl.DataFrame", case: Any) -> "pl.DataFrame":
        """Of [series] alone: the columns that `fit` and `transform` then see, a row for each of `wanted`.

        `grid` has one row for each series (`__series`) and period, sorted, without gaps: the time, the label (null
        where it is not known) and the other columns. `wanted` says for each example where in the grid its period
        (`__row`) and its origin (`__origin`) stand, and how many periods (`step`) lie between them. What is not known
        in advance must not be looked at after the origin. Among the columns are `step`, `seasonal_naive` (the forecast
        to beat) and `seasonal_error` (its mean absolute error before the origin, above 0); an example without these
        can't be forecast. Where `__stand_in` (optional) is true, `seasonal_error` is no error of the past, and a value
        of validation or test is not measured. `fit` then gets, after the columns of [columns], the time and the label.
        """


class Progress(Protocol):
    """How a fit that goes round by round is watched, interrupted, and taken up again."""

    start: Any  # a fitted model to go on from, or None
    predicted: "Predicted | None"  # to be set, if the fit knows it: what its model predicts for the validation rows

    def interrupted(self) -> str | None:
        """The state that this very fit left when it was interrupted, or None."""

    def after_round(self, rounds: int, loss: float, state: Callable[[], str]) -> None:
        """To be called after each round with the rounds so far (those of `start` count), the validation loss, and a
        function that gives the state as text. May raise: the fit ends there."""


class ModelFile(Protocol):
    """components/algorithm/model.py; a fitted model is whatever the library makes of it.

    Optional:
    - fit's parameter `progress: Progress | None = None`: a fit goes on after an interruption, CONTINUE=yes goes on
      from the released model, and a search gives up hopeless trials early;
    - `check(hyperparameters, problem) -> Iterator[tuple[str, str]]`: a name and the reason why its value can't be used,
      before anything runs; without it `fit` is tried on a few made-up rows;
    - `SEVERAL_HOSTS = True`: fit learns together with the hosts in `problem.machines`, each from its part of the rows
      and with the same validation rows, and the model is the same on each; else a job on several hosts is refused;
    - `describe(model) -> dict`: what metadata.json should say of it.
    """

    def fit(self, train: Table, validation: Table, hyperparameters: Mapping[str, Any], problem: Problem) -> Any:
        """Learn from `train`; `validation` may say when to stop. Repeatable: the same input gives the same model."""

    def predict(self, model: Any, features: Matrix, threads: int = 0) -> Predicted:
        """Predictions in the rows' order; `threads` = 0 uses all cores."""

    def save(self, model: Any, folder: Path) -> None:
        """Write the model into an empty folder, in a format that can't run code when it is read."""

    def load(self, folder: Path) -> Any:
        """The model that `save` wrote."""


@dataclass(frozen=True)
class Attributions:
    """Of some rows: `values` rows × outputs × features, `base` and `raw` rows × outputs; one output a class if several.

    For each row and output, base + the sum of values = raw, the model's raw score. `sampling_error` is the largest
    standard error of a value, where values are estimated by sampling.
    """

    values: "NDArray[np.float64]"
    base: "NDArray[np.float64]"
    raw: "NDArray[np.float64]"
    sampling_error: float = 0.0


class AttributionsFile(Protocol):
    """components/explainability/attributions.py."""

    METHOD: str  # in words, for the reports
    UNIT: str  # of the raw score of classes, such as "log-odds"; a regression's is the label's
    TOLERANCE: float  # of base + sum = raw, relative to raw where that is larger than 1: it is checked for every row

    def fit(self, model: Any, features: Matrix) -> dict[str, Any]:
        """What `explain` needs to know of the validation rows, or of many evenly spread ones.

        Plain data: it becomes part of explainer.json.
        """

    def explain(self, model: Any, learned: Mapping[str, Any], features: Matrix) -> Attributions:
        """How much each feature moved each row's raw score."""


Bins = dict[str, Any]  # name, kind, and `edges` (right ends of a number's bins but the last) or `values` (known ones)
Counts: TypeAlias = "NDArray[np.float64]"  # rows a bin, the last is "missing"


@dataclass(frozen=True)
class Distributions:
    """One column as it was learned and as it is now; `means` are what a number's bins stand for, None for a category.

    `deviation` is the standard deviation that was learned.
    """

    before: Counts
    now: Counts
    means: "Counts | None" = None
    deviation: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """How one column compares; `effects` are shown by name (`psi`, `psi_beyond_chance`, `p_value` and more)."""

    drifted: bool
    adjusted_p_value: float
    effects: Mapping[str, float | None]


class DriftFile(Protocol):
    """components/monitoring/drift.py; `settings` is [drift] of usecase.toml."""

    def profile(self, frame: "pl.LazyFrame", kinds: Mapping[str, str], bins: int) -> list[Bins]:
        """The bins of each column (name → type), learned from all rows of a frame that need not fit into memory.

        Numbers and dates are asked for in one call, of a sample where there are many rows, all others in another.
        """

    def compare(self, columns: Sequence[Distributions], settings: Any) -> list[Comparison]:
        """Which columns have drifted, judged together: the more columns, the likelier is one alarm by chance."""
