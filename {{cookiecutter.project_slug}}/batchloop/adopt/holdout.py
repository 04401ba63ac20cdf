"""The rows that are kept from training for the first scoring, and the files as data/adopted/ holds them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import polars as pl

from batchloop.adopt.profile import Column, Profile, text
from batchloop.adopt.source import row
from batchloop.container import artifacts, files
from batchloop.container.job import InputError
from batchloop.container.lines import ROW
from batchloop.container.usecase import Data

SHARE = 0.1  # of the rows
MOST = 0.3  # where equal times or large groups would take more, none are kept
FEWEST = 500  # labelled rows; of fewer, training needs every one
ROWS = 100_000  # that a part is held in memory by, at most
WINDOW, PARTS = "adopted", ("train", "production")


@dataclass(frozen=True)
class Holdout:
    """The rows of a file that are `held`, or a tenth at random without it; `words` say which they are."""

    held: pl.Expr | None
    words: str
    reading: Data
    label: str = ""  # of series: the rows are to come, after all others, and their labels come later
    keys: tuple[str, ...] = ()


def choose(profile: Profile, time: str, moment: pl.Expr | None, group: str) -> Holdout | None:
    """The last rows where there is a time, whole groups where there are groups; None where too few would be left."""
    rows, reading, name = profile.label.rows, profile.table.reading, time or group
    if rows < FEWEST:
        return None
    if not name:
        return Holdout(None, "drawn at random", reading)
    column, values = profile.columns[name], list[str]()
    if moment is not None:
        both = column.cells(text=column.text, at=moment)
        late = both.filter(pl.col("at") >= pl.col("at").quantile(1 - SHARE, "higher"))
        values = late.select(pl.col("text").unique()).collect(engine="streaming")["text"].to_list()
    else:  # groups in an order of chance, as many as hold a tenth of the rows; one that is too large is passed over
        counts = dict(column.cells(text=column.text).group_by("text").len().collect().iter_rows())
        held = 0
        for value in sorted(counts, key=lambda value: blake2b(value.encode(), digest_size=8).digest()):
            if held < SHARE * rows and held + counts[value] <= MOST * rows:
                values.append(value)
                held += counts[value]
    (taken,) = row(column.table.frame, column.text.is_in(values).sum())
    words = f"the last by {name!r}" if time else f"of {len(values):,} {name!r}"
    return Holdout(among(column, values), words, reading) if 0 < taken <= MOST * rows else None


def among(column: Column, values: list[str]) -> pl.Expr:
    """Whether a cell of the files is one of these values."""
    return text(column.name, column.markers, column.table.reading.decimal).is_in(values).fill_null(value=False)


def write(found: Sequence[Path], folder: Path, usecase: Path, contract: str, holdout: Holdout | None) -> int:
    """All or nothing; the number of rows kept from training. Raises InputError where it can't be written."""
    written, fresh = usecase.with_suffix(".partial"), not folder.exists()
    try:
        with artifacts.writing(folder) as partial:
            names = [file.name for file in found]
            if len(set(names)) < len(names):
                names = [f"{number:03}-{name}" for number, name in enumerate(names)]
            places = [[partial / WINDOW / part / name for part in PARTS] for name in names]
            rows = sum(cut(file, holdout, paths) for file, paths in zip(found, places, strict=True))
            (partial / "window").write_text(f"{WINDOW}\n", encoding="utf-8")
            written.write_text(contract, encoding="utf-8")
            (partial / "window").replace(folder / "window")
            shutil.rmtree(folder / WINDOW, ignore_errors=True)
        written.replace(usecase)
        return rows
    except OSError as error:
        raise InputError(f"{error.filename or folder} can't be written: {error.strerror}.") from None
    finally:
        written.unlink(missing_ok=True)
        if fresh and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def cut(file: Path, holdout: Holdout | None, paths: Sequence[Path]) -> int:
    """Write a file's rows into two, for training and production; how many the second has. None is without rows.

    Without rows to keep both are copies: a link would let a later write reach the user's own file.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not holdout:
            shutil.copyfile(file, path)
    if not holdout:
        return 0
    frame, name = files.scan(file, holdout.reading), file.name.split(".")[0]  # one draw, whatever kind of file it is
    held = pl.concat_str(pl.lit(name), ROW).hash() < SHARE * 2**64 if holdout.held is None else holdout.held
    rows = 0
    parts = [frame.filter(~held), frame.filter(held)]
    if label := holdout.label:
        later = paths[1].parent.with_name("later") / paths[1].name
        later.parent.mkdir(exist_ok=True)
        to_come = frame.with_columns(pl.when(~held).then(pl.col(label)).alias(label))
        parts, paths = [parts[0], to_come, parts[1].select(*holdout.keys, label, ROW)], [*paths, later]
    for chosen, path in zip(parts, paths, strict=True):
        written = path.with_name(f"{path.name.removesuffix('.parquet')}.parquet")
        chosen.drop(ROW).sink_parquet(written, compression="lz4", row_group_size=ROWS, engine="streaming")
        rows = pl.scan_parquet(written, glob=False).select(pl.len()).collect().item()
        if not rows:
            written.unlink()
    return rows
