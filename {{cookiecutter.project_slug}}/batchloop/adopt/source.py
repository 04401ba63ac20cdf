"""The options of `make adopt`, the questions that they answer, and opening a table whose form is not known yet."""

import codecs
import csv
import io
import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain, islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

from batchloop.container import files, raw
from batchloop.container.formats import CLOCKS, numeral
from batchloop.container.job import InputError
from batchloop.container.usecase import Data, usable
from batchloop.container.values import HOUR

NONE = "no"  # MISSING=no: no further text means that there is no value; THOUSANDS=no: digits stand together
NO_GROUP = ("none", NONE)  # GROUP=none: rows are split one by one, whatever they belong to
TYPE = re.compile(
    r'\s*("(?:[^"]|"")+"|[^,]+?)\s*=\s*(number|category|boolean|date|text|out)\s*(?:\((.*?)\))?\s*(?:,|$)', re.DOTALL
)
LARGE = 20_000_000  # bytes that take a few seconds, which it says
BLOCK, HEAD = 1 << 20, 1 << 22  # bytes read at once, characters looked at for separator and header
RECORDS, TITLES, LAST = 200, 30, 3  # first lines, those where the names are looked for, last ones that may be sums
CHECKED = 50  # columns, at most
EXCEL = re.compile(r"sep=(.)(\r\n|\r|\n)")  # a first line by which Excel names the separator
DAY = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T].*)?")
NUMBER = re.compile(r"[-+$€£¥]?\s?\d[\d.,' ]*%?")
DECIMAL = re.compile(r"[-+]?\d*[.,]\d+")
ACCENTS, SIGNS, UNDEFINED = "[À-ÖØ-öø-ÿŠšŽžŒœŸ]", r"(?:[^\w\s\x00-\x7f·’‘´–—\xad]|[¹²³¼½¾])", "\ufffd"
# Western text read as such has none of these: three accents in a row, a sign within a word, a capital after a letter
GARBLED = re.compile(rf"{UNDEFINED}|{ACCENTS}{{3}}|[^\W\d_]{SIGNS}+[^\W\d_]|[a-zß-öø-ÿ][À-ÖØ-ÞŠŽŒŸ]")
FOREIGN = re.compile(r"[^\x00-\x7f]+")
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
DIGITS = 4  # after the point, all columns together, by which a mean is one and not a usual row
MADE_UP = re.compile(r"(Unnamed: \d+(_level_\d+)?|_duplicated_\d+|\.\.\.\d+)?")  # a name that a program made up
SUM = re.compile(r"(grand |sub)?totals?|sums?|(gesamt)?summen?|(ins)?gesamt|somme|suma|average|mittelwert", re.I)
AMOUNT = re.compile(r"-?\d+(\.\d*)?")
GAP = re.compile("NA|N/A|NAN|NULL|NONE|[?]", re.I)
NOTE = re.compile(r"(source|quelle|notes?|anmerkung(en)?|stand|hinweis|\*|©|#).*|.*\S\s+\S.*", re.I)
Records = list[tuple[int, Sequence[str]]]  # with the numbers of their lines
CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", NONE: ""}


class Question(Exception):
    """Something the table does not tell: the message names the option that does."""


def _help(about: str, **settings: Any) -> dict[str, Any]:
    return {"help": about, "default": ""} | settings


