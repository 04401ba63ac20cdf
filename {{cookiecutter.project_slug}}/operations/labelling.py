"""`operations label`: what the predictions of a window were worth, now that its labels are here."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from operations import backends, compiling, ending, parameters
from operations.engine import registry, running
from operations.engine.running import Order
from operations.engine.selecting import Selection
from operations.engine.summary import Summary
from operations.failures import Failure
from operations.options import PROCESSES
from operations.repository import Repository
from runtime import files, raw, usecase
from runtime.failures import InputError, listed
from runtime.usecase import UseCase

if TYPE_CHECKING:
    import polars as pl

STEP = "DetectDrift"
LABELS, LEARNING = "labels.parquet", "labelled.parquet"  # below labels/ and train/


@dataclass(frozen=True)
class Options:
    """`data` is a table with the id and the label; `window` is "" for the one in use."""

    data: str
    window: str = ""
    environment: str = "dev"
    on: str = PROCESSES


def label(repository: Repository, options: Options) -> int:
    """The exit code. Raises Failure for labels that can't be used, and a window that was not scored here."""
    with running.exclusively(repository):
        window = options.window or repository.window()
        name = repository.pipeline(options.environment, "inference")
        run = _scored(repository, name, window)
        given = _taken(repository, options, window)
        definition = compiling.definition(repository, options.environment, "inference")
        known = run["parameters"] | {"LabelledData": given, "LabelsVersion": "local"}
        values = parameters.values(definition, known, ())
        order = Order(definition, name, values, selection=Selection((STEP,), run["execution"]))
        print(f"window {window} was scored in run {run['execution']}; its predictions meet their labels", flush=True)
        finished = running.run(repository, order, backends.make(repository, options.on))
    summary = Summary(repository, running.storage(repository), finished.steps)
    print()
    if finished.failed:
        ending.failures(repository, finished)
        return 1
    ending.lines(summary.labelled())
    ending.lines(_decided(repository, window, run, summary.drift(), finished.identity))
    ending.lines(summary.places())
    return 0


def _scored(repository: Repository, pipeline: str, window: str) -> dict[str, Any]:
    """The record of the newest run that scored a window. Raises Failure where there is none."""
    wanted, last = (repository.root / "data" / window / "production").as_uri(), ""
    for file in sorted((repository.local / "runs").glob("*/run.json"), reverse=True):
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if (record["pipeline"], record["state"]) != (pipeline, "done") or "ScoreFeatures" not in record["steps"]:
            continue
        if record["parameters"]["ProductionData"] == wanted:
            return record
        last = last or str(record["parameters"]["ProductionData"])
    other = f" The last scoring was of {last}: put those rows there." if last else ""
    raise Failure(
        f"window {window} was not scored here: put its rows into data/{window}/production/, run `make score`, and give "
        f"the labels then, with WINDOW={window} where it is not the window in use.{other}"
    )


def _taken(repository: Repository, options: Options, window: str) -> str:
    """The URI of the labels, which are kept with the window, and whose rows are there to learn from. Raises Failure."""
    if not options.data:
        raise Failure("DATA=file is needed: a table with the id of each scored row, and its label.")
    source = Path(options.data).expanduser().absolute()
    if not source.exists():
        raise Failure(f"{options.data} does not exist.")
    case, folder = usecase.load(repository.root / "usecase.toml"), repository.root / "data" / window
    try:
        return _by_id(case, source, folder) if case.data.id else _by_row(source, folder)
    except InputError as error:
        raise Failure(str(error)) from None


