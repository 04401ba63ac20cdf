"""TOML as frozen dataclasses: a field's annotation is its type and range; what is refused has its key, line and remedy.

A number's range is `Annotated[int, Range(ge=0)]`, a text's pattern `Annotated[str, Matching(…, "in words")]`, and a
choice a Literal. The standard library alone: every image and the tools outside them read settings.
"""

import re
import tomllib
from ast import literal_eval
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from batchloop.container.job import InputError, listed

Settings = TypeVar("Settings")
LARGEST, HUGE = 2**31 - 1, 1e300  # whole numbers and numbers that every library here takes
KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}
# what a message begins with: [table] key …, or [columns] 'a name': key …
QUOTED = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?:: ([a-z_]+)\b)?"""
SUBJECT = re.compile(rf"(?:\[([a-z_.]+)\]\s?)?(?:([a-z_0-9]+)\b|{QUOTED})?")


@dataclass(frozen=True)
class Range:
    """Bounds of a number, named as pydantic names them: from `ge` (to `le`), or above `gt` and below `lt`."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def holds(self, value: float) -> bool:
        above = (self.ge is None or value >= self.ge) and (self.gt is None or value > self.gt)
        return above and (self.le is None or value <= self.le) and (self.lt is None or value < self.lt)

    def __str__(self) -> str:
        if self.gt is not None:
            return f" above {self.gt:,} and below {self.lt:,}"
        return f" from {self.ge:,} up" if self.le is None else f" from {self.ge:,} to {self.le:,}"


@dataclass(frozen=True)
class Matching:
    """A text, or each of several, that matches a pattern as a whole; `words` say what it is."""

    pattern: str
    words: str

    def holds(self, value: str | tuple[str, ...]) -> bool:
        return all(re.fullmatch(self.pattern, text) for text in ([value] if isinstance(value, str) else value))

    def __str__(self) -> str:
        return self.words


class SettingError(InputError):
    """A setting that is not allowed; `path` is its tables, then its key: by default what the message begins with."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        if not path and (subject := SUBJECT.match(message)):
            header, key, quoted, inner = subject.groups("")
            path = tuple(filter(None, (*header.split("."), key or (literal_eval(quoted) if quoted else ""), inner)))
        self.path = path


def read(file: Path, name: str) -> tuple[dict[str, Any], str]:
    """The tables of a TOML file and its text. Raises FileNotFoundError, and InputError where it can't be read."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text), text
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{name} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text; save it as UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{name} is not valid TOML: {error}.") from None


@contextmanager
def errors_in(name: str, text: str = "") -> Iterator[None]:
    """Put the file and, where its text is given, the line before a SettingError. Raises InputError."""
    try:
        yield
    except SettingError as error:
        number = line(text, error.path)
        raise InputError(f"{name}{f', line {number}' if number else ''}: {error}") from None


def table(kind: type[Settings], path: tuple[str, ...], values: Any, **fixed: Any) -> Settings:
    """A dataclass from the TOML table at `path`; `fixed` are fields that the table can't set. Raises SettingError."""
    name = _header(path)
    if not isinstance(values, Mapping):
        raise SettingError(f"{name} is {shown(values)}, and should be one table.", *path)
    hints = get_type_hints(kind, include_extras=True)
    known = {entry.name: entry for entry in fields(kind) if entry.name not in fixed}  # type: ignore[arg-type]
    if unknown := next((key for key in values if key not in known), ""):
        raise SettingError(f"{name or 'it'} has an unknown key {unknown!r}; {nearest(unknown, known)}.", *path, unknown)
    taken = {key: _value(hints[key], value, (*path, key)) for key, value in values.items()}
    for key, entry in known.items():
        if key not in taken and entry.default is MISSING and entry.default_factory is MISSING:
            raise SettingError(f"{name or 'it'} needs {key}: {wanted(hints[key])}.", *path)
    return kind(**taken, **fixed)


def check(rules: Iterable[tuple[object, str]]) -> None:
    """Raises SettingError with the message of the first rule that does not hold."""
    for holds, message in rules:
        if not holds:
            raise SettingError(message)


def parsed(kind: Any, text: str) -> Any:
    """A text as true or false, a finite number or itself without blanks around it; None where it is none."""
    word = text.strip()
    try:
        value = {"true": True, "false": False}[word.lower()] if kind is bool else kind(word)
    except (ValueError, KeyError):
        return None
    return value if isinstance(value, str) or abs(value) < HUGE else None


