"""Adopting tables whose rows belong to something, and what is kept from training for the first scoring."""

import datetime
import gzip
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.adopt import holdout
from batchloop.container import raw, usecase
from plumbing.test_adopt import BEFORE, asked, prove, run


def table(rows: int, **columns: Any) -> pl.DataFrame:
    """Rows with a label and two ordinary numbers that nothing explains, and whatever columns a test adds."""
    random = np.random.default_rng(1)
    base = {
        "amount": random.normal(100, 20, rows).round(2),
        "weight": random.normal(70, 9, rows).round(1),
        "target": [("yes", "no")[n] for n in random.integers(0, 2, rows)],
    }
    return pl.DataFrame(base | columns)


def visits(patients: int, each: int, name: str = "patient_id", noise: float = 0.0) -> pl.DataFrame:
    """Measurements and a label a patient, repeated in each visit; rows in no order."""
    random = np.random.default_rng(2)
    rows = patients * each
    order = random.permutation(rows) % patients
    measured = {f"lab_{n}": random.normal(size=patients)[order] + noise * random.normal(size=rows) for n in range(4)}
    labels = random.integers(0, 2, patients)[order]
    return pl.DataFrame(
        {name: [f"P{n:04}" for n in order]}
        | {key: values.round(3) for key, values in measured.items()}
        | {"target": [("no", "yes")[n] for n in labels]}
    )


def adopted(folder: Path, frame: pl.DataFrame | bytes, *options: str, name: str = "table.csv") -> dict[str, Any]:
    """The new usecase.toml of a table that must be adopted, proven to read what was placed."""
    (folder / "usecase.toml").write_text(BEFORE)
    file = folder / name
    if isinstance(frame, bytes):
        file.write_bytes(frame)
    else:
        frame.write_parquet(file) if name.endswith(".parquet") else frame.write_csv(file)
    assert run(folder, file, "--label", "target", *options) == 0
    prove(folder)
    return tomllib.loads((folder / "usecase.toml").read_text(encoding="utf-8"))


def placed(folder: Path) -> dict[str, pl.DataFrame]:
    """What training and scoring will read."""
    case = usecase.load(folder / "usecase.toml")
    parts = {part: folder / "data" / "adopted" / part for part in ("train", "production")}
    return {name: raw.read(path, case, labelled=True).frame.collect() for name, path in parts.items()}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "frame",
    [
        visits(300, 10),
        visits(300, 10, "patient"),
        visits(300, 10, "Customer No"),
        visits(1000, 3),
        visits(300, 10, noise=0.05),
        visits(60, 20, "machine_id"),
        visits(300, 10, "who"),  # told by what it holds
        visits(300, 10).with_columns(pl.Series("dose", np.random.default_rng(3).normal(size=3000))),
        visits(300, 10).with_columns(pl.col("patient_id").str.slice(1).cast(pl.Int64)),
    ],
)
def test_a_column_that_names_a_repeated_entity_becomes_the_group(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], frame: pl.DataFrame, kind: str
) -> None:
    found = adopted(tmp_path, frame, name=f"table.{kind}")
    name = frame.columns[0]
    assert found["split"] == {"method": "group", "group": name}
    assert name not in found["columns"]
    assert "rows of one stay in one part of the split; GROUP=none splits row by row" in capsys.readouterr().out
    parts = placed(tmp_path)
    assert not set(parts["train"][raw.GROUP]) & set(parts["production"][raw.GROUP])


@pytest.mark.parametrize("name", ["patient_id", "Patientennr", "Kundennummer", "key"])
def test_whose_measurements_they_are_is_the_group_where_it_tells_the_label(tmp_path: Path, name: str) -> None:
    """Five columns are measured anew in every row, three and the label are the patient's own."""
    random, who = np.random.default_rng(9), np.repeat(np.arange(200), 6)
    own, sick = random.normal(size=(200, 3)).round(2), random.integers(0, 2, 200)
    columns = {name: 20_000 + 7 * who, **{f"own {n}": own[who, n] for n in range(3)}}
    columns |= {f"measured {n}": random.normal(size=1200).round(3) for n in range(5)}
    found = adopted(tmp_path, pl.DataFrame({**columns, "target": sick[who]}).sample(1200, shuffle=True, seed=2))
    assert (found["split"]["method"], found["split"]["group"]) == ("group", name)
    assert name not in found["columns"]