@dataclass(frozen=True)
class Options:
    """One field an option of the command line, as argparse takes it; "" leaves it to the table."""

    data: Path = field(metadata=_help("a CSV (also packed) or Parquet file, or a folder", type=Path, default=None))
    label: str = field(metadata=_help("the column to predict"))
    id: str = field(metadata=_help("the column that names a row"))
    time: str = field(metadata=_help("the column that says when a row happened; splits by it"))
    group: str = field(metadata=_help("the column whose rows stay together in the split; none: no column"))
    series: str = field(metadata=_help("where series are forecast: the column that tells them apart; none: no column"))
    known: str = field(metadata=_help("where series are forecast: columns known in advance, separated by commas"))
    task: str = field(metadata=_help("", choices=["", "binary", "multiclass", "regression"]))
    dates: str = field(metadata=_help("the format of dates that could be read two ways: %%d/%%m/%%Y"))
    missing: str = field(metadata=_help("texts that mean 'no value', separated by commas; no: none more"))
    encoding: str = field(metadata=_help("of CSV files: utf-8, utf-16, windows-1252 …"))
    separator: str = field(metadata=_help("between the cells of CSV files; tab for a tab"))
    header: str = field(metadata=_help("no: CSV files begin with data", choices=["", "yes", "no"]))
    decimal: str = field(metadata=_help("the sign before decimals", choices=["", ".", ","]))
    thousands: str = field(metadata=_help("the sign between thousands; space for a blank, no for none"))
    types: str = field(metadata=_help("what columns are: code=category,day=date(%%d.%%m.%%Y),note=out …"))
    time_zone: str = field(metadata=_help("whose clocks show the hour of moments: Europe/Berlin"))
    usecase: Path = field(metadata=_help("", type=Path, default=Path("usecase.toml")))
    folder: Path = field(metadata=_help("", type=Path, default=Path("data")))

    @cached_property
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

    @property
    def known_columns(self) -> list[str]:
        return [name.strip() for name in self.known.split(",") if name.strip()]

    @property
    def markers(self) -> list[str]:
        """The texts of MISSING, which commas separate; one in quotes may hold a comma."""
        texts = next(csv.reader([self.missing], skipinitialspace=True), [])
        return [] if self.missing.strip() == NONE else [text.strip() for text in texts]


def asked_of(column: str, what: str, *options: str, cells: Iterable[Sequence[Any]] = ()) -> Question:
    """What a column leaves open, with the options that answer it; `cells` are counts, texts and maybe their formats."""
    told = [f"{count:,} cells like {text!r}{''.join(f' ({each})' for each in form)}" for count, text, *form in cells]
    shown = f" ({', '.join(told)})" if told else ""
    return Question(f"column {column!r}: {what}{shown}? Say {' or '.join(options)}.")


def types_option(name: str, kind: str) -> str:
    """TYPES for one column, as a shell takes it."""
    quoted = '"' + name.replace('"', '""') + '"' if name[:1] == '"' or "," in name else name
    return "TYPES=" + shlex.quote(f"{quoted}={kind}")


