"""Train mode: check the raw data, split it, learn the preprocessor on the training part, write the three parts."""

import logging
from collections.abc import Mapping

import polars as pl

from batchloop.container import artifacts, datasets, job, known, raw, samples, series, slices, usecase
from batchloop.container.job import InputError, sentence
from batchloop.container.usecase import UseCase
from components.processing import features

log = logging.getLogger(__name__)
SPREAD = samples.spread  # each of several hosts prepares its part of the files, once all have sampled theirs


def train(settings: Mapping[str, str]) -> None:
    """Write preprocessor, train, validation, test and champion_test.

    `continue_training` = "true" keeps the champion's preprocessor, so that its model can go on learning. `share` =
    "true" only samples the raw files that this host has; each host is then given all samples, and its files again.
    """
    case = usecase.load()
    if job.flag(settings, "share"):
        samples.write_training(case)
        return
    whole = samples.whole(case) if samples.spread() else None
    newest = _labelled(case, whole)
    before = _earlier(case, newest)
    frame = series.examples(pl.concat([newest, *before.values()], how="diagonal"), case)
    training = (whole.rows if whole else frame).filter(pl.col(raw.PART) == "train")
    champion, reason = _champion(case, frame)
    if job.flag(settings, "continue_training"):
        if champion is None:
            raise InputError(
                f"there is no champion to go on from (continue_training): {reason or 'no model is released yet.'} "
                "Train without CONTINUE, or with FRESH=yes in its place."
            )
        learned = champion
    else:
        given = whole.settings(case.features) if whole else case.features
        learned = datasets.schema(case, features.fit(training, case.sources(), given))
    parts = slices.learned(training, case)
    described = {**learned, "earlier": list(before), "slices": parts}
    rows = datasets.write_parts(frame, described, slices.assigned(parts, case))
    datasets.check_parts(whole.parts(case) if whole else rows)
    datasets.write_champion_test(frame.filter(pl.col(raw.PART) == "test"), champion, reason)
    written = training.select(datasets.columns(learned)) if whole else datasets.written("train")
    if job.current().first:
        with artifacts.writing(job.processing_output("preprocessor")) as folder:
            artifacts.write_json(folder / "preprocessor.json", {"known": known.counts(written, learned)} | learned)
            artifacts.write_manifest(folder, "processing", case.contract())
    log.info("%s features; rows: %s", len(learned["features"]), ", ".join(f"{part} {n:,}" for part, n in rows.items()))


def _labelled(case: UseCase, whole: samples.Whole | None) -> pl.LazyFrame:
    """All usable labelled rows with the part each belongs to; checks every table on the way."""
    if case.data.time and case.split.method == "random":
        log.warning(
            "rows have a time (%r), and the split is random: validation and test are as old as train, and say nothing "
            'of what comes later; [split] method = "time" does',
            case.data.time,
        )
    if whole:
        datasets.check(whole.table, case, whole.warnings)
        frame = whole.own(case)
    else:
        usable = datasets.read(case, job.processing_input("raw"))
        frame = usable if case.series else datasets.with_parts(usable, case)
    if case.split.method != "given" or not job.current().first:
        return frame
    validation = datasets.read(case, job.processing_input("validation"))
    datasets.check_apart(frame, validation, case.split.group)
    return pl.concat([frame, validation.with_columns(pl.lit("validation").alias(raw.PART))], how="diagonal")


def _earlier(case: UseCase, newest: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    """The usable rows of each earlier window, for the training part; a window that can't be used is left out, and said.

    After a change of the contract that is every window before it: they stop no training.
    """
    earlier: dict[str, pl.LazyFrame] = {}
    windows = datasets.windows(job.processing_input("earlier"))
    held_out = datasets.held_out(newest, case) if windows and not case.series else pl.DataFrame()
    for name, folder in windows.items():
        try:
            rows = datasets.read(case, folder, raw.check_labels)
        except InputError as error:
            log.warning("the earlier window %s is left out: %s", name, error)
            continue
        earlier[name] = datasets.unseen(rows, held_out).with_columns(pl.lit("train").alias(raw.PART))
    if earlier:
        log.info("learning from earlier windows too: %s", ", ".join(earlier))
    return earlier


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
