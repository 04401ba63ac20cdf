"""Measure the monitoring component's drift decision: false alarms, detection, agreement with scipy and with a peer.

Prints Markdown tables; README.md says how to run it, docs/drift-decision.md what came out.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import drift_tables as tables
import drift_verdicts as verdicts
import numpy as np
import polars as pl
from drift_tables import MIXED, POINTS, Shift, Shifts
from drift_verdicts import LEARNED, Known, Verdict, counted, learned, real
from scipy import stats

from components.monitoring import drift

SEED = 11
ROWS = (200, 500, 5_000, 100_000)  # 200 is [drift] minimum_rows
BY_ROWS = dict.fromkeys((5, 30, 100), (10, 20))  # columns: baselines, batches of each
BY_COUNTS = {5: (100, 20), 30: (100, 20), 100: (20, 50)}
ENDLESS = 1e12  # rows


def interval(found: int, of: int) -> str:
    """A share in percent with its 95 % interval (Clopper and Pearson, 1934)."""
    low, high = stats.binomtest(found, of).proportion_ci(0.95, "exact")
    return f"{100 * found / of:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def line(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(*cells: str) -> None:
    print()
    line(*cells)
    line(*["---"] * len(cells))


def alarms(much: Mapping[int, tuple[int, int]], way: Callable[..., Iterator[Verdict]]) -> None:
    """False alarms: batches without drift in which any column drifted, or in which the test alone alarms.

    `much` is columns → baselines, and batches of each. The last column says how many baselines have a batch in which
    the test alone alarms, and in how many of its batches the worst one does: its sampling error is in all of them.
    """
    head("columns", "rows", "batches", "alarms", "rate (95 %)", "test alone", "rate (95 %)", "baselines, worst")
    for columns, (baselines, batches) in much.items():
        for rows in ROWS:
            random = np.random.default_rng([SEED, columns, rows, LEARNED, way is real])
            known = (learned(random, columns) for _ in range(baselines))
            _alarms(columns, rows, [list(way(random, one, rows, batches)) for one in known])


def _alarms(columns: int, rows: int, found: list[list[Verdict]]) -> None:
    """A row of the table from each baseline's verdicts."""
    of = sum(len(one) for one in found)
    both = sum(bool(verdict.drifted) for one in found for verdict in one)
    tests = [sum(bool(verdict.tested) for verdict in one) for one in found]
    cells = (both, interval(both, of), sum(tests), interval(sum(tests), of))
    clustered = f"{sum(test > 0 for test in tests)} of {len(found)}, {max(tests)} of {len(found[0])}"
    line(columns, f"{rows:,}", f"{of:,}", *cells, clustered)


def ways(columns: int, rows: int) -> None:
    """The baselines of a cell of `rows`, one by one: batches of rows and drawn counts; the test alone alarms."""
    head("baseline", "rows", "counts")
    random = np.random.default_rng([SEED, columns, rows, LEARNED, True])
    other = np.random.default_rng([SEED, 5])
    baselines, batches = BY_ROWS[columns]
    for place in range(baselines):
        known = learned(random, columns)
        found = [list(real(random, known, rows, batches)), list(counted(other, known, rows, batches))]
        line(place + 1, *(sum(bool(verdict.tested) for verdict in one) for one in found))


def detection(baselines: int, batches: int) -> None:
    """Share of batches in which the one shifted column of 30 drifted; in brackets: by the test alone.

    The index is what a batch of endless rows would give against LEARNED rows, on the first baseline's bins.
    """
    start = np.random.default_rng([SEED, 2])
    every = [learned(start, 30) for _ in range(baselines)]
    for title, (column, sizes, shift) in POINTS.items():
        head(f"{title} ({column.split('_', maxsplit=1)[0]})", "index", *(f"{rows:,} rows" for rows in ROWS))
        for size in sizes:
            rates = []
            for rows in ROWS:
                random = np.random.default_rng([SEED, rows, list(POINTS).index(title), round(1000 * size)])
                found = [
                    verdict
                    for known in every
                    for verdict in counted(random, known, rows, batches, {column: shift(size)})
                ]
                drifted, tested = (sum(column in getattr(one, how) for one in found) for how in ("drifted", "tested"))
                rates.append(f"{100 * drifted / len(found):.0f} % ({100 * tested / len(found):.0f})")
            line(f"{size:g}", f"{_index(every[0], column, shift(size)):.3f}", *rates)


