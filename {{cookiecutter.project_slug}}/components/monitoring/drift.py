"""★ Into which bins a column falls, how far two distributions are apart, and whether that is more than chance.

Both distributions are counts over the same bins. Effect sizes say how much has changed, whatever the number of rows;
the decision needs an effect that matters *and* a test that excludes chance, corrected for the number of columns. What
`profile` and `compare` take and give is said in batchloop/container/protocols.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container.profile import CELLS, values
from batchloop.container.protocols import Bins, Comparison, Counts, Distributions
from batchloop.container.usecase import Drift

COLUMNS_AT_ONCE = 200  # in one query: the cost of a plan grows with the square of its columns
CATEGORIES = 200  # bins of a category at most
SMALLEST_EXPECTED = 5.0  # rows a bin, below which the chi-square approximation is poor (Cochran, 1954)
MOST_EXPECTED = 40  # rows that the smaller table holds of such a bin: more have a chance below 1e-20


def profile(frame: pl.LazyFrame, kinds: Mapping[str, str], bins: int) -> list[Bins]:
    """The bins of each column, from all rows of the frame.

    A number's end at quantiles, the extremes among them: what lies further out, such as the -999 of a broken source,
    has a bin of its own. So has a value that is a quantile more than once: else a spike inside a wide bin could vanish
    unseen. A category's are its most frequent values.
    """
    numbers = [name for name, kind in kinds.items() if kind in ("number", "date")]
    others = [name for name in kinds if name not in numbers]
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    edges: dict[str, list[float]] = {}
    for chunk in _slices(numbers, min(COLUMNS_AT_ONCE, CELLS // max(1, rows))):  # quantiles need whole columns
        edges |= _edges(frame, {name: kinds[name] for name in chunk}, bins)
    known: dict[str, list[str]] = {}
    for chunk in _slices(others, COLUMNS_AT_ONCE):
        known |= _frequent(frame, {name: kinds[name] for name in chunk})
    return [
        {"name": name, "kind": kind} | ({"edges": edges[name]} if name in edges else {"values": known[name]})
        for name, kind in kinds.items()
    ]


def _slices(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), max(1, size)):
        yield names[start : start + max(1, size)]


def _edges(frame: pl.LazyFrame, kinds: Mapping[str, str], bins: int) -> dict[str, list[float]]:
    """Right ends of all bins but the last; a spike v has the bin between the number before it and v itself."""
    numbers = frame.select(values(name, kind) for name, kind in kinds.items()).collect(engine="streaming")
    return {name: _ends(numbers[name], bins) for name in kinds}


def _ends(column: pl.Series, bins: int) -> list[float]:
    numbers = np.sort(column.filter(column.is_finite()).to_numpy())
    if not numbers.size:
        return []
    places = np.arange(bins + 1) / bins * (numbers.size - 1)
    found, repeats = np.unique(numbers[places.astype(int)], return_counts=True)
    before = np.nextafter(found[repeats > 1], -np.inf)
    return [float(edge) for edge in np.unique(np.concatenate([found, before]))]


def _frequent(frame: pl.LazyFrame, kinds: Mapping[str, str]) -> dict[str, list[str]]:
    """The most frequent values, ties in alphabetical order."""
    texts = frame.select(values(name, kind) for name, kind in kinds.items()).unpivot(variable_name="name")
    counts = texts.filter(pl.col("value").is_not_null()).group_by("name", "value").len()
    found = counts.sort(["len", "value"], descending=[True, False]).collect(engine="streaming")
    return {name: found.filter(pl.col("name") == name)["value"].head(CATEGORIES).to_list() for name in kinds}


@dataclass(frozen=True)
class Effect:
    """How far `now` is from `before`.

    psi: population stability index, Σ (q−p) ln(q/p); psi_beyond_chance: what is left of it after subtracting its mean
    without any drift. js: Jensen–Shannon distance to base 2, 0 to 1. total_variation: 0 to 1. ks: the largest
    difference of the cumulative shares, for ordered bins. wasserstein: the mean distance that values have moved, in
    standard deviations of `before`; both are None for categories. p_value: of `homogeneity`.
    """

    psi: float
    psi_beyond_chance: float
    js: float
    total_variation: float
    ks: float | None
    wasserstein: float | None
    p_value: float


def compare(columns: Sequence[Distributions], settings: Drift) -> list[Comparison]:
    """How far each column has moved, and which of them have drifted."""
    return decide([effect(column.before, column.now, column.means, column.deviation) for column in columns], settings)


def decide(effects: Sequence[Effect], settings: Drift) -> list[Comparison]:
    """A column has drifted where chance is excluded for all columns together, and the effect is large enough."""
    corrected = holm([each.p_value for each in effects])
    return [
        Comparison(
            drifted=p_value < settings.significance and each.psi_beyond_chance >= settings.minimum_effect,
            adjusted_p_value=p_value,
            effects=asdict(each),
        )
        for each, p_value in zip(effects, corrected, strict=True)
    ]


def effect(before: Counts, now: Counts, means: "Counts | None" = None, deviation: float = 0.0) -> Effect:
    """Compare two counts; `means` are the values the bins stand for (numbers only), the last bin is "missing"."""
    if before.sum() == 0 or now.sum() == 0:
        return Effect(0.0, 0.0, 0.0, 0.0, None, None, 1.0)
    ordered = means is not None and before[:-1].sum() > 0 and now[:-1].sum() > 0
    p, q = before / before.sum(), now / now.sum()
    index = psi(before, now)
    return Effect(
        psi=index,
        psi_beyond_chance=max(0.0, index - chance(before, now)),
        js=jensen_shannon(p, q),
        total_variation=float(np.abs(p - q).sum() / 2),
        ks=kolmogorov_smirnov(before[:-1], now[:-1]) if ordered else None,
        wasserstein=wasserstein(before[:-1], now[:-1], means, deviation) if ordered and means is not None else None,
        p_value=homogeneity(before, now),
    )


def psi(before: Counts, now: Counts) -> float:
    """Population stability index, half a row added to each bin, so that an empty one stays finite."""
    used = (before + now) > 0
    p, q = ((counts[used] + 0.5) / (counts[used] + 0.5).sum() for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def chance(before: Counts, now: Counts) -> float:
    """The mean of the index between two samples of one distribution.

    (1/n+1/m)(1−share) a bin (Yurdakul and Naranjo, 2020), and exact for bins with few rows, where that is far too much:
    their rows are the same, and fall into either sample by chance.
    """
    both, small = before + now, _small(before, now)
    share, each = both / both.sum(), 1 / before.sum() + 1 / now.sum()
    return float(((1 - share) * each)[(both > 0) & ~small].sum() + _chance_of_few(before, now, small))


def _chance_of_few(before: Counts, now: Counts, few: NDArray[np.bool_]) -> float:
    """The mean of the index's parts of the bins `few`: Σ over how many of a bin's rows the smaller table can hold."""
    size, other = sorted((before.sum(), now.sum()))
    rows, bins = (before + now)[few], int(((before + now) > 0).sum())
    held = np.maximum(rows - other, 0)  # by the smaller table at least: the larger one has no room for all
    chances, mean = np.asarray([_chance_of(pair, (size, other)) for pair in zip(held, rows - held, strict=True)]), 0.0
    for _ in range(MOST_EXPECTED):
        p, q = (held + 0.5) / (size + bins / 2), (np.maximum(rows - held, 0) + 0.5) / (other + bins / 2)
        mean += float((chances * (q - p) * np.log(q / p)).sum())
        chances = chances * np.maximum(rows - held, 0) * (size - held) / ((held + 1) * (other - rows + held + 1))
        held = held + 1
    return mean


def jensen_shannon(p: Counts, q: Counts) -> float:
    """The Jensen–Shannon distance of two sets of shares, to base 2."""
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(shares > 0, shares * np.log2(shares / middle), 0.0).sum() for shares in (p, q)]
    return math.sqrt(max(0.0, float(sum(parts)) / 2))


def kolmogorov_smirnov(before: Counts, now: Counts) -> float:
    """The largest difference of cumulative shares at the bins' borders; exact there, never above the exact value."""
    return float(np.abs(np.cumsum(before) / before.sum() - np.cumsum(now) / now.sum()).max())


