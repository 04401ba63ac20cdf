"""`make adopt`: look at a table, write the data contract into usecase.toml, say what was decided and why."""

import argparse
import sys
from pathlib import Path

from runtime.failures import InputError


class Question(Exception):
    """Something the table does not tell: the message names the option that does."""


def main(arguments: list[str]) -> int:
    """The command line: 0 adopted, 1 the table can't be used, 2 an option is needed; nothing is written unless 0."""
    from operations.adopt import adopting  # noqa: PLC0415 - the command line's own help needs no tables

    usage = "make adopt DATA=file LABEL=column [ID=column] [TIME=column] [TASK=task] [DATES=format]"
    parser = argparse.ArgumentParser(prog="make adopt", usage=usage, description="Take on your own table.")
    parser.add_argument("--data", type=Path, help="a CSV (also gzipped) or Parquet file, or a folder")
    parser.add_argument("--label", default="", help="the column to predict")
    parser.add_argument("--id", default="", help="the column that names a row")
    parser.add_argument("--time", default="", help="the column that says when a row happened; splits by it")
    parser.add_argument("--task", default="", choices=["", "binary", "multiclass", "regression"])
    parser.add_argument("--dates", default="", help="the format of dates that could be read two ways: %%d/%%m/%%Y")
    parser.add_argument("--usecase", type=Path, default=Path("usecase.toml"))
    parser.add_argument("--folder", type=Path, default=Path("data"))
    chosen = parser.parse_args(arguments)
    try:
        if not chosen.data or not chosen.label:
            raise Question("which table, and which of its columns is to be predicted? Say DATA=file LABEL=column.")
        adopting.adopt(adopting.Wishes(**vars(chosen)))
    except Question as question:
        print(f"question: {question}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
