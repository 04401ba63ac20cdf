"""`make label`: what predictions were worth, now that the labels of the scored rows are here."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from batchloop import local
from batchloop.container import files, raw, realised, usecase
from batchloop.container.job import InputError, column_hint, listed
from batchloop.container.usecase import UseCase
from batchloop.engine import running
from batchloop.engine.graph import Selection
from batchloop.engine.running import Order, RunSummary
from batchloop.pipelines import definitions
from batchloop.repository import LABELLED, Repository

STEP = "DetectDrift"
LABELS = "labels.parquet"  # below labels/


@dataclass(frozen=True)
class Scored:
    """What a `run` scored: `rows`, of a `window` ("" for none), and the folder in which their `labels` are kept."""

    run: Mapping[str, Any]
    rows: Path
    window: str
    labels: Path
    name: str


def label(repository: Repository, data: str, window: str, on: str) -> int:
    """Measure by `data`, ids with labels, what was scored last or `window`; the exit code. Raises InputError."""
    with running.exclusively(repository):
        name = repository.names().pipeline("inference")
        scored = _scored(repository, name, window)
        given = _taken(repository, data, scored)
        definition = definitions.definition(repository, "inference")
        known = {**scored.run["parameters"], "LabelledData": given, "LabelsVersion": "local"}
        values = definitions.values(definition, known, ())
        execution = scored.run["execution"]
        order = Order(definition, name, values, selection=Selection((STEP,), execution))
        print(f"{scored.name} was scored in run {execution}; its predictions meet their labels", flush=True)
        finished = running.run(repository, order, local.backend(repository, on))
    summary = RunSummary(repository, finished)
    if finished.failed:
        local.report(repository, finished)
        return 1
    print("", *summary.labelled(), *summary.places(), sep="\n")
    return 0


def _scored(repository: Repository, pipeline: str, window: str) -> Scored:
    """What was scored last, of a window where one is named. Raises InputError where there is none."""
    last = ""
    for record in running.records(repository, pipeline):
        if record["state"] != "done" or "ScoreFeatures" not in record["steps"]:
            continue
        found = _of(repository, record)
        if window in ("", found.window):
            return found
        last = last or found.name
    other = f" The last scoring was of {last}: leave WINDOW= out for its labels." if last else ""
    window = window or repository.window()
    first = f"put its rows into data/{window}/production/, run `make score`, and give the labels then"
    raise InputError(f"window {window} was not scored here: {first}.{other}")


def _of(repository: Repository, record: Mapping[str, Any]) -> Scored:
    path = running.storage(repository).path(record["parameters"]["ProductionData"])
    rows, data = Path(os.path.normpath(path)), repository.root / "data"
    if rows.name == "production" and rows.parent != data and rows.is_relative_to(data):
        window = rows.parent.relative_to(data).as_posix()
        return Scored(record, rows, window, rows.parent / "labels", f"window {window}")
    labels = repository.local / "labels" / record["execution"]
    return Scored(record, rows, "", labels, repository.shown(rows))


def _taken(repository: Repository, data: str, scored: Scored) -> str:
    """The URI of the labels, which are kept; a window's rows that have one can be learned from. Raises InputError."""
    if not data:
        raise InputError("DATA=file is needed: a table with the id of each scored row, and its label.")
    source = Path(data).expanduser().absolute()
    if not scored.rows.exists():
        raise InputError(f"{repository.shown(scored.rows)} was scored, and is gone: put it back, or score again.")
    case = usecase.load(repository.root / "usecase.toml")
    ids = set[str]()
    if case.data.id and source.is_dir() and any(column.type == "image" for column in case.columns):
        scan = (_columns(case, file, [case.data.id], case.data.id) for file in files.find(scored.rows))
        ids = {*pl.concat(scan).to_series().drop_nulls()}
    source = Path(local.as_table(repository, data, True, ids))
    (_by_id if case.keys() else _by_row)(case, source, scored)
    return definitions.folder(scored.labels)


def _by_row(case: UseCase, source: Path, scored: Scored) -> None:
    """Without an id only the scored files themselves tell which row is which, so they are kept as they are.

    Files kept earlier go where they come again, or where other rows have been scored since. Raises InputError.
    """
    new = {file.name.split(".")[0]: file for file in files.find(source)}
    if not realised.same_rows(case, source, scored.rows):
        other = f"{source.name} holds other rows than those that were scored of {scored.name}"
        remedy = "give the scored files under the same names, with the label added, or give the table an id"
        raise InputError(f"[data] id is empty, so rows meet by file and number, and {other}; {remedy}.")
    if source.resolve().is_relative_to(scored.labels.resolve()):
        return
    scored.labels.mkdir(parents=True, exist_ok=True)
    for old in [file for file in scored.labels.rglob("*") if file.name.lower().endswith(files.KINDS)]:
        if old.name.split(".")[0] in new or not realised.same_rows(case, old, scored.rows):
            old.unlink()
    for file in new.values():
        shutil.copy(file, scored.labels / f".{file.name}")  # no data until it is whole
        (scored.labels / f".{file.name}").replace(scored.labels / file.name)