def _index(known: Known, name: str, shift: Shift) -> float:
    column = next(one for one in known.baseline["columns"] if one["name"] == name)
    counted = LEARNED / 2  # the other half has drawn the bins
    return drift.psi(counted * tables.bin_shares(column), ENDLESS * tables.bin_shares(column, shift))


def agreement(batches: int) -> None:
    """Verdicts a column against scipy's tests: 30 columns, of which 12 have changed."""
    head("rows", "columns that have", "ours", "both", "only ours", "only scipy", "neither", "same verdict")
    for rows in ROWS[1:]:
        random = np.random.default_rng([SEED, 3, rows])
        pairs = []
        for _ in range(batches):
            known = learned(random, 30)
            frame = tables.frame(random, known.frame.columns, rows, MIXED)
            mine = verdicts.ours(known.settings, known.baseline, frame.lazy())
            level = known.settings.drift.significance
            pairs.append((mine, verdicts.scipy_drifted(known.frame, frame, level)))
        for changed in (True, False):
            for how in ("drifted", "tested"):
                names = [name for name in tables.names(30) if (name in MIXED) == changed]
                four = [0, 0, 0, 0]  # neither, only scipy, only ours, both
                for mine, other in pairs:
                    for name in names:
                        four[2 * (name in getattr(mine, how)) + (name in other)] += 1
                same = 100 * (four[0] + four[3]) / sum(four)
                label = {"drifted": "decision", "tested": "test alone"}[how]
                line(f"{rows:,}", "changed" if changed else "not changed", label, *four[::-1], f"{same:.1f} %")


def peers(python: Path, batches: int) -> None:
    """The same batches to the peer: verdicts, and the time of both from a Parquet file to the verdict."""
    verdict = ("batches that alarm: ours", "peer, any column", "peer, whole batch", "same verdict a column")
    head("rows", "batches", *verdict, "seconds a batch: ours", "peer", "ratio")
    for rows in ROWS[1:]:
        for changed in (None, MIXED):
            _beside(python, rows, changed, batches)


def _beside(python: Path, rows: int, changed: Shifts | None, batches: int) -> None:
    random = np.random.default_rng([SEED, 4, rows])
    known = learned(random, 30)
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / f"{number}.parquet" for number in range(batches)]
        known.frame.write_parquet(Path(place) / "baseline.parquet")
        for file in files:
            tables.frame(random, known.frame.columns, rows, changed).write_parquet(file)
        mine = [_timed(known, file) for file in files]
        _row(rows, changed, mine, verdicts.peer(python, Path(place), files)["batches"])


def _timed(known: Known, file: Path) -> tuple[frozenset[str], float]:
    start = time.perf_counter()
    found = verdicts.ours(known.settings, known.baseline, pl.scan_parquet(file))
    return found.drifted, time.perf_counter() - start


def _row(rows: int, changed: Shifts | None, mine: list[tuple[frozenset[str], float]], other: list[Any]) -> None:
    pairs = [(a[0], frozenset(b["drifted"])) for a, b in zip(mine, other, strict=True)]
    same = sum(30 - len(a ^ b) for a, b in pairs) / (30 * len(pairs))
    alarm = [sum(bool(a) for a, _ in pairs), sum(bool(b) for _, b in pairs), sum(one["dataset"] for one in other)]
    ours, peer = median(one[1] for one in mine), median(one["seconds"] for one in other)
    label = f"{len(pairs)} {'with drift' if changed else 'without'}"
    line(f"{rows:,}", label, *alarm, f"{100 * same:.1f} %", f"{ours:.3f}", f"{peer:.3f}", f"1 : {peer / ours:.0f}")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("part", choices=["rows", "counts", "ways", "detection", "scipy", "peer"])
    arguments.add_argument("--peer-python", type=Path, help="the interpreter of an environment that holds evidently")
    chosen = arguments.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "rows": lambda: alarms(BY_ROWS, real),
        "counts": lambda: alarms(BY_COUNTS, counted),
        "ways": lambda: ways(30, 100_000),
        "detection": lambda: detection(10, 10),
        "scipy": lambda: agreement(50),
        "peer": lambda: peers(chosen.peer_python, 6),
    }
    parts[chosen.part]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