def test_a_number_that_tells_the_label_is_no_group(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    points = random.integers(0, 150, 3000)
    others = {f"x{n}": random.normal(size=3000).round(3) for n in range(4)}
    found = adopted(tmp_path, pl.DataFrame({"points": points, **others, "target": (points > 75).astype(int)}))
    assert found["split"]["method"] == "random"


@pytest.mark.parametrize("name", ["year_built", "weight_g", "score"])
def test_a_number_from_which_others_are_derived_is_no_group(tmp_path: Path, name: str) -> None:
    value = np.random.default_rng(3).integers(100, 350, 3000)
    derived = {"twice": 2 * value, "part": value // 20, "target": np.where(value > 200, "yes", "no")}
    found = adopted(tmp_path, pl.DataFrame({name: value, **derived, "x": np.random.default_rng(4).normal(size=3000)}))
    assert found["split"]["method"] == "random"
    assert found["columns"][name]["type"] == "number"


def series(name: str, values: int, each: int, step: float = 1.0) -> pl.DataFrame:
    """A series of readings a value, one below the other, whose label changes within it."""
    who, when = np.repeat(np.arange(values), each), np.tile(np.arange(each), values)
    noise = np.random.default_rng(8).normal(size=who.size).round(3)
    late = (when + noise * each / 4 > each / 2).astype(int)
    return pl.DataFrame({name: who, "round": when * step, "reading": noise, "target": late})


@pytest.mark.parametrize(
    "frame", [series("unit", 40, 50), series("unit_nr", 80, 30), series("rig", 25, 60), series("subject#", 42, 40, 1.3)]
)
def test_rows_in_blocks_that_a_column_counts_are_a_series_each(tmp_path: Path, frame: pl.DataFrame) -> None:
    found = adopted(tmp_path, frame)
    assert found["split"] == {"method": "group", "group": frame.columns[0]}
    assert found["columns"]["round"]["type"] == "number"


@pytest.mark.parametrize("name", ["week", "Jahr"])
def test_a_part_of_the_calendar_is_no_series(tmp_path: Path, name: str) -> None:
    assert adopted(tmp_path, series(name, 52, 40))["split"]["method"] == "random"


@pytest.mark.parametrize("frame", [series("rig", 25, 60, 0.0), series("volunteer", 30, 60).sample(1800, shuffle=True)])
def test_what_repeats_in_blocks_or_by_its_name_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], frame: pl.DataFrame
) -> None:
    adopted(tmp_path, frame)
    name = frame.columns[0]
    assert f"{name!r} repeats: if new rows will be of others, say GROUP={name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["households", "customers", "Machines", "Kunden"])
def test_a_number_of_things_is_no_name_of_one(tmp_path: Path, name: str) -> None:
    counted = np.random.default_rng(3).integers(3, 900, 3000)
    found = adopted(tmp_path, table(3000, **{name: counted}))
    assert found["split"]["method"] == "random"
    assert found["columns"][name]["type"] == "number"


def ordinary() -> dict[str, pl.DataFrame]:
    """Tables with columns that repeat and name no entity."""
    random = np.random.default_rng(4)
    rows = 6000
    country, product, city = (random.integers(0, count, rows) for count in (200, 40, 900))
    continents = random.integers(0, 6, 200)
    regions = [f"r{n}" for n in random.integers(0, 30, 900)[city]]
    spent = random.gamma(2, 30, rows).round(0)
    return {
        "countries": table(
            rows,
            country=[f"c{n}" for n in country],
            continent=[f"k{n}" for n in continents[country]],
            age=random.integers(18, 90, rows),
        ),
        "products": table(
            rows, product_code=[f"a{n}" for n in product], price=random.gamma(2, 9, 40).round(2)[product]
        ),
        "cities": table(rows, city=[f"city{n}" for n in city], region=regions, age=random.integers(18, 90, rows)),
        "amounts": table(rows, spent=spent, tax=(spent * 0.19).round(2), age=random.integers(18, 90, rows)),
        "stores": table(rows, store_id=random.integers(1, 13, rows), age=random.integers(18, 90, rows)),
        "flags": table(rows, **{f"flag{n}": random.integers(0, 2, rows) for n in range(4)}),
        "one row a customer": table(rows, customer_id=[f"c{n}" for n in range(rows)]),
    }


@pytest.mark.parametrize("name", ordinary())
def test_an_ordinary_category_is_no_group(tmp_path: Path, name: str) -> None:
    found = adopted(tmp_path, ordinary()[name])
    assert found["split"] == {"method": "random"}


def test_of_an_order_and_its_customer_the_customer_is_the_group(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    customer = random.integers(0, 300, 1500)  # of each order
    order = random.integers(0, 1500, 6000)
    ages = random.integers(18, 90, 300)
    paid = random.normal(50, 9, 1500).round(2)
    frame = table(6000, order_id=order, customer_id=customer[order], age=ages[customer[order]], total=paid[order])
    assert adopted(tmp_path, frame)["split"] == {"method": "group", "group": "customer_id"}


def test_a_group_can_be_asked_for_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = ordinary()["stores"]
    found = adopted(tmp_path, stores, "--group", "store_id")
    assert found["split"] == {"method": "group", "group": "store_id"}
    assert "store_id" not in found["columns"]
    for word in ("none", "no"):
        found = adopted(tmp_path, visits(300, 10), "--group", word)
        assert found["split"] == {"method": "random"}
    capsys.readouterr()
    adopted(tmp_path, table(6000, user_id=np.random.default_rng(1).integers(0, 30, 6000)))
    assert "'user_id' repeats: if new rows will be of others, say GROUP=user_id" in capsys.readouterr().out


def test_a_group_that_was_there_before_is_taken_back(tmp_path: Path) -> None:
    adopted(tmp_path, visits(300, 10))
    ordinary()["flags"].write_csv(tmp_path / "table.csv")
    assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 0
    assert tomllib.loads((tmp_path / "usecase.toml").read_text())["split"] == {"method": "random", "group": ""}


@pytest.mark.parametrize(
    ("group", "sentence"),
    [("nobody", "has no column 'nobody' (GROUP)"), ("target", "both LABEL and GROUP"), ("half", "holds 2 values")],
)
def test_a_group_that_can_t_be_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], group: str, sentence: str
) -> None:
    code, said = asked(tmp_path, table(600, half=[n % 2 for n in range(600)]), capsys, "--group", group)
    assert code == 1
    assert sentence in said


