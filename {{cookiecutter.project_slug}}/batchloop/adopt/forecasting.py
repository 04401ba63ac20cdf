"""What `make adopt` decides for series: which rows are one, how far apart they are, what a season is, how far to look.

In a repository whose usecase.toml has [series]. Columns count as known afterwards only, unless KNOWN names them.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.adopt import dates
from batchloop.adopt.columns import Decision
from batchloop.adopt.dates import Moments
from batchloop.adopt.holdout import Holdout, among
from batchloop.adopt.profile import Profile, text
from batchloop.adopt.roles import Label
from batchloop.adopt.source import NO_GROUP, Question, row, types_option
from batchloop.container import series, settings
from batchloop.container.job import InputError

SECOND = 1_000_000  # microseconds
DAY = 86_400
MONTH, FOUR_WEEKS = 30.436875 * DAY, 28 * DAY
# the seconds of a unit, its season, and a horizon
CLOCK = ((7 * DAY, "w", 52, 8), (DAY, "d", 7, 14), (3600, "h", 24, 24), (60, "m", 1440, 60), (1, "s", 1, 60))
COARSE = 300  # seconds, from which on a day is forecast, and not an hour
FEWEST, MANY = 20, 200  # rows, of which [drift] minimum_rows asks at least and at most
PERIODS = 12  # horizons that a table has at least, where it may choose
ROWS = 3  # of a series on average, or its column names none
PART = re.compile(r"(quarter|month|week|day|hour)s?", re.IGNORECASE)  # names of columns that say when within a year


@dataclass(frozen=True)
class Forecast:
    """The values of [series], [drift] minimum_rows, and how many rows share their period with another one."""

    series: dict[str, Any]
    minimum_rows: int
    shared: int


def asked(usecase: Path) -> bool:
    """Whether the repository is one that forecasts. Raises InputError for what is no TOML."""
    return usecase.is_file() and "series" in settings.read(usecase, usecase.name)[0]


def decide(
    found: Profile, decisions: dict[str, Decision], moments: dict[str, Moments], label: Label
) -> tuple[Decision, Label, Holdout, Forecast]:
    """The time, the label, and the rows to come. Raises Question where the table tells no time or series."""
    options = found.options
    dated = [decisions[name] for name in moments if options.time in ("", name)]
    if len(dated) != 1:
        years = [each.name for each in decisions.values() if dates.are_years(each.column)]
        names = ", ".join(repr(each.name) for each in dated) or "no column"
        could = f", but {years[0]!r} could be years" if years and not dated else ""
        raise Question(f"which column says when a row happened? {names} holds dates{could}; say TIME=column.")
    time, at = dated[0], moments[dated[0].name].at
    name = _series(found, decisions, time.name)
    column = found.columns[time.name]
    named = text(name, ("",), column.table.reading.decimal) if name else pl.lit("")  # "NA" too is a name
    cells = column.table.frame.select(named.alias("series"), column.text.alias("text"), at.alias("at"))
    rows = cells.drop_nulls().collect(engine="streaming")
    frequency, season, horizon = _frequency(rows, time.name)
    distinct = rows["at"].n_unique()
    horizon = max(1, min(horizon, distinct // PERIODS))
    season = season if distinct >= 3 * season else 1
    period = series.period(pl.col("at").cast(pl.Datetime("us")), frequency)
    shared = int(rows.select(pl.struct("series", period).is_duplicated().sum()).item())
    last = rows.filter(period > period.max() - horizon)  # weekends count too, where days are periods
    back = -(-horizon // season) * season  # drift counts rows whose series has a value so much earlier
    keyed = rows.select("series", period.alias("period")).unique()
    late = keyed.filter(pl.col("period") > pl.col("period").max() - horizon).with_columns(pl.col("period") - back)
    counted = len(late.join(keyed, on=["series", "period"], how="semi"))
    words, keys = f"the last {horizon} by {time.name!r}", tuple(filter(None, (name, time.name)))
    held = among(column, last["text"].unique().to_list())
    kept = Holdout(held, words, found.table.reading, found.label.name, keys)
    known = options.known_columns
    told = {"id": name, "horizon": horizon, "frequency": frequency, "season_length": season, "known": known}
    why = f"{label.why.partition(';')[0]}; the gate asks for less error than the seasonal naive forecast has"
    judged = replace(label, task="forecasting", why=why, metric="relative_mase", limit=1.0, lead=-0.01)
    return time, judged, kept, Forecast(told, min(MANY, max(FEWEST, counted)), shared)


def _series(found: Profile, decisions: dict[str, Decision], time: str) -> str:
    """SERIES or GROUP; else the one column that makes times unique, "" where they are. Raises Question."""
    wish = found.options.series or found.options.group
    part = next((name for name, each in decisions.items() if each.type and PART.fullmatch(name)), "")
    if part and decisions[time].format == "%Y":
        one = f"write them into one, such as 2024-03 or 2024-Q1, or say {types_option(part, 'out')}"
        raise InputError(f"{time!r} and {part!r} say together when a row happened; {one}.")
    if wish:
        return "" if wish in NO_GROUP else wish
    several = [name for name, each in decisions.items() if each.type in ("category", "number") and name != time]
    several = [name for name in several if name != found.label.name]
    both = [pl.struct(time, name).n_unique() for name in several]
    rows, alone, *counts = row(found.table.frame, pl.len(), pl.col(time).n_unique(), *both)
    if alone == rows:
        return ""
    fit = [name for name, count in zip(several, counts, strict=True) if count == rows]
    fit = [name for name in fit if ROWS * found.columns[name].distinct <= rows] or fit
    if len(fit) != 1:
        raise Question(
            f"which rows are one series? Times of {time!r} come more than once"
            f"{', and ' + ', '.join(map(repr, fit)) + ' could tell them apart' if fit else ''}; say SERIES=column, or "
            "SERIES=none where all rows are one."
        )
    return fit[0]


def _frequency(rows: pl.DataFrame, name: str) -> tuple[str, int, int]:
    """The frequency, a season and a horizon, by the usual distance of two times of a series."""
    steps = rows.unique().sort("series", "at").select(pl.col("at").diff().over("series") // SECOND).drop_nulls()
    steps = steps.filter(pl.col("at") > 0)
    if steps.is_empty():
        raise InputError(f"column {name!r} has one time only in each series; there is nothing to forecast.")
    usual = steps["at"].value_counts(sort=True).sort("count", "at", descending=[True, False])["at"][0]
    months = round(usual / MONTH)
    if months and abs(usual - months * MONTH) < 4 * DAY and usual != FOUR_WEEKS:  # most months have 31 days
        number, unit = next(
            (months // each, unit) for each, unit in ((12, "y"), (3, "q"), (1, "mo")) if months % each == 0
        )
        return f"{number}{unit}", 1 if 12 % months else 12 // months, max(12 // months, 3)
    seconds, unit, season, horizon = next(each for each in CLOCK if usual % each[0] == 0)
    number = int(usual // seconds)
    horizon = season if unit == "m" and usual >= COARSE else horizon
    return f"{number}{unit}", max(1, season // number), max(1, horizon // number)
