"""The sample: what stores have sold day by day. `python -m data.sample --output data/sample`.

Seeded: the same arguments give the same bytes. Each store has a level, a trend, a week and a year of its own, and sells
more under a promotion, less on a holiday. A few opened late or closed early, and days are missing. `drift` moves the
last fortnight of the new window's past and what comes after (0: not at all, 1: strongly); data/stages.py moves one
thing after the other.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
FIRST_DAY, DAYS = np.datetime64("2024-01-01"), 800
HORIZON, HISTORY = 14, 400  # days that are to be forecast, and that a new window has with those of the past
FORMATS = ("market", "corner", "outlet")
EXTENSIONS = ("csv", "parquet")


@dataclass(frozen=True)
class Shift:
    """How days have moved, all from 0 (not at all) to 1.

    level: they sell more. week: the week begins two days later. noise: they differ more. promotions: there are more of
    them, and they sell less.
    """

    level: float = 0.0
    week: float = 0.0
    noise: float = 0.0
    promotions: float = 0.0


Shifts = Mapping[int, Shift]  # from this day on
NONE: Shifts = {}


def sales(stores: int, days: int, seed: int, shifts: Shifts = NONE) -> pl.DataFrame:
    """A row a store and day, sorted."""
    random = np.random.default_rng(seed)  # what a store is like: it stays when the days go on
    each = [np.random.default_rng([seed, number]) for number in range(1, 6)]
    level, trend = random.lognormal(4.5, 0.8, stores), random.normal(0.05, 0.1, stores)
    week = np.array([0.85, 0.8, 0.9, 1.0, 1.15, 1.35, 0.95]) * random.lognormal(0, 0.06, (stores, 7))
    year, peak, lift = (random.uniform(low, high, stores) for low, high in ((0.05, 0.25), (335, 365), (0.2, 0.5)))
    place, opens, closes = random.integers(0, 3, stores), random.random(stores), random.random(stores)

    day = np.arange(days)[:, None]
    now = {name: _moved(shifts, name, days) for name in ("level", "week", "noise", "promotions")}
    holiday = np.isin(day % 365, (0, 100, 120, 275, 358, 359))
    promoted = each[0].random((days // 7 + 1, stores))[day[:, 0] // 7] < 0.15 + 0.35 * now["promotions"]
    factor = week[np.arange(stores), (day + 2 * (now["week"] > 0)) % 7]
    factor = factor * (1 + year * np.cos(2 * np.pi * (day - peak) / 365.25)) * np.exp(trend * day / 365)
    factor = factor * (1 + lift * promoted * (1 - 1.5 * now["promotions"])) * np.where(holiday, 0.5, 1)
    common = each[1].normal(0, 0.02, (days, 1))  # weather and the like
    noise = common + each[2].normal(size=(days, stores)) * (0.08 + 0.3 * now["noise"])
    sold = np.round(level * factor * (1 + 0.6 * now["level"]) * np.exp(noise))
    start, end = np.where(opens < 0.1, 250 + 5000 * opens, 0), np.where(closes < 0.04, 640, days)
    there = (day >= start) & (day < end) & (each[3].random((days, stores)) >= 0.002)
    frame = pl.DataFrame(
        {
            "store": np.repeat([f"S{number:03d}" for number in range(1, stores + 1)], days),
            "day": pl.Series(np.tile(FIRST_DAY + day[:, 0], stores)).cast(pl.Date),
            "sales": sold.T.ravel(),
            "promotion": promoted.T.ravel(),
            "holiday": np.tile(holiday[:, 0], stores),
            "customers": np.round(sold * each[4].uniform(0.5, 0.6, (days, stores))).T.ravel(),
            "format": np.repeat(np.array(FORMATS)[place], days),
        }
    )
    return frame.filter(pl.Series(there.T.ravel())).with_columns(pl.col("sales", "customers").cast(pl.Int64))


def _moved(shifts: Shifts, name: str, days: int) -> Numbers:
    """One of a shift's numbers for each day, as a column."""
    values = np.zeros((days, 1))
    for first, shift in sorted(shifts.items()):
        values[max(0, first) :] = getattr(shift, name)
    return values


def parts(stores: int, days: int, seed: int, shifts: Shifts = NONE, history: int = HISTORY) -> dict[str, pl.DataFrame]:
    """Of a table of so many days: the last fortnight is to come, the rows before are its past; and its labels."""
    whole = sales(stores, days, seed, shifts)
    end = FIRST_DAY.astype(object) + timedelta(days=days)
    ahead, past = pl.col("day") >= end - timedelta(days=HORIZON), pl.col("day") >= end - timedelta(days=history)
    hidden = [pl.when(~ahead).then(pl.col(name)).alias(name) for name in ("sales", "customers")]
    open_still = ahead.any().over("store")
    return {
        "production": whole.filter(past & open_still).with_columns(hidden),
        "later": whole.filter(ahead).select("store", "day", "sales"),
    }


def write(folder: Path, tables: dict[str, pl.DataFrame], extension: str = "csv") -> None:
    """Each part as one file below the window's folder."""
    for name, table in tables.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        partial = place / f".sales.{extension}"
        table.write_parquet(partial) if extension == "parquet" else table.write_csv(partial)
        for other in [*(f"sales.{kind}" for kind in EXTENSIONS), "labelled.parquet"]:  # or rows would be there twice
            (place / other).unlink(missing_ok=True)
        partial.replace(place / f"sales.{extension}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.sample", description="Write the sample table.")
    parser.add_argument("--rows", type=int, default=20_000, help="rows to learn from, about: 800 days a store")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--drift", type=float, default=0.0, help="0 to 1: how far the new days have moved")
    parser.add_argument("--extension", choices=EXTENSIONS, default="csv", help="the kind of file")
    parser.add_argument("--output", type=Path, required=True, help="the window's folder, data/<window>")
    options = parser.parse_args()
    if options.rows < 2 or options.seed < 0 or not 0 <= options.drift <= 1:
        parser.error("--rows must be 2 or more, --seed 0 or more, --drift from 0 to 1")
    stores, seed = max(1, options.rows // DAYS), options.seed
    shifts = {DAYS: Shift(level=options.drift, noise=options.drift / 2)}
    new = parts(stores, DAYS + 2 * HORIZON, seed, shifts)  # a fortnight after those to learn from
    write(options.output, {"train": sales(stores, DAYS, seed), **new}, options.extension)
    (options.output.parent / "window").write_text(f"{options.output.name}\n", encoding="utf-8")
    written = f"sales.{options.extension} is written to {options.output}"
    print(f"{written}/train/ and /production/ (the past, and a fortnight to come), later labels of that to /later/")


if __name__ == "__main__":
    main()
