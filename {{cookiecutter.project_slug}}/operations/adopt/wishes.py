"""What the command line says of a table: values the table is not asked for."""

import csv
from dataclasses import dataclass
from pathlib import Path

NONE = "no"  # MISSING=no: no further text means that there is no value; THOUSANDS=no: digits stand together
NO_GROUP = ("none", NONE)  # GROUP=none: rows are split one by one, whatever they belong to
CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", NONE: ""}


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

    def markers(self) -> list[str]:
        """The texts of MISSING, which commas separate; one in quotes may hold a comma."""
        if self.missing.strip() == NONE:
            return []
        texts = next(csv.reader([self.missing], skipinitialspace=True), [])
        return [text.strip() for text in texts]


def character(said: str) -> str:
    """The character an option names: itself, or a word where it is hard to type."""
    return CHARACTERS.get(said, said)
