"""Lines above and below a table that are none of its rows: the title and the sums of a spreadsheet."""

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from statistics import median

import polars as pl

from operations.adopt import forms
from operations.adopt.wishes import Question
from runtime.failures import InputError

FIRST, LAST = 30, 3  # lines among which the names are looked for, and those that may be sums or notes
CHECKED = 50  # columns, at most
DIGITS = 4  # after the point, all columns together, by which a mean is one and not a usual row
BLANK = re.compile(r"(Unnamed: \d+(_level_\d+)?|_duplicated_\d+|\.\.\.\d+)?")  # a name that a program made up
SUM = re.compile(r"(grand |sub)?totals?|sums?|(gesamt)?summen?|(ins)?gesamt|somme|suma|average|mittelwert", re.I)
AMOUNT = re.compile(r"-?\d+(\.\d*)?")
GAP = ("NA", "N/A", "NAN", "NULL", "NONE", "?")
NOTE = re.compile(r"(source|quelle|notes?|anmerkung(en)?|stand|hinweis|\*|©|#).*|.*\S\s+\S.*", re.I)
Lines = Sequence[tuple[int, Sequence[str]]]


def lines(head: str, separator: str) -> Lines:
    """The first lines of a text that hold anything, with their numbers."""
    reader = csv.reader(io.StringIO(forms.EXCEL.sub("\n", head, count=1), newline=""), delimiter=separator)
    try:
        return list(islice(((reader.line_num, cells) for cells in reader if any(map(str.strip, cells))), FIRST))
    except csv.Error:
        return []


def check_names(file: str, found: Lines, label: str, unit: str = "line") -> None:
    """Raises Question where the names seem to stand in a later line than the first, below a title."""
    if not found:
        return
    names, label = _held(found[0][1]), label.strip()
    full = median(len(_held(cells)) for _, cells in found)
    sparse = 2 * len(names) < full or (label not in names and 2 * len(names) <= full)
    for place, (line, cells) in enumerate(found[1:], start=1):
        held = _held(cells)
        meant = (label in held and label not in names) or (sparse and 2 * len(held) > full)
        units = not meant and _above_numbers(cells, found[place + 1 :])
        if _texts(held) and ((meant and len(set(held)) == len(held)) or units):
            shown = ", ".join(held[:4]) + (" …" if len(held) > 4 else "")
            raise Question(
                f"where are the names of the columns? {unit.capitalize()} {line} of {file} ({shown}) looks like them, "
                f"and what stands above it ({', '.join(names[:3])}) like a title. Delete what is above {unit} {line}"
                f"{', or that line if it holds units' if units else ''}; or say HEADER=yes if the names come first."
            )


def _held(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells if not BLANK.fullmatch(cell.strip())]


def _texts(held: Sequence[str]) -> bool:
    """Several texts, of which none is a value."""
    values = any(cell.upper() in GAP or forms.NUMBER.fullmatch(cell) or forms.DAY.fullmatch(cell) for cell in held)
    return len(held) > 1 and not values


def _above_numbers(cells: Sequence[str], below: Lines) -> bool:
    """Whether a line of texts stands above numbers alone, in two columns or more."""
    columns = [[row[place].strip() for _, row in below if place < len(row)] for place in range(len(cells))]
    return len(below) > 2 and sum(bool(c) and all(map(forms.NUMBER.fullmatch, filter(None, c))) for c in columns) > 1


