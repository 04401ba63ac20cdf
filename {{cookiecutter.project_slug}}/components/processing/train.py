"""Train mode: check the raw data, split it, learn the preprocessor on the training part, write the three parts."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from batchloop.container import artifacts, datasets, job, known, raw, series, usecase
from batchloop.container.job import InputError, sentence
from batchloop.container.usecase import UseCase
from components.processing import features

log = logging.getLogger(__name__)


def train(settings: Mapping[str, str]) -> None:
    """Write preprocessor, train, validation, test and champion_test.

    `continue_training` = "true" keeps the champion's preprocessor, so that its model can go on learning.
    """
    case = usecase.load()
    newest = _labelled(case)
    before = _earlier(case, newest)
    frame = series.examples(pl.concat([newest, *before.values()], how="diagonal"), case)
    champion, reason = _champion(case, frame)
    if job.flag(settings, "continue_training"):
        if champion is None:
            raise InputError(
                f"there is no champion to go on from (continue_training): {reason or 'no model is released yet.'} "
                "Train without CONTINUE, or with FRESH=yes in its place."
            )
        learned = champion
    else:
        training = frame.filter(pl.col(datasets.PART) == "train")
        learned = datasets.schema(case, features.fit(training, case.sources(), case.features))
    rows = datasets.write_parts(frame, {**learned, "earlier": list(before)}, datasets.PARTS)
    _check_parts(rows)
    datasets.write_champion_test(frame.filter(pl.col(datasets.PART) == "test"), champion, reason)
    written = sorted(job.processing_output("train").glob("*.parquet"))
    counts = known.counts(pl.scan_parquet(written, glob=False), learned)
    with artifacts.writing(job.processing_output("preprocessor")) as folder:
        artifacts.write_json(folder / "preprocessor.json", {"known": counts} | learned)
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
    usable = _usable(case, job.processing_input("raw"))
    frame = usable if case.series else datasets.with_parts(usable, case)
    if case.split.method != "given":
        return frame
    validation = _usable(case, job.processing_input("validation"))
    datasets.check_apart(usable, validation, case.split.group)
    return pl.concat([frame, validation.with_columns(pl.lit("validation").alias(datasets.PART))], how="diagonal")


def _earlier(case: UseCase, newest: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    """The usable rows of each earlier window, for the training part; a window that can't be used is left out, and said.

    After a change of the contract that is every window before it: they stop no training.
    """
    earlier: dict[str, pl.LazyFrame] = {}
    windows = datasets.windows(job.processing_input("earlier"))
    held_out = datasets.held_out(newest, case) if windows and not case.series else pl.DataFrame()
    for name, folder in windows.items():
        try:
            rows = _usable(case, folder, raw.check_labels)
        except InputError as error:
            log.warning("the earlier window %s is left out: %s", name, error)
            continue
        earlier[name] = datasets.unseen(rows, held_out).with_columns(pl.lit("train").alias(datasets.PART))
    if earlier:
        log.info("learning from earlier windows too: %s", ", ".join(earlier))
    return earlier


def _usable(
    case: UseCase, folder: Path, check: Callable[[raw.RawTable, UseCase], None] = raw.check_training
) -> pl.LazyFrame:
    table = raw.read(folder, case, labelled=True)
    check(table, case)
    if table.broken:
        log.warning("%s rows break the contract and are left out; first: %s", table.broken, table.first)
    if table.empty:
        log.warning("%s empty lines are no rows", f"{table.empty:,}")
    for warning in raw.shared_ids(table, case):
        log.warning("%s", warning)
    if table.unlabelled:
        log.warning("%s rows have no label and are left out", table.unlabelled)
    if table.ungrouped:
        log.warning("%s rows have no %r and are split one by one", table.ungrouped, case.split.group)
    return table.frame.filter(~pl.col(raw.BROKEN) & pl.col(case.data.label).is_not_null())


def _champion(case: UseCase, frame: pl.LazyFrame) -> tuple[datasets.Schema | None, str]:
    """What the champion's preprocessor learned; without it the reason, "" where no model is released yet.

    A preprocessor of another contract or of other code, or a damaged one, stops no training.
    """
    folder = job.processing_input("champion")
    try:
        if artifacts.is_absent(folder):
            return None, artifacts.absence(folder)
        artifacts.check_manifest(folder, "processing", case.contract())
        learned: datasets.Schema = artifacts.read_json(folder / "preprocessor.json")
        frame.select(datasets.columns(learned)).collect_schema()
    except Exception as error:
        reason = f"the champion's preprocessor can't be used: {sentence(error)}"
        log.warning("not comparable: %s", reason)
        return None, reason
    return learned, ""


def _check_parts(rows: Mapping[str, int]) -> None:
    for part in datasets.PARTS:
        if rows.get(part, 0) == 0:
            raise InputError(f"the {part} split has no rows ({dict(rows)}); give more data or change [split].")
