"""Random tables with every trap through adopt, train, score and label: no row is lost or added without a word."""

import gzip
import io
import json
import os
import re
import tempfile
import zipfile
from collections import defaultdict
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from batchloop import labelling
from batchloop.container import files, raw
from batchloop.container.usecase import UseCase
from batchloop.container.values import canonical
from batchloop.contract.flow import Flow, Scored
from batchloop.repository import Repository
from plumbing import hostile_tables as hostile
from plumbing.adopted import Adopted
from plumbing.hostile_tables import Case, World

TABLES = 12  # enough for every entry to come
LONG = os.environ.get("HOSTILE_TABLES", "")  # so many tables are drawn anew, a second each, and a bad one made smaller
PARTS = ("train", "validation", "test")
QUICK = settings(max_examples=3, derandomize=True, phases=[Phase.generate])
WRONG = {"wrong cells": "'abc' is not a number", "missing ids": "the id is missing"}
cases = st.builds(
    Case,
    columns=st.lists(st.sampled_from(sorted(hostile.COLUMNS)), max_size=7, unique=True).map(tuple),
    seed=st.integers(0, 2**16),
    **{slot: st.sampled_from(options) for slot, options in hostile.SLOTS.items()},
)


@pytest.mark.parametrize("number", range(TABLES))
def test_every_row_is_answered_or_reported_and_csv_and_parquet_say_the_same(number: int, tmp_path: Path) -> None:
    follow(hostile.rotated(number), tmp_path)


