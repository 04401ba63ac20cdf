"""Pictures of a raw column (PNG, JPEG, WebP: bytes, or a path): decoded once, and stretched to one size.

Transparent parts become white, 16 bits a channel 8, CMYK RGB, and a photo is turned as its EXIF orientation says.
"""

import io
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from batchloop.container.batches import BESIDE
from batchloop.container.job import InputError
from batchloop.container.usecase import Column

LARGEST = 1 << 26  # pixels that are decoded: a small file can ask for any amount of memory
FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "WEBP": (".webp",)}
KINDS = "PNG, JPEG and WebP are read"
CELL = pl.Struct({"width": pl.UInt32, "height": pl.UInt32, "pixels": pl.Binary})  # before and after it was resized
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: those on their side
BY_HALVES = 2  # a JPEG is decoded at no less than so many times the size that is asked for
Picture = tuple[int, int, bytes]


def parse(cells: pl.Series, column: Column, missing: Collection[str]) -> tuple[pl.Series, pl.Series | None]:
    """Pictures as CELL, and why each other can't be used, or None. Raises InputError for a column without pictures."""
    if isinstance(cells.dtype, pl.Struct) and "bytes" in {field.name for field in cells.dtype.fields}:
        cells = cells.struct.field("bytes")  # as Hugging Face's datasets write them, with a path beside
    if cells.dtype not in (pl.Binary, pl.String, pl.Null):
        held = f"column {column.name!r} holds values of type {cells.dtype}"
        raise InputError(f"{held}; a picture is the bytes of a file, or its path in the table's folder.")
    if find_spec("PIL") is None:
        what = 'which this image lacks; write decoding = ["numpy", "pillow"] into pyproject.toml and say make lock'
        raise InputError(f"column {column.name!r}: pictures are read with Pillow, {what}.")
    found, names = [_picture(cell, column, missing) for cell in cells], tuple(CELL.to_schema())
    typed = [dict(zip(names, one, strict=True)) if isinstance(one, tuple) else None for one in found]
    reasons = pl.Series([one if isinstance(one, str) else None for one in found], dtype=pl.String)
    return pl.Series(cells.name, typed, CELL), reasons if reasons.count() else None


def _picture(cell: bytes | str | None, column: Column, missing: Collection[str]) -> Picture | str:
    """A picture, or why it is none."""
    if isinstance(cell, bytes):
        return decoded(cell, column) if cell else "the picture is empty (0 bytes)"
    folder, _, name = (cell or "").partition(BESIDE)
    if name.strip() in missing:
        return "there is no picture"
    file, shown = beside(Path(folder), name).resolve(), f"'{name.strip()[-60:]}'"
    if not file.is_relative_to(Path(folder).resolve()):
        return f"{shown} leads out of the table's folder"
    if not file.is_file():
        return f"{shown} is no file in the table's folder"
    if not file.stat().st_size:
        return f"{shown} is empty (0 bytes)"
    found = decoded(file, column)
    return f"{shown}: {found}" if isinstance(found, str) else found


def beside(folder: Path, cell: str) -> Path:
    """The file that a cell of a table in a folder names; Windows writes backslashes."""
    return folder / cell.strip().replace("\\", "/")


def decoded(source: bytes | Path, column: Column) -> Picture | str:
    """Width and height as they were, and the pixels as the column wants them, a byte a channel; or why not."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - only where the contract has pictures

    Image.MAX_IMAGE_PIXELS = None  # LARGEST is asked of the header, and said in words
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=(*FORMATS,)) as image:
            if problem := _problem(image, source):
                return problem
            sides = image.size
            turned = image.getexif().get(ORIENTATION, 1) in TURNED
            return (*(sides[::-1] if turned else sides), _resized(image, column))
    except UnidentifiedImageError:
        return f"it is no picture that can be read; {KINDS}"
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, IndexError, TypeError) as error:
        return f"the picture is truncated or damaged ({' '.join(str(error).split())[:80]})"


def _problem(image: Any, source: bytes | Path) -> str:
    """What its header and its name say against a picture."""
    kind = "JPEG" if image.format == "MPO" else image.format  # a photo with others behind it, as phones make them
    width, height = image.size
    if isinstance(source, Path) and source.suffix and source.suffix.lower() not in FORMATS[kind]:
        return f"it is a {kind} picture, whatever its name says; rename it"
    if width * height > LARGEST:
        return f"it has {width:,} × {height:,} pixels; up to {LARGEST:,} are decoded: make it smaller"
    if image.format != "MPO" and getattr(image, "is_animated", False):
        return f"it is a film of {image.n_frames} pictures; give one of them"
    return ""


def _resized(image: Any, column: Column) -> bytes:
    """Upright, on white, of the column's size and channels."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - as above

    mode, sides = "RGB" if column.colour else "L", (column.size, column.size)
    if image.format in ("JPEG", "MPO"):
        image.draft(mode, (BY_HALVES * column.size, BY_HALVES * column.size))
    plain = ImageOps.exif_transpose(image)
    if plain.mode.startswith(("I", "F")):  # 16 bits: the upper ones, where converting would cut off all above 255
        import numpy as np  # noqa: PLC0415 - only for such pictures

        plain = Image.fromarray(np.clip(np.asarray(plain).astype(np.int64) >> 8, 0, 255).astype(np.uint8))
    if plain.has_transparency_data:
        white = Image.new("RGBA", plain.size, "white")
        white.alpha_composite(plain.convert("RGBA"))
        plain = white.convert("RGB")
    plain = plain if plain.mode == mode else plain.convert(mode)
    if plain.size != sides:
        plain = plain.resize(sides, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return bytes(plain.tobytes())
