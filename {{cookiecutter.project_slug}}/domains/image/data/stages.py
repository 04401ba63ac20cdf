"""The sample in stages, for `make simulate`: `python -m data.stages --output folder` writes <stage>/{train,production}.

The stages of the simulation that was published with the system ("End-to-End MLOps on AWS", part 2.2), on as many
pictures: the camera is changed from stage to stage, the shapes are not. The new pictures keep their labels: scoring
ignores a column that the contract does not name, and the simulation measures by it what the predictions were worth.
"""

import argparse
from pathlib import Path

from data.sample import Shift, pictures

# name → how the pictures are taken, and what that means, in words
STAGES = {
    "1-original": (Shift(), "as they were when the first model was trained"),
    "2-flip": (Shift(flip=0.5), "half of the pictures are mirrored"),
    "3-rotate": (Shift(turn=22), "the camera hangs crooked: all pictures are turned by 22 degrees"),
    "4-both": (Shift(turn=22, flip=0.5), "turned, and half of them mirrored"),
    "5-blur": (Shift(turn=25, blur=1.5), "out of focus, and turned by 3 degrees more"),
    "6-blur-rotate": (Shift(turn=30, blur=1.5), "out of focus, and turned by 8 degrees more"),
    "7-noisy": (Shift(turn=25, blur=1.5, noise=4), "out of focus, with a little more noise"),
}
ABOUT = "about.txt"
# what make simulate prints below its own table
PUBLISHED = """\
published  drift FALSE FALSE TRUE FALSE TRUE FALSE FALSE; accuracy on stage 3 0.928 before, 1.000 after retraining
           of other pictures, by a test whose inputs are not said. Here stage 7 is drift too, since the measure of
           sharpness moves with a little noise on pictures out of focus.
"""
ROWS, NEW = 442, 42  # of the published sets: 408 and 34 to learn from, 42 to judge by


def write(folder: Path, rows: int, seed: int) -> None:
    """Each stage's labelled pictures to learn from, about a tenth as many new ones, and what it is in words."""
    first = 1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABOUT).write_text(PUBLISHED, encoding="utf-8")
    for place, (name, (shift, words)) in enumerate(STAGES.items()):
        for part, count in (("train", rows), ("production", max(1, round(rows * NEW / ROWS)))):
            target = folder / name / part / "pictures.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            draw = seed + 2 * place + (part == "production")
            pictures(count, draw, shift, first).write_parquet(target)
            first += count
        (folder / name / ABOUT).write_text(f"{words}\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.stages", description="Write the sample in stages.")
    parser.add_argument("--rows", type=int, default=ROWS, help="labelled pictures a stage")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, required=True, help="a folder, which gets one for each stage")
    options = parser.parse_args()
    if options.rows < 2 or options.seed < 0:
        parser.error("--rows must be 2 or more, --seed 0 or more")
    write(options.output, options.rows, options.seed)


if __name__ == "__main__":
    main()
