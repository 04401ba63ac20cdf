"""Opening a table whose form is not known yet: encoding, separator, where the names stand, what is no row of it."""

import codecs
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from statistics import median

import polars as pl

from batchloop.adopt.options import Options, Question, character
from batchloop.container import files, raw
from batchloop.container.job import InputError
from batchloop.container.usecase import CLOCKS, Data, usable
from batchloop.container.values import HOUR

BLOCK, HEAD = 1 << 20, 1 << 22  # bytes read at once, characters looked at for separator and header
RECORDS, TITLES, LAST = (
    200,
    30,
    3,
)  # first lines, those among which the names are looked for, last ones that may be sums
CHECKED = 50  # columns, at most
EXCEL = re.compile(r"sep=(.)(\r\n|\r|\n)")  # a first line by which Excel names the separator
DAY = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T].*)?")
NUMBER = re.compile(r"[-+$€£¥]?\s?\d[\d.,' ]*%?")
DECIMAL = re.compile(r"[-+]?\d*[.,]\d+")
ACCENTS = "[À-ÖØ-öø-ÿŠšŽžŒœŸ]"
SIGNS = r"(?:[^\w\s\x00-\x7f·’‘´–—\xad]|[¹²³¼½¾])"
UNDEFINED = "\ufffd"
# Western text read as such has none of these: three accents in a row, a sign within a word, a capital after a letter
GARBLED = re.compile(rf"{UNDEFINED}|{ACCENTS}{{3}}|[^\W\d_]{SIGNS}+[^\W\d_]|[a-zß-öø-ÿ][À-ÖØ-ÞŠŽŒŸ]")
FOREIGN = re.compile(r"[^\x00-\x7f]+")
# what opening a packed file raises that is cut off, damaged or locked
DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, RuntimeError, NotImplementedError)
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
DIGITS = 4  # after the point, all columns together, by which a mean is one and not a usual row
MADE_UP = re.compile(r"(Unnamed: \d+(_level_\d+)?|_duplicated_\d+|\.\.\.\d+)?")  # a name that a program made up
SUM = re.compile(r"(grand |sub)?totals?|sums?|(gesamt)?summen?|(ins)?gesamt|somme|suma|average|mittelwert", re.I)
AMOUNT = re.compile(r"-?\d+(\.\d*)?")
GAP = ("NA", "N/A", "NAN", "NULL", "NONE", "?")
NOTE = re.compile(r"(source|quelle|notes?|anmerkung(en)?|stand|hinweis|\*|©|#).*|.*\S\s+\S.*", re.I)
Records = Sequence[tuple[int, Sequence[str]]]  # with the numbers of their lines


@dataclass(frozen=True)
class Table:
    """The files as one lazy frame of their own types, and how the cells of CSV files are read.

    `formats` says how some columns write numbers; clocks and durations of Parquet files stand there as hours.
    """

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    reading: Data
    formats: Mapping[str, str] = field(default_factory=dict)


def read(options: Options) -> Table:
    """Open the files. Raises Question, or InputError for missing or damaged ones, or names that can't be used."""
    _check_workbook(options.data)
    found = files.find(options.data)
    for file in found:
        _check_workbook(file)
    try:
        reading = _reading(found, options)
    except DAMAGED:
        reading = Data("binary", options.label)  # opening the file says better what is wrong with it
    for file in [] if options.header else found:
        _check_title(file, reading)
    frame = pl.concat([files.scan(file, reading).drop(raw.ROW) for file in found], how="diagonal_relaxed")
    if any(file.suffix.lower() != ".parquet" for file in found):  # each look then reads the columns that it needs
        parsed = files.scratch("adopt-") / "table.parquet"
        try:
            frame.sink_parquet(parsed, compression="lz4", statistics=False, engine="streaming")
        except pl.exceptions.PolarsError as error:
            raise files.explain(error, found) from None
        frame = pl.scan_parquet(parsed)
    schema = frame.collect_schema()
    lasting = [name for name, kind in schema.items() if kind in (pl.Time, pl.Duration)]
    hours = frame.with_columns(pl.col(lasting).cast(pl.Duration("us")).dt.total_microseconds() / HOUR)
    for name in schema:
        if not usable(name):
            raise InputError(f"{found[0].name}: column {name!r}: names like __… and ^…$ are taken; rename the column.")
    _check_rows(found[-1].name, frame)
    return Table(hours, tuple(found), reading, dict.fromkeys(lasting, CLOCKS[0]))


def _check_workbook(file: Path) -> None:
    """Raises InputError for what a spreadsheet saves, whatever its name says."""
    inside = zipfile.ZipFile(file).namelist() if file.is_file() and zipfile.is_zipfile(file) else []
    if file.is_file() and (file.name.lower().endswith(WORKBOOKS) or "[Content_Types].xml" in inside):
        raise InputError(f"{file.name} is a workbook; save its sheet as CSV UTF-8 and say DATA={file.stem}.csv.")