def missing_option(texts: Iterable[str]) -> str:
    """MISSING for some texts, as a shell takes it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(texts)
    return f"MISSING={shlex.quote(line.getvalue())}"


@dataclass(frozen=True)
class Table:
    """The files as one lazy frame of their own types, how CSV cells are read, how some columns write numbers."""

    frame: pl.LazyFrame
    files: tuple[Path, ...]
    reading: Data
    formats: Mapping[str, str] = field(default_factory=dict)


def row(frame: pl.LazyFrame, *expressions: pl.Expr) -> tuple[Any, ...]:
    """What expressions give that are one value each, in one pass over the rows; no pass where there are none."""
    named = [each.alias(f"{place}") for place, each in enumerate(expressions)]
    return frame.select(named).collect(engine="streaming").row(0) if named else ()


def read(options: Options) -> Table:
    """Open the files. Raises Question, PolarsError, or InputError for missing or damaged ones and unusable names."""
    _check_workbook(options.data)
    found = files.find(options.data)
    size = sum(file.stat().st_size for file in found)
    say = partial(print, flush=True) if size > LARGE else str
    say(f"reading {options.data.name} ({size:,} bytes)")
    for file in found:
        _check_workbook(file)
    try:
        reading = _reading(found, options)
    except (*files.DAMAGED, RuntimeError):
        reading = Data("binary", options.label)  # opening the file says better what is wrong with it
    for file in [] if options.header else found:
        _check_names(file, reading)
    frame = pl.concat([files.scan(file, reading).drop(raw.ROW) for file in found], how="diagonal_relaxed")
    if any(file.suffix.lower() != ".parquet" for file in found):  # each look then reads the columns that it needs
        parsed = files.scratch("adopt-") / "table.parquet"
        frame.sink_parquet(parsed, compression="lz4", statistics=False, engine="streaming")
        frame = pl.scan_parquet(parsed, glob=False)
    schema = frame.collect_schema()
    lasting = [name for name, kind in schema.items() if kind in (pl.Time, pl.Duration)]
    hours = pl.col(lasting).cast(pl.Duration("us")).dt.total_microseconds() / HOUR
    packed = [name for name, kind in schema.items() if isinstance(kind, pl.Struct) and "bytes" in dict(kind)]
    pictures = [pl.col(name).struct.field("bytes").alias(name) for name in packed]  # as Hugging Face has them
    for name in schema:
        if not usable(name):
            raise InputError(f"{found[0].name}: column {name!r}: names like __… and ^…$ are taken; rename the column.")
    _check_rows(found[-1].name, frame)
    say(f"looking at {len(schema):,} columns, then checking every row")
    read_as = frame.with_columns(hours, *pictures)
    return Table(read_as, tuple(found), reading, dict.fromkeys(lasting, CLOCKS[0]))


def _check_workbook(file: Path) -> None:
    """Raises InputError for what a spreadsheet saves, whatever its name says."""
    inside = zipfile.ZipFile(file).namelist() if file.is_file() and zipfile.is_zipfile(file) else []
    if file.is_file() and (file.name.lower().endswith(WORKBOOKS) or "[Content_Types].xml" in inside):
        raise InputError(f"{file.name} is a workbook; save its sheet as CSV UTF-8 and say DATA={file.stem}.csv.")


def _reading(found: Sequence[Path], options: Options) -> Data:
    """The settings that read all of the files. Raises Question, or InputError where no settings do."""
    texts = [file for file in found if not file.name.lower().endswith(".parquet") and file.stat().st_size]
    encoding = options.encoding
    if not encoding:
        told = {kind: file.name for file in texts if (kind := _encoding(file)) != "ascii"}
        if len(told) > 1:
            (first, a), (second, b) = list(told.items())[:2]
            raise InputError(f"{a} is {first} text and {b} is {second}; save all files in one encoding, best UTF-8.")
        encoding = next(iter(told), "utf-8")
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise InputError(f"ENCODING={encoding} is no encoding; say utf-8, utf-16 or windows-1252.") from None
    if not texts:
        return Data("binary", options.label)
    head = _beginning(texts[0], encoding)
    told_by_excel = EXCEL.match(head)
    separator = CHARACTERS.get(options.separator, options.separator) or (told_by_excel[1] if told_by_excel else "")
    if len(separator.encode()) > 1 or separator in ("\n", "\r", '"'):
        raise InputError(f"SEPARATOR={options.separator} is no sign between cells; say one ASCII character, or tab.")
    separator = separator or max(files.SEPARATORS, key=lambda sign: _cuts(_records(head, sign), sign))
    return Data("binary", options.label, separator=separator, encoding=encoding, header=options.header != "no")


def _encoding(file: Path) -> str:
    """A file's encoding, from all of its bytes; "ascii" where every one of them would do. Raises Question."""
    with files.opened(file) as handle:
        head = handle.read(BLOCK)
        if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        if b"\x00" in head[:2]:
            return "utf-16-be" if head[:1] == b"\x00" else "utf-16-le"
        blocks = chain([head], iter(partial(handle.read, BLOCK), b""))
        with suppress(UnicodeDecodeError):
            return "utf-8" if False in {text.isascii() for text in codecs.iterdecode(blocks, "utf-8")} else "ascii"
    words, garbled, shown = 0, 0, ""
    with files.opened(file) as handle:
        for number, line in enumerate(iter(partial(handle.readline, BLOCK), b""), start=1):
            text = "" if line.isascii() else line.decode("windows-1252", errors="replace")
            words += len(FOREIGN.findall(text))
            if found := GARBLED.search(text):
                garbled += 1
                shown = shown or f"line {number} reads {text[max(0, found.start() - 8) : found.start() + 8].strip()!r}"
            if UNDEFINED in text:
                garbled = words
                break
    if garbled > words / 10:
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
    below = [cells for cells in records if cells != records[0]]
    held = [
        (cell, {row[place].strip() for row in below if place < len(row)}) for place, cell in enumerate(first) if cell
    ]
    steps = {int(b) - int(a) for (a, _), (b, _) in pairwise(held)} if all(c.isdecimal() for c, _ in held) else {0}
    if not below or len(held) < 2 or (len(steps) == 1 and steps != {0}):  # years, or numbers for want of names
        return
    likely, certain = ([_alike(*each, form) for each in held] for form in (NUMBER, DECIMAL))
    if all(likely) or (any(certain) and 2 * sum(likely) >= len(held)):
        shown = ", ".join(first[:4]) + (" …" if len(first) > 4 else "")
        raise Question(
            f"{file.name} seems to begin with data instead of names: its first line is {shown}. Say HEADER=no, and its "
            f"columns are column_1 to column_{len(first)} (LABEL=column_{len(first)} is the last); or HEADER=yes."
        )


