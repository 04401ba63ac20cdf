"""From what is known of a column to its place in the contract, and the texts and numbers that may mean "no value"."""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from batchloop.adopt import dates, pictures
from batchloop.adopt.dates import Moments, stands_out
from batchloop.adopt.profile import EXACT, FEW, MANY, Column, Profile
from batchloop.adopt.source import Question, missing_option, types_option
from batchloop.container import raw
from batchloop.container.formats import EPOCHS

CODE = re.compile(r"(^|[\W_])(zip|zipcode|plz|postal|postcode|code|codes)($|[\W_])|[a-z]Code$|^zipCode", re.IGNORECASE)
FEW_WORDS, FEW_CELLS = 5, 0.2  # distinct words among numbers, and the share of the cells that they may have
APART, MOST = 0.2, 0.4  # a 0 means none where it lies so far from the rest (of its range), in at most this share
STEPS = 2.5  # by how many steps of its numbers a column begins above a 0 that means none in another column
LIMIT = re.compile(r"[<>≤≥~]=?\s*\d[\d.,]*|\d[\d.,]*\s*\+")  # beyond what can be measured
DIGIT = re.compile(r"\d")
RARE = 0.05  # the share of the cells that other texts with a digit may have
PERIOD = re.compile(r"(19|20)\d\d(0[1-9]|[1-4]\d|5[0-3])")  # a year with its month or week
NINES = re.compile(r"-?(88+|99+)")
SHOWN = 5
FREE = 25  # letters, above which the texts of a column with many values are sentences (their mean)
FLOAT = 2.0**53  # beyond, numbers that differ are the same to a float
LABELS = 50  # distinct numbers of a label that is an amount
Suspect = tuple[Sequence[str], str]  # what could mean that a column has no value, as it stands in it, and why in words

SHEET = 20_000, 73_051  # from 1954 to 2100 in a spreadsheet's days
ASKED = 5  # columns in one question


@dataclass(frozen=True)
class Decision:
    """A column's type in the contract ("" leaves it out), why, and how its dates are read.

    `drift` is false for a column that moves by its nature, `strays` are texts among dates that are none.
    """

    column: Column
    type: str
    why: str
    format: str = ""
    time_zone: str = ""
    drift: bool = True
    strays: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.column.name


def decide(profile: Profile) -> dict[str, Decision]:
    """The type of every column but the label. Raises Question with what all of them leave open."""
    decided, asked = dict[str, Decision](), list[str]()
    for name, column in profile.columns.items():
        try:
            if column is not profile.label:
                decided[name] = _decide(column, profile)
        except Question as question:
            asked.append(str(question))
    if asked:
        more = f" And {len(asked) - ASKED} more columns are open." if len(asked) > ASKED else ""
        raise Question(" ".join(asked[:ASKED]) + more)
    return decided


def _decide(column: Column, profile: Profile) -> Decision:
    """Raises Question where the column could be read two ways."""
    wish = profile.options.time_zone
    if column.name in profile.options.columns:
        kind, form = profile.options.columns[column.name]
        form = column.format if kind == "number" else form
        zone = dates.zone(column, wish, form) if kind == "date" else ""
        told = f"as TYPES says{f', {form}' if form and kind != 'out' else ''}"
        return Decision(column, "" if kind == "out" else kind, told, form, zone)
    picture, reason = pictures.proposed(column), _useless(column)
    if picture or reason:
        return Decision(column, "image", picture[1], picture[0]) if picture else Decision(column, "", reason)
    if isinstance(column.kind, pl.Date | pl.Datetime):
        own = getattr(column.kind, "time_zone", None) or ""
        zone = own and (wish or own)
        return Decision(column, "date", f"in the time of {zone}" if zone else "", dates.written(column), zone)
    words = {text.lower() for text in column.texts}
    yes, no = words & set(raw.TRUE), words & set(raw.FALSE)  # 0 and 1 stay numbers, which take a 2 as well
    if column.kind == pl.Boolean or (yes and no and words == yes | no and column.numbers == 0):
        return Decision(column, "boolean", "" if column.kind == pl.Boolean else " / ".join(column.texts))
    if decision := _dated(column, profile):
        return decision
    numbers = column.numbers and column.present - column.numbers <= profile.tolerated
    return _number(column) if numbers else _text(column)


def _useless(column: Column) -> str:
    if not column.name.strip():
        return "has no name; give it one to use it"
    if column.present == 0:
        return "has no value in any row"
    if not column.readable:
        return f"is of type {column.kind}, which a table for learning does not hold"
    if column.distinct == 1 and column.present == column.rows:
        return f"is {column.texts[0]!r} in every row"
    return ""


