"""The sample in stages, for `make simulate`: `python -m data.stages --output folder` writes <stage>/{train,production}.

What the customers are like and why they leave moves further from stage to stage; then their records are noisy, and then
everything is as it was. Unlike `data.sample`, the new rows keep their labels: scoring ignores a column that the
contract does not name, and the simulation measures by it what the predictions were worth.
"""

import argparse
from pathlib import Path

from data.sample import Shift, customers

# name → how far the table has moved, and what that means, in words
STAGES = {
    "0-original": (Shift(), "as it was when the first model was trained"),
    "1-gaps": (Shift(gaps=0.04), "4 % more of what customers used and of their logins is missing"),
    "2-prices": (
        Shift(drift=0.04, gaps=0.04, concept=0.1),
        "prices begin to rise, the first customers pay by wallet, high charges begin to drive them away",
    ),
    "3-wallet": (
        Shift(drift=0.45, gaps=0.04, categories=0.05, concept=0.7),
        "every fifth customer pays by wallet, prices are up by a sixth, and they are now the main reason to leave",
    ),
    "4-onward": (Shift(drift=0.5, gaps=0.07, categories=0.05, concept=0.75), "a little further the same way"),
    "5-upheaval": (
        Shift(drift=0.9, gaps=0.2, categories=0.2, concept=1.0),
        "twice as far: younger customers, half of them pay by wallet, a fifth more is missing; calls no longer matter",
    ),
    "6-noisy": (
        Shift(drift=0.9, gaps=0.2, categories=0.2, concept=1.0, noise=0.25),
        "the same customers, a quarter of whose cells have changed places: each column looks as before and says less",
    ),
    "7-original": (Shift(), "everything is as it was at first"),
}
ABOUT = "about.txt"


def write(folder: Path, rows: int, seed: int) -> None:
    """Each stage's labelled rows to learn from, half as many new ones, and what it is in words."""
    first = 1
    for place, (name, (shift, words)) in enumerate(STAGES.items()):
        for part, count in (("train", rows), ("production", rows // 2)):
            target = folder / name / part / "customers.csv"
            target.parent.mkdir(parents=True, exist_ok=True)
            draw = seed + 2 * place + (part == "production")
            customers(count, draw, shift, first).write_csv(target)
            first += count
        (folder / name / ABOUT).write_text(f"{words}\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.stages", description="Write the sample in stages.")
    parser.add_argument("--rows", type=int, default=4000, help="labelled rows a stage; half as many new ones")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, required=True, help="a folder, which gets one for each stage")
    options = parser.parse_args()
    if options.rows < 2 or options.seed < 0:
        parser.error("--rows must be 2 or more, --seed 0 or more")
    write(options.output, options.rows, options.seed)


if __name__ == "__main__":
    main()
