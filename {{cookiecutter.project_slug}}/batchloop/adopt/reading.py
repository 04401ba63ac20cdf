"""What the command line says of a table: values the table is not asked for."""

import codecs
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import polars as pl

from batchloop.container import files
from batchloop.container.job import InputError
from batchloop.container.usecase import Data, numeral

NONE = "no"  # MISSING=no: no further text means that there is no value; THOUSANDS=no: digits stand together
NO_GROUP = ("none", NONE)  # GROUP=none: rows are split one by one, whatever they belong to
KINDS = "number|category|boolean|date|out"
TYPE = re.compile(rf'\s*("(?:[^"]|"")+"|[^,]+?)\s*=\s*({KINDS})\s*(?:\((.*?)\))?\s*(?:,|$)', re.DOTALL)
CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", NONE: ""}


class Question(Exception):
    """Something the table does not tell: the message names the option that does."""


@dataclass(frozen=True)
class Wishes:
    """One field an option; "" leaves it to the table."""

    data: Path
    label: str
    usecase: Path
    folder: Path
    id: str = ""
    time: str = ""
    group: str = ""
    task: str = ""
    dates: str = ""
    encoding: str = ""
    separator: str = ""
    header: str = ""
    decimal: str = ""
    thousands: str = ""
    missing: str = ""
    types: str = ""
    time_zone: str = ""

    def columns(self) -> dict[str, tuple[str, str]]:
        """The type and the format that TYPES gives to columns. Raises InputError for what is none."""
        found, at = {}, 0
        while at < len(self.types):
            told = TYPE.match(self.types, at)
            if not told or (told[2] == "number" and not numeral(told[3] or "")):
                form = "TYPES='day=date(%d.%m.%Y),price=number(€ 1.234,5),\"size, cm\"=category,note=out'"
                raise InputError(f"TYPES={self.types[at:].strip()} is not like {form}.")
            name = told[1][1:-1].replace('""', '"') if told[1][0] == '"' == told[1][-1] else told[1]
            found[name], at = (told[2], told[3] or ""), told.end()
        return found

    def markers(self) -> list[str]:
        """The texts of MISSING, which commas separate; one in quotes may hold a comma."""
        if self.missing.strip() == NONE:
            return []
        texts = next(csv.reader([self.missing], skipinitialspace=True), [])
        return [text.strip() for text in texts]


def character(said: str) -> str:
    """The character an option names: itself, or a word where it is hard to type."""
    return CHARACTERS.get(said, said)


BLOCK, HEAD = 1 << 20, 1 << 22  # bytes read at once, characters looked at for separator and header
RECORDS = 200
EXCEL = re.compile(r"sep=(.)(\r\n|\r|\n)")  # a first line by which Excel names the separator
DAY = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T].*)?")
NUMBER = re.compile(r"[-+$€£¥]?\s?\d[\d.,' ]*%?")
DECIMAL = re.compile(r"[-+]?\d*[.,]\d+")
ACCENTS = "[À-ÖØ-öø-ÿŠšŽžŒœŸ]"
SIGNS = r"(?:[^\w\s\x00-\x7f·’‘´–—\xad]|[¹²³¼½¾])"
UNDEFINED = "\ufffd"
# Western text read as such has none of these: three accents in a row, a sign within a word, a capital after a letter
GARBLED = re.compile(rf"{UNDEFINED}|{ACCENTS}{{3}}|[^\W\d_]{SIGNS}+[^\W\d_]|[a-zß-öø-ÿ][À-ÖØ-ÞŠŽŒŸ]")
# what opening a packed file raises that is cut off, damaged or locked
DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, RuntimeError, NotImplementedError)
FOREIGN = re.compile(r"[^\x00-\x7f]+")


def find(found: Sequence[Path], wishes: Wishes) -> Data:
    """The settings that read all of the files. Raises Question, or InputError where no settings do."""
    try:
        return _found(found, wishes)
    except DAMAGED:
        return Data("binary", wishes.label)  # opening the file says better what is wrong with it


def _found(found: Sequence[Path], wishes: Wishes) -> Data:
    texts = [file for file in found if not file.name.lower().endswith(".parquet") and file.stat().st_size]
    encoding = wishes.encoding or _encoding(texts)
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise InputError(f"ENCODING={encoding} is no encoding; say utf-8, utf-16 or windows-1252.") from None
    if not texts:
        return Data("binary", wishes.label)
    head = beginning(texts[0], encoding)
    separator = character(wishes.separator) or _separator(head)
    header = wishes.header != "no"
    if not wishes.header:
        _check_names_come_first(texts[0], _records(head, separator))
    return Data("binary", wishes.label, separator=separator, encoding=encoding, header=header)


def _encoding(texts: Sequence[Path]) -> str:
    """UTF-8 unless a file is something else. Raises InputError where two files differ."""
    kinds = {file: _encoded(file) for file in texts}
    told = {kind: file.name for file, kind in kinds.items() if kind != "ascii"}
    if len(told) > 1:
        (first, a), (second, b) = list(told.items())[:2]
        raise InputError(f"{a} is {first} text and {b} is {second}; save all files in one encoding, best UTF-8.")
    return next(iter(told), "utf-8")


