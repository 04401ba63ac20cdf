"""From values to places on a chart, and the round numbers written beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`low` lies at `start`, `high` at `end`, whatever the unit of these (percent across, pixels down)."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value; halves, so that not even the largest numbers overflow."""
        span = (self.high / 2 - self.low / 2) or 1.0
        return self.start + (value / 2 - self.low / 2) / span * (self.end - self.start)

    def place(self, value: float | None) -> float | None:
        """The same, and none for what is no finite number."""
        value = known(value)
        return None if value is None else self.at(value)


def known(value: float | None) -> float | None:
    """A finite number, or none."""
    return value if value is not None and math.isfinite(value) else None


def spread(values: Sequence[float | None]) -> tuple[float, float]:
    """The lowest and the highest, apart even where all are one and the same."""
    finite = [value for value in map(known, values) if value is not None] or [0.0]
    low, high = min(finite), max(finite)
    return (low, high) if low < high else (low - (abs(low) / 10 or 1.0), high + (abs(high) / 10 or 1.0))


def ticks(low: float, high: float, most: int = 4) -> list[tuple[float, str]]:
    """Up to `most` round values from low to high with their texts."""
    size = high / most - low / most
    if not 1e-12 < size < 1e15:
        return [(low, f"{low:.3g}"), (high, f"{high:.3g}")]
    exponent = math.floor(math.log10(size))
    factor = next(factor for factor in (1, 2, 2.5, 5, 10) if factor * 10.0**exponent >= size * (1 - 1e-9))
    step, decimals = factor * 10.0**exponent, max(0, (factor == 2.5) - (factor == 10) - exponent)
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(place * step, f"{place * step:,.{decimals}f}") for place in places]