def test_with_a_time_the_split_is_later_and_unseen_and_the_last_rows_are_kept_aside(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    days = [str(datetime.date(2020, 1, 1) + datetime.timedelta(int(n))) for n in random.integers(0, 1000, 3000)]
    found = adopted(tmp_path, visits(300, 10).with_columns(pl.Series("day", days)), "--time", "day")
    assert found["split"] == {"method": "time", "group": "patient_id"}
    parts = placed(tmp_path)
    assert set(parts["train"]["day"]).isdisjoint(parts["production"]["day"])
    assert sorted(parts["train"]["day"])[-1] < sorted(parts["production"]["day"])[0]
    assert 250 < parts["production"].height < 350


def test_a_tenth_of_the_rows_is_kept_from_training_with_its_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = table(3000, key=[f"k{n}" for n in range(3000)])
    adopted(tmp_path, frame, "--id", "key")
    parts = placed(tmp_path)
    assert 220 < parts["production"].height < 380
    assert sorted([*parts["train"]["key"], *parts["production"]["key"]]) == sorted(frame["key"])
    assert parts["production"]["target"].null_count() == 0
    said = capsys.readouterr().out
    assert f"{parts['production'].height:,} rows, drawn at random, are kept from training, with their labels" in said


def test_a_small_table_keeps_nothing_aside_and_says_what_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adopted(tmp_path, table(499))
    assert {name: part.height for name, part in placed(tmp_path).items()} == {"train": 499, "production": 499}
    assert "no rows are kept from training" in capsys.readouterr().out


FORMS: dict[str, bytes] = {}
TEXT = table(900, note=['said "so",\nand left' if n % 7 == 0 else "Größe; 1" for n in range(900)])
FORMS["marked.csv"] = b"\xef\xbb\xbf" + TEXT.write_csv().encode()
FORMS["lines.csv"] = TEXT.write_csv(line_terminator="\r\n").encode()
FORMS["western.csv"] = TEXT.write_csv(separator=";").encode("windows-1252")
FORMS["wide.csv"] = TEXT.write_csv(separator="\t").encode("utf-16")
FORMS["packed.csv.gz"] = gzip.compress(TEXT.write_csv().encode())


@pytest.mark.parametrize("name", FORMS)
def test_each_row_is_written_as_it_was_into_one_of_the_two_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    encoding, separator = {"western.csv": ("windows-1252", ";"), "wide.csv": ("utf-16", "\t")}.get(name, ("utf-8", ","))
    reading = usecase.Data("binary", "target", separator=separator, encoding=encoding)
    places = [tmp_path / "train" / name, tmp_path / "production" / name]
    kept = holdout.cut(tmp_path / name, holdout.Holdout(None, "", reading), places)
    train, production = (pl.read_parquet(path.with_name(f"{name}.parquet")) for path in places)
    assert 60 < kept == production.height < 120
    assert sorted([*train.rows(), *production.rows()]) == sorted(TEXT.cast(pl.String).rows())


def test_files_that_end_up_on_one_side_are_written_there_only(tmp_path: Path) -> None:
    (tmp_path / "usecase.toml").write_text(BEFORE)
    (tmp_path / "tables").mkdir()
    for year in range(10):
        days = [f"{2010 + year}-01-{1 + n % 28:02}" for n in range(100)]
        file = tmp_path / "tables" / f"{year}.{'parquet' if year % 2 else 'csv'}"
        frame = table(100, day=days)
        frame.write_parquet(file) if year % 2 else frame.write_csv(file)
    assert run(tmp_path, tmp_path / "tables", "--label", "target", "--time", "day") == 0
    prove(tmp_path)
    train, production = (sorted((tmp_path / "data" / "adopted" / part).iterdir()) for part in ("train", "production"))
    assert [file.name for file in production] == ["9.parquet"]
    assert len(train) == 9


def test_the_same_rows_are_kept_aside_every_time(tmp_path: Path) -> None:
    frame, files = table(900), []
    for _ in range(2):
        adopted(tmp_path, frame)
        files.append((tmp_path / "data" / "adopted" / "production" / "table.csv.parquet").read_bytes())
    assert files[0] == files[1]
