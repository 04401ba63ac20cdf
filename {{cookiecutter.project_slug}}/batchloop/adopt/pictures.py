"""Pictures that `make adopt` is given: bytes in a table, files beside one, or a folder for each class.

What is not yet a Parquet table with bytes becomes one, in scratch: the contract reads it wherever it is copied to.
"""

import os
import shlex
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import polars as pl

from batchloop.adopt.profile import Column
from batchloop.adopt.source import Options, Table
from batchloop.container import files, pictures
from batchloop.container.job import InputError
from batchloop.container.usecase import UseCase

SUFFIXES = tuple(suffix for suffixes in pictures.FORMATS.values() for suffix in suffixes)
OTHERS = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif")  # of pictures that can't be read, which the rows say
PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}  # of a split, and no classes
MARKS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")  # how PNG, JPEG and WebP files begin
PART = 1 << 26  # bytes of pictures in a file
LOOKED_AT, MOST = 50, 0.9  # cells that are looked at, and the share of them that have to be pictures
SIZES = (32, 64, 128)  # pixels that are proposed
COLOURFUL, GREYISH = 0.1, 16  # the share of pictures with colours from which all have them; mean saturation to 255


def gathered(options: Options) -> Options:
    """The options, with a table in the place of a folder of pictures. Raises InputError for one without classes."""
    names = ("file", "picture" if options.label != "picture" else "image", options.label)
    data = _of_folder(options.data, names, files.scratch("pictures-") / options.data.resolve().stem)
    return options if data == options.data else replace(options, data=data, id=options.id or "file")


def staged(data: Path, case: UseCase, target: Path, labelled: bool, alone: Collection[str] | None = None) -> Path:
    """The data; at `target` a table in the place of a folder of pictures, or a file with the pictures that it names.

    With the ids that labels are for, `alone`, there are labels and no pictures in it. Raises InputError.
    """
    shutil.rmtree(target, ignore_errors=True)
    images = [column.name for column in case.columns if column.type == "image"]
    if data.is_dir():
        names = (case.data.id or "file", images[0] if alone is None else "", case.data.label if labelled else "")
        return _of_folder(data, names, target, alone or ())
    if alone is None:
        bring(files.scan(data, case.data), case, data.parent, target)
    return Path(shutil.copy2(data, target)).parent if target.exists() else data


def bring(frame: pl.LazyFrame, case: UseCase, folder: Path, target: Path) -> None:
    """Copy the pictures that cells of a table in a folder name; a cell that leads out of it is left to the contract."""
    images = [column.name for column in case.columns if column.type == "image"]
    for name in [one for one, kind in frame.collect_schema().items() if one in images and kind == pl.String]:
        for cell in frame.select(name).collect().to_series().drop_nulls().unique():
            file, copy = pictures.beside(folder, cell), Path(os.path.normpath(pictures.beside(target, cell)))
            inside = copy.is_relative_to(target) and file.resolve().is_relative_to(folder.resolve())
            if inside and file.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, copy)


def _of_folder(folder: Path, names: tuple[str, str, str], target: Path, known: Collection[str] = ()) -> Path:
    """A table of where each picture lies and, if named, itself and its class; or the folder. Raises InputError."""
    if find_spec("PIL") is None or not folder.is_dir():
        return folder
    found, (key, picture, label) = sorted(files.below(folder)), names
    loose = [file for file in found if file.suffix.lower() in (*SUFFIXES, *OTHERS)]
    if not loose or any(file.name.lower().endswith(files.KINDS) and _is_table(file) for file in found):
        return folder
    if not any(file.suffix.lower() in SUFFIXES for file in loose):
        such = f"{folder.name} holds pictures such as {loose[0].name}"
        raise InputError(f"{such}; {pictures.KINDS}: save them as one of these.")
    if label and any(file.parent == folder for file in loose):
        to_do = "put them into a folder for each class, or give a table that names them"
        raise InputError(f"{folder.name} holds pictures and no table; {to_do}.")
    classes = sorted({file.relative_to(folder).parts[0] for file in loose})
    if label and PARTS.issuperset(map(str.lower, classes)):
        to_do = f"give one of them, such as DATA={shlex.quote(str(folder / classes[0]))}: rows are split anew"
        raise InputError(f"{folder.name} holds parts of a split ({', '.join(classes)}) and no classes; {to_do}.")

    whole = [file.relative_to(folder).as_posix() for file in loose]
    ids = whole if picture else _of_labels(folder, whole, known)

    def rows() -> Iterator[dict[str, object]]:
        for file, place, one in zip(loose, whole, ids, strict=True):
            itself = {picture: file.read_bytes()} if picture else {}
            yield {key: one, **itself, **({label: place.partition("/")[0]} if label else {})}

    return _written(rows(), target)


