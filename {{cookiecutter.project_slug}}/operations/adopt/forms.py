"""How the text of CSV files is to be read: its encoding, what separates the cells, whether names come first."""

import codecs
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

from operations.adopt.wishes import Question, Wishes, character
from runtime import files
from runtime.failures import InputError
from runtime.usecase import Data

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