@settings(settings(max_examples=int(LONG)) if LONG else QUICK, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases)
def test_so_do_tables_of_which_everything_is_drawn(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        follow(case, Path(folder))


def follow(case: Case, folder: Path) -> None:
    world = hostile.world(case)
    case = world.case
    names = list(world.truth)
    asked = [name for name in names if name != world.label or case.surprise != "no label" or not world.key]
    asked = asked[::-1] if case.surprise == "other order" else asked
    learned, batch = range(world.learned), world.batch
    text, own = folder / "text", folder / "own"
    for place in (text, own):
        place.mkdir()
    first = Adopted(text / "flow").empty()
    adopted(first, world, hostile.csv_files(world, learned, text / "learned", names))
    second = Adopted(own / "flow").empty()
    adopted(second, world, hostile.parquet_files(world, learned, own / "learned", names))
    assert contract(first.case()) == contract(second.case())
    check_types(world, first.case())
    lines = hostile.csv_files(world, batch, text / "batch", asked, odd=True)
    cells = hostile.parquet_files(world, batch, own / "batch", asked)
    for flow in (first, second):
        flow.learn()
        check_rows(flow, world)
        check_slices(flow)
    assert parts(first) == parts(second)
    check_values(world, first.case(), lines)
    check_values(world, first.case(), cells)
    check_values(world, second.case(), cells)
    answers = [scored(flow, world, data) for flow, data in ((first, lines), (first, cells), (second, cells))]
    for other in answers[1:]:
        same(answers[0].predictions, other.predictions)


def adopted(flow: Adopted, world: World, data: Path) -> None:
    """A question or a refusal names an option, and the user knows the answer."""
    said, answers = world.options(), world.answers()
    while True:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = flow.adopt(data, *said)
        if code == 0:
            break
        asked = [name for name in re.findall(r"\b([A-Z]+)=", err.getvalue()) if name in answers]
        offered = re.findall(r"TYPES='([^']+)' to read them", err.getvalue())
        assert asked or offered, err.getvalue()
        said.append(f"--{asked[0].lower()}={answers.pop(asked[0])}" if asked else f"--types={offered[0]}")
    unlabelled = sum(value is None for value in world.truth[world.label][: world.learned])
    assert f": {world.learned:,} rows, " in out.getvalue()
    assert not unlabelled or f"{unlabelled:,} rows have no label" in out.getvalue()
    text = (flow.root / "usecase.toml").read_text(encoding="utf-8")
    text = text.replace("[columns]", "bad_rows = 0.1\n[columns]", 1)
    sliced = [column.name for column in flow.case().columns if column.type in ("number", "category", "boolean")]
    text += f"\n[slices]\ncolumns = {json.dumps(sliced[world.case.seed % len(sliced) :][:2], ensure_ascii=False)}\n"
    text += "minimum_rows = 20\n"
    (flow.root / "usecase.toml").write_text(text, encoding="utf-8")


def contract(case: UseCase) -> dict[str, Any]:
    """What has to be the same, whichever file it was learned from: all but how values are written."""
    data = case.data
    classes = [{"0": "false", "1": "true"}.get(name, name) for name in map(canonical, data.classes)]
    columns = [(column.name, column.type, column.drift) for column in case.columns]
    return {"data": (data.task, data.id, data.label, classes, data.time), "columns": columns, "split": case.split}


def check_types(world: World, case: UseCase) -> None:
    found = {column.name: column.type for column in case.columns}
    wrong = {
        name: found.get(name, "")
        for name, column in world.columns.items()
        if column.types and found.get(name, "") not in column.types
    }
    assert wrong == {}
    label = hostile.LABELS[world.case.label]
    assert (case.data.task, case.data.id) == (label.task, world.key)
    assert case.split.group == ("" if "group" not in world.case.role else world.group)


def check_rows(flow: Flow, world: World) -> None:
    """Every row with a label is in one part, or kept from training, or said to lie between the parts of the time."""
    case = flow.case()
    train, aside = (rows(flow.root / "data" / "adopted" / part, case) for part in ("train", "production"))
    kept = [] if aside == train else aside
    assert len(train) + len(kept) == world.learned
    labelled = sum(value is not None for value in train)
    found = sum(map(len, parts(flow).values()))
    assert found == labelled or (world.case.role == "time and group" and 0 < found < labelled)


def check_slices(flow: Flow) -> None:
    """Each row of the test part is in one slice of a column."""
    file = flow.root / "jobs" / "algorithm-train" / "output" / "data" / "evaluation.json"
    counted: dict[str, int] = defaultdict(int)
    for line in json.loads(file.read_text(encoding="utf-8"))["slices"]["lines"]:
        counted[line["column"]] += line["rows"]
    assert set(counted.values()) == {len(parts(flow)["test"])}


def rows(folder: Path, case: UseCase) -> list[Any]:
    """The labels of the rows in a folder."""
    found: list[Any] = raw.read(folder, case, labelled=True).frame.collect()[case.data.label].to_list()
    return found


def parts(flow: Flow) -> dict[str, list[str]]:
    """The ids of each part."""
    output, name = flow.root / "jobs" / "processing-train" / "processing" / "output", flow.case().data.id or raw.NO_ID
    return {part: pl.read_parquet(output / part / "*.parquet")[name].to_list() for part in PARTS}


def check_values(world: World, case: UseCase, data: Path) -> None:
    """A batch is read as what it says."""
    frame = raw.read(data, case).frame.collect()
    assert frame.height == len(world.batch)
    whole = frame[raw.ERROR].is_null()
    assert whole.sum() == frame.height - (hostile.FEW if spoiled(world, data) else 0)
    for column in case.columns:
        truth = [expected(column.type, world.truth[column.name][n], world.zone) for n in world.batch]
        found = frame[column.name].filter(whole)
        assert_series_equal(found, pl.Series(column.name, truth).filter(whole), check_dtypes=False, rel_tol=1e-14)
    if world.key:
        keys = pl.Series([str(world.truth[world.key][n]) for n in world.batch])
        assert frame[world.key].filter(whole).to_list() == keys.filter(whole).to_list()


def spoiled(world: World, data: Path) -> bool:
    """Whether some rows of these files say that they can't be used."""
    if world.case.surprise == "missing ids":
        return bool(world.key)
    return world.case.surprise in ("short lines", "long lines", "wrong cells") and "text" in data.parts


def expected(kind: str, value: Any, zone: tzinfo) -> Any:
    """A value as a column of the contract has it."""
    if value is None or kind == "boolean":
        return value
    if kind == "text":
        return str(value)
    if kind == "category":
        return canonical(str(value).strip())
    return hours(value) if kind == "number" else moment(value, zone)


def moment(value: Any, zone: tzinfo) -> datetime:
    """What the clocks of a zone showed."""
    if isinstance(value, str):
        return datetime.strptime(value, "%Y-%m-%d" if "-" in value else "%d.%m.%Y")
    if isinstance(value, int):
        return datetime.fromtimestamp(value, zone).replace(tzinfo=None)
    if not isinstance(value, datetime):
        return datetime.combine(value, time())
    return (value.astimezone(zone) if value.tzinfo else value).replace(tzinfo=None)


def hours(value: Any) -> float:
    """A number, or a clock or a duration in hours."""
    if isinstance(value, time):
        return value.hour + value.minute / 60
    if isinstance(value, str):
        return -float(value.strip("()")) if value.startswith("(") else float(value.split()[0])
    return value / timedelta(hours=1) if isinstance(value, timedelta) else float(value)


def scored(flow: Flow, world: World, data: Path) -> Scored:
    """The batch with its labels: rows in are rows out and rows reported."""
    folder = data.parent / f"labels-{data.suffix}-{flow.root.parent.name}"
    folder.mkdir()
    window = labelling.Scored({}, data, "", folder / "kept", data.name)
    own = not world.key or (world.case.delivery == "scored files" and world.case.surprise != "no label")
    told = [pair for delivery in hostile.deliveries(world) for pair in delivery] if world.key else []
    sent = [data] if own else [
        hostile.labels_file(world, delivery, folder / f"labels-{number}", plain=flow.root.parent.name == "own")
        for number, delivery in enumerate(hostile.deliveries(world))
    ]  # fmt: skip
    for file in sent:
        with redirect_stdout(io.StringIO()):
            labelling._taken(Repository(flow.root), str(file), window)
    found = flow.score(data, labels=window.labels)
    bad = hostile.FEW if spoiled(world, data) else 0
    cut = bad if world.case.surprise in ("short lines", "long lines") else 0
    errors = found.predictions.filter(pl.col("error").is_not_null())
    assert found.predictions.height == len(world.batch)
    assert errors.height == bad == found.summary["broken"]
    assert all(("cells" if cut else WRONG[world.case.surprise]) in reason for reason in errors["error"])
    assert found.report["rows"] == len(world.batch) - cut  # nobody knows what the cells of a cut line mean
    realised = found.report["realised"]
    if world.key:
        assert realised["rows"] == len(usable(world, found.predictions, told)), realised
    else:
        assert realised["rows"] == len(world.batch) - bad
    kept = sum(files.scan(file, flow.case().data).collect().height for file in files.find(window.labels))
    assert realised["rows"] + sum(realised["left_out"].values()) == kept
    return found


def usable(world: World, predictions: pl.DataFrame, told: list[tuple[Any, Any]]) -> set[str]:
    """The ids with one label and one answer."""
    labels, answers = defaultdict(set), defaultdict(set)
    for key, label in told:
        if key is not None and label is not None:
            labels[str(key)].add(label)
    for row in predictions.rows(named=True):
        answers[row[world.key]].add((row["error"], *(value for name, value in row.items() if name != world.key)))
    single = {key for key, each in answers.items() if len(each) == 1 and next(iter(each))[0] is None}
    return {key for key, each in labels.items() if len(each) == 1 and key in single}


def same(first: pl.DataFrame, second: pl.DataFrame) -> None:
    """The answers to the rows that both files hold whole."""
    whole = first["error"].is_null()
    left, right = (answers(frame).filter(whole) for frame in (first, second))
    assert left.rows() == right.rows()


def answers(predictions: pl.DataFrame) -> pl.DataFrame:
    """The predictions, 0 and 1 called as booleans are."""
    said = pl.col("prediction").cast(pl.String).replace({"0": "false", "1": "true"})
    return predictions.drop("error").with_columns(said)


@pytest.mark.parametrize("kinds", [("csv", "parquet"), ("parquet", "csv.gz"), ("csv", "zip", "parquet")])
def test_files_of_several_kinds_are_one_table(kinds: tuple[str, ...], tmp_path: Path) -> None:
    """The same as all of it in one file: groups stay together, and each row is answered."""
    count = 900
    world = {
        "key": [f"k{n:04}" for n in range(count)],
        "patient_id": [f"p{n // 3}" for n in range(count)],
        "x": [n * 37 % 101 for n in range(count)],
        "note": [f"the parcel came {('late', 'early', 'never')[n % 3]} and number {n} was open" for n in range(count)],
        "day": [f"2024-{1 + n % 12:02}-{1 + n % 28:02}" for n in range(count)],
        "y": ["yes" if n * 37 % 101 > 50 else "no" for n in range(count)],
    }
    frame = pl.DataFrame(world)
    found = []
    for name, ends in (("one", ("csv",)), ("several", kinds)):
        folder = tmp_path / name
        folder.mkdir()
        size = -(-count // len(ends))
        for number, end in enumerate(ends):
            written(frame[number * size : (number + 1) * size], folder / f"part-{number}.{end}")
        flow = Adopted(tmp_path / f"flow-{name}").empty()
        assert flow.adopt(folder, "--label", "y", "--group", "patient_id") == 0
        flow.learn()
        groups = [set(map(key_group, keys)) for keys in parts(flow).values()]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        scored = flow.score(folder).predictions
        assert (scored.height, scored["error"].null_count()) == (count, count)
        found.append((contract(flow.case()), scored["key"].to_list()))
    assert found[0] == found[1]


def key_group(key: str) -> int:
    return int(key[1:]) // 3


def written(table: pl.DataFrame, file: Path) -> None:
    if file.suffix == ".parquet":
        table.with_columns(pl.col("day").str.to_date()).write_parquet(file)
        return
    text = table.write_csv().encode()
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text))
    elif file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("table.csv", text)
    else:
        file.write_bytes(text)
