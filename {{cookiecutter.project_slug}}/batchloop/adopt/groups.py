"""Columns that say what rows belong to (a patient, a machine): rows of one are no independent examples."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from batchloop.adopt.profile import MANY, Column, Profile
from batchloop.adopt.roles import ENTITY, PLURAL, named_like_id
from batchloop.adopt.source import NO_GROUP, row
from batchloop.container.job import InputError

FEWEST, REPEATED = 20, 0.2  # values; the share of rows whose value stands in other rows too
NAMED, MOST = 100, 1000  # rows a value, on average: where the name tells, and where the other columns do
LOOKED, TRIED = 60, 8  # columns and candidates, at most
STEADY, NESTED, ONE_LABEL = 0.1, 0.01, 0.02  # variance within a value, as a share of the whole
BINS, A_BIN = 20, 5  # of a number's range, at most, and values in each, at least
TOGETHER, COUNTING = 1.05, 0.9  # runs of a value, on average; the share of steps by which a counter goes up
CALENDAR = re.compile(r"year|month|week|day|date|hour|min|sec|jahr|monat|woche|tag|stunde|kw|time|zeit", re.IGNORECASE)


@dataclass(frozen=True)
class Entity:
    """A column whose values repeat: how many there are, rows a value, and which other columns hardly change within.

    `called`: named like an entity. `variances`: of the columns that vary, within a value, as a share of the whole;
    `steady` ones hardly do. `decided`: all rows of a value have one label. `derived`: a number whose range tells the
    steady columns as its values do. `together`: the rows of a value follow each other, and `counter` counts them.
    """

    column: Column
    called: bool
    values: int
    rows: float
    repeated: float
    variances: Mapping[str, float]
    steady: Sequence[str]
    decided: bool
    derived: bool = False
    together: bool = False
    counter: str = ""

    @property
    def hinted(self) -> bool:
        """Whether its name or the order of the rows says what its values do not."""
        return (self.called or self.together) and self.repeated >= REPEATED

    @property
    def clear(self) -> bool:
        """Whether rows of one value are more alike than chance and a category's meaning make them."""
        if self.values < FEWEST or self.repeated < REPEATED or self.derived:
            return False
        if self.counter:
            return True  # a series each, whose neighbours in time are alike
        if self.decided and (self.called or len(self.steady) > 2) and self.rows <= MOST:
            return True  # measurements may change from row to row: whose they are tells the label
        steady = len(self.steady) >= max(2, len(self.variances) / 2) and self.rows <= (MOST if self.called else NAMED)
        return steady or (self.called and self.values > MANY and self.rows <= NAMED)


def choose(profile: Profile, used: Mapping[str, str]) -> tuple[str, Entity | None, list[str]]:
    """The column whose rows stay together, "" for none, what is known of it, and further columns that repeat.

    `used` are the types of the columns without another role. Raises InputError for a GROUP without groups.
    """
    wish = profile.options.group
    if wish and wish not in NO_GROUP:
        entity = _entity(profile, profile.columns[wish], [profile.label.name])
        if entity.values < 3 or not entity.repeated:
            few = f"{entity.values} values; three parts need one each"
            wrong = few if entity.values < 3 else "another value in every row"
            told = f"column {wish!r} (GROUP) holds {wrong}. Leave GROUP away, or name another column."
            raise InputError(f"{profile.table.files[0].name}: {told}")
        return wish, entity, []
    entities = _find(profile, used)
    clear = entities[0] if entities and entities[0].clear else None
    others = [each for each in entities if each is not clear and (each.clear or each.hinted)]
    if wish:
        return "", clear, []
    return clear.column.name if clear else "", clear, [each.column.name for each in others]