def _encoded(file: Path) -> str:
    """A file's encoding, from all of its bytes; "ascii" where every one of them would do."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    plain = True
    with files.opened(file) as handle:
        head = handle.read(BLOCK)
        if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        if head[1:2] == b"\x00" or head[:1] == b"\x00":
            return "utf-16-be" if head[:1] == b"\x00" else "utf-16-le"
        block = head
        try:
            while block:
                plain = plain and block.isascii()
                decoder.decode(block)
                block = handle.read(BLOCK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return _western(file)
    return "ascii" if plain else "utf-8"


def _western(file: Path) -> str:
    """windows-1252, where it reads a file that is not UTF-8 as words. Raises Question where it does not."""
    words, garbled, shown = 0, 0, ""
    with files.opened(file) as handle:
        for number, line in enumerate(handle, start=1):
            if line.isascii():
                continue
            text = line.decode("windows-1252", errors="replace")
            found = GARBLED.search(text)
            words += len(FOREIGN.findall(text))
            garbled += found is not None
            if found and not shown:
                shown = f"line {number} reads {text[max(0, found.start() - 8) : found.start() + 8].strip()!r}"
            if UNDEFINED in text:
                garbled = words
                break
    if shown and garbled > words / 10:
        raise Question(
            f"how is the text of {file.name} encoded? It is not UTF-8, and as windows-1252 {shown}. Say ENCODING="
            " (windows-1250, windows-1251, cp850, shift_jis …), or save the file as UTF-8."
        )
    return "windows-1252"


def beginning(file: Path, encoding: str) -> str:
    """The first text of a file, without the mark that may begin it."""
    marked = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    with files.opened(file) as handle:
        return io.TextIOWrapper(handle, marked, errors="replace", newline="").read(HEAD)


def _records(head: str, separator: str) -> list[list[str]]:
    """The first records that hold anything; the last one may be cut, and is left out where there are others."""
    lines = io.StringIO(EXCEL.sub("", head, count=1), newline="")
    try:
        records = list(islice(csv.reader(lines, delimiter=separator), RECORDS + 1))
    except csv.Error:
        return []
    whole = records[:-1] if len(head) == HEAD and len(records) > 1 else records
    return [record for record in whole if any(cell.strip() for cell in record)]


def _separator(head: str) -> str:
    """The character that cuts most records into as many cells, and into the most of them."""
    told = EXCEL.match(head)
    return told[1] if told else max(files.SEPARATORS, key=lambda separator: _cut(_records(head, separator), separator))


def _cut(records: list[list[str]], separator: str) -> tuple[bool, bool, int]:
    """How well a separator cuts: alike nearly everywhere; everywhere, and not where decimals begin; into how many."""
    width = Counter(map(len, records)).most_common(1)[0][0] if records else 0  # a title may stand above the names
    alike = sum(len(record) == width for record in records)
    always = separator != "," and len(records) > 1 and alike == len(records)
    return width > 1 and alike > 0.9 * len(records), width > 1 and always, width


def _check_names_come_first(file: Path, records: list[list[str]]) -> None:
    """Raises Question where the first record looks like the ones below it."""
    first = [cell.strip() for cell in records[0]] if records else []
    below = [record for record in records if record != records[0]]
    if not below or _numbered([cell for cell in first if cell]):
        return
    places = [place for place, cell in enumerate(first) if cell]
    likely = [_alike(first[place], below, place, (DAY, NUMBER)) for place in places]
    certain = [_alike(first[place], below, place, (DAY, DECIMAL)) for place in places]
    if len(places) > 1 and (all(likely) or (any(certain) and 2 * sum(likely) >= len(places))):
        shown = ", ".join(first[:4]) + (" …" if len(first) > 4 else "")
        raise Question(
            f"{file.name} seems to begin with data instead of names: its first line is {shown}. Say HEADER=no, and its "
            f"columns are column_1 to column_{len(first)} (LABEL=column_{len(first)} is the last); or HEADER=yes."
        )


def _alike(cell: str, below: list[list[str]], place: int, forms: Sequence[re.Pattern[str]]) -> bool:
    """Whether a first cell is like those below it: of one of the forms as they are, or a text that comes again."""
    others = {row[place].strip() for row in below if place < len(row)}
    form = next((form for form in (DAY, *forms) if form.fullmatch(cell)), None)
    if form:
        return any(map(form.fullmatch, others))
    return not NUMBER.fullmatch(cell) and cell in others


def _numbered(names: list[str]) -> bool:
    """Whether names are whole numbers in even steps, as columns without a name or years have them."""
    if not names or not all(name.isdecimal() for name in names):
        return False
    steps = {int(second) - int(first) for first, second in pairwise(names)}
    return len(steps) < 2 and steps != {0}


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
    reader = csv.reader(io.StringIO(EXCEL.sub("\n", head, count=1), newline=""), delimiter=separator)
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
    values = any(cell.upper() in GAP or NUMBER.fullmatch(cell) or DAY.fullmatch(cell) for cell in held)
    return len(held) > 1 and not values


def _above_numbers(cells: Sequence[str], below: Lines) -> bool:
    """Whether a line of texts stands above numbers alone, in two columns or more."""
    columns = [[row[place].strip() for _, row in below if place < len(row)] for place in range(len(cells))]
    return len(below) > 2 and sum(bool(c) and all(map(NUMBER.fullmatch, filter(None, c))) for c in columns) > 1


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
    if not total and not (len(held) == 1 < width and NOTE.fullmatch(first) and not DAY.fullmatch(first)):
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