def wasserstein(before: Counts, now: Counts, means: Counts, deviation: float) -> float:
    """The first Wasserstein distance of values put at their bins' means, in standard deviations."""
    difference = np.abs(np.cumsum(before) / before.sum() - np.cumsum(now) / now.sum())
    distance = float((difference[:-1] * np.abs(np.diff(means))).sum())
    return distance / deviation if deviation > 0 else (0.0 if distance == 0 else math.inf)


def homogeneity(before: Counts, now: Counts) -> float:
    """The p-value of "both are samples of one distribution": Pearson's test, and an exact one of bins too small for it.

    Half of the level each. Where there are no such bins, their half makes up for Pearson's approximation: with 200 rows
    in 20 bins, a p-value of 0.0001 comes up to twice as often as it says.
    """
    rare = _small(before, now)
    return min(1.0, 2 * min(chi_square(before, now), exact(before, now, rare) if rare.any() else 1.0))


def exact(before: Counts, now: Counts, bins: NDArray[np.bool_]) -> float:
    """The p-value of Fisher's exact test of each of these bins and of all together, Bonferroni-corrected."""
    totals = before.sum(), now.sum()
    pairs = [*zip(before[bins].tolist(), now[bins].tolist(), strict=True), (before[bins].sum(), now[bins].sum())]
    return min(1.0, len(pairs) * min(fisher(pair, totals) for pair in pairs))


