"""Monitoring: every effect size against its definition, the decision against chance, the report from raw files."""

import json
import shutil
import tomllib
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import spatial, stats
from sklearn import metrics

from batchloop.container import artifacts, drift_report, job, profile, usecase
from batchloop.container.job import InputError
from batchloop.container.protocols import Counts
from components.monitoring import drift, serve, train

USECASE = """
[usecase]
name = "loans"
title = "Loans"
[data]
task = "{task}"
id = "id"
label = "repaid"
classes = {classes}
bad_rows = 1.0
[columns]
income = {{ type = "number", minimum = 0 }}
"<script>alert(1)</script>" = {{ type = "category" }}
owner = {{ type = "boolean" }}
since = {{ type = "date", format = "%Y-%m-%d" }}
same = {{ type = "number" }}
[gate]
metric = "auc"
minimum = 0.5
[drift]
minimum_rows = 100
"""
TOWN = "<script>alert(1)</script>"
HISTOGRAMS = [
    ([50, 30, 20, 0], [45, 35, 15, 5]),
    ([400, 300, 200, 100], [100, 200, 300, 400]),
    ([9, 1, 90], [8, 2, 95]),
]


def counts(values: list[int]) -> Counts:
    return np.asarray(values, dtype=float)


@pytest.mark.parametrize(("before", "now"), HISTOGRAMS)
def test_effect_sizes_are_those_of_their_definitions(before: list[int], now: list[int]) -> None:
    p, q = counts(before) / sum(before), counts(now) / sum(now)
    assert drift.jensen_shannon(p, q) == pytest.approx(spatial.distance.jensenshannon(p, q, base=2))
    smooth = [(counts(values) + 0.5) / (counts(values) + 0.5).sum() for values in (before, now)]
    index = sum((b - a) * np.log(b / a) for a, b in zip(*smooth, strict=True))
    assert drift.psi(counts(before), counts(now)) == pytest.approx(index)
    points = np.arange(len(before), dtype=float)
    spread = [np.repeat(points, values) for values in (before, now)]
    assert drift.kolmogorov_smirnov(counts(before), counts(now)) == pytest.approx(stats.ks_2samp(*spread).statistic)
    moved = drift.wasserstein(counts(before), counts(now), points, deviation=2.0)
    assert moved == pytest.approx(stats.wasserstein_distance(*spread) / 2)


@pytest.mark.parametrize("degrees", [1, 2, 5, 20, 199])
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0, 1.7, 4.0])
def test_the_chi_square_survival_function_is_scipy_s(degrees: int, share: float) -> None:
    expected = float(stats.chi2.sf(share * degrees, degrees))
    assert drift.survival(share * degrees, degrees) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_the_test_of_homogeneity_is_scipy_s_where_nothing_is_pooled() -> None:
    before, now = HISTOGRAMS[1]
    expected = stats.chi2_contingency([before, now], correction=False).pvalue
    assert drift.chi_square(counts(before), counts(now)) == pytest.approx(expected, rel=1e-9)


def test_bins_with_few_rows_are_pooled_before_the_test() -> None:
    expected = stats.chi2_contingency([[500, 480, 6], [510, 470, 8]], correction=False).pvalue
    assert drift.chi_square(counts([500, 480, 3, 3]), counts([510, 470, 4, 4])) == pytest.approx(expected)
    assert drift.chi_square(counts([5, 0]), counts([0, 5])) == 1.0


def test_holm_keeps_the_level_for_all_columns_together() -> None:
    assert drift.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert drift.holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("rows", [500, 5000])
@pytest.mark.parametrize("columns", [5, 30, 100])
def test_batches_without_drift_rarely_raise_an_alarm(rows: int, columns: int) -> None:
    """The level is 1 %; of 200 batches at most 6 may alarm (binomial, 99.9 %) before the effect is even looked at."""
    random, alarms = np.random.default_rng(rows + columns), 0
    shares = random.dirichlet(np.ones(21) * 3, columns)
    learned = [random.multinomial(20_000, share).astype(float) for share in shares]
    for _ in range(200):
        batch = [random.multinomial(rows, share).astype(float) for share in shares]
        p_values = [drift.homogeneity(before, now) for before, now in zip(learned, batch, strict=True)]
        alarms += min(drift.holm(p_values)) < 0.01
    assert alarms <= 6