def _dated(column: Column, profile: Profile) -> Decision | None:
    """As a date, where nearly every cell is one; numbers as 20240131, since 1970, or years that TIME names."""
    if column.name == profile.options.time and dates.are_years(column):
        return Decision(column, "date", "as %Y", "%Y")
    numbers, found, tolerated = column.numbers == column.present, None, profile.tolerated
    if column.present - column.numbers <= tolerated and column.distinct > FEW:
        found = dates.since_1970(column)
    if found is None and numbers and not (column.distinct > FEW and all(map(dates.AS_NUMBERS.fullmatch, column.texts))):
        return None
    found = found or dates.find(column, profile)
    if found is None or (numbers and found[1] > tolerated):
        return None
    form, unread, strays = found
    example = f" (such as {strays[0]!r})" if unread else ""
    if unread > tolerated:
        why = f"dates as {form}, but {unread:,} cells are not{example}; mend it to use it"
        return Decision(column, "", why, strays=strays)
    zone = dates.zone(column, profile.options.time_zone, form)
    why = f"as {EPOCHS[form][0]} since 1970" if form in EPOCHS else f"as {form}"
    if unread:
        why += f"; {unread:,} cells are no such dates{example}: their rows are left out"
    if zone or form in EPOCHS:
        why += f"; hours are those of {zone or 'UTC'}: for another clock say TIME_ZONE"
    return Decision(column, "date", why, form, zone)


def _number(column: Column) -> Decision:
    if column.zero_padded:
        return _category(column, "digits with leading zeros are codes, not amounts")
    if column.whole and CODE.search(column.name):
        return _category(column, "whole numbers under a name that says code")
    odd = column.present - column.numbers
    why = f"{column.low:g} to {column.high:g}" if column.low is not None else ""
    if odd:
        why += f"; {odd:,} cells are no numbers (such as {column.odd[0]!r}): their rows are left out"
        why += f" (MISSING={shlex.quote(column.odd[0])} keeps them)"
    if column.whole and column.distinct <= FEW:
        why += f'; {column.distinct} whole numbers: if they are codes, make it "category"'
    sheet = column.low and column.high and SHEET[0] <= column.low <= column.high <= SHEET[1] and column.distinct > FEW
    if sheet and dates.TIMELY.search(column.name):
        other = types_option(column.name, "out")
        why += f"; if a spreadsheet's days since 1900, write them as 2024-01-31 or say {other}"
    return Decision(column, "number", why + (f", written as {column.format}" if column.format else ""), column.format)


def _category(column: Column, why: str) -> Decision:
    if column.distinct > MANY and column.exceeds(column.present / 2):
        return Decision(column, "", f"{why}, and nearly every row has another one")
    about = "about " if column.distinct > EXACT else ""
    values = "value" if column.distinct == 1 else "values"
    return Decision(column, "category", f"{why}; {about}{column.distinct:,} {values}")


def _text(column: Column) -> Decision:
    share = column.numbers / column.present
    if share > 0.5 and column.distinct > MANY:
        gap = f"MISSING={shlex.quote(column.odd[0])} if that means no value"
        why = f"{share:.1%} numbers, but also {column.odd[0]!r}; mend it to use it, or say {gap}"
        return Decision(column, "", why)
    dated = column.distinct > FEW and all(map(dates.DATED.search, column.texts))
    told = types_option(column.name, "date(%d.%m.%Y)")
    date = f"; if {column.texts[0]!r} is a date, say {told} with its format" if dated else ""
    if column.present <= 20 or not column.exceeds(column.present / 2):
        return _category(column, f"text{date}")
    if column.length > FREE and not date:
        return Decision(column, "text", "free text: its frequent words are learned")
    naming = column.present == column.rows and column.length <= FREE and column.exceeds(0.9 * column.rows)
    hint = f"; if it names the row say ID={shlex.quote(column.name)}" if naming else ""
    why = "nearly every row has another value; a model could only learn it by heart"
    return Decision(column, "", f"{why}{date or hint}")


def known_markers(profile: Profile) -> dict[str, Sequence[str]]:
    """Texts that stand for "no value" among what would otherwise be numbers, by the column; none that is a class."""
    return {
        name: column.marked
        for name, column in profile.columns.items()
        if column.numbers >= column.present / 4 and column.unmarked == 0 and column is not profile.label
        if column.marked and not set(column.marked) & set(profile.label.texts)
    }


