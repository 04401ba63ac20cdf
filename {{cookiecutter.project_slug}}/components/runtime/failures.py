"""The one way a component says that its input is wrong, and any failure in one line."""

import re
from collections.abc import Iterable, Sequence

NUMBER = re.compile(r"-?\d+([.,]\d+)?")


class InputError(Exception):
    """Something a person can mend: the message names the file, the column, the row, and what to do."""


def told(error: Exception) -> str:
    """A failure in one line that ends with a full stop: an InputError's own words, the kind of any other before it."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text}." if isinstance(error, InputError) else f"{type(error).__name__}: {text[:200]}."


def unlike(absent: Iterable[str], present: Sequence[str]) -> str:
    """Why the names of a table's columns may not be those that are looked for, "" where nothing is near."""
    names = {name.strip().lower(): name for name in present}
    for name in absent:
        if close := names.get(name.strip().lower()):
            return f"; {close!r} differs from {name!r} in upper and lower case or blanks: write both alike"
    if len(present) == 1 and (found := [sign for sign in (";", "\t", "|", ",") if sign in present[0]]):
        return f"; its cells seem to be separated by {found[0]!r}"
    return "; does the first line hold the names?" if any(map(NUMBER.fullmatch, names)) else ""


def listed(names: Iterable[object], most: int = 10) -> str:
    """Names for a sentence: at most so many, and how many more there are."""
    every = [str(name) for name in names]
    more = [f"and {len(every) - most:,} more"] if len(every) > most else []
    return ", ".join([*every[:most], *more])
