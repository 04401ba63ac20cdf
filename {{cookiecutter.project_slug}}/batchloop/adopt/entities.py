"""Columns that say what rows belong to (a patient, a machine): rows of one are no independent examples."""

import csv
import gzip
import io
import random
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.adopt import columns, gaps, reading, tables
from batchloop.adopt.columns import MANY, Decision
from batchloop.adopt.tables import Facts, Look
from batchloop.container import files
from batchloop.container.job import InputError
from batchloop.container.usecase import Data
from batchloop.container.values import canonical

FEWEST, REPEATED = 20, 0.2  # values; the share of rows whose value stands in other rows too
NAMED, MOST = 100, 1000  # rows a value, on average: where the name tells, and where the other columns do
LOOKED, TRIED = 60, 8  # columns and candidates, at most
STEADY, NESTED, ONE_LABEL = 0.1, 0.01, 0.02  # variance within a value, as a share of the whole
BINS, A_BIN = 20, 5  # of a number's range, at most, and values in each, at least
TOGETHER, COUNTING = 1.05, 0.9  # runs of a value, on average; the share of steps by which a counter goes up
CALENDAR = re.compile(r"year|month|week|day|date|hour|min|sec|jahr|monat|woche|tag|stunde|kw|time|zeit", re.IGNORECASE)


@dataclass(frozen=True)
class Entity:
    """A column whose values repeat: how many there are, rows a value, and which other columns hardly change within."""

    name: str
    called: bool  # like an entity
    values: int
    rows: float
    repeated: float
    variances: Mapping[str, float]  # of the columns that vary at all: within a value, as a share of the whole
    label: str = ""
    measured: bool = False  # a number whose range tells the steady columns as its values do: they are derived from it
    together: bool = False  # the rows of a value follow each other
    counter: str = ""  # a column that counts them then

    @property
    def decided(self) -> bool:
        """Whether all rows of a value have one label."""
        return self.variances.get(self.label, 1.0) <= ONE_LABEL

    @property
    def steady(self) -> int:
        return sum(share <= STEADY for share in self.variances.values())

    @property
    def clear(self) -> bool:
        """Whether rows of one value are more alike than chance and a category's meaning make them."""
        if self.values < FEWEST or self.repeated < REPEATED or self.measured:
            return False
        if self.counter:
            return True  # a series each, whose neighbours in time are alike
        if self.decided and (self.called or self.steady > 2) and self.rows <= MOST:
            return True  # measurements may change from row to row: whose they are tells the label
        steady = self.steady >= max(2, len(self.variances) / 2) and self.rows <= (MOST if self.called else NAMED)
        return steady or (self.called and self.values > MANY and self.rows <= NAMED)

    def words(self) -> str:
        alike = f", {self.steady} of {len(self.variances)} other columns hardly change within one"
        alike = f", in one block each that {self.counter!r} counts" if self.counter else alike
        told = ", and the label stays the same within one" if self.decided else alike if len(self.variances) > 1 else ""
        return f"{self.values:,} values of {self.rows:.1f} rows each{told}"


