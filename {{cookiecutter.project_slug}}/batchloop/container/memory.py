"""Whether the tables of a training, which holds them whole, fit into memory, asked of their files."""

import os
import re
from pathlib import Path

from batchloop.container.job import InputError

SETTING = "MEMORY_LIMIT_MB"  # of the environment: less than the container or the machine has
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # cgroup 2 and 1
MEBIBYTE = 2**20
START, A_ROW, A_CELL, A_COLUMN = 200, 40, 5, 126_000  # MiB, then bytes: tables, bins, histograms (docs/decisions.md)
SAMPLED, SAMPLE, A_SAMPLE = 200_000, 32_000_000, 12  # rows that bins are drawn from, their cells at most, bytes a cell
FREE = 0.75  # of an instance's memory: the rest is the system's, the files' cache and what rows differ in
INSTANCE = re.compile(r"ml\.([cmr])\d\w*\.(?:(\d*)x)?large")
GIB_A_PROCESSOR = {"c": 2, "m": 4, "r": 8}  # "Amazon EC2 instance types"
SIZES = ("large", "xlarge", "2xlarge", "4xlarge", "12xlarge", "24xlarge")
TYPES = [f"ml.{family}5.{size}" for family in "mr" for size in SIZES]


def check(rows: int, columns: int) -> None:
    """Raises InputError where the tables of a training need more memory than there is."""
    sample = A_SAMPLE * min(min(rows, SAMPLED) * columns, SAMPLE)
    need = START + (rows * (A_ROW + A_CELL * columns) + A_COLUMN * columns + sample) / MEBIBYTE
    there = limit()
    if need > there:
        larger = [name for name in TYPES if usable(name) >= need] or ["no ml.m5 or ml.r5"]
        raise InputError(
            f"{rows:,} rows of {columns:,} features need about {need / 1024:.1f} GiB, and {there / 1024:.1f} GiB are "
            f"there; {larger[0]} has room for them ([instances] algorithm type): or learn from fewer rows or columns."
        )


def limit() -> float:
    """MiB that this process may have: the setting's, the container's, or the machine's."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MEBIBYTE]
    texts = [file.read_text(encoding="ascii").strip() for file in LIMITS if file.is_file()]  # a number, or "max"
    found += [int(text) / MEBIBYTE for text in texts if text.isdecimal()]
    return min([*found, float(os.environ.get(SETTING, "inf"))])


def processors(instance: str) -> int:
    """Of an instance type of the families that are known here, else 0."""
    named = INSTANCE.fullmatch(instance)
    return 0 if named is None else 2 if named[2] is None else 4 * int(named[2] or 1)


def usable(instance: str) -> float:
    """MiB of an instance's memory that a job may take, 0 of one that is not known here."""
    named = INSTANCE.fullmatch(instance)
    return FREE * 1024 * processors(instance) * GIB_A_PROCESSOR[named[1]] if named else 0.0