def nearest(name: str, known: Iterable[str]) -> str:
    """What was probably meant, in words, or what there is."""
    names = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), names, 1)
    return f"the nearest is {names[close[0]]!r}" if close else f"known are {listed(names.values(), 20)}"


def wanted(hint: Any) -> str:
    """What a value of a type is, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words = "".join(map(str, arguments[1:]))
        return words if isinstance(arguments[1], Matching) else wanted(arguments[0]) + words
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is UnionType:
        return wanted(arguments[0])
    if origin is tuple:
        return "a list of texts" if arguments[0] is str else f"a list of {', '.join(get_args(arguments[0]))}"
    return KINDS.get(hint, "a table")


def _header(path: tuple[str, ...]) -> str:
    """A table as a person finds it: [drift], or [columns] 'age'."""
    return f"[{path[0]}]" + (f" {path[1]!r}" if len(path) > 1 else "") if path else ""


def _value(hint: Any, value: Any, path: tuple[str, ...]) -> Any:
    """A TOML value as the type that a field has. Raises SettingError."""
    origin, arguments = get_origin(hint), get_args(hint)
    base = arguments[0] if origin in (Annotated, UnionType) else hint
    if is_dataclass(base) and isinstance(base, type):
        return table(base, path, value)
    taken = _typed(base, value)
    if taken is None or not all(rule.holds(taken) for rule in (arguments[1:] if origin is Annotated else ())):
        key = f"{_header(path[:-1])} {path[-1]}".lstrip()
        raise SettingError(f"{key} = {shown(value)} is not {wanted(hint)}{_remedy(base, value)}.", *path)
    return taken


def _typed(kind: Any, value: Any) -> Any:
    """The value where it is of this type, else None; whole numbers are numbers too, booleans are not."""
    origin, number = get_origin(kind), isinstance(value, int | float) and not isinstance(value, bool)
    if origin is Literal:
        return value if isinstance(value, str) and value in get_args(kind) else None
    if origin is tuple:
        item = get_args(kind)[0]
        return tuple(value) if isinstance(value, list) and all(_typed(item, one) is not None for one in value) else None
    if kind is float:
        return float(value) if number and abs(value) < HUGE else None  # neither NaN nor infinite
    if kind is int:
        return value if number and isinstance(value, int) and abs(value) <= LARGEST else None
    return value if isinstance(value, Mapping if origin else kind) else None  # a mapping has rules of its own


def _remedy(kind: Any, value: Any) -> str:
    """A remedy for the common slips: a number in quotes, a choice with a typing error, texts without quotes."""
    if get_origin(kind) is tuple and isinstance(value, list):
        kind = get_args(kind)[0]
        value = next((one for one in value if _typed(kind, one) is None), "")
        if not isinstance(value, str):
            return "; put each in quotes"
    if kind is int and isinstance(value, int) and abs(value) > LARGEST:
        return f"; {LARGEST:,} is the most"
    if kind in (bool, int, float) and isinstance(value, str):
        return "" if parsed(kind, value) is None else "; leave out the quotes"
    close = get_close_matches(str(value).lower(), get_args(kind), 1) if get_origin(kind) is Literal else []
    return f"; the nearest is {close[0]!r}" if close else ""


def shown(value: Any) -> str:
    """A value as TOML writes it, or its beginning."""
    if value and isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        return "a list of tables"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def line(text: str, path: tuple[str, ...]) -> int | None:
    """The line on which the statement begins that gives `path`, or else its table; None where neither is there.

    The parser itself finds it: the shortest beginning of the text that is TOML and holds the path ends with it.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    for length in range(len(path), 0, -1):
        count = bisect_left(range(len(lines) + 1), True, key=partial(_holds, lines, path[:length]))
        if count <= len(lines):
            return _beginning(lines, count - 1)[0] + 1
    return None


def _beginning(lines: list[str], most: int) -> tuple[int, Any]:
    """The longest beginning of at most so many lines that is TOML: how many they are, and their tables."""
    for count in range(most, 0, -1):
        try:
            return count, tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
    return 0, {}


def _holds(lines: list[str], path: tuple[str, ...], most: int) -> bool:
    """Whether a beginning of the text holds the path."""
    tables = _beginning(lines, most)[1]
    for name in path:
        if isinstance(tables, list) and tables:
            return True  # [[table]]: which of them is not known
        if not isinstance(tables, Mapping) or name not in tables:
            return False
        tables = tables[name]
    return True