def find(found: Mapping[str, Facts], decisions: Mapping[str, Decision], look: Look, label: str) -> list[Entity]:
    """The columns that repeat and could be entities; the first is the one to split by, if it is `clear`."""
    named = [name for name, column in found.items() if name != label and _possible(column, decisions[name])]
    counters = _blocks(found, look, label)
    candidates = sorted(
        dict.fromkeys([*named, *counters]),
        key=lambda name: (
            not counters.get(name),
            not _called(found[name]),
            found[name].numbers > 0,
            -found[name].distinct,
        ),
    )[:TRIED]
    used = [name for name in found if name != label and decisions[name].type and name not in candidates]
    chosen = [label, *candidates, *used[:: max(1, len(used) // LOOKED)][:LOOKED]]
    entities = [
        replace(
            _measured(found, name, chosen, look),
            label=label,
            together=name in counters,
            counter=counters.get(name, ""),
        )
        for name in candidates
    ]
    entities = [replace(each, measured=_is_measured(each, found, look)) for each in entities]
    entities = sorted(entities, key=lambda each: (not each.clear, not each.counter, -each.steady, each.values))
    return _outermost(entities)


def wished(found: Mapping[str, Facts], look: Look, name: str, label: str) -> Entity:
    """The column that GROUP names. Raises InputError where it can't group rows."""
    entity = replace(_measured(found, name, [label], look), label=label)
    if entity.values < 3 or not entity.repeated:
        few = f"{entity.values} values; three parts need one each"
        held, file = few if entity.values < 3 else "another value in every row", look.table.files[0].name
        raise InputError(f"{file}: column {name!r} (GROUP) holds {held}. Leave GROUP away, or name another column.")
    return entity


def hint(entities: Sequence[Entity]) -> str:
    """What may have been meant where nothing is clear."""
    repeating = [
        each.name for each in entities if each.clear or ((each.called or each.together) and each.repeated >= REPEATED)
    ]
    names = ", ".join(map(repr, repeating[:3]))
    repeat = f"{names} {'repeats' if len(repeating) == 1 else 'repeat'}"
    return f"{repeat}: if new rows will be of others, say GROUP={shlex.quote(repeating[0])}" if repeating else ""


def _called(column: Facts) -> bool:
    entity = gaps.ENTITY.search(column.name.strip())
    counts = entity and column.numbers and not entity["ending"] and gaps.PLURAL.search(entity[0])
    return gaps.named(column.name) or bool(entity and not counts)


def _possible(column: Facts, decision: Decision) -> bool:
    """Whether a column's values are names that repeat: text, or whole numbers, many where no name fits."""
    names = column.numbers == 0 or column.zero_padded
    whole = column.numbers == column.present and column.whole
    repeats = FEWEST * 5 / 6 <= column.distinct <= column.present  # distinct is an estimate
    often = column.present > 0.5 * column.rows and column.present <= MOST * column.distinct * 7 / 6
    kind = tables.readable(column.kind) and decision.type not in ("date", "boolean")
    fits = names or (whole and (_called(column) or column.distinct > MANY / 2))
    return bool(column.name.strip()) and kind and repeats and often and fits


def _blocks(found: Mapping[str, Facts], look: Look, label: str) -> dict[str, str]:
    """The columns of few values whose rows follow each other, and a column that counts the rows of each anew, or ""."""
    numbers = [name for name, each in found.items() if each.numbers == each.present > 0 and name != label]
    names = [
        name
        for name, each in found.items()
        if name != label
        and _few(each)
        and (not each.numbers or (name in numbers and each.whole))
        and not CALENDAR.search(name)
    ][:LOOKED]
    if not names:
        return {}
    texts = look.table.frame.select(tables.text(name, found[name].kind, look.markers).alias(name) for name in names)
    runs = texts.select(pl.all().ne_missing(pl.all().shift()).sum()).collect().row(0, named=True)
    together = [name for name in names if runs[name] <= TOGETHER * found[name].distinct]
    return {name: _counter(found, name, [each for each in numbers if each != name][:LOOKED], look) for name in together}


def _few(column: Facts) -> bool:
    return FEWEST <= column.distinct <= min(MANY, column.present / 4) and tables.readable(column.kind)


def _counter(found: Mapping[str, Facts], name: str, numbers: Sequence[str], look: Look) -> str:
    """The first column that goes up by one from row to row of a value, and back to the next; "" where there is none.

    It may go up by anything where the column is called like an entity.
    """
    value = tables.text(name, found[name].kind, look.markers)
    same = value == value.shift()
    steps = {other: _amount(found[other], look).diff() for other in numbers}
    right = {other: step > 0 if _called(found[name]) else step == 1 for other, step in steps.items()}
    shares = look.table.frame.select(
        pl.min_horizontal(right[other].filter(same).mean(), (step < 0).filter(~same).mean()).alias(other)
        for other, step in steps.items()
    )
    counted = shares.collect().row(0, named=True) if numbers else {}
    return next((other for other, share in counted.items() if (share or 0.0) >= COUNTING), "")


def _is_measured(entity: Entity, found: Mapping[str, Facts], look: Look) -> bool:
    """Whether what is the same within a number is nearly the same within a part of its range: that of no id is."""
    steady = [name for name, share in entity.variances.items() if share <= STEADY]
    if entity.called or entity.counter or not entity.clear or not found[entity.name].numbers:
        return False
    bins = max(3, min(BINS, entity.values // A_BIN))
    binned = _measured(found, entity.name, steady, look, bins).variances
    return 2 * sum(binned.get(name, 1.0) <= 2 * STEADY for name in steady) >= len(steady) > 0


def _measured(found: Mapping[str, Facts], name: str, others: Sequence[str], look: Look, bins: int = 0) -> Entity:
    """One pass over the table, and one row a value in memory: or one of so many parts of a number's range."""
    places = {f"c{place}": other for place, other in enumerate(others) if other != name}
    number = _amount(found[name], look)
    part = ((number.rank("min") - 1) * bins / number.count()).floor()
    key = (part if bins else tables.text(name, found[name].kind, look.markers)).alias("value")
    held = look.table.frame.select(
        key, *(_amount(found[other], look).alias(place) for place, other in places.items())
    ).filter(pl.col("value").is_not_null())
    groups = held.group_by("value").agg(
        pl.len().alias("rows"),
        *(((pl.col(place).count() - 1).clip(0) * pl.col(place).var()).alias(f"{place}:within") for place in places),
        *((pl.col(place).count().cast(pl.Int64) - 1).clip(0).alias(f"{place}:free") for place in places),
    )
    summed = groups.select(
        pl.len().alias("values"),
        pl.col("rows").sum(),
        pl.col("rows").filter(pl.col("rows") > 1).sum().alias("repeated"),
        *(pl.col(f"{place}:{part}").sum() for place in places for part in ("within", "free")),
    )
    total = held.select(pl.col(place).var() for place in places)
    row, whole = (frame.row(0, named=True) if frame.width else {} for frame in pl.collect_all([summed, total]))
    variances = {
        other: row[f"{place}:within"] / row[f"{place}:free"] / whole[place]
        for place, other in places.items()
        if whole[place] and row[f"{place}:free"]
    }
    rows, values = row["rows"] or 0, row["values"]
    return Entity(
        name, _called(found[name]), values, rows / max(1, values), (row["repeated"] or 0) / max(1, rows), variances
    )


def _amount(column: Facts, look: Look) -> pl.Expr:
    """A number for each value: itself, or for text a hash, whose variance tells how often values differ."""
    text = tables.plain(column.name, column.kind, look.markers)
    if column.numbers > column.present / 2:
        return look.table.number(column.name, text, column.kind)
    return text.hash().cast(pl.Float64) / 2.0**64


def _outermost(entities: Sequence[Entity]) -> list[Entity]:
    """The first gives way to what it lies in: an order to its customer, a person to their household."""
    if not entities:
        return []
    first = entities[0]
    outer = [each for each in entities if each.clear and each.values < first.values]
    inside = [each for each in outer if first.variances.get(each.name, 1.0) <= NESTED]
    first = min(inside, key=lambda each: each.values, default=first)
    return [first, *(each for each in entities if each is not first)]


SHARE, MOST_ASIDE = (
    0.1,
    0.3,
)  # of the rows; where equal times or large groups would take more than MOST, none are kept aside
FEWEST_ASIDE = 500  # labelled rows; of fewer, training needs every one
SEED = 7
NUMBER, MARK = "__number", "\ufeff"
Paths = Mapping[bool, Path]  # of the rows to learn from, and of those kept aside
Counts = dict[bool, int]


@dataclass(frozen=True)
class Aside:
    """The rows with one of `values` in `column`, or a tenth at random without a column; `words` say which they are."""

    column: str
    values: frozenset[str]
    words: str
    markers: tuple[str, ...]
    reading: Data


def choose(found: dict[str, Facts], look: Look, time: Decision | None, group: str) -> Aside | None:
    """The last rows where there is a time, whole groups where there are groups; None where too few would be left."""
    rows = next(iter(found.values())).rows
    if rows < FEWEST_ASIDE:
        return None
    common = tuple(look.markers), look.table.reading
    if not time and not group:
        return Aside("", frozenset(), "drawn at random", *common)
    values = _latest(found, look, time) if time else _groups(found[group], look)
    name = time.name if time else group
    text = tables.text(name, found[name].kind, look.markers)
    taken = look.table.frame.select(text.is_in(list(values)).sum()).collect(engine="streaming").item()
    if not 0 < taken <= MOST_ASIDE * rows:
        return None
    return Aside(name, values, f"the last by {name!r}" if time else f"of {len(values):,} {name!r}", *common)


def _latest(found: dict[str, Facts], look: Look, time: Decision) -> frozenset[str]:
    column = found[time.name]
    text, moment = tables.text(column.name, column.kind, look.markers), columns.moment(column, time, look)
    both = look.table.frame.select(text.alias("text"), moment.alias("at")).drop_nulls()
    late = both.filter(pl.col("at") >= pl.col("at").quantile(1 - SHARE, "higher"))
    return frozenset(late.select(pl.col("text").unique()).collect(engine="streaming")["text"])


def _groups(column: Facts, look: Look) -> frozenset[str]:
    """Groups in an order of chance, as many as hold a tenth of the rows; one that is too large is passed over."""
    text = tables.text(column.name, column.kind, look.markers).alias("text")
    counts = dict(look.table.frame.select(text).drop_nulls().group_by("text").len().collect().iter_rows())
    wanted, taken = SHARE * column.rows, 0
    chosen: set[str] = set()
    for name in sorted(counts, key=lambda name: blake2b(name.encode(), digest_size=8).digest()):
        if taken >= wanted:
            break
        if taken + counts[name] <= MOST_ASIDE * column.rows:
            chosen.add(name)
            taken += counts[name]
    return frozenset(chosen)


def cut(file: Path, aside: Aside, train: Path, production: Path) -> int:
    """Write a file's rows into two, each read as the file is; one without a row is not written. The rows kept aside."""
    if file.name.lower().endswith(".parquet"):
        rows = _cut_parquet(file, aside, {False: train, True: production})
    else:
        rows = _cut_text(file, aside, {False: train, True: production})
    for chosen, path in ((False, train), (True, production)):
        if not rows[chosen]:
            path.unlink()
    return rows[True]


def _cut_text(file: Path, aside: Aside, paths: Paths) -> Counts:
    """Record by record, as text: quotes, marks, line ends and whatever else is odd stay as they are."""
    rows, draw, place = {False: 0, True: 0}, random.Random(SEED), -1  # noqa: S311 - a reproducible choice, not a secret
    with ExitStack() as stack:
        text = _opened(stack.enter_context(files.opened(file)), aside)
        out = {chosen: _opened(stack.enter_context(_created(path, file)), aside) for chosen, path in paths.items()}
        begun, decimal = False, aside.reading.decimal  # what comes first and holds anything are the names, or a row
        for cells, record in _records(text, file, aside.reading.separator):
            filled = any(cell.strip() for cell in cells)
            if filled and not begun:
                begun, place = True, _place(cells, aside) if aside.column else -1
                if aside.reading.header:
                    for part in out.values():
                        part.write(record)
                    continue
            listed = 0 <= place < len(cells) and canonical(cells[place].strip(), decimal) in aside.values
            chosen = filled and (draw.random() < SHARE if place < 0 else listed)
            out[chosen].write(record)
            rows[chosen] += 1
        for part in out.values():
            part.flush()
    return rows


def _opened(handle: Any, aside: Aside) -> io.TextIOWrapper:
    return io.TextIOWrapper(handle, aside.reading.encoding, errors="surrogateescape", newline="")


def _created(path: Path, original: Path) -> Any:
    """A file to write bytes into, packed where the original is."""
    with original.open("rb") as handle:
        packed = handle.read(2) == files.GZIP
    return gzip.open(path, "wb") if packed else path.open("wb")


def _place(names: list[str], aside: Aside) -> int:
    """Where the column stands: by the names that come first, or by its number where there are none."""
    if not aside.reading.header:
        return int(aside.column.rpartition("_")[2]) - 1
    return names.index(aside.column)


def _records(text: io.TextIOWrapper, file: Path, separator: str) -> Iterator[tuple[list[str], str]]:
    """Cells and text of each record; a first line by which Excel names the separator belongs to the names below it."""
    held: list[str] = []

    def lines() -> Iterator[str]:
        for line in text:
            held.append(line)
            yield line

    first = text.readline()
    plain = first.removeprefix(MARK)  # which would keep quotes from being some
    excel = reading.EXCEL.fullmatch(plain)
    before = csv.field_size_limit(sys.maxsize)
    try:
        held.append(first)
        for cells in csv.reader(lines() if excel else chain([plain], lines()), delimiter=separator):
            yield cells, "".join(held)
            held.clear()
    except csv.Error as error:
        raise InputError(f"{file.name} can't be cut into rows: {error}.") from None
    finally:
        csv.field_size_limit(before)


def _cut_parquet(file: Path, aside: Aside, paths: Paths) -> Counts:
    frame = pl.scan_parquet(file)
    if aside.column:
        text = tables.text(aside.column, frame.collect_schema()[aside.column], aside.markers)
        listed = text.is_in(list(aside.values)).fill_null(False)
    else:
        draw = random.Random(SEED)  # noqa: S311 - a reproducible choice, not a secret
        drawn = [draw.random() < SHARE for _ in range(frame.select(pl.len()).collect().item())]
        frame, listed = frame.with_row_index(NUMBER), pl.col(NUMBER).is_in(pl.Series(drawn).arg_true().implode())
    rows = {}
    for chosen, path in paths.items():
        part = frame.filter(listed if chosen else ~listed).drop(NUMBER, strict=False)
        part.sink_parquet(path, engine="streaming")
        rows[chosen] = int(pl.scan_parquet(path).select(pl.len()).collect().item())
    return rows