def _of_labels(folder: Path, whole: list[str], known: Collection[str]) -> list[str]:
    """The ids of labels: the places below the classes' folders, or whole ones where only these are `known`."""
    below, first = [place.partition("/")[2] for place in whole], dict[str, str]()
    if not {*below} & {*known} and {*whole} & {*known}:
        return whole
    for one, place in zip(below, whole, strict=True):
        if (other := first.setdefault(one, place)) != place:
            both = f"{folder.name} holds {other} and {place}, two labels of one id, {one}"
            raise InputError(f"{both}: leave it in the folder of its class alone.")
    return below


def _is_table(file: Path) -> bool:
    """Most first lines of a .txt with paths name pictures; those of a readme.txt beside pictures don't."""
    lines = file.read_bytes()[:65536].lower().splitlines()[:LOOKED_AT]
    named = [line for line in lines if any(suffix.encode() in line for suffix in SUFFIXES)]
    return file.suffix.lower() != ".txt" or 2 * len(named) > len(lines)


def embedded(options: Options, table: Table) -> Options:
    """The options, with the same table that has bytes in the place of a column of paths."""
    if find_spec("PIL") is None:
        return options
    folder, schema = table.files[0].parent, table.frame.collect_schema()
    texts = [name for name, kind in schema.items() if kind == pl.String]
    some = table.frame.select(texts).head(LOOKED_AT).collect()
    named = {name: _there(some[name].drop_nulls(), folder) for name in texts}
    found = max(named, key=lambda name: named[name], default="")
    if not found or named[found] < MOST:
        if pl.Binary not in schema.values() and (lost := [name for name in texts if named[name] >= 0]):
            first = f"such as {some[lost[0]].drop_nulls()[0]!r}"
            raise InputError(f"column {lost[0]!r} names pictures that are not in {folder}, {first}; put them there.")
        return options

    def rows() -> Iterator[dict[str, object]]:
        for batch in table.frame.collect_batches(chunk_size=1000, maintain_order=True):
            for row in batch.iter_rows(named=True):
                file = pictures.beside(folder, row[found] or "").resolve()
                inside = file.is_relative_to(folder.resolve()) and file.is_file()
                yield {**row, found: file.read_bytes() if inside else None}

    return replace(options, data=_written(rows(), files.scratch("pictures-") / options.data.resolve().stem))


def _there(cells: pl.Series, folder: Path) -> float:
    """Of cells that name pictures the share that are files below a folder; -1 where most name none."""
    named = [pictures.beside(folder, cell) for cell in cells if cell.lower().strip().endswith(SUFFIXES)]
    return sum(file.is_file() for file in named) / len(named) if named and len(named) >= MOST * len(cells) else -1.0


def _written(rows: Iterable[dict[str, object]], folder: Path) -> Path:
    """Parquet files of a bounded size in a folder that is made."""
    held, size, number = list[dict[str, object]](), 0, 0
    folder.mkdir(parents=True)

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
    apart = max(1, column.rows // LOOKED_AT)  # rows of one class may stand together
    cells = column.table.frame.select(pl.col(column.name).gather_every(apart).drop_nulls()).collect().to_series()
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