def _alike(cell: str, below: set[str], form: re.Pattern[str]) -> bool:
    """Whether a first cell is like those below it: of one of the forms as they are, or a text that comes again."""
    for known in (DAY, form):
        if known.fullmatch(cell):
            return any(map(known.fullmatch, below))
    return not NUMBER.fullmatch(cell) and cell in below


def _check_names(file: Path, reading: Data) -> None:
    """Raises Question where the first line is data, or the names seem to stand in a later one, below a title."""
    unit, lines = "line", Records()
    if file.name.lower().endswith(".parquet"):
        frame = files.scan(file, reading).drop(raw.ROW).head(TITLES).collect()
        rows = [["" if cell is None else str(cell) for cell in row] for row in frame.rows()]
        unit, lines = "row", [(0, frame.columns), *enumerate(rows, 1)]
    else:
        with suppress(*files.DAMAGED, RuntimeError):  # which is told where the file is opened
            lines = _records(_beginning(file, reading.encoding), reading.separator)
        _check_names_come_first(file, [cells for _, cells in lines])
        lines = lines[:TITLES]
    held = [[cell.strip() for cell in cells if not MADE_UP.fullmatch(cell.strip())] for _, cells in lines]
    names, label, full = held[0] if held else [], reading.label.strip(), median(map(len, held)) if held else 0
    sparse = 2 * len(names) < full or (label not in names and 2 * len(names) <= full)
    for place, texts in list(enumerate(held))[1:]:
        meant = (label in texts and label not in names) or (sparse and 2 * len(texts) > full)
        units = not meant and _above_numbers(lines[place][1], [cells for _, cells in lines[place + 1 :]])
        values = any(form.fullmatch(cell) for cell in texts for form in (GAP, NUMBER, DAY))
        if len(texts) > 1 and not values and ((meant and len(set(texts)) == len(texts)) or units):
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
    (again_at,) = row(frame, again.first())
    if again_at is not None:
        raise InputError(f"{file}: row {again_at + 1} holds the names of the columns once more; delete that line.")
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
    cells, kinds = list(held.items())[:CHECKED], frame.collect_schema()
    totals = [(name, cell) for name, cell in cells if name in texts and SUM.fullmatch(cell.rstrip(": "))]
    name, first = next(iter([*totals, *cells]), ("", ""))
    note = len(held) == 1 < width and NOTE.fullmatch(first) and not DAY.fullmatch(first)
    if name not in texts or not (totals or note):
        return False
    text, others = pl.col(name).str.strip_chars(), [(key, cell) for key, cell in cells if key != name]
    amounts = {key: float(cell) for key, cell in others if AMOUNT.fullmatch(cell) and not kinds[key].is_nested()}
    rest = [pl.col(name).cast(pl.Float64, strict=False).filter(text != first).max() for name in amounts]
    same, worded, *most = row(frame, (text == first).sum(), text.str.contains(r"\S\s+\S").sum(), *rest)
    pairs = zip(amounts.values(), most, strict=True)
    largest = bool(most) and all(high is None or high <= amount for amount, high in pairs)
    return bool(same == 1 and (len(held) < width or largest if totals else worded <= LAST))


def _amount_of_the_rest(frame: pl.LazyFrame) -> str:
    """What the last row is of those above in two columns of numbers or more: "sum", "mean", or "" for neither."""
    kinds = frame.collect_schema().items()
    names = [name for name, kind in kinds if kind == pl.String or kind.is_numeric()][:CHECKED]
    texts = pl.col(names).cast(pl.String, strict=False).str.strip_chars()
    cells = frame.select(texts.str.replace(",", ".", literal=True))
    last = next(cells.tail(1).collect(engine="streaming").iter_rows(named=True), {})
    amounts = {name: text for name, text in last.items() if text and AMOUNT.fullmatch(text)}
    fits, digits = list[list[bool]](), 0  # whether it is the sum, and the mean
    for name, text in amounts.items():
        number, amount, after = pl.col(name).cast(pl.Float64, strict=False), float(text), len(text.partition(".")[2])
        total, count, varies = row(cells, number.sum(), number.count(), number.max() > number.min())
        if varies and count > LAST:
            digits += after
            near = 0.51 * 10.0**-after
            fits.append([abs((total - amount) / others - amount) <= near for others in (1, count - 1)])
    sums, means = map(all, zip(*fits, strict=True)) if len(fits) > 1 else (False, False)
    # a mean must say more than whole numbers do, which may well be that of a column
    return "sum" if sums else "mean" if means and digits >= DIGITS else ""