def _find(profile: Profile, used: Mapping[str, str]) -> list[Entity]:
    """The columns that repeat and could be entities; the first is the one to split by, if it is `clear`."""
    columns, label = [profile.columns[name] for name in used], profile.label.name
    counters = _series(columns)
    possible = [each.name for each in columns if _possible(each, used[each.name])]
    ranks = {
        each.name: (not counters.get(each.name), not _called(each), each.numbers > 0, -each.distinct)
        for each in columns
    }
    candidates = sorted(dict.fromkeys([*possible, *counters]), key=lambda name: ranks[name])[:TRIED]
    features = [name for name, kind in used.items() if kind and name not in candidates]
    others = [label, *candidates, *features[:: max(1, len(features) // LOOKED)][:LOOKED]]
    entities = []
    for name in candidates:
        entity = _entity(profile, profile.columns[name], others)
        entity = replace(entity, together=name in counters, counter=counters.get(name, ""))
        entities.append(replace(entity, derived=_is_derived(entity, profile)))
    entities.sort(key=lambda each: (not each.clear, not each.counter, -len(each.steady), each.values))
    if not entities:
        return []
    # the first gives way to what it lies in: an order to its customer, a person to their household
    outer = [each for each in entities if each.clear and each.values < entities[0].values]
    inside = [each for each in outer if entities[0].variances.get(each.column.name, 1.0) <= NESTED]
    first = min(inside, key=lambda each: each.values, default=entities[0])
    return [first, *(each for each in entities if each is not first)]


def _called(column: Column) -> bool:
    """Whether a column is named like an entity; numbers under a plural count them."""
    entity = ENTITY.search(column.name.strip())
    counts = entity and column.numbers and not entity["ending"] and PLURAL.search(entity[0])
    return named_like_id(column) or bool(entity and not counts)


def _possible(column: Column, kind: str) -> bool:
    """Whether a column's values are names that repeat: text, or whole numbers, many where no name fits."""
    names = column.numbers == 0 or column.zero_padded
    whole = column.numbers == column.present and column.whole
    repeats = FEWEST * 5 / 6 <= column.distinct <= column.present  # distinct is an estimate
    often = column.present > 0.5 * column.rows and column.present <= MOST * column.distinct * 7 / 6
    fits = names or (whole and (_called(column) or column.distinct > MANY / 2))
    readable = column.name.strip() and column.readable and kind not in ("date", "boolean")
    return bool(readable and repeats and often and fits)


def _series(columns: Sequence[Column]) -> dict[str, str]:
    """The columns of few values whose rows follow each other, and a column that counts the rows of each anew, or ""."""
    numbers = [each for each in columns if each.numbers == each.present > 0]
    few = [
        each
        for each in columns
        if FEWEST <= each.distinct <= min(MANY, each.present / 4) and each.readable and not CALENDAR.search(each.name)
        if not each.numbers or (each.numbers == each.present and each.whole)
    ][:LOOKED]
    found = {}
    for column in few:
        text, shares = column.text, []
        if row(column.table.frame, text.ne_missing(text.shift()).sum())[0] > TOGETHER * column.distinct:
            continue
        counting, same = [each for each in numbers if each is not column][:LOOKED], text == text.shift()
        for other in counting:
            step = _amount(other).diff()
            right = (step > 0 if _called(column) else step == 1).filter(same)
            shares.append(pl.min_horizontal(right.mean(), (step < 0).filter(~same).mean()).alias(other.name))
        counted = zip(counting, row(column.table.frame, *shares), strict=True)
        found[column.name] = next((other.name for other, share in counted if (share or 0.0) >= COUNTING), "")
    return found


def _is_derived(entity: Entity, profile: Profile) -> bool:
    """Whether what is the same within a number is nearly the same within a part of its range: that of no id is."""
    if entity.called or entity.counter or not entity.clear or not entity.column.numbers:
        return False
    bins = max(3, min(BINS, entity.values // A_BIN))
    binned = _entity(profile, entity.column, entity.steady, bins).variances
    return 2 * sum(binned.get(name, 1.0) <= 2 * STEADY for name in entity.steady) >= len(entity.steady) > 0


def _entity(profile: Profile, column: Column, others: Sequence[str], bins: int = 0) -> Entity:
    """One pass over the table, and one row a value in memory: or one of so many parts of a number's range."""
    places = {f"c{place}": other for place, other in enumerate(others) if other != column.name}
    number, value = _amount(column), pl.col(list(places))
    part = ((number.rank("min") - 1) * bins / number.count()).floor()
    amounts = (_amount(profile.columns[other]).alias(place) for place, other in places.items())
    held = column.table.frame.select((part if bins else column.text).alias("value"), *amounts)
    held = held.filter(pl.col("value").is_not_null())
    free = (value.count().cast(pl.Int64) - 1).clip(0)
    groups = held.group_by("value").agg(
        pl.len().alias("rows"), (free * value.var()).name.suffix(":within"), free.name.suffix(":free")
    )
    summed = groups.select(
        pl.len().alias("values"),
        pl.col("rows").filter(pl.col("rows") > 1).sum().alias("repeated"),
        pl.exclude("value").sum(),
    )
    sums, whole = (
        frame.row(0, named=True) if frame.width else {} for frame in pl.collect_all([summed, held.select(value.var())])
    )
    variances = {
        other: sums[f"{place}:within"] / sums[f"{place}:free"] / whole[place]
        for place, other in places.items()
        if whole[place] and sums[f"{place}:free"]
    }
    steady = [name for name, share in variances.items() if share <= STEADY]
    decided = variances.get(profile.label.name, 1.0) <= ONE_LABEL
    rows, values, repeated = sums["rows"] or 0, sums["values"], (sums["repeated"] or 0) / max(1, sums["rows"] or 0)
    return Entity(column, _called(column), values, rows / max(1, values), repeated, variances, steady, decided)


def _amount(column: Column) -> pl.Expr:
    """A number for each value: itself, or for text a hash, whose variance tells how often values differ."""
    if column.numbers > column.present / 2:
        return column.number()
    return column.plain.hash().cast(pl.Float64) / 2.0**64