def ask_missing(profile: Profile, decisions: Iterable[Decision], moments: Iterable[Moments]) -> None:
    """Raises Question for whatever could mean "no value"."""
    few = [each for each in decisions if 0 < len(each.strays) <= FEW_WORDS]
    suspects = _suspects(profile) + [(each.strays, f"{each.name!r} holds {each.why.partition(';')[0]}") for each in few]
    suspects += [suspect for each in moments for suspect in each.suspects]
    if suspects:
        texts = dict.fromkeys(text for texts, _ in suspects for text in texts)
        told = "; ".join(why for _, why in suspects[:SHOWN])
        more = f"; and {len(suspects) - SHOWN:,} more" if len(suspects) > SHOWN else ""
        option = f"Say {missing_option(texts)} (those that do), or MISSING=no if none does."
        raise Question(f'what means "no value"? {told}{more}. {option}')


def _suspects(profile: Profile) -> list[Suspect]:
    """A few words among numbers, and numbers far from all others that stand again and again."""
    label, task = profile.label, profile.options.task
    classes = task in ("binary", "multiclass") or label.distinct == 2
    told = {name for name, (kind, _) in profile.options.columns.items() if kind in ("out", "category")}
    told |= {label.name} if classes else set()
    columns = [column for name, column in profile.columns.items() if name not in told]
    far = [column for column in columns if column is not label or column.distinct > LABELS]
    words = list[Suspect]()
    for column in columns:  # a word in a label that is not said to be an amount is a class
        if column is not label or not any(map(DIGIT.search, column.odd)):
            words += _words(column, 0 if column is label and not task else profile.tolerated)
    marked, others = label.present - label.numbers - label.unmarked, label.distinct - len(label.marked)
    rare = others == 2 or (others > 2 and marked <= FEW_CELLS * label.present)
    if label.marked and rare and not (task or classes or _words(label, 0)):
        shown = ", ".join(map(repr, label.marked))
        words.append((list(label.marked), f"{shown} in {label.name!r}: a class too (TASK=multiclass), or no label"))
    amounts = [suspect for column in far for suspect in _far(column)]
    if any(why.startswith("0 stands") for _, why in amounts):
        amounts = [suspect for column in far for suspect in _far(column, STEPS)]
    return words + amounts


def _words(column: Column, tolerated: int) -> list[Suspect]:
    """A few words among numbers; with a digit where they are limits, or rare."""
    odd, words, others = column.present - column.numbers, column.odd, column.distinct - len(column.odd)
    limits = all(map(LIMIT.fullmatch, words))  # of which there may be many
    if not tolerated < odd or not (limits or odd <= FEW_CELLS * column.present) or not 0 < len(words) <= FEW_WORDS:
        return []
    digits = [word for word in words if DIGIT.search(word)]
    named = column.zero_padded or CODE.search(column.name) or others <= FEW
    codes = others <= FEW and any(len(word) < 2 for word in words)
    if codes or (digits and (named or (odd > RARE * column.present and not limits))):
        return []
    shown = ", ".join(map(repr, words))
    keep = f"; {types_option(column.name, 'category')} keeps them" if digits else ""
    why = f"{odd:,} of {column.present:,} cells of {column.name!r} are no numbers ({shown}{keep})"
    return [([f"{column.name}={word}" if word in digits else word for word in words], why)]


def _far(column: Column, steps: float = 0.0) -> Iterator[Suspect]:
    """The lowest or highest number, where it stands out, and a 0 that is by `steps` below the rest, where given."""
    low, high = column.low or 0.0, column.high or 0.0
    if not column.ends or max(abs(low), abs(high)) >= FLOAT:
        return
    after, before = (following for _, following in column.ends)
    rest = before - after
    for number, (cells, following) in zip((low, high), column.ends, strict=True):
        if abs(number // 100 - following // 100) <= 1 and all(map(PERIOD.fullmatch, column.texts)):
            continue  # the months and weeks of the year before
        distance, zero = abs(number - following), number == 0
        sign = bool(NINES.fullmatch(f"{number:.0f}")) or number < 0 <= following
        usual = sign or (zero and distance > APART * rest and cells < MOST * column.present)
        far = not zero and distance > max(rest, 1)
        ordinary = not number.is_integer() or (column.distinct <= FEW and not sign)  # few values may be codes
        below = steps and zero and column.distinct > FEW and following * (column.distinct - 2) > steps * rest
        if below or (not ordinary and stands_out(cells, (column.present, column.distinct), far, usual)):
            texts = column.texts_where(column.number() == number)
            if abs(number) <= 1:  # an ordinary number in other columns
                texts = [f"{column.name}={text}" for text in texts]
            others = f"the others are {after if number == low else low:g} to {high if number == low else before:g}"
            yield texts, f"{number:g} stands in {cells:,} cells of {column.name!r}, {others}"
