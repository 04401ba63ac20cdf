"""What the label asks for, which column names a row, and which give the label away."""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from batchloop.adopt.profile import COLUMNS_AT_ONCE, KEPT, MANY, Column, Profile
from batchloop.adopt.source import Question, row
from batchloop.container import raw
from batchloop.container.job import InputError

MOST_CLASSES, CLEARLY_NUMBERS = 20, 50  # distinct whole numbers
FEW, OFTEN = 20, 20  # values, and rows of each, that a model can learn something of
DIGIT = re.compile(r"\d")
IDENTITY = re.compile(r"(?i:(^|[\W_])(id|uuid|guid|key|index|rowid)($|[\W_]))|[a-z](Id|ID|id)$")
# words that end like one
WORDS = re.compile(
    r"(.*paid|.*valid|bid|grid|solid|liquid|fluid|acid|rapid|humid|covid|hybrid|void|avoid|rigid|lipid|steroid|aid|raid"
    r"|mid|kid|lid)"
)
THINGS = (
    "patient|subject|participant|person|customer|client|member|user|visitor|employee|student|player|driver|unit"
    "|volunteer|athlete|pupil|proband|machine|device|sensor|engine|vehicle|animal|household|family|account|policy"
    "|contract|loan|asset|turbine|kunde|kunden|patienten|maschine|maschinen|anlage|anlagen|gerät|geraet|fahrzeug|konto"
    "|appareil|capteur|compte"
)
NUMBER = r"[\W_]?(no|nr|num|number|nummer|numero|#)"
ENTITY = re.compile(rf"(^|[\W_])({THINGS})s?(?P<ending>{NUMBER}|[\W_]?(name|code))?$", re.IGNORECASE)
PLURAL = re.compile(r"(s|kunden|patienten|maschinen|anlagen)$", re.IGNORECASE)  # numbers there count the things
NUMBERED = re.compile(rf"{NUMBER}$", re.IGNORECASE)
LAST_WORD = re.compile(r"[a-z]+$")
ROWS_A_VALUE = 50  # so many rows for each value make it no accident that each goes with one class
ADVICE = "if you know it before the label, add it by hand"


@dataclass(frozen=True)
class Label:
    """The task, the classes in their order (none for regression), why, and the gate's metric, limit and lead."""

    task: str
    classes: tuple[str, ...]
    why: str
    metric: str
    limit: float
    lead: float


def label(profile: Profile) -> Label:
    """What the label asks for. Raises Question for classes or amounts, InputError where nothing can be learned."""
    column, wish = profile.label, profile.options.task
    name, assumed = f"the label {column.name!r}", ""
    _check(profile, name)
    task = wish or _task(column, name)
    if not wish and task != "binary" and column.numbers == column.present and column.whole and column.distinct <= MANY:
        other = "classes; for amounts, counts or grades say TASK=regression"
        other = other if task == "multiclass" else "amounts; for classes say TASK=multiclass"
        assumed = f"{column.distinct} whole numbers, taken as {other}"
    if task == "regression":
        return _regression(column, name, f"{assumed}; " if assumed else "")
    if column.distinct > MANY:
        raise InputError(f"{name} holds {column.distinct:,} different values; it can't be classes.")
    ordered = pl.col("t").cast(pl.Float64, strict=False), pl.col("t")  # classes that are numbers keep their order
    texts = column.cells(t=column.text).group_by("t").len().sort(*ordered, nulls_last=True)
    counts = dict(texts.collect(engine="streaming").iter_rows())
    if (task == "binary") != (len(counts) == 2):
        has = "two" if task == "binary" else "three or more"
        raise InputError(f"{name} holds {len(counts)} values; a {task} task has {has}.")
    return _binary(counts) if task == "binary" else _multiclass(counts, assumed)


def marked_labels(profile: Profile) -> dict[str, int]:
    """Texts of the label that count as missing, such as None, and how many rows have them; no blanks."""
    text = Column(profile.label.name, profile.label.kind, profile.table, ()).text.alias("t")
    marked = profile.table.frame.select(text).filter(pl.col("t").is_in([text for text in profile.missing if text]))
    return dict(marked.group_by("t").len().sort("t").collect(engine="streaming").iter_rows())


