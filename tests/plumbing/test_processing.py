"""Processing: raw tables become features the same way in training and in scoring, or the reason is said."""

import gzip
import json
import shutil
import tomllib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from batchloop.container import artifacts, datasets, job, raw, usecase
from batchloop.container.job import InputError
from batchloop.container.usecase import Column, Features
from components.processing import features, serve, train

USECASE = """
[usecase]
name = "loans"
[data]
task = "binary"
id = "id"
label = "repaid"
classes = ["no", "yes"]
time = "{time}"
missing = ["", "?", "NA"]
separator = "{separator}"
bad_rows = {bad_rows}
[columns]
income = {{ type = "number", minimum = 0 }}
"home town" = {{ type = "category" }}
owner = {{ type = "boolean" }}
since = {{ type = "date", format = "%Y-%m-%d" }}
[split]
method = "{method}"
[features]
rare = 5
impute = "{impute}"
[gate]
metric = "auc"
minimum = 0.5
"""
ROWS = 400
Write = Callable[..., Path]


def draw(rows: int) -> list[float]:
    """Numbers that hardly compress, and are the same in 32 bits."""
    return pl.select(pl.int_range(rows).hash(7) % 2**24).to_series().cast(pl.Float64).to_list()


def table(rows: int = ROWS) -> pl.DataFrame:
    """Rows that keep the contract, with missing values, a rare town and both labels."""
    numbers = range(rows)
    return pl.DataFrame(
        {
            "id": [f"c{n}" for n in numbers],
            "income": ["?" if n % 11 == 0 else str(1000 + n) for n in numbers],
            "home town": ["Atlantis" if n == 7 else ("Oslo", "Rome", "")[n % 3] for n in numbers],
            "owner": [("yes", "no", "NA")[n % 3] for n in numbers],
            "since": [f"2024-{1 + n % 12:02}-{1 + n % 28:02}" for n in numbers],
            "repaid": ["yes" if n % 4 else "no" for n in numbers],
        }
    )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write usecase.toml with some settings and point the component at it and at an empty /opt/ml."""

    def write(**values: Any) -> None:
        defaults = {"method": "random", "impute": "none", "bad_rows": 0.0, "separator": ",", "time": ""}
        (tmp_path / "usecase.toml").write_text(USECASE.format(**defaults | values))

    monkeypatch.setenv("ML_ROOT", str(tmp_path / "opt ml"))
    monkeypatch.setenv("USECASE_FILE", str(tmp_path / "usecase.toml"))
    for name in ("raw", "validation", "champion"):
        job.processing_input(name).mkdir(parents=True)
    write()
    return write


def put(frame: pl.DataFrame, name: str = "raw/table.csv", separator: str = ",") -> Path:
    """Write a frame as an input of the job."""
    file = job.root() / "processing" / "input" / name
    if file.suffix == ".parquet":
        frame.write_parquet(file)
    else:
        frame.write_csv(file, separator=separator)
    return file


def part(name: str) -> pl.DataFrame:
    return pl.read_parquet(job.processing_output(name) / "*.parquet")


def learned() -> dict[str, Any]:
    value: dict[str, Any] = artifacts.read_json(job.processing_output("preprocessor") / "preprocessor.json")
    return value


@pytest.mark.usefixtures("settings")
def test_every_row_lands_in_one_part_and_the_shares_are_as_asked() -> None:
    put(table(4000))
    train.train({})
    parts = {name: set(part(name)["id"]) for name in ("train", "validation", "test")}
    assert set.union(*parts.values()) == {f"c{n}" for n in range(4000)}
    assert sum(map(len, parts.values())) == 4000
    assert 0.12 < len(parts["validation"]) / 4000 < 0.18
    assert 0.12 < len(parts["test"]) / 4000 < 0.18


@pytest.mark.usefixtures("settings")
def test_csv_gzip_and_parquet_of_the_same_table_give_the_same_features() -> None:
    frames = []
    typed = table().with_columns(
        pl.col("income").cast(pl.Float64, strict=False),
        pl.col("owner").replace_strict({"yes": True, "no": False, "NA": None}),
        pl.col("since").str.to_date(),
    )
    for name, frame in {"raw/t.csv": table(), "raw/t.parquet": typed}.items():
        file = put(frame, name)
        train.train({})
        frames.append(part("train"))
        file.unlink()
    file = put(table(), "raw/t.csv")
    (file.parent / "t.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    train.train({})
    assert_frame_equal(frames[0], frames[1])
    assert_frame_equal(frames[0], part("train"))


@pytest.mark.usefixtures("settings")
def test_training_twice_writes_the_same_bytes() -> None:
    put(table())
    written = []
    for _ in range(2):
        train.train({})
        written.append({name: artifacts.fingerprint(job.processing_output(name)) for name in ("train", "preprocessor")})
    assert written[0] == written[1]


@pytest.mark.usefixtures("settings")
def test_only_the_training_part_is_learned_from() -> None:
    put(table().with_columns(pl.col("income").replace("?", "0")))
    train.train({})
    ids = set(part("test")["id"])
    changed = pl.when(pl.col("id").is_in(list(ids))).then(pl.lit("Testville")).otherwise(pl.col("home town"))
    before = learned()
    put(table().with_columns(changed.alias("home town")))
    train.train({})
    assert learned() == before


@pytest.mark.usefixtures("settings")
def test_serve_makes_of_a_training_row_what_training_made_of_it() -> None:
    put(table())
    train.train({})
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    serve.serve({})
    served = part("features").filter(pl.col("id").is_in(part("train")["id"].implode())).drop("__error")
    assert_frame_equal(served, part("train").drop("repaid"))


@pytest.mark.usefixtures("settings")
def test_rare_and_unknown_categories_become_other_and_missing_stays_missing() -> None:
    put(table())
    train.train({})
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    put(pl.concat([table(3), table(1).with_columns(pl.lit("Nowhere").alias("home town"), pl.lit("new").alias("id"))]))
    serve.serve({})
    assert part("features")["home town"].to_list() == ["Oslo", "Rome", None, "other"]


@pytest.mark.usefixtures("settings")
def test_categories_are_coded_by_frequency_and_ties_by_name() -> None:
    towns = ["Oslo"] * 100 + ["Bonn", "Rome"] * 150
    put(table().with_columns(pl.Series("home town", towns), pl.Series("income", ["1"] * 400)))
    train.train({})
    counts = part("train")["home town"].cast(pl.String).value_counts()
    expected = counts.sort(["count", "home town"], descending=[True, False])["home town"].to_list()
    assert learned()["features"][1]["categories"] == ["other", *expected]


def test_training_leaves_out_the_share_of_broken_rows_that_is_allowed(settings: Callable[..., None]) -> None:
    settings(bad_rows=0.005)
    for broken, fails in ((2, False), (3, True)):
        put(table().with_columns(pl.Series("income", ["x"] * broken + ["1"] * (ROWS - broken))))
        if fails:
            with pytest.raises(InputError, match="3 of 400 rows break the contract"):
                train.train({})
        else:
            train.train({})
            assert sum(part(name).height for name in ("train", "validation", "test")) == ROWS - broken


@pytest.mark.usefixtures("settings")
def test_not_a_number_in_parquet_is_a_missing_value() -> None:
    income = pl.Series("income", [float("nan"), None, 3.0, 4.0] * 100)
    put(table().with_columns(income), "raw/t.parquet")
    train.train({})
    assert 0.4 < part("train")["income"].null_count() / part("train").height < 0.6
    assert not part("train")["income"].is_nan().any()


def test_missing_numbers_take_the_median_of_the_training_part_where_asked(settings: Callable[..., None]) -> None:
    settings(impute="median")
    put(table())
    train.train({})
    income = next(feature for feature in learned()["features"] if feature["name"] == "income")
    assert part("train")["income"].null_count() == 0
    assert income["fill"] in part("train")["income"].to_list()


def test_a_split_by_time_keeps_the_latest_rows_for_the_test(settings: Callable[..., None]) -> None:
    settings(method="time", time="since")
    put(table())
    train.train({})
    days = {name: part(name)["since__days"].to_list() for name in ("train", "validation", "test")}
    assert max(days["train"]) < min(days["validation"])
    assert max(days["validation"]) < min(days["test"])


def test_given_validation_files_are_the_validation_part(settings: Callable[..., None]) -> None:
    settings(method="given")
    put(table())
    put(table(30).with_columns(pl.concat_str([pl.lit("v"), pl.col("id")]).alias("id")), "validation/own.csv")
    train.train({})
    assert set(part("validation")["id"]) == {f"vc{n}" for n in range(30)}
    assert not any(name.startswith("v") for name in part("test")["id"])


@pytest.mark.usefixtures("settings")
def test_the_champion_s_preprocessor_prepares_its_test_rows_and_can_be_kept() -> None:
    put(table())
    train.train({})
    assert artifacts.is_absent(job.processing_output("champion_test"))
    first = learned()
    job.processing_input("champion").rmdir()
    job.processing_output("preprocessor").rename(job.processing_input("champion"))
    put(table().with_columns(pl.col("home town").replace("Rome", "Paris")))
    train.train({})
    assert first != learned()
    assert set(part("champion_test")["home town"].unique()) == {"Oslo", "other", None}
    train.train({"continue_training": "true"})
    assert first == learned()


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("manifest.json", '"contract": "', '"contract": "other', "learned under another contract"),
        ("manifest.json", "processing", "embedding", "'embedding'"),
        ("manifest.json", "{", "[", "not valid JSON"),
        ("preprocessor.json", "{", "[", "not valid JSON"),
        ("preprocessor.json", '"source": "income"', '"source": "wages"', "wages"),
        ("preprocessor.json", '"kind"', '"form"', "KeyError: 'kind'"),
        ("preprocessor.json", '"features"', '"vectors"', "KeyError: 'features'"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_a_champion_of_other_code_or_contract_stops_no_training_and_is_said(
    file: str, old: str, new: str, why: str
) -> None:
    put(table())
    train.train({})
    job.processing_input("champion").rmdir()
    champion = job.processing_output("preprocessor").rename(job.processing_input("champion"))
    text = (champion / file).read_text()
    assert old in text
    (champion / file).write_text(text.replace(old, new))
    train.train({})
    assert artifacts.is_absent(job.processing_output("champion_test"))
    assert why in artifacts.absence(job.processing_output("champion_test"))
    with pytest.raises(InputError, match=r"FRESH=yes"):
        train.train({"continue_training": "true"})


def put_earlier(window: str, first: int, rows: int = ROWS, key: str = "ns/case/data/") -> pl.DataFrame:
    """The rows of an earlier window, as the manifest's keys lay them out."""
    frame = table(rows).with_columns(pl.Series("id", [f"c{n}" for n in range(first, first + rows)]))
    folder = job.processing_input("earlier") / key / window / "train"
    folder.mkdir(parents=True)
    frame.write_csv(folder / "table.csv")
    return frame