def test_what_chance_gives_is_subtracted_from_the_index() -> None:
    random = np.random.default_rng(1)
    share = np.ones(20) / 20
    pairs = [[random.multinomial(rows, share).astype(float) for rows in (20_000, 500)] for _ in range(200)]
    index = np.mean([drift.psi(*pair) for pair in pairs])
    assert index == pytest.approx(np.mean([drift.chance(*pair) for pair in pairs]), rel=0.1)


def test_a_decision_needs_an_effect_that_matters_and_a_test_that_excludes_chance() -> None:
    case = usecase.parse(tomllib.loads(USECASE.format(task="binary", classes='["no", "yes"]')))
    pairs = {"both": (1e-9, 0.5), "only a test": (1e-9, 0.05), "only an effect": (0.2, 0.5)}
    effects = [drift.Effect(effect, effect, 0, 0, None, None, p) for p, effect in pairs.values()]
    found = zip(pairs, drift.decide(effects, case.drift), strict=True)
    assert [name for name, comparison in found if comparison.drifted] == ["both"]


def test_a_spike_amid_other_values_does_not_share_its_bin() -> None:
    values = np.append(np.random.default_rng(1).normal(size=900), np.full(100, 0.25))
    frame = pl.LazyFrame({"x": values})
    bins = drift.profile(frame, {"x": "number"}, 20)
    _, found = profile.count(frame, bins)
    assert found["x"].counts[bins[0]["edges"].index(0.25)] == 100


def table(rows: int, seed: int = 1, shift: float = 0.0) -> pl.DataFrame:
    """Raw rows; `shift` raises incomes by that many standard deviations, or names a new town at 1."""
    random = np.random.default_rng(seed)
    income = random.lognormal(7 + 0.5 * shift, 0.5, rows)
    income[random.random(rows) < 0.3] = 0.0  # a spike
    frame = pl.DataFrame(
        {
            "id": [f"c{number}" for number in range(rows)],
            "income": income.round(2),
            TOWN: random.choice(["Oslo", "Rome", "Bonn"], rows, p=[0.6, 0.3, 0.1]),
            "owner": random.choice(["yes", "no"], rows),
            "since": [f"20{10 + day % 14:02}-{1 + day % 12:02}-11" for day in random.integers(0, 999, rows)],
            "same": np.ones(rows),
        }
    )
    gap = pl.Series(random.random(rows) < 0.1)
    return frame.with_columns(pl.when(~gap).then(pl.col("owner")).alias("owner"))


