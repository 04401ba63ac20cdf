"""Texts and numbers that stand for "no value": those that everybody uses are taken, others are asked for."""

import csv
import io
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from batchloop.adopt import columns, tables
from batchloop.adopt.columns import CODE, MANY, Decision, Moments
from batchloop.adopt.columns import FEW as COLUMNS_FEW
from batchloop.adopt.numerals import option
from batchloop.adopt.reading import Question
from batchloop.adopt.tables import End, Facts, Look, Table
from batchloop.container import metrics, raw
from batchloop.container.job import InputError

FEW_WORDS, FEW_CELLS = 5, 0.2  # distinct words among numbers, and the share of the cells that they may have
REPEATED, LEAST = 0.002, 3  # the share of the cells, and the cells, in which a far number stands again and again
APART, MOST = 0.2, 0.4  # a 0 means none where it lies so far from the rest (of its range), in at most this share
STEPS = 2.5  # by how many steps of its numbers a column begins above a 0 that means none in another column
LIMIT = re.compile(r"[<>≤≥~]=?\s*\d[\d.,]*|\d[\d.,]*\s*\+")  # beyond what can be measured
DIGIT = re.compile(r"\d")
RARE = 0.05  # the share of the cells that other texts with a digit may have
PERIOD = re.compile(r"(19|20)\d\d(0[1-9]|[1-4]\d|5[0-3])")  # a year with its month or week
CROWDED = 5  # times as often as a value on average
DAYS = ("0001-01-01", "1753-01-01", "1899-12-30", "1900-01-01", "1970-01-01", "2099-12-31", "9999-12-31")
SHOWN = 5
EXACT = 2.0**53
LABELS = 50  # distinct numbers of a label that is an amount


@dataclass(frozen=True)
class Suspect:
    """What could mean that a column has no value: the texts as they stand in it, and why in words."""

    texts: list[str]
    why: str


def known(found: dict[str, Facts], label: str) -> dict[str, list[str]]:
    """Texts that stand for "no value" among what would otherwise be numbers, by the column; none that is a class."""
    extra: dict[str, list[str]] = {}
    for name, column in found.items():
        numbers = column.numbers >= column.present / 4 and column.unmarked == 0 and name != label
        if numbers and column.marked and not set(column.marked) & set(found[label].texts):
            extra[name] = column.marked
    return extra


def suspects(found: dict[str, Facts], look: Look, label: str, task: str) -> list[Suspect]:
    """A few words among numbers, and numbers far from all others that stand again and again.

    `task` is what the user said: the texts of classes are classes, whatever they look like.
    """
    answer = found[label]
    classes = task in ("binary", "multiclass") or answer.distinct == 2
    told = {name for name, (kind, _) in look.types.items() if kind in ("out", "category")} | (
        {label} if classes else set()
    )
    columns = [column for name, column in found.items() if name not in told]
    far = [column for column in columns if column.name != label or column.distinct > LABELS]
    few = {label: look.tolerated if task else 0}  # a word in a label that is not said to be an amount is a class
    worded = [column for column in columns if column.name != label or not any(map(DIGIT.search, column.odd))]
    words = [suspect for column in worded for suspect in _words(column, few.get(column.name, look.tolerated))]
    marked, others = answer.present - answer.numbers - answer.unmarked, answer.distinct - len(answer.marked)
    rare = others == 2 or (others > 2 and marked <= FEW_CELLS * answer.present)
    if answer.marked and rare and not (task or classes or _words(answer, 0)):
        shown = ", ".join(map(repr, answer.marked))
        words.append(Suspect(answer.marked, f"{shown} in {label!r}: a class too (TASK=multiclass), or no label"))
    amounts = [suspect for column in far for suspect in _far(column, look)]
    if any(suspect.why.startswith("0 stands") for suspect in amounts):
        amounts = [suspect for column in far for suspect in _far(column, look, STEPS)]
    return words + amounts