def _check(profile: Profile, name: str) -> None:
    """Raises InputError for a label that is no label."""
    column, empty = profile.label, profile.unlabelled
    if not column.readable:
        raise InputError(f"{name} is of type {column.kind}; it must be text, numbers or yes and no.")
    if column.distinct < 2:
        hint = f" (if no value is a class too, write it into the {empty:,} rows without one)" if empty else ""
        if words := list(marked_labels(profile)):
            hint = f" ({words[0]!r} counts as missing; call that class otherwise)"
        count = f"only {column.texts[0]!r}" if column.distinct == 1 else "0 values"
        raise InputError(f"{name} holds {count}; there is nothing to learn{hint}.")
    spelled: dict[str, str] = {}
    for text in column.texts if column.distinct <= MANY else ():
        if (other := spelled.setdefault(text.lower(), text)) != text:
            raise InputError(f"{name} holds {other!r} and {text!r}; spell a class in one way.")


def _task(column: Column, name: str) -> str:
    if column.distinct == 2:
        return "binary"
    if column.numbers == column.present and column.kind != pl.Boolean:
        if not column.whole or column.distinct > CLEARLY_NUMBERS:
            return "regression"
        if column.distinct > MOST_CLASSES:
            which = "classes or amounts? Say TASK=multiclass or TASK=regression."
            raise Question(f"{name} holds {column.distinct} whole numbers: {which}")
    elif column.distinct > MANY and column.numbers > column.present / 2:
        raise InputError(
            f"{name} holds numbers, but also {column.odd[0]!r} ({column.present - column.numbers:,} such cells); "
            f"say MISSING={shlex.quote(column.odd[0])}, or TASK=regression to leave such rows out, or mend them."
        )
    return "multiclass"


def _multiclass(counts: dict[str, int], assumed: str) -> Label:
    rarest, classes = min(counts, key=lambda value: counts[value]), tuple(counts)
    rare = f"; only {counts[rarest]} of the rows are {rarest!r}" if counts[rarest] < 20 else ""
    shown = ", ".join(map(repr, classes[:5])) + (" …" if len(classes) > 5 else "")
    why = f"{assumed or f'{len(classes)} values ({shown})'}{rare}; the gate asks for less than the log loss of guessing"
    return Label("multiclass", classes, why, "log_loss", round(math.log(len(classes)), 3), -0.01)


def _binary(counts: dict[str, int]) -> Label:
    yes = [value for value in counts if value.lower() in raw.TRUE]
    other = next((value for value in counts if value not in yes), "")
    clear = len(yes) == 1 and (other.lower() in raw.FALSE or not yes[0].replace(".", "").isdigit() or other[:1] == "-")
    positive = yes[0] if clear else min(counts, key=lambda value: (counts[value], value))
    share = counts[positive] / sum(counts.values())
    why = f"{positive!r} ({share:.1%} of the rows) is the positive class; to swap, turn [data] classes round"
    return Label("binary", (*(value for value in counts if value != positive), positive), why, "auc", 0.6, -0.005)


def _regression(column: Column, name: str, assumed: str) -> Label:
    if column.numbers <= column.present / 2:
        raise InputError(f"{name} holds {column.texts[0]!r}; a regression task needs numbers.")
    deviation = float(row(column.table.frame, column.number().std())[0] or 0.0)
    told = f"{assumed}the gate asks for less error than guessing the mean has"
    why = f"numbers from {column.low:g} to {column.high:g}; {told}"
    return Label("regression", (), why, "rmse", float(f"{deviation:.4g}"), -float(f"{0.01 * deviation:.2g}"))


def named_like_id(column: Column) -> bool:
    """Whether a column is called like the name of a row."""
    name = column.name.strip().lower() if column.name.isupper() else column.name.strip()
    last = LAST_WORD.search(name)
    return not (last and WORDS.fullmatch(last[0])) and bool(IDENTITY.search(name))


def is_identifier(column: Column) -> bool:
    """Whether a column names rows or entities: by its name, or by codes under the name of an entity."""
    name = column.name.strip()
    entity = ENTITY.search(name)
    if (column.numbers and not column.whole) or not column.present:
        return False
    if named_like_id(column) or (entity and entity["ending"]):
        return True
    return bool(entity or NUMBERED.search(name)) and not column.numbers and all(map(DIGIT.search, column.texts))