def _reading(found: Sequence[Path], options: Options) -> Data:
    """The settings that read all of the files. Raises Question, or InputError where no settings do."""
    texts = [file for file in found if not file.name.lower().endswith(".parquet") and file.stat().st_size]
    encoding = options.encoding or _encoding(texts)
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise InputError(f"ENCODING={encoding} is no encoding; say utf-8, utf-16 or windows-1252.") from None
    if not texts:
        return Data("binary", options.label)
    head = _beginning(texts[0], encoding)
    told = EXCEL.match(head)
    separator = character(options.separator) or (told[1] if told else "")
    separator = separator or max(files.SEPARATORS, key=lambda sign: _cuts(_records(head, sign), sign))
    if not options.header:
        _check_names_come_first(texts[0], [cells for _, cells in _records(head, separator)])
    return Data("binary", options.label, separator=separator, encoding=encoding, header=options.header != "no")


def _encoding(texts: Sequence[Path]) -> str:
    """UTF-8 unless a file is something else. Raises InputError where two files differ."""
    told = {kind: file.name for file in texts if (kind := _encoded(file)) != "ascii"}
    if len(told) > 1:
        (first, a), (second, b) = list(told.items())[:2]
        raise InputError(f"{a} is {first} text and {b} is {second}; save all files in one encoding, best UTF-8.")
    return next(iter(told), "utf-8")


def _encoded(file: Path) -> str:
    """A file's encoding, from all of its bytes; "ascii" where every one of them would do."""
    with files.opened(file) as handle:
        head = handle.read(BLOCK)
        if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        if b"\x00" in head[:2]:
            return "utf-16-be" if head[:1] == b"\x00" else "utf-16-le"
        blocks = chain([head], iter(partial(handle.read, BLOCK), b""))
        try:
            ascii_only = {text.isascii() for text in codecs.iterdecode(blocks, "utf-8")} <= {True}
        except UnicodeDecodeError:
            return _western(file)
    return "ascii" if ascii_only else "utf-8"


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


def _beginning(file: Path, encoding: str) -> str:
    """The first text of a file, without the mark that may begin it."""
    marked = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    with files.opened(file) as handle:
        return io.TextIOWrapper(handle, marked, errors="replace", newline="").read(HEAD)


def _records(head: str, separator: str) -> Records:
    """The first records that hold anything; the last one may be cut, and is left out where there are others."""
    reader = csv.reader(io.StringIO(EXCEL.sub("\n", head, count=1), newline=""), delimiter=separator)
    try:
        records = list(islice(((reader.line_num, cells) for cells in reader), RECORDS + 1))
    except csv.Error:
        return []
    whole = records[:-1] if len(head) == HEAD and len(records) > 1 else records
    return [(line, cells) for line, cells in whole if any(map(str.strip, cells))]


def _cuts(records: Records, separator: str) -> tuple[bool, bool, int]:
    """How well a separator cuts: alike nearly everywhere; everywhere, and not where decimals begin; into how many."""
    widths = Counter(len(cells) for _, cells in records)  # a title may stand above the names
    width, alike = widths.most_common(1)[0] if records else (0, 0)
    always = separator != "," and len(records) > 1 and alike == len(records)
    return width > 1 and alike > 0.9 * len(records), width > 1 and always, width


def _check_names_come_first(file: Path, records: Sequence[Sequence[str]]) -> None:
    """Raises Question where the first record looks like the ones below it."""
    first = [cell.strip() for cell in records[0]] if records else []
    places = [place for place, cell in enumerate(first) if cell]
    columns = [
        {row[place].strip() for row in records if row != records[0] and place < len(row)} for place in range(len(first))
    ]
    if len(places) < 2 or not any(columns) or _numbered([first[place] for place in places]):
        return
    likely, certain = (
        [_alike(first[place], columns[place], (DAY, form)) for place in places] for form in (NUMBER, DECIMAL)
    )
    if all(likely) or (any(certain) and 2 * sum(likely) >= len(places)):
        shown = ", ".join(first[:4]) + (" …" if len(first) > 4 else "")
        raise Question(
            f"{file.name} seems to begin with data instead of names: its first line is {shown}. Say HEADER=no, and its "
            f"columns are column_1 to column_{len(first)} (LABEL=column_{len(first)} is the last); or HEADER=yes."
        )


def _alike(cell: str, below: set[str], forms: Sequence[re.Pattern[str]]) -> bool:
    """Whether a first cell is like those below it: of one of the forms as they are, or a text that comes again."""
    for form in forms:
        if form.fullmatch(cell):
            return any(map(form.fullmatch, below))
    return not NUMBER.fullmatch(cell) and cell in below