def described(name: str = "validation") -> dict[str, Any]:
    value: dict[str, Any] = artifacts.read_json(job.processing_output(name) / "features.json")
    return value


@pytest.mark.parametrize("key", ["", "data", "team/case/data"])
@pytest.mark.parametrize("kind", [{}, {"method": "time", "time": "since"}, {"method": "given"}])
def test_rows_of_earlier_windows_join_the_training_part_alone(
    settings: Callable[..., None], kind: dict[str, str], key: str
) -> None:
    settings(**kind)
    put(table())
    put(table(30).with_columns(pl.concat_str([pl.lit("v"), pl.col("id")]).alias("id")), "validation/own.csv")
    train.train({})
    alone = {name: part(name) for name in datasets.PARTS}
    for place, window in enumerate(("2026-01-01", "2026-01-02")):
        put_earlier(window, 1000 * (place + 1), key=key)
    train.train({})
    for name in ("validation", "test"):
        assert part(name)["id"].to_list() == alone[name]["id"].to_list()
    assert set(part("train")["id"]) == {
        *alone["train"]["id"],
        *(f"c{n}" for n in (*range(1000, 1400), *range(2000, 2400))),
    }
    assert described()["earlier"] == ["2026-01-01", "2026-01-02"]
    before = artifacts.fingerprint(job.processing_output("train"))
    train.train({})
    assert artifacts.fingerprint(job.processing_output("train")) == before


