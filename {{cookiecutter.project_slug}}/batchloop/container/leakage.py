"""Rows that stand in training too, or nearly: whether the model answers them by heart, and how good it is otherwise.

First: are there more twins than between rows put together from the halves of two rows, as they are alike by nature?
Second, and only then: is a model worse on rows whose twins were kept from it than one that has seen them?

Pictures are held against those of training by their light and dark, whatever the contrast, as they are, mirrored or
turned: thumbnails find the likest one, and their pixels decide. A picture of one grey is like none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import matrices, measures
from batchloop.container.protocols import Feature, Matrix, Table

Keys = NDArray[np.uint64]
Fit = Callable[[Table, Table, Matrix], NDArray[np.float64]]  # train, validation, rows to predict → predictions
ROWS, EVALUATED, FITTED, FEWEST = 200_000, 10_000, 20_000, 20  # rows that are looked at, evaluated, fitted, and enough
BINS, SUBSETS, SEED = 16, 6, 7
CLOSE = 8  # bits of a float32 that rounding may change: numbers within 0.003 % are the same
EXCESS = 0.05  # more twins than by nature, as a share of the rows
HARM = 0.1  # of what guessing loses: so much of the measured skill is memory, and the metric is not to be trusted
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
KNOWN, LOOKED, AT_ONCE = 50_000, 500, 50  # pictures of training, of each other split, and of these at once
THUMBNAIL = 16
NEARLY = 0.999  # the correlation of pixels of a copy; of drawn shapes, digits and faces none were as alike by nature
SHARE = 0.01  # of the pictures of a split: fewer copies are only logged
Grey = NDArray[Any]  # pictures × rows × columns


@dataclass(frozen=True)
class Question:
    """What is to be evaluated: the task, the gate's metric, the threshold, and how a model is fitted."""

    task: str
    metric: str
    threshold: float
    fit: Fit


def find(
    train: Table, evaluated: Mapping[str, Table], features: Sequence[Feature], question: Question
) -> dict[str, Any]:
    """The `leak` of evaluation.json, plain data.

    twins: the share of each split's rows with a near-twin in training. expected: the share by nature. seen and unseen:
    the metric on rows with twins, of a model that has seen these twins and of one that has not; null where there are no
    more than by nature. trusted: false where metrics are mostly memory. reason: what is wrong, in words, or null.
    """
    leak: dict[str, Any] = dict.fromkeys(("twins", "expected", "seen", "unseen", "trusted", "reason"))
    leak |= {"twins": {}, "trusted": True}
    if any(feature["kind"] == "image" for feature in features):  # whose values are no columns of a table
        return leak | _of_pictures(train, evaluated, features)
    forecasting = question.task == "forecasting"
    if forecasting or len({feature["source"] for feature in features}) < 2 or not train.labels.size:
        return leak
    sample = _sample(train, ROWS)
    alike = _most_telling(sample, {name: _sample(table, EVALUATED) for name, table in evaluated.items()}, features)
    leak |= {"twins": alike.twins, "expected": alike.expected}
    compared = _compare(sample, alike.keys, question) if alike.telling else None
    if compared is None:
        return leak
    seen, unseen, memory = compared
    leak |= {"seen": seen, "unseen": unseen}
    if memory > HARM:
        values = f" ({question.metric} {seen:.3f}, and {unseen:.3f} without them)" if None not in (seen, unseen) else ""
        leak["trusted"] = memory * alike.excess <= HARM
        leak["reason"] = (
            f"{max(alike.twins.values()):.0%} of the validation or test rows have a near-twin in training "
            f"({alike.expected:.0%} by nature), and the model knows such rows by heart{values}; if they are of one "
            'entity, say which column names it: [split] method = "group"'
        )
    return leak


def _sample(table: Table, rows: int) -> Table:
    """At most so many rows, evenly spread."""
    if table.labels.size <= rows:
        return table
    return _rows(table, np.random.default_rng(SEED).choice(table.labels.size, rows, replace=False, shuffle=False))


def _rows(table: Table, rows: NDArray[np.int64]) -> Table:
    return Table(table.features[rows], table.labels[rows])


@dataclass(frozen=True)
class Candidate:
    """One way to call rows alike: the key of each training row, the share of rows with a twin, and that by nature.

    telling: there are more twins than by nature, and by more than chance, which is four standard errors where rows of
    one key count as one.
    """

    keys: Keys
    twins: dict[str, float]
    expected: float
    excess: float
    telling: bool