def _numbered(names: list[str]) -> bool:
    """Whether names are whole numbers in even steps, as columns without a name or years have them."""
    steps = {int(second) - int(first) for first, second in pairwise(names)} if all(map(str.isdecimal, names)) else {0}
    return len(steps) < 2 and steps != {0}


def _check_title(file: Path, reading: Data) -> None:
    """Raises Question where the names seem to stand in a later line than the first, below a title."""
    unit, lines = "line", list[tuple[int, Sequence[str]]]()
    if file.name.lower().endswith(".parquet"):
        frame = files.scan(file, reading).drop(raw.ROW).head(TITLES).collect()
        rows = [["" if cell is None else str(cell) for cell in row] for row in frame.rows()]
        unit, lines = "row", [(0, frame.columns), *enumerate(rows, 1)]
    else:
        with suppress(*DAMAGED):  # which is told where the file is opened
            lines = list(_records(_beginning(file, reading.encoding), reading.separator)[:TITLES])
    held = [[cell.strip() for cell in cells if not MADE_UP.fullmatch(cell.strip())] for _, cells in lines]
    names, label, full = held[0] if held else [], reading.label.strip(), median(map(len, held)) if held else 0
    sparse = 2 * len(names) < full or (label not in names and 2 * len(names) <= full)
    for place, texts in list(enumerate(held))[1:]:
        meant = (label in texts and label not in names) or (sparse and 2 * len(texts) > full)
        units = not meant and _above_numbers(lines[place][1], [cells for _, cells in lines[place + 1 :]])
        words = len(texts) > 1 and not any(
            cell.upper() in GAP or NUMBER.fullmatch(cell) or DAY.fullmatch(cell) for cell in texts
        )
        if words and ((meant and len(set(texts)) == len(texts)) or units):
            shown, above = ", ".join(texts[:4]) + (" …" if len(texts) > 4 else ""), f"{unit} {lines[place][0]}"
            raise Question(
                f"where are the names of the columns? {above.capitalize()} of {file.name} ({shown}) looks like them, "
                f"and what stands above it ({', '.join(names[:3])}) like a title. Delete what is above {above}"
                f"{', or that line if it holds units' if units else ''}; or say HEADER=yes if the names come first."
            )


def _above_numbers(cells: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a line of texts stands above numbers alone, in two columns or more."""
    columns = [[row[place].strip() for row in below if place < len(row)] for place in range(len(cells))]
    return len(below) > 2 and sum(bool(c) and all(map(NUMBER.fullmatch, filter(None, c))) for c in columns) > 1


def _check_rows(file: str, frame: pl.LazyFrame) -> None:
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
    name, first = next(iter([*totals, *cells]), ("", ""))
    note = len(held) == 1 < width and NOTE.fullmatch(first) and not DAY.fullmatch(first)
    if name not in texts or not (totals or note):
        return False
    text, kinds = pl.col(name).str.strip_chars(), frame.collect_schema()
    amounts = {
        other: float(cell)
        for other, cell in cells
        if other != name and AMOUNT.fullmatch(cell) and not kinds[other].is_nested()
    }
    rest = pl.col(list(amounts)).cast(pl.Float64, strict=False).filter(text != first).max().name.suffix(" ")
    counts = (text == first).sum().alias("same"), text.str.contains(r"\S\s+\S").sum().alias("worded")
    same, worded, *most = frame.select(*counts, rest).collect(engine="streaming").row(0)
    pairs = zip(amounts.values(), most, strict=True)
    largest = bool(most) and all(high is None or high <= amount for amount, high in pairs)
    return bool(same == 1 and (len(held) < width or largest if totals else worded <= LAST))


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
    if not amounts:
        return ""
    numbers = cells.select(pl.col(list(amounts)).cast(pl.Float64, strict=False))
    measures = pl.all().sum(), pl.all().count(), pl.all().max() > pl.all().min()
    total, count, varies = (numbers.select(each).collect(engine="streaming").row(0, named=True) for each in measures)
    varying = [name for name in amounts if varies[name] and count[name] > LAST]
    digits = {name: len(amounts[name].partition(".")[2]) for name in varying}
    for what, power in (("sum", 0), ("mean", 1)):
        rest = {name: (total[name] - float(amounts[name])) / (count[name] - 1) ** power for name in varying}
        alike = all(abs(rest[name] - float(amounts[name])) <= 0.51 * 10.0 ** -digits[name] for name in varying)
        if len(varying) > 1 and alike and (what == "sum" or sum(digits.values()) >= DIGITS):
            return what
    return ""