@pytest.mark.usefixtures("settings")
def test_what_is_learned_is_learned_from_earlier_windows_too() -> None:
    put(table().with_columns(pl.lit("Oslo").alias("home town")))
    put_earlier("2026-01-01", 1000)
    train.train({})
    assert learned()["features"][1]["categories"] == ["other", "Oslo", "Rome"]


@pytest.mark.usefixtures("settings")
def test_whoever_judges_the_model_is_not_learned_from_in_an_earlier_window() -> None:
    """The same customers come in every window."""
    put(table())
    put_earlier("2026-01-01", 0)
    train.train({})
    judged = {*part("validation")["id"], *part("test")["id"]}
    assert len(judged) > 80
    assert not judged & set(part("train")["id"])
    assert part("train").height == 2 * (ROWS - len(judged))


def test_a_group_that_judges_the_model_is_not_learned_from_in_an_earlier_window() -> None:
    newest = pl.LazyFrame({raw.GROUP: ["a", "b", "c", None], raw.PART: ["train", "test", "validation", "test"]})
    case = usecase.parse(
        tomllib.loads(USECASE.format(method="random", impute="none", bad_rows=0, separator=",", time=""))
    )
    held = datasets.held_out(newest.with_columns(pl.lit("x").alias("id")), case)
    assert held.columns == ["id", raw.GROUP]
    rows = pl.LazyFrame({raw.GROUP: ["a", "b", "d", None], "id": ["1", "2", "3", "4"]})
    assert datasets.unseen(rows, held).collect()["id"].to_list() == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda frame: frame.drop("income"), "no column 'income'"),
        (lambda frame: frame.with_columns(pl.lit("many").alias("income")), "break the contract"),
        (lambda frame: frame.with_columns(pl.lit("").alias("repaid")), "(the label) has no value"),
        (lambda frame: frame.head(0), "no rows"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_an_earlier_window_of_another_contract_is_left_out_and_said(
    change: Callable[[pl.DataFrame], pl.DataFrame], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(table())
    put_earlier("2026-01-01", 1000)
    file = job.processing_input("earlier") / "ns/case/data/2026-01-02/train/table.csv"
    file.parent.mkdir(parents=True)
    change(table()).write_csv(file)
    train.train({})
    assert described()["earlier"] == ["2026-01-01"]
    assert "the earlier window 2026-01-02 is left out" in caplog.text
    assert why in caplog.text


@pytest.mark.usefixtures("settings")
def test_the_empty_artifact_is_no_earlier_window() -> None:
    folder = job.processing_input("earlier") / "team/case/none"
    folder.mkdir(parents=True)
    artifacts.write_absent(folder)
    put(table())
    train.train({})
    assert described()["earlier"] == []
    assert "earlier" not in learned()


def test_a_batch_is_cut_into_files_that_fit_a_request(settings: Callable[..., None]) -> None:
    settings()
    put(table(4000))
    train.train({})
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    rows = 600_000
    random = pl.Series("income", draw(rows)).cast(pl.String)
    put(table(rows).with_columns(random))
    serve.serve({"max_payload_mb": "1"})
    files = sorted(job.processing_output("features").iterdir())
    assert len(files) > 2
    assert all(file.suffix == ".parquet" and file.stat().st_size <= 2**20 for file in files)
    assert all(file.stat().st_size >= 0.8 * 2**20 for file in files[:-1])
    written = pl.concat([pl.read_parquet(file) for file in files])
    assert written["id"].to_list() == [f"c{n}" for n in range(rows)]
    assert written["income"].to_list() == random.cast(pl.Float32).to_list()


def test_a_file_has_room_for_rows_that_are_larger_than_those_before(tmp_path: Path) -> None:
    limit, rows = 200_000, 60_000
    filled = datasets.Filled(tmp_path / "features", limit)
    numbers = [0.0] * rows + draw(rows) + [0.0] * rows
    for start in range(0, len(numbers), 7_000):
        filled.add(pl.DataFrame({"x": pl.Series(numbers[start : start + 7_000], dtype=pl.Float32)}))
    filled.close()
    sizes = [file.stat().st_size for file in filled.written]
    assert max(sizes) <= limit
    assert pl.concat([pl.read_parquet(file) for file in filled.written])["x"].to_list() == numbers


@pytest.mark.usefixtures("settings")
def test_a_host_that_was_given_the_mark_alone_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Each host gets some of the keys below the prefix, and the mark that the window is complete is one of them."""
    put(table())
    train.train({})
    shutil.rmtree(job.processing_input("raw"))
    (job.processing_input("raw")).mkdir()
    (job.processing_input("raw") / "_SUCCESS").touch()
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    monkeypatch.setattr(job, "current", lambda: job.Hosts("algo-2", ("algo-1", "algo-2")))
    with caplog.at_level("INFO"):
        serve.serve({})
    assert "algo-2 of 2 hosts was given no file" in caplog.text


def test_a_row_that_breaks_the_contract_keeps_its_place_and_gets_a_reason(settings: Callable[..., None]) -> None:
    settings(bad_rows=0.5)
    put(table())
    train.train({})
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    put(table(4).with_columns(pl.Series("income", ["12", "abc", "-5", "7"])))
    serve.serve({})
    reasons = part("features")["__error"].to_list()
    assert reasons[0] is None
    assert reasons[1] == "column 'income': 'abc' is not a number from 0"
    assert reasons[2] == "column 'income': '-5' is not a number from 0"
    assert part("features")["home town"].to_list() == ["Oslo", None, None, "Oslo"]


def test_reasons_stay_with_their_rows_in_a_long_table_of_several_files(settings: Callable[..., None]) -> None:
    settings(bad_rows=0.5)
    put(table())
    train.train({})
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    (job.processing_input("raw") / "table.csv").unlink()
    for name in ("a", "b", "c"):
        rows = table(20_000).with_columns(pl.concat_str([pl.lit(name), pl.col("id")]).alias("id"))
        odd = pl.when(pl.int_range(pl.len()) % 7 == 3).then(pl.concat_str([pl.lit("bad "), pl.col("id")]))
        put(rows.with_columns(odd.otherwise(pl.col("income")).alias("income")), f"raw/{name}.csv")
    serve.serve({})
    found = part("features")
    assert found["id"].to_list() == [f"{name}c{n}" for name in "abc" for n in range(20_000)]
    reason = pl.concat_str([pl.lit("column 'income': 'bad "), pl.col("id"), pl.lit("' is not a number from 0")])
    broken = found.filter(pl.col("__error").is_not_null())
    assert broken.height == sum(n % 7 == 3 for n in range(20_000)) * 3
    assert broken.filter(pl.col("__error") != reason).is_empty()


def serving_after_training(batch: str, learned: pl.DataFrame | None = None) -> dict[str, Any]:
    """The summary of a batch of raw text that is served after training on a table, or the usual one."""
    put(table() if learned is None else learned)
    train.train({})
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    (job.processing_input("raw") / "table.csv").write_text(batch)
    serve.serve({})
    summary: dict[str, Any] = artifacts.read_json(job.processing_output("summary") / "summary.json")
    return summary


def test_short_lines_are_answered_rows_and_empty_ones_are_none(settings: Callable[..., None]) -> None:
    settings(bad_rows=0.5)
    whole = table(4).write_csv().splitlines()
    whole[2] = "c1,100"
    summary = serving_after_training("\n".join([*whole, "", ",,,,,", ",,,,,"]))
    assert part("features")["id"].to_list() == ["c0", "c1", "c2", "c3"]
    assert part("features")["__error"].to_list() == [None, "line 3 has 2 of 6 cells", None, None]
    assert part("features")["income"].to_list() == [None, None, 1002.0, 1003.0]
    assert {name: summary[name] for name in ("rows", "broken", "empty")} == {"rows": 4, "broken": 1, "empty": 3}
    assert summary["first_break"] == "table.csv, row 2: line 3 has 2 of 6 cells"


def test_rows_that_share_an_id_are_said_in_scoring(settings: Callable[..., None], caplog: Any) -> None:
    settings()
    batch = table(20).with_columns(pl.Series("id", [f"c{n // 2 if n < 6 else n}" for n in range(20)]))
    summary = serving_after_training(batch.write_csv())
    said = "6 rows share their 'id' with another row, such as 'c0', 'c1', 'c2': nothing tells them apart"
    assert summary["warnings"] == [said]
    assert said in caplog.text
    assert summary["rows"] == 20


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.usefixtures("settings")
def test_rows_that_share_an_id_are_said_in_training(caplog: Any, kind: str) -> None:
    put(table().with_columns(pl.Series("id", [f"c{max(n, 2)}" for n in range(ROWS)])), f"raw/table.{kind}")
    train.train({})
    assert "3 rows share their 'id' with another row, such as 'c2'" in caplog.text


def test_rows_of_different_ids_share_none(settings: Callable[..., None], caplog: Any) -> None:
    settings()
    assert serving_after_training(table(20).write_csv())["warnings"] == []
    assert "share" not in caplog.text


def test_short_lines_are_left_out_of_training(settings: Callable[..., None]) -> None:
    settings(bad_rows=0.02)
    whole = table().write_csv().splitlines()
    for place in range(100, 105):
        whole[place] = whole[place].split(",")[0] + ",100"
    (job.processing_input("raw") / "table.csv").write_text("\n".join([*whole, ""]) + ",,,\n" * 600)
    train.train({})
    assert sum(part(name).height for name in ("train", "validation", "test")) == ROWS - 5


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("rows", [3, 300])
def test_a_column_of_categories_that_training_never_saw_is_an_error_of_the_batch(rows: int) -> None:
    shouted = table(rows).with_columns(pl.col("home town").str.to_uppercase().replace("", "BERN"))
    with pytest.raises(
        InputError, match=r"'home town': training knew no value of its .* 'ROME'.* it knew 'Oslo', 'Rome'"
    ):
        serving_after_training(shouted.write_csv())
    assert not any(job.processing_output("features").iterdir())


def test_a_column_that_moves_by_its_nature_may_hold_new_categories_only(
    settings: Callable[..., None], tmp_path: Path
) -> None:
    settings()
    text = (tmp_path / "usecase.toml").read_text()
    kept = text.replace('"home town" = { type = "category" }', '"home town" = { type = "category", drift = false }')
    assert kept != text
    (tmp_path / "usecase.toml").write_text(kept)
    summary = serving_after_training(table(300).with_columns(pl.lit("Bern").alias("home town")).write_csv())
    assert ["training knew no value" in warning for warning in summary["warnings"]] == [True]


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("form", ["{}", "{}.0"])
def test_codes_that_lost_their_leading_zeros_are_named(every: int, form: str) -> None:
    codes = [f"{120 + n % 4:05}" for n in range(ROWS)]
    bare = [form.format(int(code)) if n % every == 0 else code for n, code in enumerate(codes)]
    padded = table().with_columns(pl.Series("home town", codes))
    batch = padded.with_columns(pl.Series("home town", bare)).write_csv()
    if every == 1:
        with pytest.raises(InputError) as problem:
            serving_after_training(batch, padded)
        said = [str(problem.value)]
    else:
        said = serving_after_training(batch, padded)["warnings"]
    assert len(said) == 1
    assert f"leading zeros are missing in {-(-ROWS // every):,} rows ('120' was '00120' in training)" in said[0]


@pytest.mark.usefixtures("settings")
def test_a_single_row_of_a_new_category_is_scored_with_a_warning() -> None:
    summary = serving_after_training(table(1).with_columns(pl.lit("Bern").alias("home town")).write_csv())
    assert part("features")["home town"].to_list() == ["other"]
    assert ["training knew no value" in warning for warning in summary["warnings"]] == [True]


@pytest.mark.usefixtures("settings")
def test_codes_that_became_floats_are_the_codes_that_were_learned() -> None:
    codes = pl.Series("home town", [10001, 10002] * 200)
    put(table().with_columns(codes))
    train.train({})
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    (job.processing_input("raw") / "table.csv").unlink()
    put(table(4).with_columns(pl.Series("home town", [10001.0, None, 10002.0, 7.0])), "raw/t.parquet")
    serve.serve({})
    assert part("features")["home town"].to_list() == ["10001", None, "10002", "other"]


BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("empty", lambda folder: (folder / "t.csv").write_bytes(b""), "t.csv is empty"),
    ("nothing", lambda folder: None, "raw holds nothing"),
    ("other kind", lambda folder: (folder / "t.xlsx").write_bytes(b"PK"), "only t.xlsx"),
    ("header only", lambda folder: table().head(0).write_csv(folder / "t.csv"), "t.csv holds a header and no rows"),
    ("not parquet", lambda folder: (folder / "t.parquet").write_text("a,b"), "t.parquet is no Parquet file"),
    ("parquet as csv", lambda folder: table().write_parquet(folder / "t.csv"), "Parquet file with a CSV name"),
    ("no column", lambda folder: table().drop("income").write_csv(folder / "t.csv"), "t.csv has no column 'income'"),
    ("no label", lambda folder: table().drop("repaid").write_csv(folder / "t.csv"), "t.csv has no column 'repaid'"),
    (
        "title",
        lambda folder: (folder / "t.csv").write_text("Report of May\n\n" + table().write_csv()),
        "line 3 looks like the names; delete what stands above it",
    ),
    ("separator", lambda folder: table().write_csv(folder / "t.csv", separator=";"), "The separator may be wrong"),
    (
        "one class",
        lambda folder: table().with_columns(pl.lit("yes").alias("repaid")).write_csv(folder / "t.csv"),
        "'repaid' (the label) holds one value only",
    ),
    (
        "blank label",
        lambda folder: table().with_columns(pl.lit("").alias("repaid")).write_csv(folder / "t.csv"),
        "'repaid' (the label) has no value",
    ),
    (
        "all missing",
        lambda folder: table().with_columns(pl.lit("?").alias("income")).write_csv(folder / "t.csv"),
        "t.csv: column 'income' has no value in any of 400 rows",
    ),
    (
        "other type",
        lambda folder: table().with_columns(pl.lit("much").alias("income")).write_csv(folder / "t.csv"),
        "t.csv, row 1: column 'income': 'much' is not a number from 0; 400 of 400 rows",
    ),
    (
        "one bad cell",
        lambda folder: (
            table().with_columns(pl.col("since").replace("2024-03-03", "3rd of March")).write_csv(folder / "t.csv")
        ),
        "t.csv, row 3: column 'since': '3rd of March' is not a date like %Y-%m-%d",
    ),
    (
        "unknown class",
        lambda folder: table().with_columns(pl.col("repaid").replace("no", "maybe")).write_csv(folder / "t.csv"),
        "t.csv, row 1: label 'repaid': 'maybe' is not one of no, yes",
    ),
]


def truncate(folder: Path, name: str) -> None:
    """Write a whole file, then lose its end."""
    file = folder / name
    if name.endswith(".parquet"):
        table().write_parquet(file)
    else:
        content = table().write_csv().encode()
        file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    file.write_bytes(file.read_bytes()[:-9])


BROKEN += [
    ("cut csv", lambda folder: truncate(folder, "t.csv"), "t.csv is truncated"),
    ("cut gzip", lambda folder: truncate(folder, "t.csv.gz"), "t.csv.gz is truncated"),
    ("cut parquet", lambda folder: truncate(folder, "t.parquet"), "t.parquet is no Parquet file, or not a whole one"),
    (
        "encoding",
        lambda folder: (folder / "t.csv").write_bytes(table().write_csv().replace("Rome", "Tromsø").encode("latin-1")),
        "t.csv: line 3 is not UTF-8 text",
    ),
    (
        "long line",
        lambda folder: (folder / "t.csv").write_text(table().write_csv().replace("Rome", "Rome,Italy")),
        "t.csv, row 2: line 3 has 7 cells instead of 6",
    ),
]


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(("name", "write", "sentence"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_table_is_refused_in_one_sentence_and_nothing_is_written(
    name: str,
    write: Callable[[Path], object],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(job.processing_input("raw"))
    assert job.run("processing train", train.train) == 1
    message = (job.root() / "output" / "message").read_text(encoding="utf-8")
    assert sentence in message, name
    assert "\n" not in message
    assert "Traceback" not in capsys.readouterr().err
    assert not any(file.is_file() for file in job.processing_output("").rglob("*"))
    assert not list(job.processing_output("").glob("*/.scratch-*"))


def test_an_artifact_of_another_contract_is_refused(settings: Callable[..., None]) -> None:
    put(table())
    train.train({})
    job.processing_output("preprocessor").rename(job.processing_input("preprocessor"))
    file = job.processing_input("preprocessor") / "manifest.json"
    manifest = json.loads(file.read_text())
    columns = [column for column in manifest["columns"] if column["name"] != "income"]
    file.write_text(json.dumps(manifest | {"contract": "0" * 16, "columns": columns}))
    with pytest.raises(InputError, match="another contract: column 'income' is new; train again"):
        serve.serve({})
    del manifest["columns"]
    file.write_text(json.dumps(manifest | {"contract": "0" * 16}))
    with pytest.raises(InputError, match="another contract: it is older than this code"):
        serve.serve({})
    settings()


@pytest.mark.usefixtures("settings")
def test_the_draws_of_the_split_are_those_of_splitmix64() -> None:
    """Reference values: the published algorithm, written out in plain Python."""

    def reference(state: int) -> float:
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        return (state ^ (state >> 31)) / 2**64

    golden = 0x9E3779B97F4A7C15
    drawn = pl.DataFrame({"__row": range(1, 50)}).select(datasets.draws(7)).to_series().to_list()
    assert drawn == [reference((row * golden + 7 * golden) % 2**64) for row in range(1, 50)]


@pytest.mark.usefixtures("settings")
def test_rows_of_many_small_files_are_split_as_rows_of_one_file_are() -> None:
    frame = pl.LazyFrame({raw.ROW: [1 + n % 20 for n in range(6000)], "label": ["a"] * 6000})
    counts = datasets.with_parts(frame, usecase.load()).collect()[raw.PART].value_counts()
    parts = counts.sort(raw.PART)["count"].to_list()
    assert parts == pytest.approx([900, 4200, 900], rel=0.15)


def dates(rows: int, hours: bool) -> pl.LazyFrame:
    start = datetime(2024, 2, 27, 21, 30) if hours else datetime(2024, 2, 27)
    return pl.LazyFrame({"at": [start + timedelta(days=n, hours=n if hours else 0) for n in range(rows)]})


def test_a_date_with_a_time_of_day_has_the_hour_as_a_feature() -> None:
    frame, column = dates(4, hours=True), Column("at", "date")
    learned = features.fit(frame, [column], Features())
    found = frame.select(features.transform(learned)).collect()
    assert found["at__hour"].to_list() == [21.5, 22.5, 23.5, 0.5]
    assert found["at__day"].to_list() == [27, 28, 29, 2]
    assert found["at__day_of_year"].to_list() == [58, 59, 60, 62]
    assert found["at__weekday"].to_list() == [2, 3, 4, 6]


def test_a_date_without_times_of_day_has_no_hour() -> None:
    names = [feature["name"] for feature in features.fit(dates(4, hours=False), [Column("at", "date")], Features())]
    assert names == ["at__days", "at__month", "at__day_of_year", "at__day", "at__weekday"]


def test_a_time_that_goes_on_has_no_trend_and_seasons_only_after_a_year() -> None:
    column = Column("at", "date", drift=False)
    for days, expected in ((40, ["day", "weekday", "hour"]), (400, ["month", "day_of_year", "day", "weekday", "hour"])):
        learned = features.fit(dates(days, hours=True), [column], Features())
        assert [feature["name"].partition("__")[2] for feature in learned] == expected
