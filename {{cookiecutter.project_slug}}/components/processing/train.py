"""Train mode: check the raw data, split it, learn the preprocessor on the training part, write the three parts."""

import logging
from collections.abc import Mapping

import polars as pl

from processing import checks, features, split, tables
from runtime import artifacts, job, paths, raw, usecase
from runtime.failures import InputError
from runtime.usecase import UseCase

log = logging.getLogger(__name__)


def train(settings: Mapping[str, str]) -> None:
    """Write preprocessor, train, validation, test and champion_test.

    `continue_training` = "true" keeps the champion's preprocessor, so that its model can go on learning.
    """
    case = usecase.load()
    frame = _labelled(case)
    champion = _champion(case)
    if job.flag(settings, "continue_training"):
        if champion is None:
            raise InputError(
                "continue_training needs a champion, and there is no released model yet; train once first."
            )
        learned = champion
    else:
        training = frame.filter(pl.col(split.PART) == "train")
        learned = tables.schema(case, features.fit(training, case.columns, case.features))
    rows = tables.write_parts(frame, learned, split.PARTS)
    _check_parts(rows)
    tables.write_champion_test(frame.filter(pl.col(split.PART) == "test"), champion)
    known = tables.known(sorted(paths.processing_output("train").glob("*.parquet")), learned)
    with artifacts.writing(paths.processing_output("preprocessor")) as folder:
        artifacts.write_json(folder / "preprocessor.json", {"known": known} | learned)
        artifacts.write_manifest(folder, "processing", case.contract())
    log.info("%s features; rows: %s", len(learned["features"]), ", ".join(f"{part} {n:,}" for part, n in rows.items()))


def _labelled(case: UseCase) -> pl.LazyFrame:
    """All usable labelled rows with the part each belongs to; checks every table on the way."""
    if case.data.time and case.split.method == "random":
        log.warning(
            "rows have a time (%r), and the split is random: validation and test are as old as train, and say nothing "
            'of what comes later; [split] method = "time" does',
            case.data.time,
        )
    usable = _usable(case, "raw")
    frame = split.assigned(usable, case)
    if case.split.method != "given":
        return frame
    given = _usable(case, "validation")
    split.check_apart(usable, given, case.split.group)
    return pl.concat([frame, given.with_columns(pl.lit("validation").alias(split.PART))], how="diagonal")


def _usable(case: UseCase, name: str) -> pl.LazyFrame:
    table = raw.read(paths.processing_input(name), case, labelled=True)
    counts = checks.count(table, case, labelled=True)
    checks.check_training(table, case, counts)
    if counts.broken:
        log.warning("%s rows break the contract and are left out; first: %s", counts.broken, checks.first_break(table))
    if table.empty:
        log.warning("%s empty lines are no rows", f"{table.empty:,}")
    if counts.unlabelled:
        log.warning("%s rows have no label and are left out", counts.unlabelled)
    if counts.ungrouped:
        log.warning("%s rows have no %r and are split one by one", counts.ungrouped, case.split.group)
    return table.frame.filter(~pl.col(raw.BROKEN) & pl.col(case.data.label).is_not_null())


def _champion(case: UseCase) -> tables.Schema | None:
    """What the champion's preprocessor learned, or None where there is no champion."""
    folder = paths.processing_input("champion")
    if artifacts.is_absent(folder):
        return None
    try:
        artifacts.check_manifest(folder, "processing", case.contract())
    except InputError as error:
        log.warning("the champion can't be compared: %s", error)
        return None
    learned: tables.Schema = artifacts.read_json(folder / "preprocessor.json")
    return learned


def _check_parts(rows: Mapping[str, int]) -> None:
    for part in split.PARTS:
        if rows.get(part, 0) == 0:
            raise InputError(f"the {part} split has no rows ({dict(rows)}); give more data or change [split].")
