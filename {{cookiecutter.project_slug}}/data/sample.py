"""The sample: customers of a telephone company, and whether they left. `python -m data.sample --output data/sample`.

Seeded: the same arguments give the same bytes. `drift` moves what the customers are like (0: not at all, 1: strongly):
charges rise, younger customers, an unknown payment method, more accounts that never logged in. `concept` moves why they
leave: from 0, where support calls and a short tenure decide, to 1, where high charges and long tenure do. `categories`,
`gaps` and `noise` move one thing each; data/stages.py puts them together.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.random import Generator
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
PLANS = ("basic", "plus", "family", "business")
PAYMENTS = ("card", "direct debit", "invoice")
REGIONS = ("north", "south", "east", "west", "centre")
STEMS = ("ash", "birch", "cedar", "elm", "fern", "hazel", "maple", "oak", "pine", "rowan", "thorn", "willow")
ENDINGS = ("bridge", "bury", "field", "ford", "ham", "mouth", "ton")
CITIES = tuple(f"{stem}{ending}".capitalize() for stem in STEMS for ending in ENDINGS)
EXTENSIONS = ("csv", "parquet")
LAST_DAY = np.datetime64("2026-06-30")


@dataclass(frozen=True)
class Shift:
    """How far the table has moved from the one that was learned; all from 0 to 1.

    categories: the share that pays by a method nobody knew. gaps: the further share that is missing of what they used
    and of when they logged in. noise: the share of each feature's cells that trade places with other customers' cells,
    so that every column looks the same and says less.
    """

    drift: float = 0.0
    concept: float = 0.0
    categories: float = 0.0
    gaps: float = 0.0
    noise: float = 0.0


def customers(rows: int, seed: int, shift: Shift = Shift(), first: int = 1) -> pl.DataFrame:
    """A labelled table of `rows` customers, numbered from `first`."""
    random = np.random.default_rng(seed)
    plan = random.choice(4, rows, p=_mix((0.45, 0.3, 0.15, 0.1), (0.25, 0.3, 0.15, 0.3), shift.drift))
    tenure = np.minimum(random.exponential(30 * (1 - 0.5 * shift.drift), rows), 180).round()
    charge = np.array([19.0, 34.0, 52.0, 80.0])[plan] * random.lognormal(0.3 * shift.drift, 0.18, rows)
    calls = random.poisson(0.8 + 1.2 * (plan == 0) + 0.6 * shift.drift, rows).astype(float)
    never = random.random(rows) < 0.08 + 0.12 * (tenure < 6) + 0.25 * shift.drift + shift.gaps
    login = np.where(never, np.nan, random.exponential(12 + 4 * calls, rows).round())
    paperless = random.random(rows) < 0.6
    partner = random.random(rows) < np.where(plan == 2, 0.8, 0.25)
    age = np.clip(random.normal(46 - 12 * shift.drift, 15, rows), 18, 95).round()
    used = random.lognormal(1.2 + 0.5 * (age < 35), 1.0, rows)
    payment = _payments(random, rows, 0.35 * shift.drift + shift.categories)
    risk = _risk(
        np.column_stack([calls, tenure, charge / 50, np.nan_to_num(login, nan=45.0), plan == 0, partner]), shift
    )
    risk += 0.8 * (payment == "invoice") + 0.5 * (used < 1.5) - 0.01 * (age - 46)
    left = random.random(rows) < 1 / (1 + np.exp(-risk))
    table = {
        "customer_id": [f"C{number:07d}" for number in range(first, first + rows)],
        "age": _holes(random, age, 0.02),
        "tenure_months": tenure,
        "monthly_charge": charge.round(2),
        "data_used_gb": _holes(random, used.round(2), 0.04 + shift.gaps),
        "calls_to_support": calls,
        "days_since_login": login,
        "plan": np.array(PLANS)[plan],
        "payment_method": payment,
        "region": random.choice(REGIONS, rows),
        "city": _cities(random, rows),
        "paperless": np.where(paperless, "yes", "no"),
        "has_partner_account": np.where(partner, "yes", "no"),
        "signed_up_on": _sign_up(random, tenure),
        "churned": np.where(left, "yes", "no"),
    }
    whole = ("age", "tenure_months", "calls_to_support", "days_since_login")
    frame = pl.DataFrame(table, nan_to_null=True).with_columns(pl.col(whole).cast(pl.Int64))
    return _blurred(frame, shift.noise, np.random.default_rng([seed, 1])) if shift.noise else frame


def _mix(before: tuple[float, ...], after: tuple[float, ...], share: float) -> Numbers:
    return (1 - share) * np.array(before) + share * np.array(after)


def _risk(features: Numbers, shift: Shift) -> Numbers:
    """The log-odds of leaving, before what is the same whatever the concept."""
    calls, tenure, charge, login, basic, partner = features.T
    early = 0.75 * calls + 1.8 * np.exp(-tenure / 12) + 0.025 * login + 0.7 * basic * (calls > 2) - 0.9 * partner - 3.6
    late = 2.4 * charge + 0.02 * tenure - 0.5 * calls - 0.9 * partner - 2.6
    risk: Numbers = (1 - shift.concept) * early + shift.concept * late
    return risk


def _payments(random: Generator, rows: int, unknown: float) -> NDArray[np.str_]:
    known = random.choice(PAYMENTS, rows, p=(0.5, 0.35, 0.15)).astype("U12")
    known[random.random(rows) < unknown] = "wallet"  # a method that was not there before
    return known


def _cities(random: Generator, rows: int) -> list[str | None]:
    """Few large and many small ones; 1 % missing."""
    weights = 1 / np.arange(1, len(CITIES) + 1)
    chosen = random.choice(len(CITIES), rows, p=weights / weights.sum())
    return [None if hole else CITIES[place] for place, hole in zip(chosen, random.random(rows) < 0.01, strict=True)]


def _holes(random: Generator, values: Numbers, share: float) -> Numbers:
    """Missing at random."""
    return np.where(random.random(len(values)) < share, np.nan, values)


def _sign_up(random: Generator, tenure: Numbers) -> pl.Series:
    days = (tenure * 30.44).astype(int) + random.integers(0, 30, len(tenure))
    return pl.Series(LAST_DAY - days.astype("timedelta64[D]")).cast(pl.Date)


def _blurred(frame: pl.DataFrame, share: float, random: Generator) -> pl.DataFrame:
    """A share of each feature's cells, shuffled."""
    columns = []
    for column in frame.drop("customer_id", "churned"):
        places = np.flatnonzero(random.random(frame.height) < share)
        order = np.arange(frame.height)
        order[places] = random.permutation(places)
        columns.append(column.gather(order))
    return frame.with_columns(columns)


