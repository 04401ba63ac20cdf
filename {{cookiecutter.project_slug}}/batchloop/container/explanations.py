"""Which rows are explained, and reading just those: exact attributions cost about a hundred times a prediction."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from batchloop.container import job, matrices, models, patches, raw, report
from batchloop.container.job import InputError, Pace
from batchloop.container.measures import points
from batchloop.container.models import Model
from batchloop.container.protocols import Attributions, AttributionsFile, Feature, Matrix
from batchloop.container.tables import matrix
from batchloop.container.usecase import Explanation, UseCase

BATCH = 50_000  # rows read at once
CHUNK, CELLS = 2_000, 500_000  # rows explained at once, or cells: attributions take 8 bytes × outputs × features each
PIXELS, FEWEST = 2_000_000, 16  # of pictures explained at once, but not fewer than so many
KEPT = 4_000_000  # attributions that quantiles and directions are taken of; of more rows evenly spread ones
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ROW = "__position"  # number of a row, from 0
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """The rows to explain, in the table's order, their number, and how many could have been."""

    frame: pl.LazyFrame
    rows: int
    scoreable: int

    def parts(self, features: Sequence[Feature]) -> Iterator[pl.DataFrame]:
        """The rows, as many at once as are explained together."""
        size = max(CHUNK, CELLS // len(features))
        if patches.has_pictures(features):
            size = max(FEWEST, PIXELS // sum(map(matrices.width, features)))
        for batch in self.frame.collect_batches(chunk_size=size, maintain_order=True):
            yield from batch.iter_slices(size)

    def matrix(self, features: Sequence[Feature]) -> Matrix:
        """The rows, or of many evenly spread ones, as a model sees them."""
        every = self.apart(sum(map(matrices.width, features)))
        return matrix(self.frame.gather_every(every).collect(engine="streaming"), features)

    def apart(self, features: int) -> int:
        """Every which row is kept where not all can be."""
        return -(-self.rows * features // KEPT)


class Explained(NamedTuple):
    """Some of the chosen rows, which begin at `first`, their attributions, and arrays that a summary takes of them."""

    first: int
    frame: pl.DataFrame
    found: Attributions
    arrays: dict[str, Any]


@dataclass
class Summary:
    """Of the explained rows: importance a feature, attributions towards the prediction, values, base, worst errors.

    What grows with the rows is only kept of some. `chosen` is how many are to be explained, `scoreable` could be.
    """

    importance: Values = field(default_factory=lambda: np.zeros(1))
    values: list[Values] = field(default_factory=list)  # of parts, each rows × features
    matrices: list[Matrix] = field(default_factory=list)  # likewise
    base: list[float] = field(default_factory=list)
    error: float = 0.0
    sampling_error: float = 0.0
    rows: int = 0
    pictures: list[tuple[str, list[dict[str, str]]]] = field(default_factory=list)  # of the first rows, with maps
    chosen: int = 0
    scoreable: int = 0

    def add(self, part: Mapping[str, Any]) -> None:
        """The arrays of explained rows, which follow those before."""
        self.importance = self.importance + part["importance"]
        self.values.append(part["values"])
        self.matrices.append(part["matrix"])
        self.base = self.base or part["base"].tolist()
        rows, self.chosen, self.scoreable = part["rows"].tolist()
        self.rows += rows
        error, sampling_error = part["errors"].tolist()
        self.error, self.sampling_error = max(self.error, error), max(self.sampling_error, sampling_error)
        self.pictures += json.loads(str(part["pictures"])) if "pictures" in part else []


def _arrays(chosen: Chosen, first: int, features: Matrix, found: Attributions, error: float) -> dict[str, Any]:
    every = chosen.apart(features.shape[1])
    some = slice(-first % every, None, every)
    return {
        "importance": importance(found.values) * (len(features) / chosen.rows),
        "values": np.ascontiguousarray(towards_prediction(found)[some]),  # a view would hold all rows
        "matrix": np.ascontiguousarray(features[some]),
        "base": found.base[0],
        "rows": np.array([len(features), chosen.rows, chosen.scoreable]),
        "errors": np.array([error, found.sampling_error]),
    }


def _shown(part: Explained, seen: Matrix, model: Model) -> str:
    """The pictures of those rows that a page shows, the first of all, and where in them the reasons are, as JSON."""
    values, features, classes = towards_prediction(part.found), model.metadata["features"], model.metadata["classes"]
    names = part.frame[model.metadata["id"]].cast(pl.String).head(max(0, patches.SHOWN - part.first)).to_list()
    if part.found.raw.shape[1] > 1:
        names = [f"{name}: {classes[best]}" for name, best in zip(names, part.found.raw.argmax(axis=1), strict=False)]
    return json.dumps([[name, patches.shown(seen[row], values[row], features)] for row, name in enumerate(names)])


def _in_patches(part: Explained, seen: Matrix, features: Sequence[Feature]) -> tuple[Explained, Matrix]:
    """Rows whose pictures are patches, each with the sum of its pixels' attributions and their mean as its value."""
    means = patches.means(seen, features).astype(np.float32)
    columns = zip(patches.parts(features), means.T, strict=True)
    frame = part.frame.with_columns(pl.Series(one["name"], its) for one, its in columns if one["kind"] == "patch")
    found = replace(part.found, values=patches.added(part.found.values, features))
    return part._replace(frame=frame, found=found), means


def module() -> AttributionsFile:
    """★ components/explainability/attributions.py."""
    return cast(AttributionsFile, import_module("components.explainability.attributions"))


def choose(folder: Path, fitted: Model, settings: Explanation) -> Chosen:
    """All scoreable rows in a folder of features, or as many as asked for. Raises InputError where there is none."""
    if not (files := sorted(folder.glob("*.parquet"))):
        raise InputError(f"{folder.name} holds no Parquet files of features.")
    frame = pl.scan_parquet(files, glob=False)
    if raw.ERROR in frame.collect_schema():
        frame = frame.filter(pl.col(raw.ERROR).is_null()).drop(raw.ERROR)
    frame = frame.with_row_index(ROW)
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    if rows == 0:
        raise InputError("there is no row to explain: every row of the batch breaks the contract, or it is empty.")
    if settings.rows == 0 or settings.rows >= rows:
        return Chosen(frame, rows, rows)
    if settings.rule == "random":
        random = np.random.default_rng(settings.seed)
        positions = random.choice(rows, settings.rows, replace=False, shuffle=False).tolist()
    else:
        positions = _highest(frame, fitted, settings.rows)
    wanted = pl.Series(sorted(positions), dtype=pl.get_index_type())
    return Chosen(frame.filter(pl.col(ROW).is_in(wanted.implode())), len(wanted), rows)


def _highest(frame: pl.LazyFrame, fitted: Model, count: int) -> list[int]:
    """Positions of the rows with the highest score, the earlier row first among equals; memory does not grow."""
    strengths, places = np.zeros(0), np.zeros(0, np.int64)
    for batch in frame.collect_batches(chunk_size=BATCH, maintain_order=True):
        scores = models.predict(fitted, matrix(batch, fitted.metadata["features"]))
        strengths = np.append(strengths, points(fitted.metadata["task"], scores))
        places = np.append(places, batch[ROW].to_numpy())
        best = np.sort(np.argsort(-strengths, kind="stable")[:count])
        strengths, places = strengths[best], places[best]
    return [*map(int, places)]


def explained(model: Model, learned: Mapping[str, Any], chosen: Chosen, share: bool = False) -> Iterator[Explained]:
    """The parts of the rows, with `share` this host's, with attributions. Raises InputError for a sum that is wrong."""
    tolerance, features = module().TOLERANCE, model.metadata["features"]
    hosts, first = job.current() if share else job.Hosts(), 0
    names, pace = sorted(hosts.names) or [hosts.name], Pace()
    for number, part in enumerate(chosen.parts(features)):
        if names[number % len(names)] == hosts.name:
            seen = matrix(part, features)
            found = module().explain(model.fitted, learned, seen)
            errors = additivity_error(found)
            if errors.max(initial=0.0) > tolerance:
                raise InputError(
                    f"the attributions of row {first + int(errors.max(axis=1).argmax()) + 1} miss its raw score by "
                    f"{errors.max():.2g} (tolerance {tolerance:g}); the model can't be explained in this way: check "
                    "the model's files and attributions.py."
                )
            one, pictures = Explained(first, part, found, {}), dict[str, Any]()
            if patches.has_pictures(features):
                pictures = {"pictures": np.array(_shown(one, seen, model))}
                one, seen = _in_patches(one, seen, features)
            arrays = _arrays(chosen, first, seen, one.found, float(errors.max(initial=0.0)))
            yield one._replace(arrays=arrays | pictures)
        first += len(part)
        pace.say("%s rows explained", f"{first:,}")


def write(folder: Path, explained: Explained, reasons: pl.DataFrame) -> None:
    """The reasons of some rows, and what a summary takes of them, in files whose names are in the rows' order."""
    reasons.write_parquet(folder / f"{explained.first:012d}.parquet")
    np.savez(folder / f"{explained.first:012d}.npz", **explained.arrays)


def together(folder: Path) -> tuple[pl.LazyFrame, Summary]:
    """The reasons of all rows, and their summary. Raises InputError where a host did not write its own."""
    summary = Summary()
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as arrays:
            summary.add(arrays)
    if not summary.rows or summary.rows < summary.chosen:
        what = f"{folder.name}/ has {summary.rows:,} of {summary.chosen:,} rows"
        raise InputError(f"{what}; run the step that explains once more.")
    return pl.scan_parquet(sorted(folder.glob("*.parquet")), glob=False), summary


def additivity_error(found: Attributions) -> Values:
    """How far base + values of each row and output are from the raw score, relative to it where it is larger than 1."""
    result: Values = np.abs(found.values.sum(axis=2) + found.base - found.raw) / np.maximum(1.0, np.abs(found.raw))
    return result


def importance(values: Values) -> Values:
    """Mean absolute attribution of each feature, summed over outputs; `values` rows × outputs × features."""
    result: Values = np.abs(values).sum(axis=1).mean(axis=0)
    return result


def described(model: Model, found: Summary) -> list[dict[str, Any]]:
    """A line a feature, the most important first: importance, direction, quantiles of its attributions."""
    lines = [
        {
            "feature": feature["name"],
            "source": feature["source"],
            "importance": float(score),
            "direction": direction(values, attributions) if feature["kind"] != "category" else None,
            "quantiles": np.quantile(attributions, QUANTILES).tolist(),
        }
        for feature, score, values, attributions in zip(
            patches.parts(model.metadata["features"]),
            found.importance,
            np.concatenate(found.matrices).T,
            np.concatenate(found.values).T,
            strict=True,
        )
    ]
    return sorted(lines, key=lambda line: (-line["importance"], line["feature"]))


def by_source(features: Sequence[Feature], scores: Values) -> dict[str, float]:
    """Importance a raw column, the most important first: the parts of a date or of a picture add up."""
    total: dict[str, float] = {}
    for feature, score in zip(patches.parts(features), scores, strict=True):
        total[feature["source"]] = total.get(feature["source"], 0.0) + float(score)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def towards_prediction(found: Attributions) -> Values:
    """Rows × features: the attributions of the output that decided; with several classes that of the predicted one."""
    chosen = found.raw.argmax(axis=1)
    result: Values = found.values[np.arange(len(chosen)), chosen]
    return result


def top(values: Values, count: int) -> NDArray[np.intp]:
    """Rows × count: the positions of the features that moved a row most, ties in the features' order."""
    return np.argsort(-np.abs(values), axis=1, kind="stable")[:, :count]


def in_words(column: pl.Series, feature: Feature) -> pl.Series:
    """A feature's values as people read them."""
    text, kind = column.cast(pl.String), feature["kind"]
    if "term" in feature or kind == "boolean":
        yes, no = map(pl.lit, ("in the text", "not in it") if "term" in feature else ("yes", "no"))
        text = pl.select(pl.when(column > 0).then(yes).when(column == 0).then(no)).to_series()
    elif feature["name"].endswith("__days"):
        text = pl.from_epoch(column.cast(pl.Int64), time_unit="d").cast(pl.String)
    elif kind in ("number", "date", "patch"):
        form = "brightness {:.0f}" if kind == "patch" else "{:,.6g}"
        text = pl.Series([None if value is None else form.format(value) for value in column], dtype=pl.String)
    return text.fill_null("missing").alias(feature["name"])


def direction(column: Any, values: Values) -> float | None:
    """The correlation of a number's value and its attribution, from -1 to 1; None where either does not vary."""
    present = ~np.isnan(column)
    if present.sum() < 2 or np.ptp(column[present]) == 0 or np.ptp(values[present]) == 0:
        return None
    return round(float(np.corrcoef(column[present], values[present])[0, 1]), 6)


def moved(before: Values, after: Values) -> float:
    """How far importance has moved, from 0 (the same shares) to 1 (nothing in common): total variation distance."""
    even = np.full(len(before), 1 / len(before))
    shares = [scores / scores.sum() if scores.sum() > 0 else even for scores in (before, after)]
    return float(np.abs(np.subtract(*shares)).sum() / 2)


def page(case: UseCase, found: Mapping[str, Any], summary: Summary, examples: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page of serve mode, with some rows of explanations, or of train mode, without any."""
    return report.render("explanations.html", case=case, found=found, examples=examples, pictures=summary.pictures)