def moments(
    found: dict[str, Facts], look: Look, decisions: dict[str, Decision], held: dict[str, Moments]
) -> list[Suspect]:
    """Days such as 1900-01-01, and others far from the rest, that stand again and again at the end of a column."""
    strays = {name: decision for name, decision in decisions.items() if 0 < len(decision.strays) <= FEW_WORDS}
    suspects = [
        Suspect(list(each.strays), f"{name!r} holds {each.why.partition(';')[0]}") for name, each in strays.items()
    ]
    for name, each in held.items():
        for moment, cells, next_to in (
            (each.low, each.low_cells, each.after_low),
            (each.high, each.high_cells, each.before_high),
        ):
            far = abs(moment - next_to) > max(each.before_high - each.after_low, 1)
            usual = _crowded(cells, each.values, each.distinct) and columns.day(moment) in DAYS
            if each.distinct > COLUMNS_FEW and _often(cells, each.values) and (far or usual):
                at = columns.moment(found[name], decisions[name], look)
                texts = _where(at == moment, tables.plain(name, found[name].kind, look.markers), look)
                suspects.append(Suspect(texts, f"{texts[0]} stands in {cells:,} cells of {name!r}, as no other date"))
    return suspects


def ask(suspects: Sequence[Suspect]) -> None:
    """Raises Question where there are any."""
    if not suspects:
        return
    texts = list(dict.fromkeys(text for suspect in suspects for text in suspect.texts))
    told = "; ".join(suspect.why for suspect in suspects[:SHOWN])
    more = f"; and {len(suspects) - SHOWN:,} more" if len(suspects) > SHOWN else ""
    raise Question(
        f'what means "no value"? {told}{more}. Say MISSING={written(texts)} (those that do), '
        "or MISSING=no if none does."
    )


