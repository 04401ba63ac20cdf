"""The one way a component says that its input is wrong, and any failure in one line."""

from collections.abc import Iterable


class InputError(Exception):
    """Something a person can mend: the message names the file, the column, the row, and what to do."""


def told(error: Exception) -> str:
    """A failure in one line that ends with a full stop: an InputError's own words, the kind of any other before it."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text}." if isinstance(error, InputError) else f"{type(error).__name__}: {text[:200]}."


def listed(names: Iterable[object], most: int = 10) -> str:
    """Names for a sentence: at most so many, and how many more there are."""
    every = [str(name) for name in names]
    more = [f"and {len(every) - most:,} more"] if len(every) > most else []
    return ", ".join([*every[:most], *more])
