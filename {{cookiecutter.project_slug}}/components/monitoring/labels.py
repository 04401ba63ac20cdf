"""Labels of scored rows: joined with the stored predictions by id, and a count of what did not fit."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import polars as pl

from runtime import raw, usecase
from runtime.failures import InputError
from runtime.usecase import UseCase

LABEL = "__label"
COUNTED = "__times"
PREDICTION, ERROR = "prediction", "error"
SMALL_EFFECT, FEW = 0.1, 30  # in standard deviations; rows below which a share is not compared with the rest


@dataclass(frozen=True)
class Joined:
    """`rows` are the scored rows with a label: `__label`, prediction, scores, and `__group` where [split] names one.

    `scored` counts all rows that have a prediction, `left_out` the label rows that could not be used, by why. `bias`
    says in words how the labelled rows differ from the others, "" where they look like a random share of them.
    """

    rows: pl.DataFrame
    scored: int
    left_out: Mapping[str, int]
    bias: str


def join(case: UseCase, folder: Path, predictions: pl.LazyFrame, scored_files: Path) -> Joined | str:
    """The labels in `folder` with what was predicted, or why they can't be put together.

    Raises InputError for a table that can't be read or has no label. An id that comes more than once counts once where
    its rows agree, and not at all where they contradict each other. Without an id in the contract a row is named by its
    file and number, which means something only in the very files that were scored, with the label added.
    """
    identity = case.data.id or raw.NO_ID
    if not case.data.id and (reason := _other_files(case, folder, scored_files)):
        return reason
    given = _given(case, folder)
    told, counts = _told(given, identity, case.data.label)
    scores = score_columns(predictions)
    said = _said(predictions, identity, scores)
    both = told.join(said, on=identity, how="left", maintain_order="left").collect(engine="streaming")
    unscored, twice = both[COUNTED].is_null(), both[COUNTED] > 1
    failed = ~unscored & ~twice & both[ERROR].is_not_null()
    counts |= {"not_scored": int(unscored.sum()), "scored_twice": int(twice.sum()), "failed": int(failed.sum())}
    rows = both.filter(~unscored & ~twice.fill_null(False) & ~failed)
    rows = rows.select(LABEL, PREDICTION, *scores, *([raw.GROUP] if raw.GROUP in rows.columns else []))
    everything = said.filter(pl.col(ERROR).is_null())
    scored = int(everything.select(pl.len()).collect(engine="streaming").item())
    return Joined(rows, scored, counts, _bias(case, rows, everything))


def _given(case: UseCase, folder: Path) -> pl.LazyFrame:
    """Id and label, and the group that [split] names where the table of labels has it."""
    if case.split.group:
        with suppress(InputError):
            return raw.read(folder, usecase.of_labels(case, case.split.group), labelled=True).frame
    return raw.read(folder, usecase.of_labels(case), labelled=True).frame


def score_columns(predictions: pl.LazyFrame) -> list[str]:
    """The score, and the score of each class where there are several; none for regression."""
    return [name for name in predictions.collect_schema() if name == "score" or name.startswith("score:")]


def _told(given: pl.LazyFrame, identity: str, label: str) -> tuple[pl.LazyFrame, dict[str, int]]:
    """One label an id, and how many rows gave none."""
    named, value = pl.col(identity).is_not_null(), pl.col(label)
    usable = named & value.is_not_null()  # a broken line's label is none
    grouped = [pl.col(raw.GROUP).first()] if raw.GROUP in given.collect_schema() else []
    told = (
        given.filter(usable)
        .group_by(identity, maintain_order=True)
        .agg(value.first().alias(LABEL), value.n_unique().alias("labels"), pl.len().alias("times"), *grouped)
    )
    whole = pl.col(raw.RAGGED).is_null()
    counts = given.select(
        broken_line=(~whole).sum(),
        missing_id=(whole & ~named).sum(),
        missing_label=(whole & named & value.is_null() & ~pl.col(raw.BROKEN)).sum(),
        unknown_label=(whole & named & value.is_null() & pl.col(raw.BROKEN)).sum(),
    )
    alike = pl.col("labels") == 1
    again = told.select(
        contradicting=pl.col("times").filter(~alike).sum(), repeated=(pl.col("times") - 1).filter(alike).sum()
    )
    found = {
        name: int(number or 0)
        for table in pl.collect_all([counts, again], engine="streaming")
        for name, number in table.row(0, named=True).items()
    }
    return told.filter(alike).drop("labels", "times"), found


def _said(predictions: pl.LazyFrame, identity: str, scores: list[str]) -> pl.LazyFrame:
    """One row an id, with the number of different answers it was given."""
    answers = [PREDICTION, *scores, ERROR]
    if identity not in predictions.collect_schema():
        raise InputError(f"the predictions have no column {identity!r}, the id; labels can't be joined with them.")
    different = predictions.select(pl.col(identity).cast(pl.String), *answers).unique()
    first = [pl.col(name).first() for name in answers]
    return different.group_by(identity).agg(pl.len().alias(COUNTED), *first)


def _other_files(case: UseCase, folder: Path, scored_files: Path) -> str:
    """Why rows can't be told by file and number; "" where the labelled files are the scored ones."""
    reason = (
        "[data] id is empty, so labels and predictions meet by file and row number, and the labelled files are not the "
        "ones that were scored; give the table an id, or the scored files with the label added"
    )
    names = [column.name for column in case.columns]
    try:
        first, second = (_hashed(raw.read(place, case).frame, names) for place in (folder, scored_files))
    except InputError:
        return reason
    other = first.join(second, on=[raw.NO_ID, "hash"], how="anti").select(pl.len()).collect(engine="streaming").item()
    return reason if other else ""


def _hashed(frame: pl.LazyFrame, names: list[str]) -> pl.LazyFrame:
    return frame.select(raw.NO_ID, pl.struct(names).hash().alias("hash"))


def _bias(case: UseCase, rows: pl.DataFrame, everything: pl.LazyFrame) -> str:
    """The score that sets labelled rows apart from the others most, by a test of two means at [drift] significance."""
    names = score_columns(everything) or [PREDICTION]
    whole = everything.select(
        *(pl.col(name).mean().alias(f"{name}|mean") for name in names),
        *(pl.col(name).var(ddof=0).alias(f"{name}|variance") for name in names),
        rows=pl.len(),
    )
    row = whole.collect(engine="streaming").row(0, named=True)
    rest, largest = row["rows"] - rows.height, NormalDist().inv_cdf(1 - case.drift.significance / 2 / len(names))
    if min(rest, rows.height) < FEW:
        return ""
    found = []
    for name in names:
        mean, variance = float(row[f"{name}|mean"]), float(row[f"{name}|variance"])
        labelled = float(rows[name].cast(pl.Float64).to_numpy().mean())
        others = (mean * row["rows"] - labelled * rows.height) / rest
        distance = abs(labelled - others) / max(variance**0.5, 1e-12)
        if distance > max(SMALL_EFFECT, largest * (1 / rest + 1 / rows.height) ** 0.5):
            found.append((distance, f"the mean of {name} is {labelled:.3g} among them and {others:.3g} among the rest"))
    return max(found)[1] if found else ""
