"""`make label`: what predictions were worth, now that the labels of the scored rows are here."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from batchloop import local
from batchloop.container import files, raw, usecase
from batchloop.container.job import InputError, listed, unlike
from batchloop.container.usecase import UseCase
from batchloop.engine import cache, running
from batchloop.engine.graph import Selection
from batchloop.engine.running import Order, Summary
from batchloop.pipelines import definitions
from batchloop.repository import LABELLED, PROCESSES, Failure, Repository

STEP = "DetectDrift"
LABELS = "labels.parquet"  # below labels/


@dataclass(frozen=True)
class Options:
    """`data` is a table with the id and the label; `window` is "" for whatever was scored last."""

    data: str
    window: str = ""
    environment: str = "dev"
    on: str = PROCESSES


@dataclass(frozen=True)
class Scored:
    """What a `run` scored: `rows` lie in a window's production/ folder, or anywhere else, and `window` is "" then.

    `labels` is the folder in which their labels are kept.
    """

    run: Mapping[str, Any]
    rows: Path
    window: str
    labels: Path
    name: str


def label(repository: Repository, options: Options) -> int:
    """The exit code. Raises Failure for labels that can't be used, and a window that was not scored here."""
    with running.exclusively(repository):
        name = repository.names(options.environment).pipeline("inference")
        scored = _scored(repository, name, options.window)
        given = _taken(repository, options, scored)
        definition = definitions.definition(repository, options.environment, "inference")
        known = {**scored.run["parameters"], "LabelledData": given, "LabelsVersion": "local"}
        values = definitions.values(definition, known, ())
        execution = scored.run["execution"]
        order = Order(definition, name, values, selection=Selection((STEP,), execution))
        print(f"{scored.name} was scored in run {execution}; its predictions meet their labels", flush=True)
        finished = running.run(repository, order, local.make(repository, options.on))
    summary = Summary(repository, running.storage(repository), finished.steps)
    print()
    if finished.failed:
        local.failures(repository, finished)
        return 1
    local.lines(summary.labelled())
    local.lines(_decided(repository, scored, summary.drift(), finished.identity))
    local.lines(summary.places())
    return 0


def _scored(repository: Repository, pipeline: str, window: str) -> Scored:
    """What was scored last, of a window where one is named. Raises Failure where there is none."""
    last = ""
    for file in sorted((repository.local / "runs").glob("*/run.json"), reverse=True):
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if (record["pipeline"], record["state"]) != (pipeline, "done") or "ScoreFeatures" not in record["steps"]:
            continue
        found = _of(repository, record)
        if window in ("", found.window):
            return found
        last = last or found.name
    other = f" The last scoring was of {last}: leave WINDOW= out for its labels." if last else ""
    window = window or repository.window()
    raise Failure(
        f"window {window} was not scored here: put its rows into data/{window}/production/, run `make score`, and give "
        f"the labels then.{other}"
    )


def _of(repository: Repository, record: Mapping[str, Any]) -> Scored:
    path = running.storage(repository).path(record["parameters"]["ProductionData"])
    rows, data = Path(os.path.normpath(path)), repository.root / "data"
    if rows.name == "production" and rows.parent != data and rows.is_relative_to(data):
        window = rows.parent.relative_to(data).as_posix()
        return Scored(record, rows, window, rows.parent / "labels", f"window {window}")
    labels = repository.local / "labels" / record["execution"]
    return Scored(record, rows, "", labels, repository.shown(rows))


def _taken(repository: Repository, options: Options, scored: Scored) -> str:
    """The URI of the labels, which are kept; a window's rows that have one are there to learn from. Raises Failure."""
    if not options.data:
        raise Failure("DATA=file is needed: a table with the id of each scored row, and its label.")
    source = Path(options.data).expanduser().absolute()
    if not source.exists():
        raise Failure(f"{options.data} does not exist.")
    if not scored.rows.exists():
        raise Failure(f"{repository.shown(scored.rows)} was scored, and is gone: put it back, or score again.")
    case = usecase.load(repository.root / "usecase.toml")
    try:
        (_by_id if case.data.id else _by_row)(case, source, scored)
    except InputError as error:
        raise Failure(str(error)) from None
    return scored.labels.as_uri()


def _by_row(case: UseCase, source: Path, scored: Scored) -> None:
    """Without an id only the scored files themselves tell which row is which, so they are kept as they are.

    Files kept earlier go where they come again, or where other rows have been scored since. Raises InputError.
    """
    new = {_stem(file): file for file in files.find(source)}
    if not _same_rows(case, source, scored.rows):
        raise InputError(
            f"[data] id is empty, so labels and predictions meet by file and row number, and {source.name} holds other "
            f"rows than those that were scored of {scored.name}; give the scored files with the label added, under the "
            "same names, or give the table an id."
        )
    if source.resolve().is_relative_to(scored.labels.resolve()):
        return
    scored.labels.mkdir(parents=True, exist_ok=True)
    for old in [file for file in scored.labels.rglob("*") if file.name.lower().endswith(files.KINDS)]:
        if _stem(old) in new or not _same_rows(case, old, scored.rows):
            old.unlink()
    for file in new.values():
        shutil.copy(file, scored.labels / file.name)


def _stem(file: Path) -> str:
    return file.name.split(".")[0]


def _same_rows(case: UseCase, source: Path, scored: Path) -> bool:
    """Whether all rows are scored ones, by their file's name, their number in it, and what they hold."""
    names = [raw.NO_ID, *(column.name for column in case.columns)]
    try:
        first, second = (raw.read(place, case).frame.select(names) for place in (source, scored))
    except InputError:
        return False
    other = first.join(second, on=names, how="anti", nulls_equal=True).select(pl.len())
    return not other.collect(engine="streaming").item()