def _by_id(case: UseCase, source: Path, scored: Scored) -> None:
    """Labels that come again replace earlier ones; a window's rows, with the label, become rows to learn from."""
    names, target = list(case.keys()), case.data.label
    labels, broken = _labels(case, source)
    tables = [_columns(case, file, [], *names) for file in files.find(scored.rows)]
    rows = pl.concat(tables, how="diagonal_relaxed")
    rows = rows if case.series else rows.drop(target, strict=False)
    unknown = labels.join(rows, on=names, how="anti").height
    if unknown == labels.height:
        shown = pl.concat_str(pl.col(names).fill_null("?"), separator="|")
        given, known = (
            ", ".join(repr(value) for value in table.head(3).select(shown).to_series()) for table in (labels, rows)
        )
        others = f"among the {rows.height:,} rows that were scored ({known} …); is it the table of {scored.name}"
        raise InputError(f"{source.name}: none of its {labels.height:,} ids ({given} …) is {others}?")
    said = [f"{source.name}: {labels.height:,} rows with labels, {unknown:,} of them of no scored row"]
    kept = scored.labels / LABELS
    if kept.is_file():
        earlier = pl.read_parquet(kept, glob=False)
        both = earlier.join(labels, on=names).filter(pl.col(target) != pl.col(f"{target}_right"))
        changed = both.select(names).n_unique()
        labels = pl.concat([earlier.join(labels, on=names, how="anti"), labels], how="vertical_relaxed")
        replaced = f", of which {changed:,} had another label that this file replaces" if changed else ""
        said.append(f"{labels.height:,} with those of earlier files{replaced}")
    if broken:
        said.append(f"{broken:,} lines have too few or too many cells and tell nothing")
    _write(labels, kept)
    if scored.window:  # an id whose labels contradict each other, or are unknown, is not learned from
        target_file = scored.rows.parent / "train" / LABELLED
        learned = _with_past(case, rows, labels, target_file) if case.series else _to_learn(case, rows, kept)
        _write(learned, target_file)
        said.append(f"{learned.height:,} rows to learn from are in data/{scored.window}/train/{LABELLED}")
    print("; ".join(said))


def _to_learn(case: UseCase, rows: pl.DataFrame, kept: Path) -> pl.DataFrame:
    """The rows whose ids have one label each."""
    frame = raw.read(kept, usecase.of_labels(case), labelled=True).frame
    pairs = frame.select(case.data.id, case.data.label).drop_nulls().unique()
    clear = pairs.filter(pl.len().over(case.data.id) == 1).collect()
    return rows.join(clear, on=case.data.id, how="inner", maintain_order="left")


def _with_past(case: UseCase, rows: pl.DataFrame, labels: pl.DataFrame, file: Path) -> pl.DataFrame:
    """A window of series: its past, and the rows to come that have one label, but what files beside `file` hold."""
    names, label = list(case.keys()), pl.col(case.data.label).cast(pl.String)
    one = labels.drop_nulls().unique().filter(pl.len().over(names) == 1).with_columns(label.alias("__came"))
    both = rows.with_columns(label).join(one.drop(case.data.label), on=names, how="left", maintain_order="left")
    known = pl.coalesce(case.data.label, "__came").alias(case.data.label)
    learned = both.with_columns(known).drop("__came").drop_nulls(case.data.label)
    for other in file.parent.glob("*"):
        if other.name != file.name and other.name.lower().endswith(files.KINDS):
            learned = learned.join(_columns(case, other, names, *names), on=names, how="anti", maintain_order="left")
    return learned


def _write(table: pl.DataFrame, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}")
    table.write_parquet(partial)
    partial.replace(file)


def _columns(case: UseCase, file: Path, names: list[str], *texts: str) -> pl.DataFrame:
    """Some columns of a file as they are, or all of its own, and those of `texts` as text. Raises InputError."""
    frame = files.scan(file, case.data)
    own = [column for column in frame.collect_schema() if not column.startswith("__")]
    if absent := [column for column in names if column not in own]:
        has = listed(map(repr, own), 20) + column_hint(absent, own)
        wanted = f"labels are a table with {' and '.join(map(repr, names))}"
        raise InputError(f"{file.name} has no column {absent[0]!r}: {wanted}, and this one has {has}.")
    read = (raw.as_text(column, case.data.decimal).alias(column) for column in texts)
    return frame.select(names or own).with_columns(read).collect()


def _labels(case: UseCase, source: Path) -> tuple[pl.DataFrame, int]:
    """Id and label of a table, as text, and how many lines are broken. Raises InputError where no label is known."""
    names, target = [*case.keys(), case.data.label], case.data.label
    labels = pl.concat([_columns(case, file, names, *names) for file in files.find(source)])
    frame = raw.read(source, usecase.of_labels(case), labelled=True).frame
    known, broken = frame.select(pl.col(target).count(), pl.col(raw.RAGGED).count()).collect().row(0)
    if not known:
        shown = ", ".join(repr(value) for value in labels[target].unique(maintain_order=True).head(3))
        wanted = "a number" if not case.data.classes else f"one of {listed(case.data.classes)}"
        raise InputError(f"{source.name}: column {target!r} holds {shown}, and a label is {wanted}.")
    return labels, broken
