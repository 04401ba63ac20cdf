"""The sample: drawn shapes, and which each is. `python -m data.sample --output data/sample`.

Seeded: the same arguments give the same pictures. Six classes, drawn light on dark or dark on light, each a little
turned, moved and scaled. `drift` moves how the pictures are taken (0: not at all, 1: strongly): crooked, blurred and
noisy; data/stages.py puts these together one by one.
"""

import argparse
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

SHAPES = ("arrow", "circle", "cross", "heart", "square", "triangle")
SIZE, FINE = 48, 4  # pixels of a picture, and how much finer it is drawn
TURN = 12.0  # degrees to either side
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Shift:
    """How pictures are taken: degrees, radius in pixels, standard deviation of grey values, share of mirrored ones."""

    turn: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    flip: float = 0.0


def pictures(rows: int, seed: int, shift: Shift = Shift(), first: int = 1) -> pl.DataFrame:
    """A labelled table of `rows` pictures as PNG, numbered from `first`."""
    random = np.random.default_rng(seed)
    shapes = random.permutation(np.arange(rows) % len(SHAPES))
    return pl.DataFrame(
        {
            "picture_id": [f"P{number:06d}" for number in range(first, first + rows)],
            "picture": [_png(SHAPES[shape], random, shift) for shape in shapes],
            "shape": [SHAPES[shape] for shape in shapes],
        }
    )


def _png(shape: str, random: Generator, shift: Shift) -> bytes:
    """One picture; the same numbers are drawn whatever the shift is."""
    angle = math.radians(random.uniform(-TURN, TURN) + shift.turn)
    scale, move = random.uniform(0.55, 0.8), random.uniform(-0.12, 0.12, 2)
    dark, light = random.uniform(20, 90), random.uniform(150, 235)
    back, front = (dark, light) if random.random() < 0.7 else (light, dark)
    mirrored = random.random() < shift.flip
    grain = random.normal(0, 1, (SIZE, SIZE))
    side = SIZE * FINE
    picture = Image.new("L", (side, side), round(back))

    def place(x: float, y: float) -> tuple[float, float]:
        x, y = scale * (-x if mirrored else x), scale * y
        x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
        return (1 + x + move[0]) * side / 2, (1 + y + move[1]) * side / 2

    ImageDraw.Draw(picture).polygon([place(x, y) for x, y in OUTLINES[shape]()], fill=round(front))
    small = picture.resize((SIZE, SIZE), Image.Resampling.BOX)
    if shift.blur:
        small = small.filter(ImageFilter.GaussianBlur(shift.blur))
    values = np.asarray(small, dtype=np.float64) + (4 + shift.noise) * grain
    target = io.BytesIO()
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(target, "PNG")
    return target.getvalue()


def _circle() -> Points:
    return [(math.cos(turn), math.sin(turn)) for turn in np.linspace(0, 2 * math.pi, 60).tolist()]


def _heart() -> Points:
    turns = np.linspace(0, 2 * math.pi, 60).tolist()
    down = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
    return [(math.sin(turn) ** 3, -y / 16) for turn, y in zip(turns, down, strict=True)]


def _cross() -> Points:
    a, b = 0.32, 0.95
    return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]


OUTLINES: dict[str, Callable[[], Points]] = {
    "arrow": lambda: [(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)],
    "circle": _circle,
    "cross": _cross,
    "heart": _heart,
    "square": lambda: [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": lambda: [(0, -0.95), (0.95, 0.75), (-0.95, 0.75)],
}


def write(folder: Path, rows: int, seed: int, shift: Shift) -> None:
    """Labelled pictures to learn from; half as many new ones, moved by `shift`, and apart from these their labels."""
    new = pictures(rows // 2, seed + 1, shift, first=rows + 1)
    parts = {"train": pictures(rows, seed), "production": new.drop("shape")}
    for name, table in (parts | {"later": new.select("picture_id", "shape")}).items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        partial = place / ".pictures.parquet"
        table.write_parquet(partial)
        (place / "labelled.parquet").unlink(missing_ok=True)  # or rows would be there twice
        partial.replace(place / "pictures.parquet")
    (folder.parent / "window").write_text(f"{folder.name}\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.sample", description="Write the sample's pictures.")
    parser.add_argument("--rows", type=int, default=1200, help="labelled pictures; half as many new ones are written")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--drift", type=float, default=0.0, help="0 to 1: how crooked, blurred and noisy new ones are")
    parser.add_argument("--output", type=Path, required=True, help="the window's folder, data/<window>")
    options = parser.parse_args()
    if options.rows < 2 or options.seed < 0 or not 0 <= options.drift <= 1:
        parser.error("--rows must be 2 or more, --seed 0 or more, --drift from 0 to 1")
    shift = Shift(turn=30 * options.drift, blur=1.5 * options.drift, noise=20 * options.drift)
    write(options.output, options.rows, options.seed, shift)
    written = f"pictures.parquet is written to {options.output}"
    print(f"{written}/train/ and /production/, the labels of the latter, which come later, to /later/")


if __name__ == "__main__":
    main()