def write(folder: Path, rows: int, seed: int, shift: Shift, extension: str = "csv") -> None:
    """Labelled rows to learn from; half as many new ones, moved by `shift`, and apart from these their labels."""
    new = customers(rows // 2, seed + 1, shift, first=rows + 1)
    parts = {"train": customers(rows, seed), "production": new.drop("churned")}
    for name, table in (parts | {"later": new.select("customer_id", "churned")}).items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        partial = place / f".customers.{extension}"
        table.write_parquet(partial) if extension == "parquet" else table.write_csv(partial)
        for other in [
            *(f"customers.{kind}" for kind in EXTENSIONS),
            "labelled.parquet",
        ]:  # or rows would be there twice
            (place / other).unlink(missing_ok=True)
        partial.replace(place / f"customers.{extension}")
    (folder.parent / "window").write_text(f"{folder.name}\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.sample", description="Write the sample table.")
    parser.add_argument("--rows", type=int, default=20_000, help="labelled rows; half as many new ones are written")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--drift", type=float, default=0.0, help="0 to 1: how far the new rows' values have moved")
    parser.add_argument("--concept", type=float, default=0.0, help="0 to 1: how far their reasons to leave have moved")
    parser.add_argument("--extension", choices=EXTENSIONS, default="csv", help="the kind of file")
    parser.add_argument("--output", type=Path, required=True, help="the window's folder, data/<window>")
    options = parser.parse_args()
    if options.rows < 2 or options.seed < 0 or not (0 <= options.drift <= 1 and 0 <= options.concept <= 1):
        parser.error("--rows must be 2 or more, --seed 0 or more, --drift and --concept from 0 to 1")
    try:
        write(options.output, options.rows, options.seed, Shift(options.drift, options.concept), options.extension)
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the sample is not whole: make sample writes it anew.\n")
    except (OSError, MemoryError) as error:
        parser.error(f"{options.rows:,} rows can't be made here: {error}")
    written = f"customers.{options.extension} is written to {options.output}"
    print(f"{written}/train/ and /production/, the labels of the latter, which come later, to /later/")


if __name__ == "__main__":
    main()
