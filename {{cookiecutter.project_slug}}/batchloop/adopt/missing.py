"""Texts and numbers that stand for "no value": those that everybody uses are taken, others are asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from batchloop.adopt.dates import Moments
from batchloop.adopt.options import Question, missing_option, types_option
from batchloop.adopt.profile import FEW, Column, End, Profile

CODE = re.compile(r"(^|[\W_])(zip|zipcode|plz|postal|postcode|code|codes)($|[\W_])|[a-z]Code$|^zipCode", re.IGNORECASE)
FEW_WORDS, FEW_CELLS = 5, 0.2  # distinct words among numbers, and the share of the cells that they may have
REPEATED, LEAST = 0.002, 3  # the share of the cells, and the cells, in which a far number stands again and again
APART, MOST = 0.2, 0.4  # a 0 means none where it lies so far from the rest (of its range), in at most this share
STEPS = 2.5  # by how many steps of its numbers a column begins above a 0 that means none in another column
LIMIT = re.compile(r"[<>≤≥~]=?\s*\d[\d.,]*|\d[\d.,]*\s*\+")  # beyond what can be measured
DIGIT = re.compile(r"\d")
RARE = 0.05  # the share of the cells that other texts with a digit may have
PERIOD = re.compile(r"(19|20)\d\d(0[1-9]|[1-4]\d|5[0-3])")  # a year with its month or week
NINES = re.compile(r"-?(88+|99+)")
CROWDED = 5  # times as often as a value on average
DAYS = ("0001-01-01", "1753-01-01", "1899-12-30", "1900-01-01", "1970-01-01", "2099-12-31", "9999-12-31")
SHOWN = 5
EXACT = 2.0**53
LABELS = 50  # distinct numbers of a label that is an amount
Suspect = tuple[Sequence[str], str]  # what could mean that a column has no value, as it stands in it, and why in words


def known(profile: Profile) -> dict[str, Sequence[str]]:
    """Texts that stand for "no value" among what would otherwise be numbers, by the column; none that is a class."""
    return {
        name: column.marked
        for name, column in profile.columns.items()
        if column.numbers >= column.present / 4 and column.unmarked == 0 and column is not profile.label
        if column.marked and not set(column.marked) & set(profile.label.texts)
    }


def ask(profile: Profile, strays: Sequence[Suspect], moments: Mapping[str, Moments]) -> None:
    """Raises Question for whatever could mean "no value"; `strays` are texts among dates."""
    few = [suspect for suspect in strays if 0 < len(suspect[0]) <= FEW_WORDS]
    far = [each for name, found in moments.items() for each in _far_moments(profile.columns[name], found)]
    suspects = [*_suspects(profile), *few, *far]
    if suspects:
        texts = dict.fromkeys(text for texts, _ in suspects for text in texts)
        told = "; ".join(why for _, why in suspects[:SHOWN])
        more = f"; and {len(suspects) - SHOWN:,} more" if len(suspects) > SHOWN else ""
        raise Question(
            f'what means "no value"? {told}{more}. Say {missing_option(texts)} (those that do), or MISSING=no if none '
            "does."
        )


def _suspects(profile: Profile) -> list[Suspect]:
    """A few words among numbers, and numbers far from all others that stand again and again."""
    label, task = profile.label, profile.options.task
    classes = task in ("binary", "multiclass") or label.distinct == 2
    told = {name for name, (kind, _) in profile.options.columns.items() if kind in ("out", "category")}
    told |= {label.name} if classes else set()
    columns = [column for name, column in profile.columns.items() if name not in told]
    far = [column for column in columns if column is not label or column.distinct > LABELS]
    words = list[Suspect]()
    for column in columns:
        if column is not label:
            words += _words(column, profile.tolerated)
        elif not any(map(DIGIT.search, column.odd)):  # a word in a label that is not said to be an amount is a class
            words += _words(column, profile.tolerated if task else 0)
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
    """The lowest or highest number, where it is whole, repeated, and further from the rest than these are apart.

    A 0 also where it is by `steps` below the rest, if any are given.
    """
    low, high, lowest, highest = column.low, column.high, column.lowest, column.highest
    if low is None or high is None or lowest is None or highest is None or max(abs(low), abs(high)) >= EXACT:
        return  # there are no ends, or numbers that differ are the same to a float
    rest = highest.following - lowest.following
    for number, end, first, last in ((low, lowest, lowest.following, high), (high, highest, low, highest.following)):
        if abs(number // 100 - end.following // 100) <= 1 and all(map(PERIOD.fullmatch, column.texts)):
            continue  # the months and weeks of the year before
        distance = abs(number - end.following)
        zero = number == 0 and column.distinct > FEW and end.following * (column.distinct - 2) > steps * rest
        if (steps and zero) or _none(column, number, end, distance, rest):
            texts = column.where(column.number == number)
            if abs(number) <= 1:  # an ordinary number in other columns
                texts = [f"{column.name}={text}" for text in texts]
            others = f"the others are {first:g} to {last:g}"
            yield texts, f"{number:g} stands in {end.cells:,} cells of {column.name!r}, {others}"


def _none(column: Column, number: float, end: End, distance: float, rest: float) -> bool:
    """Whether a number is one that people write for "none": whole, in more than a few cells, and far or usual."""
    sign = bool(NINES.fullmatch(f"{number:.0f}")) or number < 0 <= end.following
    zero = number == 0 and distance > APART * rest and end.cells < MOST * column.present
    crowded = end.cells * column.distinct > CROWDED * column.present
    usual = (crowded and (sign or zero)) or (number != 0 and distance > max(rest, 1))
    return _often(end.cells, column.present) and number.is_integer() and (column.distinct > FEW or sign) and usual


def _often(cells: int, of: int) -> bool:
    return cells >= max(LEAST, REPEATED * of)


def _far_moments(column: Column, found: Moments) -> Iterator[Suspect]:
    """Days such as 1900-01-01, and others far from the rest, that stand again and again at the end of a column."""
    ends = (found.low, found.low_cells, found.after_low), (found.high, found.high_cells, found.before_high)
    for moment, cells, following in ends:
        day = str(pl.Series([moment], dtype=pl.Int64).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d")[0])
        far = abs(moment - following) > max(found.before_high - found.after_low, 1)
        usual = cells * found.distinct > CROWDED * found.values and day in DAYS
        if found.distinct > FEW and _often(cells, found.values) and (far or usual):
            texts = column.where(found.at == moment)
            yield texts, f"{texts[0]} stands in {cells:,} cells of {column.name!r}, as no other date"