def fisher(rows: tuple[float, float], totals: tuple[float, float]) -> float:
    """Twice the chance that the table with the larger share of a bin's rows holds so many of them or more."""
    more = 0 if rows[0] * totals[1] > rows[1] * totals[0] else 1
    held, both, size, every = rows[more], sum(rows), totals[more], sum(totals)
    tail = term = _chance_of((held, both - held), (size, every - size))
    while held < min(both, size) and term > tail * 1e-12:
        term *= (both - held) * (size - held) / ((held + 1) * (every - size - both + held + 1))
        tail, held = tail + term, held + 1
    return float(min(1.0, 2 * tail))


def _chance_of(rows: tuple[float, float], totals: tuple[float, float]) -> float:
    """The hypergeometric chance that a bin's rows are divided in this way between two tables of one distribution."""
    ways = sum(_choices(whole, part) for part, whole in zip(rows, totals, strict=True))
    return math.exp(ways - _choices(sum(totals), sum(rows)))


def _choices(of: float, some: float) -> float:
    """ln of the binomial coefficient."""
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)


def chi_square(before: Counts, now: Counts) -> float:
    """The p-value of Pearson's test of homogeneity; bins with few rows are pooled first."""
    first, second = _pooled(before, now)
    degrees = len(first) - 1
    if degrees < 1:
        return 1.0
    both, total = first + second, first.sum() + second.sum()
    statistic = sum(
        float((((counts - both * counts.sum() / total) ** 2) / (both * counts.sum() / total)).sum())
        for counts in (first, second)
    )
    return survival(statistic, degrees)


def _small(before: Counts, now: Counts) -> NDArray[np.bool_]:
    """Bins that hold rows, but of which fewer than SMALLEST_EXPECTED are expected in the smaller table."""
    both = before + now
    expected = both * min(before.sum(), now.sum()) / both.sum()
    small: NDArray[np.bool_] = (both > 0) & (expected < SMALLEST_EXPECTED)
    return small


def _pooled(before: Counts, now: Counts) -> tuple[Counts, Counts]:
    """Small bins together as one, and without those that nobody is in."""
    small, used = _small(before, now), (before + now) > 0
    first, second = (np.append(counts[used & ~small], counts[small].sum()) for counts in (before, now))
    both = first + second
    if both[-1] * min(before.sum(), now.sum()) / both.sum() >= SMALLEST_EXPECTED or len(first) == 1:
        return first, second
    smallest = int(both[:-1].argmin())  # too few even together: they join the smallest bin that is left
    for counts in (first, second):
        counts[smallest] += counts[-1]
    return first[:-1], second[:-1]


def survival(statistic: float, degrees: int) -> float:
    """P(X > statistic) for a chi-square variable: the regularised upper incomplete gamma function.

    Series and continued fraction as in Abramowitz and Stegun, 6.5.29 and 6.5.31.
    """
    a, x = degrees / 2, statistic / 2
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    return max(0.0, 1 - front * _series(a, x)) if x < a + 1 else front * _fraction(a, x)


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    for n in range(1, 10_000):
        term *= x / (a + n)
        total += term
        if term < total * 1e-16:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """Lentz's method."""
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    result = d
    for n in range(1, 10_000):
        factor = n * (a - n)
        b += 2
        d = 1 / (factor * d + b or tiny)
        c = b + factor / c or tiny
        result *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return result


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of any false alarm stays at the level (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
