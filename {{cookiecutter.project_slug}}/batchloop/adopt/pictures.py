"""Pictures that `make adopt` is given: bytes in a table, files beside one, or a folder for each class.

What is not yet a Parquet table with bytes becomes one, in scratch: the contract reads it wherever it is copied to.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import polars as pl

from batchloop.adopt.profile import Column
from batchloop.adopt.source import Options, Table
from batchloop.container import files, pictures
from batchloop.container.job import InputError

SUFFIXES = tuple(suffix for suffixes in pictures.FORMATS.values() for suffix in suffixes)
MARKS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")  # how PNG, JPEG and WebP files begin
PART = 1 << 26  # bytes of pictures in a file
LOOKED_AT, MOST = 50, 0.9  # cells that are looked at, and the share of them that have to be pictures
SIZES = (32, 64, 128)  # pixels that are proposed
COLOURFUL, GREYISH = 0.1, 16  # the share of pictures with colours from which all have them; mean saturation to 255


def gathered(options: Options) -> Options:
    """The options, with a table in the place of a folder that holds nothing but a folder of pictures for each class.

    Raises InputError for pictures that lie in none.
    """
    folder = options.data
    if find_spec("PIL") is None or not folder.is_dir():
        return options
    found = sorted(files.below(folder))
    loose = [file for file in found if file.suffix.lower() in SUFFIXES]
    if not loose or any(file.name.lower().endswith(files.KINDS) for file in found):
        return options
    if any(file.parent == folder for file in loose):
        to_do = "put them into a folder for each class, or give a table that names them"
        raise InputError(f"{folder.name} holds pictures and no table; {to_do}.")

    def rows() -> Iterator[dict[str, object]]:
        for file in loose:
            place = file.relative_to(folder)
            yield {"file": place.as_posix(), "picture": file.read_bytes(), options.label: place.parts[0]}

    return replace(options, data=_written(rows()))


def embedded(options: Options, table: Table) -> Options:
    """The options, with the same table that has bytes in the place of a column of paths, where there is one."""
    if find_spec("PIL") is None:
        return options
    folder = table.files[0].parent
    texts = [name for name, kind in table.frame.collect_schema().items() if kind == pl.String]
    some = table.frame.select(texts).head(LOOKED_AT).collect()
    found = next((name for name in texts if _are_paths(some[name].drop_nulls(), folder)), "")
    if not found:
        return options

    def rows() -> Iterator[dict[str, object]]:
        for batch in table.frame.collect_batches(chunk_size=1000, maintain_order=True):
            for row in batch.iter_rows(named=True):
                file = (folder / (row[found] or "").strip()).resolve()
                inside = file.is_relative_to(folder.resolve()) and file.is_file()
                yield {**row, found: file.read_bytes() if inside else None}

    return replace(options, data=_written(rows()))


def _are_paths(cells: pl.Series, folder: Path) -> bool:
    """Whether nearly all cells are files of pictures below a folder."""
    there = [text.lower().strip().endswith(SUFFIXES) and (folder / text.strip()).is_file() for text in cells]
    return bool(there) and sum(there) >= MOST * len(there)


def _written(rows: Iterable[dict[str, object]]) -> Path:
    """Parquet files of a bounded size."""
    folder, held, size, number = files.scratch("pictures-"), list[dict[str, object]](), 0, 0

    def write() -> None:
        pl.DataFrame(held, infer_schema_length=None).write_parquet(folder / f"pictures-{number:05d}.parquet")

    for row in rows:
        held.append(row)
        size += sum(len(cell) for cell in row.values() if isinstance(cell, bytes))
        if size > PART:
            write()
            held, size, number = [], 0, number + 1
    if held:
        write()
    return folder


def proposed(column: Column) -> tuple[str, str] | None:
    """What a column of bytes becomes, and why: "size = 64, colour = true"; None where it holds no pictures."""
    if column.kind != pl.Binary or find_spec("PIL") is None:
        return None
    cells = column.table.frame.select(pl.col(column.name).drop_nulls()).head(LOOKED_AT).collect().to_series()
    if not len(cells) or sum(cell.startswith(MARKS) for cell in cells) < MOST * len(cells):
        return None
    from PIL import Image, ImageStat  # noqa: PLC0415 - only where there are pictures

    sides, coloured = list[int](), 0
    for cell in cells:
        try:
            with Image.open(BytesIO(cell)) as image:
                sides.append(min(image.size))
                _, saturation, _ = ImageStat.Stat(image.convert("RGB").resize((32, 32)).convert("HSV")).mean
                coloured += saturation > GREYISH
        except (OSError, ValueError):
            continue
    middle = sorted(sides)[len(sides) // 2] if sides else SIZES[0]
    size = next((size for size in SIZES if middle <= 1.5 * size), SIZES[-1])
    colour = coloured > COLOURFUL * len(sides)
    why = f"pictures of about {middle} pixels{', in colour' if colour else ''}"
    return f"size = {size}{', colour = true' if colour else ''}", why
