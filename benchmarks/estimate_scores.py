"""Scores and labels whose relation is known: calibrated or not, sharp or dull, of balanced or rare classes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import measures, metrics, performance, usecase
from batchloop.container.usecase import UseCase

Floats = NDArray[np.float64]
MANY = 100_000  # rows that stand for endless ones
PICKED = 20  # models among which tuning chooses the best by the validation labels
# Spread of the logits, and the margin of the class that a row belongs to.
SHARPNESS = {"dull": (0.5, 0.0), "fair": (2.0, 0.0), "sharp": (8.0, 0.0), "sure": (10.0, 40.0)}


@dataclass(frozen=True)
class World:
    """Classes with these shares, scored this sharply. Scores are the chances, unless `bent` says how they are not.

    `shift` moves logits towards each other: rows become harder, while every score keeps its chance. `picked`: scores
    have noise, and validation has those of the one of PICKED such models that its labels like best.
    """

    shares: tuple[float, ...]
    sharpness: str = "fair"
    bent: str = ""
    shift: float = 0.0
    picked: bool = False

    @property
    def task(self) -> str:
        return "binary" if len(self.shares) == 2 else "multiclass"


def shares(classes: int, rare: float) -> tuple[float, ...]:
    """`rare` is the share of the second half of the classes; 0.5 are equal shares."""
    few = classes // 2
    return (*((1 - rare) / (classes - few),) * (classes - few), *(rare / few,) * few)


def case(world: World, metric: str, minimum_rows: int = 200) -> UseCase:
    """The shipped settings of [drift], but for `minimum_rows`."""
    data = {"task": world.task, "label": "y", "classes": [f"c{place}" for place in range(len(world.shares))]}
    tables = {"data": data, "columns": {"x": {"type": "number"}}, "gate": {"metric": metric, "minimum": 0.5}}
    return usecase.parse({"usecase": {"name": "benchmark"}, **tables, "drift": {"minimum_rows": minimum_rows}})


def batch(world: World, random: np.random.Generator, rows: int) -> pl.DataFrame:
    """Predictions as the algorithm writes them, with __label."""
    logits = _logits(world, random, rows)
    return _predictions(_scores(world, random, logits), _truth(random, _softmax(logits)))


def validation(world: World, random: np.random.Generator, rows: int) -> pl.DataFrame:
    """The same, but for what picking a model by these labels does to its scores."""
    logits = _logits(world, random, rows)
    truth = _truth(random, _softmax(logits))
    tries = [_scores(world, random, logits) for _ in range(PICKED if world.picked else 1)]
    losses = [-np.log(np.maximum(one[np.arange(rows), truth], measures.SMALLEST)).mean() for one in tries]
    return _predictions(tries[int(np.argmin(losses))], truth)


def _logits(world: World, random: np.random.Generator, rows: int) -> Floats:
    return (_before(world.shares, world.sharpness, random, rows) + _offsets(world.shares, world.sharpness)) * (
        1 - world.shift
    )


def _before(sizes: tuple[float, ...], sharpness: str, random: np.random.Generator, rows: int) -> Floats:
    (spread, margin), classes = SHARPNESS[sharpness], len(sizes)
    logits = spread * random.normal(size=(rows, classes)) / np.sqrt(2 if classes == 2 else 1)
    if margin:
        logits += margin * np.eye(classes)[random.choice(classes, rows, p=np.array(sizes) / sum(sizes))]
    return logits


@cache
def _offsets(sizes: tuple[float, ...], sharpness: str) -> Floats:
    """What to add to each class's logit, so that the classes have these shares."""
    added, (spread, margin) = np.zeros(len(sizes)), SHARPNESS[sharpness]
    if margin or len(set(sizes)) == 1:
        return added
    drawn = _before(sizes, sharpness, np.random.default_rng(1), 20_000)
    for _ in range(150):
        added = added + max(1.0, spread / 3) * np.log(np.array(sizes) / _softmax(drawn + added).mean(axis=0))
    return added


def _scores(world: World, random: np.random.Generator, logits: Floats) -> Floats:
    if world.picked:
        logits = logits + 0.5 * SHARPNESS[world.sharpness][0] * random.normal(size=logits.shape)
    if world.bent == "too sure":
        return _softmax(2 * logits)
    if world.bent == "bent":
        return _softmax(logits + 1.5 * np.sin(1.5 * (logits - logits.mean(axis=1, keepdims=True))))
    return _softmax(logits)


def _softmax(logits: Floats) -> Floats:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: Floats = odds / odds.sum(axis=1, keepdims=True)
    return chances


def _truth(random: np.random.Generator, chances: Floats) -> NDArray[np.int64]:
    above = chances.cumsum(axis=1) > random.random((len(chances), 1))
    return np.where(above.any(axis=1), above.argmax(axis=1), chances.shape[1] - 1)


def _predictions(scores: Floats, truth: NDArray[np.int64]) -> pl.DataFrame:
    names = np.array([f"c{place}" for place in range(scores.shape[1])])
    if len(names) == 2:
        columns: Mapping[str, Floats] = {"score": scores[:, 1]}
        chosen = (scores[:, 1] >= 0.5).astype(int)
    else:
        columns = {"score": scores.max(axis=1)} | {
            f"score:{name}": scores[:, place] for place, name in enumerate(names)
        }
        chosen = scores.argmax(axis=1)
    return pl.DataFrame({"prediction": names[chosen], **columns, "__label": names[truth]})


def measured(world: World, frame: pl.DataFrame) -> dict[str, float]:
    """The metrics that the labels give."""
    columns = performance.score_columns(case(world, "log_loss"))
    threshold = 0.5 if world.task == "binary" else 0.0
    counted, hits = performance.count(frame.lazy(), list(columns), threshold), {}
    for name, label in columns.items():
        happened = (frame["__label"] == (label or frame["prediction"])).to_numpy().astype(float)
        numbers = performance.cell_numbers(frame[name].to_numpy(), threshold)
        hits[name] = np.bincount(numbers, weights=happened)[np.unique(numbers)]
    return {name: float(metric(counted, hits)) for name, metric in measures.METRICS[world.task].items()}


def harder(world: World, metric: str, drop: float) -> World | None:
    """The same world, its rows so much harder that the metric is worse by `drop`; None where none are that hard."""
    steps = np.linspace(0, 0.99, 34)
    values = [_endless(replace(world, shift=step))[metric] for step in steps.tolist()]
    drops = np.maximum.accumulate([metrics.lead(metric, values[0], value) for value in values])
    return replace(world, shift=float(np.interp(drop, drops, steps))) if drops[-1] >= drop else None


@cache
def _endless(world: World) -> dict[str, float]:
    return measured(world, batch(world, np.random.default_rng(2), MANY))
