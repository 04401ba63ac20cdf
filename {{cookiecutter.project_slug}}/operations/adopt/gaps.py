"""Texts and numbers that stand for "no value": those that everybody uses are taken, others are asked for."""

import csv
import io
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from operations.adopt import tables, times
from operations.adopt.columns import CODE, FEW, Decision
from operations.adopt.facts import End, Facts, Look
from operations.adopt.numerals import option
from operations.adopt.times import Moments
from operations.adopt.wishes import Question

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
            usual = _crowded(cells, each.values, each.distinct) and times.day(moment) in DAYS
            if each.distinct > FEW and _often(cells, each.values) and (far or usual):
                at = times.moment(found[name], decisions[name], look)
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
    codes = column.distinct - len(words) <= FEW and any(len(word) < 2 for word in words)
    digits = [word for word in words if DIGIT.search(word)]
    named = column.zero_padded or CODE.search(column.name) or column.distinct - len(words) <= FEW
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
        zero = steps and number == 0 and end.following * (column.distinct - 2) > steps * rest and column.distinct > FEW
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
    codes = column.distinct <= FEW and not _nines(number) and not number < 0 <= end.following
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
