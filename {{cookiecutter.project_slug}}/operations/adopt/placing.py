"""Putting what was decided into place: the tables under data/adopted/, the contract into usecase.toml."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from operations.adopt import aside
from operations.adopt.aside import Aside
from runtime.failures import InputError

WINDOW, PARTS = "adopted", ("train", "production")


def place(found: Sequence[Path], folder: Path, usecase: Path, text: str, kept: Aside | None) -> int:
    """All or nothing: everything is written beside its place first, and only then moved. The rows kept aside.

    Raises InputError where it can't be written, a full disk for example.
    """
    partial, contract, window = folder / f".{WINDOW}", usecase.with_suffix(".partial"), folder / ".window"
    fresh = not folder.exists()
    try:
        rows = _copy(found, partial, kept)
        contract.write_text(text, encoding="utf-8")
        window.write_text(f"{WINDOW}\n", encoding="utf-8")
        window.replace(folder / "window")
        shutil.rmtree(folder / WINDOW, ignore_errors=True)
        partial.replace(folder / WINDOW)
        contract.replace(usecase)
        return rows
    except OSError as error:
        raise InputError(f"{error.filename or folder} can't be written: {error.strerror}.") from None
    finally:
        for file in (contract, *([window] if folder.is_dir() else [])):
            file.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        if fresh and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _copy(found: Sequence[Path], partial: Path, kept: Aside | None) -> int:
    """The files as train/ and production/: a link would let a later write reach the user's own file."""
    unique, rows = len({file.name for file in found}) == len(found), 0
    shutil.rmtree(partial, ignore_errors=True)
    for part in PARTS:
        (partial / part).mkdir(parents=True)
    for number, file in enumerate(found):
        train, production = (partial / part / (file.name if unique else f"{number:03}-{file.name}") for part in PARTS)
        if kept:
            rows += aside.cut(file, kept, train, production)
        else:
            shutil.copyfile(file, train)
            shutil.copyfile(file, production)
    return rows