def _by_row(source: Path, folder: Path) -> str:
    """Without an id only the scored files themselves tell which row is which, so they are kept as they are."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for file in files.find(source):
        shutil.copy(file, folder / "labels" / file.name)
    return (folder / "labels").as_uri()


def _by_id(case: UseCase, source: Path, folder: Path) -> str:
    """Labels that come again replace earlier ones; their production rows, with the label, become rows to learn from."""
    import polars as pl  # noqa: PLC0415 - takes a while to import

    name, target = case.data.id, case.data.label
    told = _read(case, source)
    tables = [_rows(case, file) for file in files.find(folder / "production")]
    rows = pl.concat(tables, how="diagonal_relaxed").drop(target, strict=False)
    if told.join(rows, on=name, how="semi").is_empty():
        shown = ", ".join(repr(value) for value in told[name].head(3))
        known = ", ".join(repr(value) for value in rows[name].head(3))
        raise InputError(
            f"{source.name}: none of its {told.height:,} ids ({shown} …) is among the {rows.height:,} rows that were "
            f"scored ({known} …); is it the table of this window?"
        )
    kept = folder / "labels" / LABELS
    if kept.is_file():
        earlier = pl.read_parquet(kept).join(told, on=name, how="anti")
        told = pl.concat([earlier, told], how="vertical_relaxed")
    learned = rows.join(told.unique(name, keep="last"), on=name, how="inner", maintain_order="left")
    for table, file in ((told, kept), (learned, folder / "train" / LEARNING)):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}")
        table.write_parquet(partial)
        partial.replace(file)
    without = told.height - learned.height
    print(
        f"{told.height:,} rows with labels, {without:,} of them of no scored row; {learned.height:,} rows to learn "
        f"from are in data/{folder.name}/train/{LEARNING}"
    )
    return kept.parent.as_uri()


def _read(case: UseCase, source: Path) -> "pl.DataFrame":
    """Id and label of a table, as text. Raises InputError for one without them, or without a label that is known."""
    import polars as pl  # noqa: PLC0415

    name, target = case.data.id, case.data.label
    tables = []
    for file in files.find(source):
        frame = _scan(case, file)
        columns = frame.collect_schema()
        if absent := [column for column in (name, target) if column not in columns]:
            has = listed((repr(column) for column in columns if not column.startswith("__")), 20)
            wanted = f"labels are a table with {name!r} and {target!r}"
            raise InputError(f"{file.name} has no column {absent[0]!r}: {wanted}, and this one has {has}.")
        tables.append(frame.select(raw.as_text(column, columns[column]).alias(column) for column in (name, target)))
    told = pl.concat(tables).collect()
    known = raw.read(source, usecase.of_labels(case), labelled=True).frame.select(pl.col(target).is_not_null().sum())
    if not known.collect().item():
        shown = ", ".join(repr(value) for value in told[target].unique(maintain_order=True).head(3))
        wanted = "a number" if case.data.task == "regression" else f"one of {listed(case.data.classes)}"
        raise InputError(f"{source.name}: column {target!r} holds {shown}, and a label is {wanted}.")
    return told


def _rows(case: UseCase, file: Path) -> "pl.DataFrame":
    """A production file's rows as they are, their id as text."""
    frame = _scan(case, file)
    name = case.data.id
    columns = frame.collect_schema()
    own = [column for column in columns if not column.startswith("__")]
    return frame.select(own).with_columns(raw.as_text(name, columns[name]).alias(name)).collect()


def _scan(case: UseCase, file: Path) -> "pl.LazyFrame":
    return files.scan(file, case.data)


def _decided(
    repository: Repository, window: str, run: Mapping[str, Any], report: Mapping[str, Any], identity: str
) -> Iterator[str]:
    """What the loop would decide in an account, where this is the first window that it sees."""
    from functions import reports  # noqa: PLC0415 - the control plane's
    from functions.decision import Circumstances, decide  # noqa: PLC0415
    from functions.events import RunChanged  # noqa: PLC0415
    from functions.memory import Memory, Settings  # noqa: PLC0415

    rules, now = Settings.of(repository.tables()), datetime.now(UTC)
    released = (registry.released(repository.release) or {}).get("artifacts", {}).get("baseline", "")
    changed = RunChanged(identity, run["pipeline"], "Succeeded", now.isoformat(timespec="seconds"))
    seen = reports.observation(report, changed, window, run["parameters"]["Baseline"], rules.minimum_rows)
    around = Circumstances(now, frozenset({window}), baseline=reports.mark(released) if released else "")
    yield f"in an account the loop would say: {decide(Memory(), seen, rules, around).reason}"