def _by_id(case: UseCase, source: Path, scored: Scored) -> None:
    """Labels that come again replace earlier ones; a window's rows, with the label, become rows to learn from."""
    name, target = case.data.id, case.data.label
    told, broken = _read(case, source)
    tables = [_rows(case, file) for file in files.find(scored.rows)]
    rows = pl.concat(tables, how="diagonal_relaxed").drop(target, strict=False)
    if told.join(rows, on=name, how="semi").is_empty():
        shown = ", ".join(repr(value) for value in told[name].head(3))
        known = ", ".join(repr(value) for value in rows[name].head(3))
        raise InputError(
            f"{source.name}: none of its {told.height:,} ids ({shown} …) is among the {rows.height:,} rows that were "
            f"scored ({known} …); is it the table of {scored.name}?"
        )
    kept = scored.labels / LABELS
    strangers = told.join(rows, on=name, how="anti").height
    told_of = f"{source.name}: {told.height:,} rows with labels, {strangers:,} of them of no scored row"
    if kept.is_file():
        before = pl.read_parquet(kept)
        both = before.join(told, on=name).filter(pl.col(target) != pl.col(f"{target}_right"))
        told = pl.concat([before.join(told, on=name, how="anti"), told], how="vertical_relaxed")
        told_of += f"; {told.height:,} with those of earlier files"
        told_of += (
            f", of which {both[name].n_unique():,} had another label that this file replaces" if len(both) else ""
        )
    told_of += f"; {broken:,} lines have too few or too many cells and tell nothing" if broken else ""
    _write(told, kept)
    if scored.window:
        learned = rows.join(_clear(case, kept), on=name, how="inner", maintain_order="left")
        _write(learned, scored.rows.parent / "train" / LABELLED)
        told_of += f"; {learned.height:,} rows to learn from are in data/{scored.window}/train/{LABELLED}"
    print(told_of)


def _write(table: pl.DataFrame, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}")
    table.write_parquet(partial)
    partial.replace(file)


def _clear(case: UseCase, labels: Path) -> pl.DataFrame:
    """The ids with one label that the contract knows: what contradicts itself is not learned from."""
    name, target = case.data.id, case.data.label
    known = raw.read(labels, usecase.of_labels(case), labelled=True).frame.select(name, target).drop_nulls()
    clear = known.unique().group_by(name).agg(pl.col(target).first(), pl.len().alias("labels"))
    return clear.filter(pl.col("labels") == 1).select(name, target).collect()


def _read(case: UseCase, source: Path) -> tuple[pl.DataFrame, int]:
    """Id and label of a table, as text, and how many lines could not be cut into cells.

    Raises InputError for a table without them, or without a label that is known.
    """
    name, target = case.data.id, case.data.label
    tables = []
    for file in files.find(source):
        frame = files.scan(file, case.data)
        columns = frame.collect_schema()
        if absent := [column for column in (name, target) if column not in columns]:
            own = [column for column in columns if not column.startswith("__")]
            has = listed(map(repr, own), 20) + unlike(absent, own)
            wanted = f"labels are a table with {name!r} and {target!r}"
            raise InputError(f"{file.name} has no column {absent[0]!r}: {wanted}, and this one has {has}.")
        tables.append(frame.select(raw.as_text(column, case.data.decimal).alias(column) for column in (name, target)))
    told = pl.concat(tables).collect()
    read = raw.read(source, usecase.of_labels(case), labelled=True).frame
    known, broken = read.select(pl.col(target).count(), pl.col(raw.RAGGED).count()).collect().row(0)
    if not known:
        shown = ", ".join(repr(value) for value in told[target].unique(maintain_order=True).head(3))
        wanted = "a number" if case.data.task == "regression" else f"one of {listed(case.data.classes)}"
        raise InputError(f"{source.name}: column {target!r} holds {shown}, and a label is {wanted}.")
    return told, broken


def _rows(case: UseCase, file: Path) -> pl.DataFrame:
    """A production file's rows as they are, their id as text."""
    frame, name = files.scan(file, case.data), case.data.id
    own = [column for column in frame.collect_schema() if not column.startswith("__")]
    return frame.select(own).with_columns(raw.as_text(name, case.data.decimal).alias(name)).collect()


def _decided(repository: Repository, scored: Scored, report: Mapping[str, Any], identity: str) -> Iterator[str]:
    """What the loop would decide in an account, where this is the first window that it sees."""
    from batchloop.control import reports  # noqa: PLC0415 - the control plane's
    from batchloop.control.decision import Circumstances, decide  # noqa: PLC0415
    from batchloop.control.memory import Memory, Settings  # noqa: PLC0415
    from batchloop.control.reports import RunChanged  # noqa: PLC0415

    if not (window := scored.window):
        yield f"{scored.name} is no window: the loop in an account decides by data/<window>/production/ only"
        return
    run = scored.run
    rules, now = Settings.of(repository.tables()), datetime.now(UTC)
    released = (cache.released(repository.release) or {}).get("artifacts", {}).get("baseline", "")
    changed = RunChanged(identity, run["pipeline"], "Succeeded", now.isoformat(timespec="seconds"))
    seen = reports.observation(report, changed, window, run["parameters"]["Baseline"], rules.minimum_rows)
    around = Circumstances(now, frozenset({window}), baseline=reports.mark(released) if released else "")
    yield f"in an account the loop would say: {decide(Memory(), seen, rules, around).reason}"
