"""Columns of dates that say when a row happened: told by the order and the spread of their values, then by name."""

import re
from dataclasses import dataclass

import polars as pl

from operations.adopt import dates, tables
from operations.adopt.columns import Decision
from operations.adopt.facts import Facts, Look
from runtime.failures import InputError
from runtime.usecase import EPOCHS

EVENT = re.compile(
    r"time|date|day|created|updated|modified|event|occurred|order|purchase|transact|booked|logged|record"
    r"|stamp|epoch|datum|zeit|tag$|jour|heure|fecha|(^|[\W_])ts($|[\W_])",
    re.I,
)
# of a thing, not of the row
OTHER = re.compile(r"birth|born|dob|expir|due|valid|until|deadline|matur|built|geburt|ablauf|fällig|gültig", re.I)
ORDERED, UNIQUE = 0.95, 0.9  # the rank correlation with the order of rows; the share of values that stand once
DAY = 86_400_000_000  # microseconds
FEWEST, SPREAD = 5, 20  # distinct values, and those where the name has to tell


@dataclass(frozen=True)
class Moments:
    """Of one column of dates: values, how they go with the order of rows, whether any has a time of day, the ends.

    `low` and `high` are microseconds, as is `after_low` and `before_high`, the next values to them.
    """

    values: int
    distinct: int
    order: float | None
    timed: bool
    low: int
    low_cells: int
    after_low: int
    high: int
    high_cells: int
    before_high: int

    def reason(self, name: str) -> str:
        """Why a column of this name looks like the time of an event; "" where it does not."""
        if self.distinct >= FEWEST and abs(self.order or 0.0) >= ORDERED:
            return "rows are in its order"
        if OTHER.search(name) or self.distinct < SPREAD:
            return ""
        if self.timed and self.distinct >= UNIQUE * self.values:
            return "nearly every row has a moment of its own"
        return "its name says so" if EVENT.search(name) else ""


def look(found: dict[str, Facts], decisions: dict[str, Decision], look: Look) -> dict[str, Moments]:
    """The moments of each column of dates."""
    return {
        name: _moments(found[name], decision, look) for name, decision in decisions.items() if decision.type == "date"
    }


def events(moments: dict[str, Moments]) -> dict[str, str]:
    """The columns that look like the time of an event and why, the clearest first."""
    reasons = {name: each.reason(name) for name, each in moments.items()}
    clearest = sorted(reasons, key=lambda name: -abs(moments[name].order or 0.0))
    return {name: reasons[name] for name in clearest if reasons[name]}


def moment(column: Facts, decision: Decision, look: Look) -> pl.Expr:
    """The column's values in microseconds."""
    if column.kind.is_temporal():
        at = pl.col(column.name).cast(pl.Datetime("us", getattr(column.kind, "time_zone", None))).cast(pl.Int64)
        return pl.when(tables.text(column.name, column.kind, look.markers).is_not_null()).then(at)
    text = tables.plain(column.name, column.kind, look.markers)
    if decision.format in EPOCHS:
        return dates.since_1970(look.table.number(column.name, text, column.kind), decision.format)
    return dates.read(text, decision.format).cast(pl.Int64)


def day(moment: int) -> str:
    """The day of a moment, as 2024-01-31."""
    return str(pl.Series([moment // DAY], dtype=pl.Int32).cast(pl.Date).dt.to_string()[0])


def _moments(column: Facts, decision: Decision, look: Look) -> Moments:
    at = pl.col("at")
    held = look.table.frame.select(moment(column, decision, look).alias("at")).drop_nulls()
    ends = held.select(at.min().alias("low"), at.max().alias("high")).collect(engine="streaming").row(0, named=True)
    low, high = ends["low"], ends["high"]
    if low is None:
        told = f"column {column.name!r}: {column.texts[0]!r} is no date like {decision.format or 'those that are read'}"
        raise InputError(f"{look.table.files[0].name}: {told}; say its own format.")
    counts = held.select(
        values=pl.len(),
        distinct=at.n_unique(),
        order=pl.corr(at.rank(), pl.int_range(pl.len())).fill_nan(None),
        timed=(at % DAY != 0).any(),
        low_cells=(at == low).sum(),
        after_low=at.filter(at > low).min().fill_null(high),
        high_cells=(at == high).sum(),
        before_high=at.filter(at < high).max().fill_null(low),
    )
    return Moments(**ends, **counts.collect(engine="streaming").row(0, named=True))
