"""The sample in stages, for `make simulate`: `python -m data.stages --output folder` writes <stage>/{train,production}.

The same stores, half a year later each time. A window has the past of half a year and a fortnight to come, whose labels
lie in labels/; train/ has all of it with labels.
"""

import argparse
from pathlib import Path

import polars as pl

from data.sample import Shift, parts, sales

STEP = 182  # days from one stage to the next, and of a window's past
FIRST = 2  # steps before the first stage: seasons of a whole year are learned
# name → how far the days since the stage before have moved, and what that means, in words
STAGES = {
    "0-original": (Shift(), "as it was when the first model was trained"),
    "1-onward": (Shift(), "half a year later: another season, and nothing else has changed"),
    "2-promotions": (Shift(promotions=1.0), "there are three times as many promotions, and they no longer sell more"),
    "3-onward": (Shift(promotions=1.0), "half a year later, the same way"),
    "4-original": (Shift(), "everything is as it was at first"),
}
ABOUT = "about.txt"


def write(folder: Path, rows: int, seed: int) -> None:
    """Each stage's rows to learn from, those to forecast, their labels, and what it is in words."""
    stores, shifts = max(3, rows // STEP), dict[int, Shift]()
    for place, (name, (shift, words)) in enumerate(STAGES.items()):
        end = (FIRST + place) * STEP
        shifts[end - STEP] = shift
        window = parts(stores, end, seed, shifts, STEP)
        learned = sales(stores, end, seed, shifts)
        if place:
            learned = learned.filter(pl.col("day") >= window["production"]["day"].min())
        tables = {"train": learned, "production": window["production"], "labels": window["later"]}
        for part, table in tables.items():
            target = folder / name / part / "sales.csv"
            target.parent.mkdir(parents=True, exist_ok=True)
            table.write_csv(target)
        (folder / name / ABOUT).write_text(f"{words}\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.stages", description="Write the sample in stages.")
    parser.add_argument("--rows", type=int, default=4000, help="rows a stage, about")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, required=True, help="a folder, which gets one for each stage")
    options = parser.parse_args()
    if options.rows < 2 or options.seed < 0:
        parser.error("--rows must be 2 or more, --seed 0 or more")
    write(options.output, options.rows, options.seed)


if __name__ == "__main__":
    main()
