"""`make adopt`: look at a table, write the data contract into usecase.toml, say what was decided and why."""

import argparse
import sys
from pathlib import Path

from operations.adopt.wishes import Question
from runtime.failures import InputError


def main(arguments: list[str]) -> int:
    """The command line: 0 adopted, 1 the table can't be used, 2 an option is needed; nothing is written unless 0."""
    from operations.adopt import adopting, wishes  # noqa: PLC0415 - the command line's own help needs no tables

    chosen = _parser().parse_args(arguments)
    try:
        if not chosen.data or not chosen.label:
            raise Question("which table, and which of its columns is to be predicted? Say DATA=file LABEL=column.")
        adopting.adopt(wishes.Wishes(**vars(chosen)))
    except Question as question:
        print(f"question: {question}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    usage = "make adopt DATA=file LABEL=column [ID=column] [TIME=column] [GROUP=column] [TASK=task] [DATES=format] …"
    parser = argparse.ArgumentParser(prog="make adopt", usage=usage, description="Take on your own table.")
    parser.add_argument("--data", type=Path, help="a CSV (also packed) or Parquet file, or a folder")
    parser.add_argument("--label", default="", help="the column to predict")
    parser.add_argument("--id", default="", help="the column that names a row")
    parser.add_argument("--time", default="", help="the column that says when a row happened; splits by it")
    parser.add_argument("--group", default="", help="the column whose rows stay together in the split; none: no column")
    parser.add_argument("--task", default="", choices=["", "binary", "multiclass", "regression"])
    parser.add_argument("--dates", default="", help="the format of dates that could be read two ways: %%d/%%m/%%Y")
    parser.add_argument("--missing", default="", help="texts that mean 'no value', separated by commas; no: none more")
    parser.add_argument("--encoding", default="", help="of CSV files: utf-8, utf-16, windows-1252 …")
    parser.add_argument("--separator", default="", help="between the cells of CSV files; tab for a tab")
    parser.add_argument("--header", default="", choices=["", "yes", "no"], help="no: CSV files begin with data")
    parser.add_argument("--decimal", default="", choices=["", ".", ","], help="the sign before decimals")
    parser.add_argument("--thousands", default="", help="the sign between thousands; space for a blank, no for none")
    parser.add_argument("--types", default="", help="what columns are: code=category,day=date(%%d.%%m.%%Y),note=out …")
    parser.add_argument("--time-zone", default="", help="whose clocks show the hour of moments: Europe/Berlin")
    parser.add_argument("--usecase", type=Path, default=Path("usecase.toml"))
    parser.add_argument("--folder", type=Path, default=Path("data"))
    return parser