def written(texts: Sequence[str]) -> str:
    """Texts as the option takes them."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(texts)
    return shlex.quote(line.getvalue())


def _words(column: Facts, tolerated: int) -> list[Suspect]:
    """A few words among numbers; with a digit where they are limits, or rare."""
    odd, words = column.present - column.numbers, column.odd
    limits = all(map(LIMIT.fullmatch, words))  # of which there may be many
    few = limits or odd <= FEW_CELLS * column.present
    if not tolerated < odd or not few or not 0 < len(words) <= FEW_WORDS:
        return []
    codes = column.distinct - len(words) <= COLUMNS_FEW and any(len(word) < 2 for word in words)
    digits = [word for word in words if DIGIT.search(word)]
    named = column.zero_padded or CODE.search(column.name) or column.distinct - len(words) <= COLUMNS_FEW
    if codes or (digits and (named or (odd > RARE * column.present and not limits))):
        return []
    shown = ", ".join(repr(word) for word in words)
    keep = f"; {option(column.name, 'category')} keeps them" if digits else ""
    why = f"{odd:,} of {column.present:,} cells of {column.name!r} are no numbers ({shown}{keep})"
    return [Suspect([f"{column.name}={word}" if word in digits else word for word in words], why)]


def _far(column: Facts, look: Look, steps: float = 0.0) -> list[Suspect]:
    """The lowest or highest number, where it is whole, repeated, and further from the rest than these are apart.

    A 0 also where it is by `steps` below the rest, if any are given.
    """
    if column.lowest is None or column.highest is None or column.low is None or column.high is None:
        return []
    if max(abs(column.low), abs(column.high)) >= EXACT:
        return []  # numbers that differ are the same to a float
    suspects = []
    rest = column.highest.following - column.lowest.following
    for number, end in ((column.low, column.lowest), (column.high, column.highest)):
        if abs(number // 100 - end.following // 100) <= 1 and all(map(PERIOD.fullmatch, column.texts)):
            continue  # the months and weeks of the year before
        far = number != 0 and abs(number - end.following) > max(rest, 1)
        zero = (
            steps
            and number == 0
            and end.following * (column.distinct - 2) > steps * rest
            and column.distinct > COLUMNS_FEW
        )
        usual = _crowded(end.cells, column.present, column.distinct) and (
            _nines(number)
            or number < 0 <= end.following
            or (number == 0 and abs(end.following) > APART * rest and end.cells < MOST * column.present)
        )
        if zero or (_none(column, number, end) and (far or usual)):
            text = tables.plain(column.name, column.kind, look.markers)
            texts = _where(look.table.number(column.name, text, column.kind) == number, text, look)
            if abs(number) <= 1:  # an ordinary number in other columns
                texts = [f"{column.name}={text}" for text in texts]
            first = column.low if end is column.highest else end.following
            others = f"the others are {first:g} to {column.high if end is column.lowest else end.following:g}"
            suspects.append(Suspect(texts, f"{number:g} stands in {end.cells:,} cells of {column.name!r}, {others}"))
    return suspects


def _none(column: Facts, number: float, end: End) -> bool:
    """Whether a number is one that people write for "none": whole, and in more than a few cells."""
    codes = column.distinct <= COLUMNS_FEW and not _nines(number) and not number < 0 <= end.following
    return _often(end.cells, column.present) and number.is_integer() and not codes


def _nines(number: float) -> bool:
    return abs(number) > 9 and len(set(f"{abs(number):.0f}")) == 1 and f"{abs(number):.0f}"[0] in "89"


def _often(cells: int, of: int) -> bool:
    return cells >= max(LEAST, REPEATED * of)


def _crowded(cells: int, of: int, distinct: int) -> bool:
    """Whether a value stands in far more cells than values do on average."""
    return cells * distinct > CROWDED * of


def _where(condition: pl.Expr, text: pl.Expr, look: Look) -> list[str]:
    """The texts that stand where a condition holds."""
    cells = look.table.frame.filter(condition).select(text.alias("text")).unique()
    return cells.collect(engine="streaming")["text"].sort().to_list()


APART_IDENTITY = re.compile(r"(^|[\W_])(id|uuid|guid|key|index|rowid)($|[\W_])", re.IGNORECASE)
JOINED = re.compile(r"[a-z](Id|ID|id)$")
# words that end like one
WORDS = {"paid", "unpaid", "prepaid", "bid", "valid", "invalid", "grid", "solid", "liquid", "fluid", "acid", "rapid"}
WORDS |= {"humid", "covid", "hybrid", "void", "avoid", "rigid", "lipid", "steroid", "aid", "raid", "mid", "kid", "lid"}
THINGS = "patient|subject|participant|person|customer|client|member|user|visitor|employee|student|player|driver"
THINGS += "|unit|volunteer|athlete|pupil|proband"
THINGS += "|machine|device|sensor|engine|vehicle|animal|household|family|account|policy|contract|loan|asset|turbine"
THINGS += (
    "|kunde|kunden|patienten|maschine|maschinen|anlage|anlagen|gerät|geraet|fahrzeug|konto|appareil|capteur|compte"
)
NUMBER = r"[\W_]?(no|nr|num|number|nummer|numero|#)"
ENTITY = re.compile(rf"(^|[\W_])({THINGS})s?(?P<ending>{NUMBER}|[\W_]?(name|code))?$", re.IGNORECASE)

PLURAL = re.compile(r"(s|kunden|patienten|maschinen|anlagen)$", re.IGNORECASE)  # numbers there count the things
NUMBERED = re.compile(rf"{NUMBER}$", re.IGNORECASE)
LAST_WORD = re.compile(r"[a-z]+$")
FEW, OFTEN = 20, 20  # values, and rows of each, that a model can learn something of


def named(column: str) -> bool:
    """Whether a column is called like the name of a row."""
    name = column.strip().lower() if column.isupper() else column.strip()
    last = LAST_WORD.search(name)
    ordinary = last is not None and (last[0] in WORDS or last[0].endswith(("paid", "valid")))
    return not ordinary and bool(APART_IDENTITY.search(name) or JOINED.search(name))


def called(column: Facts) -> bool:
    """Whether a column names rows or entities: by its name, or by codes under the name of an entity."""
    name = column.name.strip()
    entity, numbered = ENTITY.search(name), NUMBERED.search(name)
    if (column.numbers and not column.whole) or not column.present:
        return False
    if named(name) or (entity and entity["ending"]):
        return True
    return bool(entity or numbered) and column.numbers == 0 and all(DIGIT.search(text) for text in column.texts)


def find(found: dict[str, Facts], look: Look, label: str) -> str:
    """The column that names a row: called like an id and different in every row; "" where there is none."""
    for name, column in found.items():
        alone = column.present == column.rows and column.distinct > 0.6 * column.rows  # an estimate, told exactly below
        if (
            name != label
            and name.strip()
            and called(column)
            and alone
            and not _shared(look.table, column, look.markers)[0]
        ):
            return name
    return ""


def check(table: Table, column: Facts, missing: Sequence[str]) -> None:
    """Raises InputError for a column that does not name rows, because it repeats."""
    if shared := sharing(table, column, missing):
        raise InputError(
            f"column {column.name!r} (ID) names no row: {shared}. "
            "Leave ID away to number the rows; if it says what rows belong to (a patient, a machine), "
            f"say GROUP={shlex.quote(column.name)}."
        )


def sharing(table: Table, column: Facts, missing: Sequence[str]) -> str:
    """How many rows share a column's value with another one, and the first such values; "" where none does."""
    rows, first = _shared(table, column, missing)
    return f"{rows:,} rows share it with another one (such as {', '.join(map(repr, first))})" if rows else ""