def _most_telling(train: Table, evaluated: Mapping[str, Table], features: Sequence[Feature]) -> Candidate:
    """What finds most twins beyond those by nature: equal or coarsely equal values, in all columns or half of them."""
    random, names = np.random.default_rng(SEED), list(dict.fromkeys(feature["source"] for feature in features))
    # raw columns on two sides: all of them, and halves, since a twin may differ in a few columns
    sizes = [len(names), *([len(names) // 2] * SUBSETS if len(names) >= 4 else [])]
    orders = [random.permutation(len(names))[:size] for size in sizes]
    halves = [{names[column]: position % 2 for position, column in enumerate(columns)} for columns in orders]
    every = {name: np.asfortranarray(table.features) for name, table in {"": train, **evaluated}.items()}
    partners = _partners(every[""], features)

    def found(coarse: bool) -> list[Candidate]:
        sums = {name: np.zeros((len(halves), 2, len(rows)), np.uint64) for name, rows in every.items()}
        for position, feature in enumerate(features):
            edges = None
            if coarse and feature["kind"] != "category":
                known = every[""][:, position][~np.isnan(every[""][:, position])]
                edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if known.size else known
            for name, rows in every.items():
                codes = _codes(rows[:, position], edges, position)
                for subset, sides in enumerate(halves):
                    if (side := sides.get(feature["source"])) is not None:
                        sums[name][subset, side] += codes
        return [_candidate({name: each[n] for name, each in sums.items()}, partners) for n in range(len(halves))]

    with ThreadPoolExecutor() as both:
        candidates = [*chain.from_iterable(both.map(found, (False, True)))]
    most = max((each.excess for each in candidates if each.telling), default=0.0)
    return next((each for each in candidates if each.telling and each.excess >= 0.8 * most), candidates[0])


def _candidate(sides: Mapping[str, Keys], partners: NDArray[np.int64]) -> Candidate:
    """Keys are the sums of both sides; those by nature put together the sides of two rows of training."""
    first, second = sides[""]
    keys = first + second
    known = np.sort(keys)

    def share(keys: Keys) -> float:
        wanted = np.sort(keys)  # each is found near the one before: nearly all of the time goes into looking
        indices = np.minimum(np.searchsorted(known, wanted), known.size - 1)
        return float(np.mean(known[indices] == wanted)) if keys.size else 0.0

    evaluated = {name: each[0] + each[1] for name, each in sides.items() if name}
    expected = share(first[:EVALUATED] + second[partners[:EVALUATED]])
    distinct = max(1, min(len(np.unique(each)) for each in evaluated.values()))
    chance = 4 * float(np.sqrt(expected * (1 - expected) / distinct))
    twins = {name: share(each) for name, each in evaluated.items()}
    excess = max(twins.values()) - expected
    return Candidate(keys, twins, expected, excess, telling=excess >= max(EXCESS, chance))


def _partners(features: Matrix, described: Sequence[Feature]) -> NDArray[np.int64]:
    """For each row another one at random, of the same value in the finest category: the contract names what that is."""
    columns = [features[:, position] for position, feature in enumerate(described) if feature["kind"] == "category"]
    finest = max(columns, key=lambda column: len(np.unique(column)), default=np.zeros(len(features)))
    order = np.lexsort((np.random.default_rng(SEED).random(len(features)), finest))
    row = pl.col("row")
    following = pl.coalesce(row.shift(-1), row.first()).over("value")
    partners = np.empty_like(order)
    partners[order] = pl.DataFrame({"row": order, "value": finest[order]}).select(following).to_series().to_numpy()
    return partners


def _codes(values: NDArray[np.float32], edges: NDArray[np.float32] | None, column: int) -> Keys:
    """Each value as a number that is the same for the same value of the same column, and any other otherwise."""
    if edges is None:
        bits = np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0)).view(np.uint32)
        codes = (bits.astype(np.uint64) + np.uint64(1 << (CLOSE - 1))) >> np.uint64(CLOSE)
    else:
        reached = np.add.reduce([values >= edge for edge in edges], axis=0, dtype=np.uint8)  # faster than a search
        codes = np.where(np.isnan(values), BINS, reached).astype(np.uint64)
    return _mixed(codes + np.uint64((column + 1) << 32))


def _mixed(state: Keys) -> Keys:
    """SplitMix64's, so that sums of several columns' codes do not meet by accident."""
    state = state * GOLDEN
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _compare(train: Table, keys: Keys, question: Question) -> tuple[float | None, float | None, float] | None:
    """The metric with twins and without, and the share of guessing's loss between them; None where rows are too few.

    Half of the twins only the first model sees, as many other rows only the second; both are judged on some of these.
    """
    rows = np.flatnonzero(_mixed(keys).astype(np.float64) / 2.0**64 < FITTED / keys.size)
    random = np.random.default_rng(SEED)
    first = (_mixed(keys[rows] + np.uint64(1)) >> np.uint64(63)).astype(bool)
    apart = random.random(rows.size) < 0.2
    twins, others, held = rows[first & ~apart], rows[~first], rows[first & apart]
    held = held[np.isin(keys[held], keys[twins])]
    if held.size < FEWEST or others.size < FEWEST or np.all(train.labels[others] == train.labels[others][0]):
        return None
    filling = random.permutation(others)[: max(0, others.size - twins.size)]
    evaluated = _rows(train, held)
    samples = [_rows(train, np.sort(chosen)) for chosen in (np.concatenate([twins, filling]), others)]
    seeing, blind = (question.fit(sample, evaluated, evaluated.features) for sample in samples)
    truth = _targets(question.task, evaluated.labels, blind)
    guessed = _targets(question.task, train.labels[others], blind).mean(axis=0)
    each = [predicted.reshape(len(truth), -1) for predicted in (seeing, blind)]
    losses = [np.sum((predicted - truth) ** 2, axis=1) for predicted in (*each, guessed)]
    gains = losses[1] - losses[0]
    _, indices = np.unique(keys[held], return_inverse=True)  # rows of one key count as one
    error = np.sqrt(np.sum(np.bincount(indices, gains - gains.mean()) ** 2)) / gains.size
    certain, guessing = gains.mean() > 3 * error, losses[2].mean()
    measure = partial(measures.measure, question.task, evaluated.labels, threshold=question.threshold)
    values = (measure(predicted=predicted)[question.metric] for predicted in (seeing, blind))
    seen, unseen = (value if np.isfinite(value) else None for value in values)
    return seen, unseen, float(gains.mean() / guessing) if certain and guessing else 0.0


def _targets(task: str, labels: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Labels as predictions would be, a row an example: a probability of each class, or one number."""
    return np.eye(predicted.shape[1])[labels.astype(int)] if task == "multiclass" else labels[:, np.newaxis]


def _of_pictures(train: Table, evaluated: Mapping[str, Table], features: Sequence[Feature]) -> dict[str, Any]:
    """How many of the first picture's copies there are; only copies to the pixel make metrics untrustworthy."""
    place, feature = next(each for each in enumerate(features) if each[1]["kind"] == "image")
    columns = matrices.places(features)[place]
    known = _grey(train.features, KNOWN, columns, feature)
    pictures = {
        name: _grey(table.features, LOOKED, columns, feature) for name, table in evaluated.items() if table.labels.size
    }
    thumbnails = _unit(_thumbnails(known))
    found = {name: _copies(some, known, thumbnails) for name, some in pictures.items()}
    twins = {name: sum(found[name]) / len(some) for name, some in pictures.items()}
    same, near = (sum(counts) for counts in zip(*found.values(), strict=True)) if found else (0, 0)
    reason = (
        f"{same + near} of {sum(map(len, pictures.values()))} validation or test pictures are in training too ({same} "
        f"the same, {near} nearly; mirrored and turned ones count), and what is measured on them is partly memory: "
        'remove copies, or say which column names what pictures are of: [split] method = "group"'
    )
    told = max(twins.values(), default=0.0) >= SHARE
    trusted = all(found[name][0] <= HARM * len(some) for name, some in pictures.items())
    return {"twins": twins, "trusted": trusted, "reason": reason if told else None}


def _copies(pictures: Grey, known: Grey, thumbnails: Grey) -> tuple[int, int]:
    """How many pictures are the same as a known one, and how many are nearly."""
    same = near = 0
    for start in range(0, len(pictures), AT_ONCE):
        some = pictures[start : start + AT_ONCE]
        alike = np.zeros(len(some))
        for turned in _turned(some):
            likest = known[(_unit(_thumbnails(turned)) @ thumbnails.T).argmax(axis=1)]
            equal = np.isclose(turned, likest, atol=1e-3).all(axis=(1, 2)) & (np.ptp(turned, axis=(1, 2)) > 0)
            alike = np.maximum(alike, np.where(equal, 2.0, (_unit(turned) * _unit(likest)).sum(axis=1)))
        same, near = same + int((alike > 1.5).sum()), near + int(((alike >= NEARLY) & (alike <= 1.5)).sum())
    return same, near


def _grey(matrix: Matrix, most: int, columns: slice, feature: Feature) -> Grey:
    """The pictures of at most so many rows, evenly spread."""
    some = matrix[:: max(1, -(-len(matrix) // most)), columns]
    grey: Grey = some.reshape(-1, *feature["shape"]).mean(axis=3, dtype=np.float32)
    return grey


def _turned(pictures: Grey) -> Iterator[Grey]:
    """As they are, turned by quarters, and mirrored."""
    for sides in (pictures, pictures[:, :, ::-1]):
        yield from (np.rot90(sides, quarters, (1, 2)) for quarters in range(4))


def _thumbnails(pictures: Grey) -> Grey:
    side = min(THUMBNAIL, pictures.shape[1])
    borders = [pictures.shape[1] * place // side for place in range(side)]
    sums = np.add.reduceat(np.add.reduceat(pictures, borders, axis=1), borders, axis=2)
    lengths = np.diff([*borders, pictures.shape[1]])
    thumbnails: Grey = sums / np.outer(lengths, lengths).astype(np.float32)
    return thumbnails


def _unit(pictures: Grey) -> Grey:
    """Pictures × pixels around zero and of length 1, so that products are correlations; zeros for one grey."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    made: Grey = np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-3)
    return made