def predictions(rows: int, seed: int = 1, high: float = 2.0) -> pl.DataFrame:
    score = np.random.default_rng(seed).beta(2, high, rows)
    names = ["yes" if value > 0.5 else "no" for value in score]
    columns = {"id": [f"c{number}" for number in range(rows)], "prediction": names, "score": score}
    return pl.DataFrame(columns).with_columns(pl.lit(None, dtype=pl.String).alias("error"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """usecase.toml, an empty /opt/ml, and a baseline learned from 4,000 rows."""
    (tmp_path / "usecase.toml").write_text(USECASE.format(task="binary", classes='["no", "yes"]'))
    monkeypatch.setenv("ML_ROOT", str(tmp_path / "ml"))
    monkeypatch.setenv("USECASE_FILE", str(tmp_path / "usecase.toml"))


def learn(rows: int = 4000, scored: pl.DataFrame | None = None, evaluation: object = None) -> dict[str, Any]:
    put(table(rows), "raw/table.csv")
    put(predictions(rows) if scored is None else scored, "evaluation/predictions.parquet")
    if evaluation is not None:
        artifacts.write_json(job.processing_input("evaluation") / "evaluation.json", evaluation)
    train.train({})
    shutil.rmtree(job.processing_input("baseline"), ignore_errors=True)
    job.processing_output("baseline").rename(job.processing_input("baseline"))
    value: dict[str, Any] = artifacts.read_json(job.processing_input("baseline") / "baseline.json")
    return value


def test_the_evaluation_lies_unpacked_beside_the_report() -> None:
    evaluation = {"metric": "auc", "test": {"auc": 0.8}}
    learn(evaluation=evaluation)
    assert artifacts.read_json(job.processing_output("report") / "evaluation.json") == evaluation


def put(frame: pl.DataFrame, name: str) -> None:
    file = job.root() / "processing" / "input" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        frame.write_csv(file)
    else:
        frame.write_parquet(file)


def judge(frame: pl.DataFrame, scored: pl.DataFrame | None = None, below: str = "") -> dict[str, Any]:
    """What serve says of a batch."""
    put(frame, "raw/table.csv")
    put(predictions(len(frame), seed=2) if scored is None else scored, f"predictions/{below}features-00000.parquet.out")
    serve.serve({})
    text = (job.processing_output("drift") / "drift.json").read_text(encoding="utf-8")
    value: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return value


def column(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in report["columns"] if entry["name"] == name)


def test_a_batch_like_the_training_data_has_not_drifted() -> None:
    learn()
    report = judge(table(2000, seed=2))
    assert report["verdict"] == "no drift"
    assert report["drifted"] == []
    assert len(report["columns"]) == 5


@pytest.mark.parametrize("below", ["", "features/", "features/part/"])
def test_predictions_are_found_wherever_they_lie_below_their_prefix(below: str) -> None:
    """ "TransformOutput" in the SageMaker API reference speaks of a corresponding subfolder."""
    learn()
    assert judge(table(2000, seed=2), below=below)["scores"]


def test_short_and_empty_lines_are_no_drift() -> None:
    learn()
    put(predictions(2000, seed=2), "predictions/features-00000.parquet.out")
    text = table(2000, seed=2).write_csv() + ",,,,,\n" * 1000
    short = "".join(f"x{number},1\n" for number in range(1000))
    (job.processing_input("raw") / "table.csv").write_text(text.replace("\nc1000,", f"\n{short}c1000,", 1))
    serve.serve({})
    report = json.loads((job.processing_output("drift") / "drift.json").read_text())
    assert report["rows"] == 2000
    assert report["verdict"] == "no drift"


def test_a_shifted_column_is_found_and_named_first() -> None:
    learn()
    report = judge(table(2000, seed=2, shift=1.0))
    assert report["verdict"] == "drift"
    assert report["drifted"] == ["income"]
    assert report["columns"][0]["name"] == "income"
    assert "income" in report["reason"]


def test_the_stored_bins_come_close_to_the_exact_two_sample_statistics() -> None:
    learn()
    before, after = table(4000)["income"].to_numpy(), table(2000, seed=2, shift=0.5)["income"].to_numpy()
    found = column(judge(table(2000, seed=2, shift=0.5)), "income")
    exact = stats.ks_2samp(before, after).statistic
    assert exact - 1 / 20 <= found["ks"] <= exact + 1e-12
    assert found["wasserstein"] == pytest.approx(stats.wasserstein_distance(before, after) / before.std(), rel=0.05)


def test_a_spike_has_a_bin_of_its_own() -> None:
    baseline = learn()
    income = next(entry for entry in baseline["columns"] if entry["name"] == "income")
    assert 0.0 in income["edges"]
    place = income["edges"].index(0.0)
    assert income["counts"][place] == pytest.approx((table(4000)["income"] == 0).sum() / 2, rel=0.1)
    assert income["means"][place] == 0.0


def test_unknown_categories_gaps_ranges_and_broken_types_are_reported() -> None:
    learn()
    frame = table(1000, seed=3).with_columns(
        pl.Series(TOWN, ["Atlantis"] * 300 + ["Oslo"] * 700),
        pl.Series("owner", [None] * 500 + ["yes"] * 500, dtype=pl.String),
        pl.Series("income", ["-5"] * 100 + ["much"] * 100 + ["99999999"] + ["1"] * 799),
    )
    report = judge(frame)
    town, owner, income = (column(report, name) for name in (TOWN, "owner", "income"))
    assert town["unknown"] == pytest.approx(0.3)
    assert town["unknown_examples"] == ["Atlantis"]
    assert owner["missing"] == pytest.approx(0.5)
    assert owner["missing_baseline"] == pytest.approx(0.1, abs=0.02)
    assert income["invalid"] == pytest.approx(0.2)
    assert "up to 1e+08" in income["outside_range"]
    assert {TOWN, "owner", "income"} <= set(report["drifted"])


def test_scores_are_watched_like_columns() -> None:
    learn()
    report = judge(table(2000, seed=2), predictions(2000, seed=2, high=6.0))
    assert report["verdict"] == "drift"
    assert report["scores"]["score"]["drifted"]
    assert "none of 5 columns drifted, but the model's output moved (score" in report["reason"]


def test_rows_without_a_prediction_are_counted() -> None:
    learn()
    failed = predictions(1000, seed=2).with_columns(pl.Series("error", ["why"] * 250 + [None] * 750, dtype=pl.String))
    assert judge(table(1000, seed=2), failed)["errors"] == pytest.approx(0.25)


def test_too_few_rows_are_neither_healthy_nor_drifted() -> None:
    learn()
    report = judge(table(99, seed=2, shift=3.0))
    assert report["verdict"] == "not enough data"
    assert report["drifted"] == []


DEGENERATE: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "every number missing": lambda frame: frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("income")),
    "every category missing": lambda frame: frame.with_columns(pl.lit(None, dtype=pl.String).alias(TOWN)),
    "a column of another type": lambda frame: frame.with_columns(pl.lit("abc").alias("income")),
    "a constant that moved": lambda frame: frame.with_columns(pl.lit(7.0).alias("same")),
    "one value only": lambda frame: frame.with_columns(pl.lit(3.0).alias("income")),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_a_degenerate_batch_is_judged_and_not_a_crash(name: str) -> None:
    learn()
    report = judge(DEGENERATE[name](table(1000, seed=2)))
    assert report["verdict"] == "drift"


def test_learning_twice_writes_the_same_bytes() -> None:
    first = learn()
    again = learn()
    assert first == again


def test_a_baseline_of_another_contract_is_refused(tmp_path: Path) -> None:
    learn()
    (tmp_path / "usecase.toml").write_text(USECASE.format(task="regression", classes="[]").replace('"auc"', '"rmse"'))
    with pytest.raises(InputError, match=r"another contract: \[data\] task was binary, now regression"):
        judge(table(500))


def test_no_predictions_is_said() -> None:
    learn()
    put(table(500), "raw/table.csv")
    job.processing_input("predictions").mkdir()
    assert job.run("monitoring serve", serve.serve) == 1
    assert "no *.out file" in (job.root() / "output" / "message").read_text()


def test_pages_show_hostile_names_as_text_and_load_nothing() -> None:
    learn()
    judge(table(1000, seed=2, shift=1.0))
    for folder in ("report", "drift"):
        page = (job.processing_output(folder) / "report.html").read_text(encoding="utf-8")
        assert "<script" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "://" not in page
        assert "src=" not in page


def test_a_column_may_be_called_like_a_score() -> None:
    baseline, report = learn(), judge(table(1000, seed=2, shift=1.0))
    for column in (*baseline["columns"], *report["columns"]):
        column["name"] = {"income": "score"}.get(column["name"], column["name"])
    written = drift_report.batch(usecase.load(), baseline, report)
    assert written.count(">score<") == 2  # rows of a column and of the score


def test_memory_does_not_hold_the_whole_table() -> None:
    """Counting goes batch by batch: no batch is larger than profile.BATCH rows."""
    frame = pl.LazyFrame({"x": np.arange(300_000, dtype=float)})
    bins = drift.profile(frame, {"x": "number"}, 10)
    rows, found = profile.count(frame, bins)
    assert rows == 300_000
    assert found["x"].counts.tolist() == pytest.approx([1, *[30_000] * 10, 0, 0], abs=2)


def test_a_value_has_the_bin_that_a_search_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = np.array([-np.inf, -1.0, 0.0, np.nextafter(0.0, 1.0), 2.5, 1e100])
    numbers = np.array([*edges, *np.nextafter(edges[1:], np.inf), -0.0, 1.0])
    frame = pl.DataFrame({"n": numbers[np.isfinite(numbers)]}).with_columns(pl.lit("a").alias("k"))
    bins: list[dict[str, Any]] = [
        {"name": "n", "kind": "number", "edges": edges.tolist()},
        {"name": "k", "kind": "category", "values": ["a", "", "v"]},
    ]
    _, compared = profile.count(frame.lazy(), bins)
    monkeypatch.setattr(profile, "EDGES", 0)
    _, searched = profile.count(frame.lazy(), bins)
    for name in frame.columns:
        assert compared[name].counts.tolist() == searched[name].counts.tolist()
        assert compared[name].sums.tolist() == searched[name].sums.tolist()


def test_quantiles_are_those_of_polars() -> None:
    column = pl.Series("x", [None, np.nan, np.inf, *np.random.default_rng(1).normal(size=997)])
    exact = column.filter(column.is_finite())
    edges = drift.profile(column.to_frame().lazy(), {"x": "number"}, 13)[0]["edges"]
    assert edges == [exact.quantile(share / 13, "lower") for share in range(14)]


def test_a_number_beyond_all_others_is_learned_too() -> None:
    """Its square is no number any more."""
    values = [*range(300), *[1e300] * 9, -1e300]
    total, [found] = profile.learned(pl.LazyFrame({"x": values}, strict=False), {"x": "number"}, 10)
    assert total == len(values)
    json.dumps(found, allow_nan=False)


def test_many_rows_are_learned_in_two_passes_and_few_draw_the_bins_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and memory of a large table: quantiles of so many rows at most, and one pass that counts all columns."""
    passes, drawn = [0], list[int]()

    def batches(frame: pl.LazyFrame, **options: Any) -> Any:
        passes[0] += 1
        return collect_batches(frame, **options)

    def draw(frame: pl.LazyFrame, kinds: dict[str, str], bins: int) -> Any:
        drawn.extend(frame.collect().height for kind in kinds.values() if kind == "number")
        return found(frame, kinds, bins)

    collect_batches, found = pl.LazyFrame.collect_batches, drift.profile
    monkeypatch.setattr(pl.LazyFrame, "collect_batches", batches)
    monkeypatch.setattr(drift, "profile", draw)
    monkeypatch.setattr(profile, "DRAWN", 2_000)
    numbers = np.arange(20_000, dtype=float)
    frame = pl.LazyFrame({"x": numbers, "k": np.char.add("v", (numbers % 7).astype(int).astype(str))})
    rows, (number, category) = profile.learned(frame, {"x": "number", "k": "category"}, 20)
    assert passes == [2]
    assert drawn == [pytest.approx(2_000, rel=0.02)]
    assert number["counts"][1:21] == pytest.approx([500] * 20, rel=0.1)  # in bins of a sample; half of the rows
    assert sum(category["counts"]) == sum(number["counts"]) == pytest.approx(10_000, abs=1)
    assert (rows, number["low"], number["high"]) == (20_000, 0.0, 19_999.0)


def test_of_a_table_one_batch_is_held_at_a_time() -> None:
    """Whoever counts is slower than whoever reads: what is read ahead would fill the memory."""
    held, most = list[weakref.ref[pl.DataFrame]](), [0]

    def batches() -> Iterator[pl.DataFrame]:
        for start in range(0, 9_000, 1_000):
            batch = pl.DataFrame({"x": np.arange(start, start + 1_000, dtype=float)}).with_columns(k=pl.lit("a"))
            held.append(weakref.ref(batch))
            yield batch
            most[0] = max(most[0], sum(ref() is not None for ref in held))

    rows, (number, _) = profile.learned(batches, {"x": "number", "k": "category"}, 20)
    assert (rows, number["high"], most) == (9_000, 8_999.0, [1])


EVALUATION = {"metric": "auc", "threshold": 0.5, "validation": {"auc": 0.78, "accuracy": 0.72, "log_loss": 0.55}}
COMPARISON = {
    "rows": 900,
    "score": "probability of the positive class",
    "quantiles": {"share": [0.0, 0.5, 1.0], "champion": [0.1, 0.4, 0.8], "challenger": [0.1, 0.3, 0.9]},
    "disagreement": 0.123,
    "mean_absolute_difference": 0.05,
    "metric": "auc",
    "champion": 0.70,
    "challenger": 0.74,
    "lead": 0.04,
    "lead_low": 0.01,
    "lead_high": 0.07,
}


def labelled(rows: int = 4000, high: float = 2.0) -> pl.DataFrame:
    """Predictions whose scores are chances, with labels that obey them."""
    frame = predictions(rows, high=high)
    happened = np.random.default_rng(9).random(rows) < frame["score"].to_numpy()
    return frame.with_columns(pl.Series("__label", np.where(happened, "yes", "no")))


def explain(importance: object, contract: dict[str, Any] | None = None) -> None:
    folder = job.processing_input("explainer")
    folder.mkdir(parents=True, exist_ok=True)
    artifacts.write_json(folder / "explainer.json", {"source_importance": importance})
    artifacts.write_manifest(folder, "explainability", contract or usecase.load().contract())


def test_the_performance_of_a_batch_is_expected_without_its_labels() -> None:
    baseline = learn(scored=labelled(), evaluation=EVALUATION)
    assert baseline["performance"]["reference"]["auc"] == 0.78
    report = judge(table(2000, seed=2))
    found = report["performance"]
    now = predictions(2000, seed=2)["score"].to_numpy()
    truth = (np.random.default_rng(3).random(2000) < now).astype(int)
    assert found["low"] <= metrics.roc_auc_score(truth, now) <= found["high"]
    assert (found["metric"], found["reference"], found["alarm"], found["reason"]) == ("auc", 0.78, False, None)
    assert abs(found["drop"]) < 0.02
    assert found["metrics"]["accuracy"]["estimated"] == pytest.approx(
        metrics.accuracy_score(truth, now > 0.5), abs=0.03
    )
    assert "Without labels, auc is expected to be" in report["reason"]


def test_scores_that_say_nothing_any_more_raise_an_alarm_that_the_page_shows() -> None:
    learn(scored=labelled(), evaluation=EVALUATION)
    flat = predictions(2000, seed=2).with_columns(score=pl.lit(0.5) + pl.col("score") / 100)
    report = judge(table(2000, seed=2), flat)
    found = report["performance"]
    assert found["alarm"]
    assert found["high"] < 0.65
    page = (job.processing_output("drift") / "report.html").read_text(encoding="utf-8")
    assert "Markup(" not in page
    assert "a worse model expected" in page
    assert "repaid has changed" in page  # the method's limit is said
    assert "validation 0.78" in page  # by its name, beside the line
    assert "the line is the value on the validation split" in page


SHARP = {"metric": "log_loss", "threshold": 0.5, "validation": {"log_loss": 0.6}}
RULES = {
    "": (["performance"], "which starts a retraining"),
    'on = ["drift"]': ([], "that [retraining] on leaves out: nothing follows"),
    "enabled = false": ([], "nothing follows from it, as [retraining] enabled = false"),
    "alarms = 2\nwindows = 3": (["performance"], "which counts: 2 in the last 3 windows start a retraining"),
}


@pytest.mark.parametrize("rules", RULES)
def test_no_drift_beside_a_worse_model_says_what_follows_from_it(tmp_path: Path, rules: str) -> None:
    """Half as many rows with a score near 0.5: too small a change of the scores for drift, and a worse log loss."""
    settings = (tmp_path / "usecase.toml").read_text(encoding="utf-8")
    changed = f"minimum_effect = 9.0\nperformance_drop = 0.02\n[retraining]\n{rules}\n"
    (tmp_path / "usecase.toml").write_text(settings + changed, encoding="utf-8")
    learn(scored=labelled(), evaluation=SHARP)
    report = judge(table(2000, seed=2), predictions(2000, seed=2).with_columns(score=0.25 + pl.col("score") / 2))
    counts, words = RULES[rules]
    assert (report["verdict"], report["alarms"], report["counts"]) == ("no drift", ["performance"], counts)
    assert words in report["consequence"]
    page = (job.processing_output("drift") / "report.html").read_text(encoding="utf-8")
    assert "No drift, but a worse model expected" in page
    assert words in page


def test_drift_is_an_alarm_and_a_healthy_batch_is_none() -> None:
    learn(scored=labelled(), evaluation=EVALUATION)
    quiet = judge(table(2000, seed=2))
    assert (quiet["alarms"], quiet["counts"], quiet["consequence"]) == ([], [], "")
    drifted = judge(table(2000, seed=2, shift=1.0))
    assert (drifted["alarms"], drifted["counts"]) == (["drift"], ["drift"])
    assert "This is an alarm (drift), which starts a retraining" in drifted["consequence"]


def test_a_metric_that_validation_did_not_have_gives_no_line_to_compare_with() -> None:
    learn(scored=labelled(), evaluation={**EVALUATION, "validation": {"accuracy": 0.72}})
    found = judge(table(2000, seed=2))["performance"]
    assert (found["reference"], found["alarm"]) == (None, False)
    page = (job.processing_output("drift") / "report.html").read_text(encoding="utf-8")
    assert "Expected now" in page
    assert "the line is" not in page


NOT_KNOWN: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], object, str]] = {
    "no labels": (lambda frame: frame.drop("__label"), EVALUATION, "no column __label"),
    "no evaluation": (lambda frame: frame, None, "no metric and no validation and no threshold"),
    "margins": (lambda frame: frame.with_columns(score=pl.col("score") * 9 - 4), EVALUATION, "no probabilities"),
    "another metric": (lambda frame: frame, {**EVALUATION, "metric": "average_precision"}, "can't be expected"),
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_where_performance_can_not_be_expected_the_report_says_why(name: str) -> None:
    change, evaluation, reason = NOT_KNOWN[name]
    learn(scored=change(labelled()), evaluation=evaluation)
    report = judge(table(500, seed=2), change(predictions(500, seed=2).with_columns(pl.lit("no").alias("__label"))))
    assert report["performance"]["estimated"] is None
    assert reason in report["performance"]["reason"]
    assert not report["performance"]["alarm"]
    assert reason in (job.processing_output("drift") / "report.html").read_text().replace("&#39;", "'")


@pytest.mark.parametrize("trusted", [True, False])
def test_performance_is_not_expected_from_a_split_that_repeats_training(trusted: bool) -> None:
    reason = "90% of the validation rows have a near-twin in training"
    baseline = learn(scored=labelled(), evaluation={**EVALUATION, "leak": {"trusted": trusted, "reason": reason}})
    assert ("reference" in baseline["performance"]) is trusted
    page = (job.processing_output("report") / "report.html").read_text(encoding="utf-8")
    assert "but validation repeats training" in page
    assert reason in page
    found = judge(table(2000, seed=2))["performance"]
    assert (found["estimated"] is not None) is trusted
    assert found["reason"] is None if trusted else reason.rstrip(".") in found["reason"]


def test_a_baseline_without_calibration_and_a_batch_of_few_rows_give_no_estimate() -> None:
    learn(scored=labelled(), evaluation=EVALUATION)
    assert "fewer than" in judge(table(99, seed=2))["performance"]["reason"]
    file = job.processing_input("baseline") / "baseline.json"
    artifacts.write_json(file, {key: value for key, value in artifacts.read_json(file).items() if key != "performance"})
    assert "train again" in judge(table(500, seed=2))["performance"]["reason"]


def test_a_value_has_no_chance_of_being_right(tmp_path: Path) -> None:
    (tmp_path / "usecase.toml").write_text(USECASE.format(task="regression", classes="[]").replace('"auc"', '"rmse"'))
    values = predictions(4000).select("id", pl.col("score").alias("prediction"), "error")
    learn(scored=values, evaluation={"metric": "rmse"})
    report = judge(table(500, seed=2), values.head(500))
    found = report["performance"]
    assert found["metric"] == "rmse"
    assert "only labels can tell" in found["reason"]
    assert "not known without labels" in report["reason"]  # in the terminal, the notice and the page's first sentence
    page = (job.processing_output("drift") / "report.html").read_text(encoding="utf-8")
    assert page.count("the realised performance is computed") == 2


def test_several_classes_are_expected_too(tmp_path: Path) -> None:
    (tmp_path / "usecase.toml").write_text(USECASE.format(task="multiclass", classes='["a", "b", "c"]'))
    random = np.random.default_rng(4)
    scores = random.dirichlet([2.0, 1.0, 1.0], 4000)
    truth = np.array([random.choice(3, p=row) for row in scores])
    names = np.array(["a", "b", "c"])
    columns = {f"score:{name}": scores[:, place] for place, name in enumerate(names)}
    frame = pl.DataFrame(
        {"id": np.arange(4000), "prediction": names[scores.argmax(axis=1)], "score": scores.max(axis=1)}
    )
    frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("error"), **columns, __label=names[truth])
    evaluation = {"metric": "accuracy", "threshold": 0.5, "validation": {"accuracy": 0.6, "log_loss": 0.8}}
    learn(scored=frame[:2000], evaluation=evaluation)
    found = judge(table(2000, seed=2), frame[2000:].drop("__label"))["performance"]
    real = {
        "accuracy": metrics.accuracy_score(truth[2000:], scores[2000:].argmax(axis=1)),
        "log_loss": metrics.log_loss(truth[2000:], scores[2000:]),
    }
    for name, value in real.items():
        assert found["metrics"][name]["low"] <= value <= found["metrics"][name]["high"]
    assert found["estimated"] == found["metrics"]["accuracy"]["estimated"]


def moved(rows: int = 2000) -> pl.DataFrame:
    """Income and owner both drift, owner more."""
    return table(rows, seed=2, shift=1.0).with_columns(pl.lit("yes").alias("owner"))


def test_drift_in_what_the_model_uses_comes_first_and_the_verdict_says_how_much_it_is() -> None:
    learn()
    explain({"owner": 0.1, "income": 6.9, "since": 3.0})
    report = judge(moved())
    first, second = report["columns"][:2]
    assert [first["name"], second["name"]] == ["income", "owner"]
    assert [first["importance"], second["importance"]] == pytest.approx([0.69, 0.01])
    assert first["psi_beyond_chance"] < second["psi_beyond_chance"]  # the larger change matters less
    assert column(report, "same")["importance"] == 0.0
    assert report["drifted_importance"] == pytest.approx(0.7)
    assert report["drifted_important"] == ["income"]
    assert "2 of 5 columns drifted; they carry 70 % of the model's reasons, above all income" in report["reason"]
    page = (job.processing_output("drift") / "report.html").read_text()
    assert "reasons %" in page
    assert page.count('class="marked"') == 2
    assert "missing before, %" in page


BROKEN: dict[str, Callable[[], object]] = {
    "none": lambda: None,
    "of another contract": lambda: explain({"owner": 1.0}, {"data": {}, "columns": []}),
    "a list": lambda: explain(["owner"]),
    "texts": lambda: explain({"owner": "much"}),
    "nothing used": lambda: explain({"owner": 0.0}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_drift_is_found_without_an_explainer_that_can_be_read(name: str) -> None:
    learn()
    BROKEN[name]()
    report = judge(moved())
    assert set(report["drifted"]) == {"income", "owner"}
    assert report["columns"][0]["importance"] is None
    assert report["drifted_importance"] is None
    assert "most of all owner" in report["reason"]  # the larger change


def test_the_person_who_approves_sees_champion_and_challenger_beside_each_other() -> None:
    learn(scored=labelled(), evaluation={**EVALUATION, "comparison": COMPARISON})
    page = (job.processing_output("report") / "report.html").read_text(encoding="utf-8")
    assert "Champion and challenger" in page
    assert "+0.0400 (95 %: +0.0100 to +0.0700)" in page
    assert "12.3 % of the rows" in page
    learn(scored=labelled(), evaluation={**EVALUATION, "comparison": None, "not_comparable": "it is a <forest>."})
    text = (job.processing_output("report") / "report.html").read_text(encoding="utf-8")
    assert "can&#39;t be compared with the new one: it is a &lt;forest&gt;." in text
    learn(scored=labelled(), evaluation={**EVALUATION, "comparison": None})
    assert "challenger" not in (job.processing_output("report") / "report.html").read_text(encoding="utf-8")