def _shared(table: Table, column: Facts, missing: Sequence[str]) -> tuple[int, list[str]]:
    return raw.shared(table.frame.select(tables.text(column.name, column.kind, missing).alias("id")))


def reason(column: Facts, look: Look) -> str:
    """Why a column that could be learned from would only name rows; "" where it would not."""
    whole = column.numbers == column.present and column.whole
    if not tables.readable(column.kind):
        return ""
    if called(column) and (column.distinct > FEW or column.present < OFTEN * column.distinct):
        why, option = "names an entity, and a model could only learn it by heart", f"={shlex.quote(column.name)}"
        if column.distinct < 0.8 * column.present:
            return f"{why}; if its rows belong together say GROUP{option}"
        shared = sharing(look.table, column, look.markers)
        return f"{why}; {shared}: mend that to name rows by it (ID{option})" if shared else why
    if column.present < column.rows or column.rows < 20 or not whole or column.low is None:
        return ""
    if column.high == column.low + column.rows - 1 and not _shared(look.table, column, look.markers)[0]:
        return f"numbers the rows; to pass it through say ID={shlex.quote(column.name)}"
    return ""


MOST_CLASSES, CLEARLY_NUMBERS = 20, 50  # distinct whole numbers


@dataclass(frozen=True)
class Label:
    """The task, the classes in their order (none for regression), why, and the gate's metric, limit and lead."""

    task: str
    classes: tuple[str, ...]
    why: str
    metric: str
    limit: float
    lead: float


def decide(column: Facts, table: Table, wish: str, missing: Sequence[str], empty: int = 0) -> Label:
    """What the label asks for; `empty` rows have none.

    Raises Question where whole numbers could be classes or amounts, InputError where nothing can be learned.
    """
    _check(column, table, missing, empty)
    task = wish or _task(column)
    assumed = "" if wish else _assumed(column, task)
    if task == "regression":
        return _regression(column, table, missing, assumed)
    if column.distinct > MANY:
        raise InputError(f"the label {column.name!r} holds {column.distinct:,} different values; it can't be classes.")
    counts = _counts(column, table, missing)
    if task == "binary" and len(counts) != 2:
        raise InputError(f"the label {column.name!r} holds {len(counts)} values; a binary task has two.")
    if task == "multiclass" and len(counts) < 3:
        raise InputError(f"the label {column.name!r} holds {len(counts)} values; a multiclass task has three or more.")
    return _binary(counts) if task == "binary" else _multiclass(counts, assumed)


def markers(column: Facts, table: Table, missing: Sequence[str]) -> dict[str, int]:
    """Texts of the label that count as missing, such as None, and how often; blanks are not among them."""
    return _counts(column, table, [], [text for text in missing if text])


def _check(column: Facts, table: Table, missing: Sequence[str], empty: int) -> None:
    """Raises InputError for a label that is no label."""
    name = f"the label {column.name!r}"
    if not tables.readable(column.kind):
        raise InputError(f"{name} is of type {column.kind}; it must be text, numbers or yes and no.")
    if column.distinct < 2:
        words = markers(column, table, missing)
        hint = f" ({next(iter(words))!r} counts as missing; call that class otherwise)" if words else ""
        hint = hint or (f" (if no value is a class too, write it into the {empty:,} rows without one)" if empty else "")
        count = f"only {column.texts[0]!r}" if column.distinct == 1 else "0 values"
        raise InputError(f"{name} holds {count}; there is nothing to learn{hint}.")
    spelled: dict[str, str] = {}
    for text in column.texts:
        other = spelled.setdefault(text.lower(), text)
        if other != text and column.distinct <= MANY:
            raise InputError(f"{name} holds {other!r} and {text!r}; spell a class in one way.")


