"""What the command line says of a table: values the table is not asked for."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from runtime.failures import InputError
from runtime.usecase import numeral

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