def find_id(profile: Profile) -> str:
    """The column that names a row: called like an id and different in every row; "" where there is none."""
    for name, column in profile.columns.items():
        alone = column.present == column.rows and column.distinct > 0.6 * column.rows  # an estimate, told exactly below
        if column is not profile.label and name.strip() and is_identifier(column) and alone and not _shared(column):
            return name
    return ""


def check_id(column: Column) -> None:
    """Raises InputError for a column that does not name rows, because it repeats."""
    if shared := _shared(column):
        raise InputError(
            f"column {column.name!r} (ID) names no row: {shared}. Leave ID away to number the rows; if it says what "
            f"rows belong to (a patient, a machine), say GROUP={shlex.quote(column.name)}."
        )


def _shared(column: Column) -> str:
    """How many rows share a column's value with another one, and the first such values; "" where none does."""
    rows, first = raw.repeated_ids(column.table.frame.select(column.text.alias("id")))
    return f"{rows:,} rows share it with another one (such as {', '.join(map(repr, first))})" if rows else ""


def identifier_reason(column: Column) -> str:
    """Why a column that could be learned from would only name rows; "" where it would not."""
    said = shlex.quote(column.name)
    if not column.readable:
        return ""
    if is_identifier(column) and (column.distinct > FEW or column.present < OFTEN * column.distinct):
        why = "names an entity, and a model could only learn it by heart"
        if column.distinct < 0.8 * column.present:
            return f"{why}; if its rows belong together say GROUP={said}"
        shared = _shared(column)
        return f"{why}; {shared}: mend that to name rows by it (ID={said})" if shared else why
    whole = column.numbers == column.present == column.rows >= 20 and column.whole
    if whole and column.low is not None and column.high == column.low + column.rows - 1 and not _shared(column):
        return f"numbers the rows; to pass it through say ID={said}"
    return ""


def leaks(profile: Profile, columns: Sequence[Column], task: str) -> dict[str, str]:
    """The columns that say the same as the label, and in which way."""
    usable = [column for column in columns if column.readable and column.present]
    find, found = (_correlated if task == "regression" else _determined), dict[str, str]()
    for start in range(0, len(usable), COLUMNS_AT_ONCE):
        found |= find(profile.label, usable[start : start + COLUMNS_AT_ONCE])
    return found


def _correlated(label: Column, columns: Sequence[Column]) -> dict[str, str]:
    """Numbers that are the label on another scale."""
    numbers = {f"c{place}": each for place, each in enumerate(columns) if each.numbers == each.present}
    read = [each.number().alias(place) for place, each in numbers.items()]
    both = label.table.frame.select(label.number().alias("label"), *read)
    correlations = row(both, *(pl.corr(place, "label") for place in numbers))
    same = [each.name for each, r in zip(numbers.values(), correlations, strict=True) if abs(r or 0.0) > 1 - 1e-9]
    return dict.fromkeys(same, f"says the same as the label; {ADVICE}")


def _determined(label: Column, columns: Sequence[Column]) -> dict[str, str]:
    """Columns with a value in all rows of one class and in no other row, or whose values each go with one class."""
    places = {f"c{place}": column for place, column in enumerate(columns)}
    frame = label.table.frame.select(label.text.alias("label"), *(each.plain.alias(c) for c, each in places.items()))
    classes = frame.group_by("label").agg(pl.len(), pl.col(list(places)).count()).collect(engine="streaming")
    few, found = {place: each for place, each in places.items() if 1 < each.distinct <= KEPT}, dict[str, str]()
    for place, column in places.items():
        sided = classes.height == 2 and ((classes[place] == 0) | (classes[place] == classes["len"])).all()
        if sided and column.present < column.rows >= 2 * ROWS_A_VALUE:
            found[column.name] = f"has a value for one class only; {ADVICE}"
    pairs = [pl.struct(c, "label").hash().filter(pl.col(c).is_not_null()).n_unique() for c in few]
    for (place, column), count in zip(few.items(), row(frame, *pairs), strict=True):
        held = (classes[place] > 0).sum()
        if count == column.distinct == held:
            found[column.name] = f"says the same as the label {label.name!r}; {ADVICE}"
        elif count == column.distinct and held > 1 and column.rows >= ROWS_A_VALUE * column.distinct:
            found[column.name] = f"each of its values goes with one class only; {ADVICE}"
    return found
