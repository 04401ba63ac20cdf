"""Measure the performance that is estimated without labels: false alarms, coverage of its limits, detection.

Prints Markdown tables; README.md says how to run it, docs/performance-estimate.md what came out.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import estimate_scores as scores
import numpy as np
import polars as pl
from drift_decision import head, interval, line
from estimate_scores import World

from batchloop.container import measures, metrics, performance

SEED = 13
LEVEL, DROP, MINIMUM = 0.01, 0.05, 200  # [drift] significance, performance_drop, minimum_rows as shipped
ROWS, BATCHES, RARE = (50, 100, 200, 500, 1_500, 5_000, 100_000), (200, 2_000, 20_000), (0.5, 0.1, 0.02)
WRONG = {"too sure": {"bent": "too sure"}, "bent": {"bent": "bent"}, "picked": {"picked": True}}


@dataclass(frozen=True)
class Cell:
    """One setting: its world, rows of the validation split and of a batch, and how often it is tried."""

    world: World
    rows: int
    batch: int
    tries: int

    def draws(self) -> Iterable[tuple[pl.DataFrame, pl.DataFrame]]:
        """A validation split and a batch without drift for each try."""
        place = [SEED, self.rows, self.batch, len(self.world.shares), round(1000 * self.world.shares[-1])]
        for number in range(self.tries):
            random = np.random.default_rng([*place, list(scores.SHARPNESS).index(self.world.sharpness), number])
            yield scores.validation(self.world, random, self.rows), scores.batch(self.world, random, self.batch)


def learned(world: World, metric: str, frame: pl.DataFrame, minimum: int) -> dict[str, Any]:
    """What train mode keeps, through JSON as in an artifact."""
    said = {"metric": metric, "threshold": 0.5, "validation": {}}
    found: dict[str, Any] = json.loads(
        json.dumps(performance.learned(scores.case(world, metric, minimum), frame.lazy(), said))
    )
    return found


def alarms(world: World, known: Mapping[str, Any], frame: pl.DataFrame, only: str = "") -> set[str]:
    """The metrics that would alarm, were they the gate's: performance.estimated for each of them at once, or for one.

    The limits that it draws for people are left out, but where they decide.
    """
    validation = performance.reference(known)
    counted = performance.count(frame.lazy(), list(known["cells"]), known["threshold"])
    modes = {name: one.weights[None] for name, one in validation.calibrations.items()}
    now, before = (validation.hits(each, modes) for each in (counted, validation.cells))
    parts, found = (known["sample"], performance.sample_of_batch(known, frame.lazy(), len(frame))), set()
    for name, metric in measures.METRICS[world.task].items():
        drop = metrics.lead(name, metric(validation.cells, before), metric(counted, now))[0]
        if (
            only in ("", name)
            and drop > DROP
            and 2 * performance.p_value((world.task, name), validation, parts, LEVEL) < LEVEL
        ):
            found.add(name)
    if found:
        doubt = performance.expected(world.task, counted, validation)
        found = {name for name in found if 2 * doubt[name].doubt < LEVEL}
    return found


def false_alarms(title: str, some: Iterable[Cell], minimum: int = MINIMUM) -> None:
    """Alarms without drift, a metric a column: of all cells with a number of validation rows, and in the worst one."""
    every = list(some)
    names = list(measures.METRICS[every[0].world.task])
    head(title, "validation rows", "batches judged", *names, "worst cell")
    for share, rows in dict.fromkeys((cell.world.shares[-1], cell.rows) for cell in every):
        tries, total, worst = 0, dict.fromkeys(names, 0), (0.0, "none")
        for cell in (one for one in every if (one.world.shares[-1], one.rows) == (share, rows)):
            judged, found = _alarms_of(cell, minimum)
            tries += judged
            for name, count in found.items():
                total[name] += count
                said = f"{name}, {cell.world.sharpness}, {cell.batch:,} rows: {count} of {judged}"
                worst = max(worst, (count / judged if judged and count else 0.0, said if count else "none"))
        rates = [f"{count}: {interval(count, tries)}" if tries else "not known" for count in total.values()]
        line(f"{share:.3g}", f"{rows:,}", f"{tries:,}", *rates, worst[1])


def _alarms_of(cell: Cell, minimum: int) -> tuple[int, dict[str, int]]:
    """How many tries had an estimate, and how many of those alarmed by each metric."""
    judged, found = 0, dict.fromkeys(measures.METRICS[cell.world.task], 0)
    for before, now in cell.draws():
        known = learned(cell.world, "log_loss", before, minimum)
        if "cells" in known:
            judged += 1
            for name in alarms(cell.world, known, now):
                found[name] += 1
    return judged, found


def grid(classes: int, rare: Iterable[float], rows: Iterable[int], batches: Iterable[int], tries: int) -> list[Cell]:
    """Cells of every sharpness."""
    return [
        Cell(World(scores.shares(classes, share), sharpness), size, batch, tries)
        for share, size, sharpness, batch in product(rare, rows, scores.SHARPNESS, batches)
    ]


def wrong(how: str, classes: int, tries: int) -> list[Cell]:
    """Cells in which scores are no chances."""
    found = grid(classes, (0.5, 0.1), (200, 1_500), (200, 2_000), tries)
    return [replace(cell, world=replace(cell.world, **WRONG[how])) for cell in found]


def coverage(title: str, some: Iterable[Cell]) -> None:
    """How often the 95 % limits held what the labels gave."""
    every = list(some)
    names = list(measures.METRICS[every[0].world.task])
    head(title, "sharpness", "validation rows", "tries", *names)
    for cell in every:
        inside, tries = dict.fromkeys(names, 0), 0
        for before, now in cell.draws():
            known = learned(cell.world, "log_loss", before, MINIMUM)
            if "cells" not in known:
                continue
            tries += 1
            counted = performance.count(now.lazy(), list(known["cells"]), known["threshold"])
            found = performance.expected(cell.world.task, counted, performance.reference(known))
            for name, value in scores.measured(cell.world, now).items():
                inside[name] += found[name].low - 1e-9 <= value <= found[name].high + 1e-9
        rates = [f"{100 * count / tries:.1f} %" if tries else "not known" for count in inside.values()]
        line(f"{cell.world.shares[-1]:.3g}", cell.world.sharpness, f"{cell.rows:,}", tries, *rates)


def detection(tries: int) -> None:
    """Share of batches that alarm, where the metric is worse by so many times [drift] performance_drop."""
    head("task", "metric", "validation rows", "batch", *(f"{times}× the drop" for times in (1, 2, 4)))
    for classes, wanted in ((2, ("auc", "log_loss", "accuracy", "f1")), (3, ("log_loss", "accuracy"))):
        world = World(scores.shares(classes, 0.5 if classes > 2 else 0.3), "fair" if classes == 2 else "sharp")
        for metric, rows, batch in product(wanted, (200, 1_500), BATCHES):
            rates = []
            for times in (1, 2, 4):
                shifted = scores.harder(world, metric, times * DROP)
                rates.append(_detected(Cell(world, rows, batch, tries), metric, shifted) if shifted else "none so hard")
            line(f"{classes} classes", metric, f"{rows:,}", f"{batch:,}", *rates)


def _detected(cell: Cell, metric: str, shifted: World) -> str:
    found = 0
    for number, (before, _) in enumerate(cell.draws()):
        now = scores.batch(shifted, np.random.default_rng([SEED, 1, number]), cell.batch)
        found += metric in alarms(cell.world, learned(cell.world, metric, before, MINIMUM), now, metric)
    return f"{100 * found / cell.tries:.0f} %"


def _covered(classes: int, rare: Iterable[float], tries: int, how: str = "") -> list[Cell]:
    found = grid(classes, rare, (200, 1_500, 5_000), (2_000,), tries)
    return [replace(cell, world=replace(cell.world, **WRONG.get(how, {}))) for cell in found]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    several: tuple[Any, ...] = ((0.5, 0.1), (200, 1_500, 5_000), (200, 2_000), 100)
    parts: dict[str, Callable[[], None]] = {
        "binary": lambda: false_alarms("positive share", grid(2, RARE, ROWS[2:], BATCHES, 100)),
        "few": lambda: false_alarms("positive share, all judged", grid(2, RARE[:2], ROWS[:2], BATCHES[:2], 200), 1),
        "three": lambda: false_alarms("share of the last of 3 classes", grid(3, *several)),
        "ten": lambda: false_alarms("share of the last of 10 classes", grid(10, *several[:3], 30)),
        **{how: lambda how=how: false_alarms(f"{how}, positive share", wrong(how, 2, 100)) for how in WRONG},
        "coverage": lambda: coverage("positive share", _covered(2, RARE, 100)),
        "wrong": lambda: [coverage(how, _covered(2, (0.5,), 100, how)) for how in WRONG] and None,
        "classes": lambda: [coverage(f"{of} classes", _covered(of, (0.5, 0.1), 60)) for of in (3, 10)] and None,
        "detection": lambda: detection(40),
    }
    arguments.add_argument("part", choices=[*parts, "all"])
    chosen = arguments.parse_args().part
    for part in parts if chosen == "all" else (chosen,):
        parts[part]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