def _task(column: Facts) -> str:
    if column.distinct == 2:
        return "binary"
    numbers = column.numbers == column.present and column.kind != pl.Boolean
    if not numbers:
        return _classes(column)
    if not column.whole or column.distinct > CLEARLY_NUMBERS:
        return "regression"
    if column.distinct <= MOST_CLASSES:
        return "multiclass"
    raise Question(
        f"the label {column.name!r} holds {column.distinct} whole numbers: classes or amounts? "
        "Say TASK=multiclass or TASK=regression."
    )


def _assumed(column: Facts, task: str) -> str:
    """What was taken for granted of whole numbers, and how to say otherwise."""
    if task == "binary" or column.numbers < column.present or not column.whole or column.distinct > MANY:
        return ""
    if task == "multiclass":
        return f"{column.distinct} whole numbers, taken as classes; for amounts, counts or grades say TASK=regression"
    return f"{column.distinct} whole numbers, taken as amounts; for classes say TASK=multiclass"


def _classes(column: Facts) -> str:
    if column.distinct <= MANY:
        return "multiclass"
    name = f"the label {column.name!r}"
    if column.numbers > column.present / 2:
        odd = column.present - column.numbers
        raise InputError(
            f"{name} holds numbers, but also {column.odd[0]!r} ({odd:,} such cells); "
            f"say MISSING={shlex.quote(column.odd[0])}, or TASK=regression to leave such rows out, or mend them."
        )
    raise InputError(f"{name} holds {column.distinct:,} different texts; it can't be classes.")


def _counts(column: Facts, table: Table, missing: Sequence[str], among: Sequence[str] | None = None) -> dict[str, int]:
    value = tables.text(column.name, column.kind, missing).alias("value")
    texts = table.frame.select(value).drop_nulls()
    texts = texts.filter(pl.col("value").is_in(list(among))) if among is not None else texts
    return dict(texts.group_by("value").len().collect(engine="streaming").sort("value").iter_rows())


def _multiclass(counts: dict[str, int], assumed: str) -> Label:
    ordered = sorted(counts, key=lambda value: (_place(value), value))
    limit = round(math.log(len(ordered)), 3)
    rarest = min(ordered, key=lambda value: counts[value])
    rare = f"; only {counts[rarest]} of the rows are {rarest!r}" if counts[rarest] < 20 else ""
    shown = ", ".join(map(repr, ordered[:5])) + (" …" if len(ordered) > 5 else "")
    why = f"{assumed or f'{len(ordered)} values ({shown})'}{rare}; the gate asks for less than the log loss of guessing"
    return Label("multiclass", tuple(ordered), why, "log_loss", limit, -0.01)


def _binary(counts: dict[str, int]) -> Label:
    yes = [value for value in counts if value.lower() in raw.TRUE]
    other = next((value for value in counts if value not in yes), "")
    clear = len(yes) == 1 and (other.lower() in raw.FALSE or not yes[0].replace(".", "").isdigit() or other[:1] == "-")
    positive = yes[0] if clear else min(counts, key=lambda value: (counts[value], value))
    share = counts[positive] / sum(counts.values())
    why = f"{positive!r} ({share:.1%} of the rows) is the positive class; to swap, turn [data] classes round"
    return Label("binary", (*(value for value in counts if value != positive), positive), why, "auc", 0.6, -0.005)


def _regression(column: Facts, table: Table, missing: Sequence[str], assumed: str) -> Label:
    if column.numbers <= column.present / 2:
        raise InputError(f"the label {column.name!r} holds {column.texts[0]!r}; a regression task needs numbers.")
    finite = table.number(column.name, tables.plain(column.name, column.kind, missing), column.kind)
    deviation = float(table.frame.select(finite.std()).collect(engine="streaming").item() or 0.0)
    limit = float(f"{deviation:.4g}")
    metrics.check("rmse", "regression")
    told = f"{assumed}; " if assumed else ""
    why = (
        f"numbers from {column.low:g} to {column.high:g}; {told}the gate asks for less error than guessing the mean has"
    )
    return Label("regression", (), why, "rmse", limit, -float(f"{0.01 * deviation:.2g}"))


def _place(value: str) -> float:
    """Classes that are numbers keep their order."""
    try:
        return float(value)
    except ValueError:
        return math.inf
