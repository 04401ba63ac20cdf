"""Tables whose true distribution is known: as frames of rows, and as the exact shares of a baseline's bins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
FAMILIES = ("normal", "plan", "skewed", "city", "spiked", "whole")
MISSING = {"normal": 0.05, "whole": 0.05, "plan": 0.02}
SPIKE = 0.3  # share of zeros in "spiked"
CITIES = 120
NEW = "never seen"
OUTSIDE = -999.0


@dataclass(frozen=True)
class Shift:
    """What has changed in one column.

    mean: in standard deviations (of the logarithm, where the column is skewed); scale: of the standard deviation;
    moved: share of rows that went from the first category to the second; missing: share of rows more without a value;
    unknown: share of rows with a category that training has not seen; outside: of those with a number, the share that
    is far below all that training has seen.
    """

    mean: float = 0.0
    scale: float = 1.0
    moved: float = 0.0
    missing: float = 0.0
    unknown: float = 0.0
    outside: float = 0.0


NONE = Shift()
Shifts = Mapping[str, Shift]  # column → what has changed in it
# What is detected: column, sizes of its shift, and the shift of a size.
POINTS: dict[str, tuple[str, tuple[float, ...], Callable[[float], Shift]]] = {
    "mean, in sd": ("normal_0", (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.7, 1.0), lambda by: Shift(mean=by)),
    "mean of a skewed one, in sd": ("skewed_2", (0.1, 0.2, 0.3, 0.4, 0.5, 1.0), lambda by: Shift(mean=by)),
    "scale, times": ("normal_0", (0.5, 0.7, 0.8, 1.2, 1.4, 1.6, 2.0), lambda by: Shift(scale=by)),
    "category share moved": ("plan_1", (0.02, 0.05, 0.1, 0.13, 0.16, 0.2), lambda by: Shift(moved=by)),
    "share moved, 120 categories": ("city_3", (0.02, 0.05, 0.1, 0.13, 0.16), lambda by: Shift(moved=by)),
    "unknown category": ("plan_1", (0.005, 0.01, 0.02, 0.03, 0.05), lambda by: Shift(unknown=by)),
    "far below all others": ("normal_0", (0.005, 0.01, 0.02, 0.03, 0.05), lambda by: Shift(outside=by)),
    "missing, on top of 5 %": ("normal_0", (0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2), lambda by: Shift(missing=by)),
    "missing, where none was": ("skewed_2", (0.005, 0.01, 0.02, 0.03, 0.05), lambda by: Shift(missing=by)),
}
MIXED = {  # what has changed in the batches of which scipy and the peer are asked too: 12 of 30 columns
    "normal_0": Shift(mean=0.1),
    "normal_6": Shift(mean=0.3),
    "normal_12": Shift(mean=0.5),
    "normal_18": Shift(scale=1.5),
    "normal_24": Shift(missing=0.15),
    "plan_1": Shift(moved=0.05),
    "plan_7": Shift(moved=0.2),
    "plan_13": Shift(unknown=0.03),
    "skewed_2": Shift(mean=0.2),
    "skewed_8": Shift(mean=0.5),
    "city_3": Shift(moved=0.05),
    "city_9": Shift(moved=0.15),
}


def names(columns: int) -> list[str]:
    """Column names; what stands before the "_" is the family."""
    return [f"{FAMILIES[place % len(FAMILIES)]}_{place}" for place in range(columns)]


def family(name: str) -> str:
    return name.split("_", 1)[0]


def kind(name: str) -> str:
    """The type as usecase.toml calls it."""
    return "category" if family(name) in ("plan", "city") else "number"


def missing(name: str, shift: Shift) -> float:
    return MISSING.get(family(name), 0.0) + shift.missing


def categories(name: str, shift: Shift) -> dict[str, float]:
    """The true share of each category among rows that have one."""
    city = family(name) == "city"
    raw = 1 / np.arange(1, CITIES + 1) if city else np.array([0.5, 0.3, 0.15, 0.05])
    shares = raw / raw.sum()
    shares[0] -= shift.moved
    shares[1] += shift.moved
    known = {f"v{place:03}": float(share * (1 - shift.unknown)) for place, share in enumerate(shares)}
    return known | ({NEW: shift.unknown} if shift.unknown else {})


def frame(random: np.random.Generator, columns: Sequence[str], rows: int, shifts: Shifts | None = None) -> pl.DataFrame:
    """Rows drawn from the true distribution."""
    changed = shifts or {}
    return pl.DataFrame([_series(random, name, rows, changed.get(name, NONE)) for name in columns])


def _series(random: np.random.Generator, name: str, rows: int, shift: Shift) -> pl.Series:
    if kind(name) == "category":
        shares = categories(name, shift)
        codes = np.searchsorted(np.cumsum(list(shares.values()))[:-1], random.random(rows), side="right")
        series = pl.Series(name, list(shares)).gather(codes)
    else:
        numbers = _numbers(random, family(name), rows, shift)
        series = pl.Series(
            name, np.where(random.random(rows) < shift.outside, OUTSIDE, numbers) if shift.outside else numbers
        )
    gaps = missing(name, shift)
    return series.zip_with(pl.Series(random.random(rows) >= gaps), _nothing(series)) if gaps else series


def _nothing(series: pl.Series) -> pl.Series:
    return pl.Series(series.name, [None], dtype=series.dtype).new_from_index(0, len(series))


def _numbers(random: np.random.Generator, which: str, rows: int, shift: Shift) -> Floats:
    if which == "whole":
        return random.poisson(3, rows).astype(float)
    latent = random.normal(shift.mean, shift.scale, rows)
    if which == "normal":
        return latent
    values = np.exp(latent)
    return np.where(random.random(rows) < SPIKE, 0.0, values) if which == "spiked" else values


def _below(which: str, edges: Floats, shift: Shift) -> Floats:
    """The true share of values up to each edge."""
    if which == "whole":
        return np.asarray(stats.poisson.cdf(edges, 3))
    if which == "normal":
        return np.asarray(stats.norm.cdf(edges, shift.mean, shift.scale))
    logarithm = np.log(np.maximum(edges, np.finfo(float).tiny))
    positive = np.where(edges > 0, stats.norm.cdf(logarithm, shift.mean, shift.scale), 0.0)
    return np.where(edges >= 0, SPIKE + (1 - SPIKE) * positive, 0.0) if which == "spiked" else positive


def bin_shares(column: Mapping[str, Any], shift: Shift = NONE) -> Floats:
    """The true shares of a learned column's bins, "missing" last: a batch's counts are multinomial with these."""
    name = column["name"]
    if "edges" in column:
        below = _below(family(name), np.asarray(column["edges"]), shift)
        present = np.diff(np.concatenate([[0.0], below, [1.0]])) * (1 - shift.outside)
        present[0] += shift.outside
    else:
        true = categories(name, shift)
        known = [true.get(value, 0.0) for value in column["values"]]
        present = np.array([*known, max(0.0, 1 - sum(known))])
    gaps = missing(name, shift)
    return np.append(np.maximum(present, 0) * (1 - gaps), gaps)