def check_rows(file: str, frame: pl.LazyFrame) -> None:
    """Raises InputError where the names come again as a row, or the last rows are sums or notes."""
    texts = [name for name, kind in frame.collect_schema().items() if kind == pl.String][:CHECKED]
    again = pl.all_horizontal(pl.lit(len(texts) > 1), *(pl.col(name) == name for name in texts)).arg_true()
    row = frame.select(again.first()).collect(engine="streaming").item()
    if row is not None:
        raise InputError(f"{file}: row {row + 1} holds the names of the columns once more; delete that line.")
    found: list[str] = []
    for cells in reversed(frame.tail(LAST).collect(engine="streaming").to_dicts()):
        held = {name: str(cell).strip() for name, cell in cells.items() if cell is not None and str(cell).strip()}
        if not _below_the_table(frame, held, texts, len(cells)):
            break
        found.insert(0, ", ".join(list(held.values())[:4]))
    if found:
        rows = f"the last {len(found)} rows look" if len(found) > 1 else "the last row looks"
        raise InputError(f"{file}: {rows} like sums or notes below the table ({'; '.join(found)}); delete them.")
    if what := _amount_of_the_rest(frame):
        raise InputError(f"{file}: the last row is the {what} of the rows above in each column of numbers; delete it.")


def _below_the_table(frame: pl.LazyFrame, held: dict[str, str], texts: Sequence[str], width: int) -> bool:
    """Whether a row's first text or its word for a sum is one that no other row has, and says that the row is none."""
    cells = list(held.items())[:CHECKED]
    totals = [(name, cell) for name, cell in cells if name in texts and SUM.fullmatch(cell.rstrip(": "))]
    total, (name, first) = bool(totals), next(iter([*totals, *cells]), ("", ""))
    if name not in texts:
        return False
    rest = [(other, cell) for other, cell in cells if other != name]
    if not total and not (len(held) == 1 < width and NOTE.fullmatch(first) and not forms.DAY.fullmatch(first)):
        return False
    text, kinds = pl.col(name).str.strip_chars(), frame.collect_schema()
    amounts = {other: float(cell) for other, cell in rest if AMOUNT.fullmatch(cell) and not kinds[other].is_nested()}
    highest = [
        pl.col(other).cast(pl.Float64, strict=False).filter(text != first).max().alias(f"of {other}")
        for other in amounts
    ]
    counts = (text == first).sum().alias("same"), text.str.contains(r"\S\s+\S").sum().alias("worded")
    same, worded, *most = frame.select(*counts, *highest).collect(engine="streaming").row(0)
    largest = bool(most) and all(
        high is None or high <= amount for amount, high in zip(amounts.values(), most, strict=True)
    )
    return bool(same == 1 and (len(held) < width or largest if total else worded <= LAST))


def _amount_of_the_rest(frame: pl.LazyFrame) -> str:
    """What the last row is of those above, "sum" or "mean", in two columns of numbers or more; "" where it is neither.

    A mean must say more than whole numbers do, which may well be that of a column.
    """
    kinds = frame.collect_schema().items()
    names = [name for name, kind in kinds if kind == pl.String or kind.is_numeric()][:CHECKED]
    texts = pl.col(names).cast(pl.String, strict=False).str.strip_chars()
    cells = frame.select(texts.str.replace(",", ".", literal=True))
    last = next(cells.tail(1).collect(engine="streaming").iter_rows(named=True), {})
    amounts = {name: text for name, text in last.items() if text and AMOUNT.fullmatch(text)}
    numbers = {name: pl.col(name).cast(pl.Float64, strict=False) for name in amounts}
    facts = cells.select(
        *(each.sum().alias(f"sum {name}") for name, each in numbers.items()),
        *(each.count().alias(f"count {name}") for name, each in numbers.items()),
        *((each.max() > each.min()).alias(f"varies {name}") for name, each in numbers.items()),
    )
    row = facts.collect(engine="streaming").row(0, named=True) if numbers else {}
    varying = [name for name in amounts if row[f"varies {name}"] and row[f"count {name}"] > LAST]
    digits = {name: len(amounts[name].partition(".")[2]) for name in varying}
    for what in ("sum", "mean"):
        apart = []
        for name in varying:
            others, amount = row[f"count {name}"] - 1, float(amounts[name])
            rest = (row[f"sum {name}"] - amount) / (others if what == "mean" else 1)
            apart.append(abs(rest - amount) > 0.51 * 10.0 ** -digits[name])
        if len(varying) > 1 and not any(apart) and (what == "sum" or sum(digits.values()) >= DIGITS):
            return what
    return ""
