"""The options of `make adopt`, and the questions that they answer."""

import csv
import io
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from batchloop.container.job import InputError
from batchloop.container.usecase import numeral

NONE = "no"  # MISSING=no: no further text means that there is no value; THOUSANDS=no: digits stand together
NO_GROUP = ("none", NONE)  # GROUP=none: rows are split one by one, whatever they belong to
TYPE = re.compile(
    r'\s*("(?:[^"]|"")+"|[^,]+?)\s*=\s*(number|category|boolean|date|out)\s*(?:\((.*?)\))?\s*(?:,|$)', re.DOTALL
)
CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", NONE: ""}
LISTED = 20  # names in one sentence


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
    def markers(self) -> list[str]:
        """The texts of MISSING, which commas separate; one in quotes may hold a comma."""
        texts = next(csv.reader([self.missing], skipinitialspace=True), [])
        return [] if self.missing.strip() == NONE else [text.strip() for text in texts]


def character(option: str) -> str:
    """The character an option names: itself, or a word where it is hard to type."""
    return CHARACTERS.get(option, option)


def types_option(name: str, kind: str) -> str:
    """TYPES for one column, as a shell takes it."""
    quoted = '"' + name.replace('"', '""') + '"' if name[:1] == '"' or "," in name else name
    return "TYPES=" + shlex.quote(f"{quoted}={kind}")


def missing_option(texts: Iterable[str]) -> str:
    """MISSING for some texts, as a shell takes it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(texts)
    return f"MISSING={shlex.quote(line.getvalue())}"
