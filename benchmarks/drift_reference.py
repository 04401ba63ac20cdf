"""Measure false alarms of one column against a reference of few rows, as scores are judged by the validation split.

Prints a Markdown table; README.md says how to run it, docs/drift-decision.md what came out.
"""

import argparse
import sys
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from drift_decision import SEED, head, interval, line
from drift_tables import Floats

from batchloop.container import profile
from components.monitoring import drift

REFERENCE = (50, 100, 200, 1_000, 5_000)
ROWS = (200, 3_000, 100_000)
LEVEL, MINIMUM_EFFECT = 0.01, 0.1
LEAVES = 12  # different scores of a model of one small tree
TAIL = 1 / np.arange(1, 1_001)  # categories with shares 1/rank: most are seen once or never
NAMES = np.char.add("v", np.arange(TAIL.size).astype(str))
Draw = Callable[[np.random.Generator, int], pl.Series]


def _scores(random: np.random.Generator, rows: int) -> Floats:
    return random.beta(2, 5, rows)


COLUMNS: Mapping[str, tuple[str, Draw]] = {
    "scores": ("number", lambda random, rows: pl.Series("x", _scores(random, rows))),
    "scores with ties": (
        "number",
        lambda random, rows: pl.Series("x", np.ceil(_scores(random, rows) * LEAVES) / LEAVES),
    ),
    "a class of three": (
        "category",
        lambda random, rows: pl.Series("x", random.choice(NAMES[:3], rows, p=[0.9, 0.09, 0.01])),
    ),
    "1,000 categories": (
        "category",
        lambda random, rows: pl.Series("x", random.choice(NAMES, rows, p=TAIL / TAIL.sum())),
    ),
}


def measure(tries: int) -> None:
    """How often two tables of one distribution are called different, each try with a reference of its own."""
    head("column", "reference", "rows", "tries", "decision", "rate (95 %)", "test alone", "rate (95 %)")
    for title, (kind, draw) in COLUMNS.items():
        for reference in REFERENCE:
            for rows in ROWS:
                random = np.random.default_rng([SEED, list(COLUMNS).index(title), reference, rows])
                found = [_judged(random, draw, kind, (reference, rows)) for _ in range(tries)]
                decided, tested = (sum(one) for one in zip(*found, strict=True))
                cells = (decided, interval(decided, tries), tested, interval(tested, tries))
                line(title, f"{reference:,}", f"{rows:,}", f"{tries:,}", *cells)


def _judged(random: np.random.Generator, draw: Draw, kind: str, rows: tuple[int, int]) -> tuple[bool, bool]:
    """Whether the column has drifted, and whether the test alone says so."""
    before, now = (draw(random, size).to_frame().lazy() for size in rows)
    _, learned = profile.learned(before, {"x": kind}, 20)
    _, counted = profile.count(now, learned)
    effect = drift.effect(np.asarray(learned[0]["counts"], float), counted["x"].counts)
    tested = effect.p_value < LEVEL
    return tested and effect.psi_beyond_chance >= MINIMUM_EFFECT, tested


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tries", type=int, default=400)
    measure(arguments.parse_args().tries)
    return 0


if __name__ == "__main__":
    sys.exit(main())
