"""Lines above and below a table that are none of its rows: the title and the sums of a spreadsheet."""

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from statistics import median

import polars as pl

from operations.adopt import Question, forms
from runtime.failures import InputError

FIRST, LAST = 30, 3  # lines among which the names are looked for, and those that may be sums or notes
BLANK = re.compile(r"(Unnamed: \d+(_level_\d+)?|_duplicated_\d+|\.\.\.\d+)?")  # a name that a program made up
SUM = re.compile(r"(grand |sub)?totals?|sums?|(gesamt)?summen?|(ins)?gesamt|somme|suma|average|mittelwert", re.I)
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
        if _like_names(held) and (meant or units):
            shown = ", ".join(held[:4]) + (" …" if len(held) > 4 else "")
            raise Question(
                f"where are the names of the columns? {unit.capitalize()} {line} of {file} ({shown}) looks like them, "
                f"and what stands above it ({', '.join(names[:3])}) like a title. Delete what is above {unit} {line}"
                f"{', or that line if it holds units' if units else ''}; or say HEADER=yes if the names come first."
            )


def _held(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells if not BLANK.fullmatch(cell.strip())]


def _like_names(held: Sequence[str]) -> bool:
    """Several texts, each another one, of which none is a value."""
    values = any(cell.upper() in GAP or forms.NUMBER.fullmatch(cell) or forms.DAY.fullmatch(cell) for cell in held)
    return len(held) > 1 and len(set(held)) == len(held) and not values


def _above_numbers(cells: Sequence[str], below: Lines) -> bool:
    """Whether a line of texts stands above numbers alone, in two columns or more."""
    columns = [[row[place].strip() for _, row in below if place < len(row)] for place in range(len(cells))]
    return len(below) > 2 and sum(bool(c) and all(map(forms.NUMBER.fullmatch, filter(None, c))) for c in columns) > 1


def check_end(file: str, frame: pl.LazyFrame) -> None:
    """Raises InputError where the last rows are sums or notes: a model would learn from them."""
    last = frame.tail(LAST).collect(engine="streaming")
    found: list[str] = []
    for row in reversed(last.rows()):
        cells = {name: str(cell).strip() for name, cell in zip(last.columns, row, strict=True) if cell is not None}
        held = {name: cell for name, cell in cells.items() if cell}
        name, first = next(iter(held.items()), ("", ""))
        if not _below_the_table(frame, name, first, len(held), len(row)):
            break
        found.insert(0, ", ".join(list(held.values())[:4]))
    if found:
        rows = f"the last {len(found)} rows look" if len(found) > 1 else "the last row looks"
        raise InputError(f"{file}: {rows} like sums or notes below the table ({'; '.join(found)}); delete them.")


def _below_the_table(frame: pl.LazyFrame, name: str, first: str, held: int, width: int) -> bool:
    """Whether a row's first text is one that no other row has, and says that the row is none."""
    total = SUM.fullmatch(first.rstrip(": "))
    if not total and not (held == 1 < width and NOTE.fullmatch(first) and not forms.DAY.fullmatch(first)):
        return False
    text = pl.col(name).cast(pl.String).str.strip_chars()
    same, others, numbers, worded = (
        frame.select(
            (text == first).sum().alias("same"),
            text.count().alias("others"),
            text.cast(pl.Float64, strict=False).count().alias("numbers"),
            text.str.contains(r"\S\s+\S").sum().alias("worded"),
        )
        .collect(engine="streaming")
        .row(0)
    )
    alone = same == 1 < others
    return bool(alone and (held < width or numbers >= 0.9 * others if total else worded <= LAST))
