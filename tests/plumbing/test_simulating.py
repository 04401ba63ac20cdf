"""The simulation: stand-ins that answer as AWS does, a loop that may be killed anywhere, and the table it ends in."""

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from batchloop.container.job import InputError
from batchloop.control import handlers, retraining
from batchloop.control.reports import Performance
from batchloop.engine.storage import Registry, Storage
from batchloop.repository import Repository
from batchloop.simulate import simulation
from batchloop.simulate.account import Account
from batchloop.simulate.loop import FIRST, Loop, Options, Stage, find_stages
from batchloop.simulate.simulation import Row, Table
from data import sample
from data import stages as sample_stages
from plumbing.control_plane import OBJECT_CREATED
from plumbing.parameter_store import parameter_tier
from plumbing.rendered import ROOT
from plumbing.simulated_account import ACCOUNT, CASE, RULES, Dying, Killed, lasting, open_quick, without

NAMES = ["calm", "calm too", "drift", "drift", "bad drift", "drift more", "calm"]


def finish(loop: Loop) -> Loop:
    for _ in loop.ticks():
        pass
    return loop


@pytest.fixture
def quick(tmp_path: Path) -> Loop:
    return open_quick(tmp_path, NAMES)


def learned(loop: Loop) -> list[str]:
    """The stages that the releases learned from, oldest first."""
    return [str(loop.stage_of(manifest["training_data"])) for manifest in loop.releases()]


# the loop


def test_drift_is_retrained_on_and_the_next_tick_uses_the_new_release(quick: Loop) -> None:
    finish(quick)
    assert learned(quick) == ["calm", "drift", "drift more"]
    used = [quick.state["executions"][tick["run"]]["parameters"]["Model"] for tick in quick.state["ticks"]]
    models = [manifest["artifacts"]["model"] for manifest in quick.releases()]
    assert used == [models[0], models[0], models[0], models[1], models[1], models[1], models[2]]


def test_each_tick_says_why_in_the_words_of_the_function(quick: Loop) -> None:
    whys = [tick["why"] for tick in finish(quick).state["ticks"]]
    assert whys[0] == "Window 2026-01-01 has not drifted."
    assert "the model is retrained on window 2026-01-03" in whys[2]
    assert whys[3] == "Window 2026-01-04 has not drifted."


def test_the_files_of_earlier_windows_are_given_where_the_settings_ask_for_them(tmp_path: Path) -> None:
    world = finish(open_quick(tmp_path, ["calm", "unlabelled calm", "drift"], rules=without(learn="all")))
    [run] = [run for run in world.state["executions"].values() if "EarlierData" in run["parameters"]]
    listed = world.account.storage.listed(run["parameters"]["EarlierData"])
    assert [key for key, _ in listed] == ["2026-01-01/train/about.json"]
    assert "It also learns from 1 earlier window (2026-01-01)." in world.state["ticks"][2]["why"]
    assert len(world.account.storage.listed(f"{world.places.storage}/none/earlier.manifest")) == 1


def test_a_model_that_fails_the_gate_is_no_release_and_does_not_stop_the_loop(quick: Loop) -> None:
    finish(quick)
    [failed] = [run for run in quick.state["executions"].values() if run["status"] == "Failed"]
    assert failed["why"] == "The model is not good enough."
    assert "bad drift" not in learned(quick)
    assert learned(quick)[-1] == "drift more"


def test_the_cooldown_and_the_budget_count_in_simulated_days(tmp_path: Path) -> None:
    names = ["calm", *(f"drift {number}" for number in range(8))]
    slow = finish(open_quick(tmp_path / "slow", names, rules=without(cooldown_hours=48, budget=20)))
    assert learned(slow) == ["calm", "drift 0", "drift 2", "drift 4", "drift 6"]
    poor = finish(open_quick(tmp_path / "poor", names, rules=without(budget=2)))
    assert learned(poor) == ["calm", "drift 0", "drift 1"]
    assert "budget of 2" in poor.state["ticks"][-1]["why"]


def test_two_of_three_windows_must_drift_where_the_settings_say_so(tmp_path: Path) -> None:
    names = ["calm", "drift once", "calm", "drift", "drift", "calm"]
    loop = finish(open_quick(tmp_path, names, rules=without(alarms=2, windows=2)))
    assert [loop.places.window(entry["training_data"], "train") for entry in loop.releases()] == [
        "2026-01-01",
        "2026-01-05",
    ]


def test_without_the_decision_nothing_is_retrained(tmp_path: Path) -> None:
    loop = finish(open_quick(tmp_path, NAMES, rules=without(enabled=False)))
    assert learned(loop) == ["calm"]
    assert "[retraining] enabled = false" in loop.state["ticks"][2]["why"]


def test_where_a_person_approves_the_simulated_one_does(tmp_path: Path) -> None:
    loop = finish(open_quick(tmp_path, ["calm person", "drift person", "calm"]))
    assert learned(loop) == ["calm person", "drift person"]
    assert [manifest["reason"] for manifest in loop.releases()] == ["by the simulated person"] * 2


def test_a_stage_without_labels_waits_for_them(tmp_path: Path) -> None:
    loop = finish(open_quick(tmp_path, ["calm", "drift unlabelled", "calm"]))
    assert learned(loop) == ["calm"]
    assert "waits for the labels of window 2026-01-02" in loop.state["ticks"][1]["why"]


def marked(loop: Loop, window: str) -> dict[str, Any]:
    """The event of the mark that train/ of a window is complete."""
    key = f"team/case/data/{window}/train/_SUCCESS"
    loop.account.put_object(Bucket="bucket", Key=key, Body=b"")
    event = copy.deepcopy(OBJECT_CREATED)
    event["detail"] |= {"bucket": {"name": "bucket"}, "object": {"key": key}}
    return event


def test_labels_that_arrive_later_are_retrained_on_and_released(tmp_path: Path) -> None:
    loop = finish(open_quick(tmp_path, ["calm", "drift unlabelled", "calm"]))
    world, late = loop, "s3://bucket/team/case/data/2026-01-02/train/about.json"
    assert world.places.data("2026-01-02", "train") == late.removesuffix("about.json")
    world.account.storage.write_json(late, {"stage": "drift unlabelled"})
    event = marked(world, "2026-01-02")
    said = handlers.object_created(event, world.aws, world.places, world.now)
    assert said.endswith("the model is retrained on window 2026-01-02.")
    assert handlers.object_created(event, world.aws, world.places, world.now) == "Nothing waits for this."
    loop.settle()
    assert learned(loop) == ["calm", "drift unlabelled"]


def test_a_model_that_is_expected_to_score_worse_is_retrained_in_the_simulation_too(tmp_path: Path) -> None:
    names = ["calm", "worse", "calm"]
    assert learned(finish(open_quick(tmp_path / "both", names))) == ["calm", "worse"]
    assert learned(finish(open_quick(tmp_path / "one", names, rules=without(on=("drift",))))) == ["calm"]


def test_a_first_model_that_is_not_good_enough_ends_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="from stage bad, was not released: The model is not good enough"):
        finish(open_quick(tmp_path, ["bad"]))


@pytest.mark.parametrize("after", [False, True])
def test_it_may_be_killed_around_every_write_and_ends_the_same(tmp_path: Path, after: bool) -> None:
    names = ["calm", "drift", "calm"]
    whole = finish(open_quick(tmp_path / "whole", names, Dying))
    assert isinstance(whole.account, Dying)
    writes = len(whole.account.writes)
    assert writes > 20
    for last in range(1, writes + 1):
        folder = tmp_path / f"{last}"
        with pytest.raises(Killed):
            finish(open_quick(folder, names, partial(Dying, last=last, after=after)))
        again = finish(open_quick(folder, names))
        assert lasting(again) == lasting(whole), last
        assert learned(again) == learned(whole), last


# the stand-ins


def test_labels_that_come_late_are_measured_by_one_step_and_retrained_on(tmp_path: Path) -> None:
    """Nothing has drifted, and nothing worse was expected; what is wrong only labels tell, and two windows later."""
    loop = finish(open_quick(tmp_path, ["calm", "known wrong unlabelled", "calm", "calm"]))
    assert learned(loop) == ["calm"]
    world, place = loop, loop.places.data("2026-01-02", "train")
    world.account.storage.write_json(f"{place}about.json", {"stage": "known wrong unlabelled"})
    event = marked(world, "2026-01-02")
    handlers.object_created(event, world.aws, world.places, world.now)
    [arn] = [arn for arn, run in world.state["executions"].items() if run["status"] == "Executing"]
    assert world.state["executions"][arn]["selected"] == ["DetectDrift"]
    assert world.state["executions"][arn]["source"] == world.state["ticks"][1]["run"]
    loop.settle()
    assert learned(loop) == ["calm", "known wrong unlabelled"]
    [run] = [run for run in world.state["executions"].values() if run["description"].startswith("Labels of")]
    assert "have come late: by its labels auc is 0.7, 0.8 on validation; labels are there" in run["description"]
    assert world.report(world.state["ticks"][1]["run"])["realised"]["alarm"]


def test_labels_that_are_there_are_measured_with_the_scoring_and_what_they_refute_is_no_alarm(tmp_path: Path) -> None:
    loop = finish(open_quick(tmp_path, ["calm", "worse known", "worse known wrong"]))
    assert learned(loop) == ["calm", "worse known wrong"]
    whys = [tick["why"] for tick in loop.state["ticks"]]
    assert "not 0.7 as was expected" in whys[1]
    assert not any("selected" in run for run in loop.state["executions"].values())


GIVEN = [{"Name": "DataFingerprint", "Value": "x"}]


def test_a_selection_of_a_step_that_is_not_there_is_refused(quick: Loop) -> None:
    """What the execution has to be whose results are used is asked where the steps run: see `graph.selected`."""
    about = {"PipelineParameters": GIVEN, "PipelineName": "team-case-dev-inference", "ClientRequestToken": "b" * 64}
    wanted = {"SelectedSteps": [{"StepName": "Detect"}]}
    with pytest.raises(ClientError, match=r"ValidationException.*there is no step Detect"):
        quick.aws.sagemaker.start_pipeline_execution(**about, SelectiveExecutionConfig=wanted)


def test_a_token_that_was_used_starts_nothing_and_unknown_parameters_are_refused(quick: Loop) -> None:
    client = quick.aws.sagemaker
    request = {"PipelineName": "team-case-dev-training", "ClientRequestToken": "a" * 64}
    first, second = (client.start_pipeline_execution(**request, PipelineParameters=GIVEN) for _ in range(2))
    arn = f"{ACCOUNT}:pipeline/team-case-dev-training/execution/{'a' * 12}"
    assert first == second == {"PipelineExecutionArn": arn}
    with pytest.raises(ClientError, match="no parameter Typo"):
        client.start_pipeline_execution(**request, PipelineParameters=[{"Name": "Typo", "Value": "x"}])
    with pytest.raises(ClientError, match="no value for parameter DataFingerprint"):
        client.start_pipeline_execution(**request, PipelineParameters=[])
    with pytest.raises(ClientError, match="ResourceNotFound"):
        client.start_pipeline_execution(**request | {"PipelineName": "another"}, PipelineParameters=[])


NAME = "/team/case/dev/x"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"Value": 'by {{a person}}, {"a": {}}'}, "ValidationException"),
        ({"Value": "{{ssm:another}}"}, "ValidationException"),
        ({"Value": ""}, "ValidationException"),
        ({"Value": "x" * 4097}, "ValidationException"),
        ({"Value": "é" * 2049}, "ValidationException"),
        ({"Value": "x" * 8193, "Tier": "Intelligent-Tiering"}, "ValidationException"),
        ({"Value": "x", "Type": None}, "ValidationException"),
        ({"Name": "team/case"}, "ValidationException"),
        ({"Name": "/team/a case"}, "ValidationException"),
        ({"Name": "/AWS/case/dev/x"}, "ValidationException"),
        ({"Name": "/ssm-team/case"}, "ValidationException"),
        ({"Name": "/a" * 16}, "HierarchyLevelLimitExceededException"),
        ({"Name": f"/{'a' * 1000}"}, "ValidationException"),
    ],
)
def test_a_parameter_is_refused_as_the_parameter_store_refuses_it(request_: dict[str, Any], code: str) -> None:
    """ "PutParameter" in the Systems Manager API reference."""
    request = {"Name": NAME, "Value": "x", "Type": "String"} | request_
    with pytest.raises(ClientError, match=code):
        parameter_tier({key: value for key, value in request.items() if value is not None})


def test_a_parameter_takes_what_its_tier_holds_and_stays_in_the_larger_one() -> None:
    before = list[str]()
    for name, request, tier in (
        (NAME, {"Value": "x" * 4096, "Tier": "Intelligent-Tiering", "Type": "String"}, "Standard"),
        (NAME, {"Value": "y" * 8192, "Tier": "Intelligent-Tiering", "Overwrite": True}, "Advanced"),
        (NAME, {"Value": "z", "Tier": "Intelligent-Tiering", "Overwrite": True}, "Advanced"),
    ):
        assert parameter_tier({"Name": name, **request}, before) == tier
        before.append(str(request["Value"]))
    assert parameter_tier({"Name": "/team" + "/a" * 14, "Value": '{"a": {"b": {}}}', "Type": "String"}) == "Standard"
    with pytest.raises(ClientError, match="ValidationException"):  # there is no way back
        parameter_tier({"Name": NAME, "Value": "x", "Tier": "Standard", "Overwrite": True}, before)


KEYS = ["a/b/1.csv", "a/b/2.csv", "a/bc/1.csv", "a/d.csv", "e.csv", "a/b2"]


@pytest.fixture
def buckets(tmp_path: Path) -> Iterator[tuple[Account, Any]]:
    """The same objects here and in moto's S3."""
    with mock_aws():
        real = boto3.client("s3", region_name="us-east-1")
        real.create_bucket(Bucket="bucket")
        for key in KEYS:
            real.put_object(Bucket="bucket", Key=key, Body=b"x")
            (tmp_path / "bucket" / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "bucket" / key).write_bytes(b"x")
        yield Account(Storage(tmp_path), Registry(tmp_path), {}, ACCOUNT), real


def test_objects_are_listed_as_s3_lists_them(buckets: tuple[Account, Any]) -> None:
    for prefix in ("", "a", "a/", "a/b", "a/b/", "a/b/1.csv", "none", "none/", "e"):
        for request in ({"MaxKeys": 1}, {"MaxKeys": 2}, {}, {"Delimiter": "/"}):
            ours, theirs = (bucket.list_objects_v2(Bucket="bucket", Prefix=prefix, **request) for bucket in buckets)
            assert keys(ours) == keys(theirs), (prefix, request)
            folders = [[entry["Prefix"] for entry in answer.get("CommonPrefixes", [])] for answer in (ours, theirs)]
            assert folders[0] == folders[1], (prefix, request)


def keys(answer: dict[str, Any]) -> list[str]:
    return [entry["Key"] for entry in answer.get("Contents", [])]


def test_an_object_that_is_not_there_is_no_such_key(buckets: tuple[Account, Any]) -> None:
    for bucket in buckets:
        assert bucket.get_object(Bucket="bucket", Key="e.csv")["Body"].read() == b"x"
        with pytest.raises(ClientError, match="NoSuchKey"):
            bucket.get_object(Bucket="bucket", Key="a/b")


def test_a_simulation_that_is_run_again_tells_nothing_twice(tmp_path: Path) -> None:
    loop = finish(open_quick(tmp_path, ["calm", "drift"]))
    told = loop.account.notices.read_text()
    assert finish(open_quick(tmp_path, ["calm", "drift"])).account.notices.read_text() == told


# stages


def user_stages(folder: Path, *names: str) -> Path:
    for name in names:
        for part in ("production", "train"):
            (folder / name / part).mkdir(parents=True)
            (folder / name / part / "rows.csv").write_text("a\n1\n")
    return folder


def test_a_users_stages_come_by_name_with_numbers_by_value(tmp_path: Path) -> None:
    folder = user_stages(tmp_path / "mine", "10", "9", "2", "first")
    (folder / "9" / "about.txt").write_text("the ninth\n")
    (folder / "window").write_text("sample\n")
    found = find_stages(Repository(tmp_path, tmp_path / "local" / "simulation"), Options(stages=str(folder)))
    assert [stage.name for stage in found] == ["first", "2", "9", "10"]
    assert [stage.about for stage in found] == ["", "", "the ninth", ""]


def test_what_is_missing_of_stages_is_said(tmp_path: Path) -> None:
    repository = Repository(tmp_path, tmp_path / "local" / "simulation")
    with pytest.raises(InputError, match="none is no folder of stages"):
        find_stages(repository, Options(stages=str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is no folder of stages"):
        find_stages(repository, Options(stages=str(tmp_path / "empty")))
    folder = user_stages(tmp_path / "mine", "1", "2")
    (folder / "2" / "production" / "rows.csv").unlink()
    with pytest.raises(InputError, match=r"stage 2: .*production holds nothing"):
        find_stages(repository, Options(stages=str(folder)))


def test_an_adopted_table_needs_stages_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "window").write_text("adopted\n")
    with pytest.raises(InputError, match="give STAGES=folder"):
        find_stages(Repository(tmp_path, tmp_path / "local" / "simulation"), Options())


def test_a_stage_is_copied_once_and_without_hidden_files(tmp_path: Path) -> None:
    folder = user_stages(tmp_path / "mine", "1")
    (folder / "1" / "train" / ".hidden").write_text("x")
    stage = Stage(1, folder / "1")
    stage.copy(tmp_path / "window")
    stage.copy(tmp_path / "window")
    files = sorted(path.relative_to(tmp_path / "window").as_posix() for path in (tmp_path / "window").rglob("*.*"))
    assert files == ["production/rows.csv", "train/rows.csv"]


def test_the_sample_s_stages_are_the_same_bytes_and_keep_their_labels(tmp_path: Path) -> None:
    for name in ("one", "two"):
        sample_stages.write(tmp_path / name, 200, 7)
    for name, (_, words) in sample_stages.STAGES.items():
        one, two = (tmp_path / which / name / "production" / "customers.csv" for which in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert (tmp_path / "one" / name / "about.txt").read_text() == f"{words}\n"
        assert "churned" in pl.read_csv(one).columns
    every = [pl.read_csv(file)["customer_id"] for file in (tmp_path / "one").rglob("*.csv")]
    assert pl.concat(every).is_unique().all()


# what predictions were worth


def predicted(rows: pl.DataFrame, right: bool = True) -> pl.DataFrame:
    """What a model that is always right, or always wrong, says of the first stage's rows."""
    churns = (pl.col("churned") == "yes") == right
    identity = pl.concat_str(pl.lit("1:"), "customer_id").alias("customer_id")
    named = pl.when(churns).then(pl.lit("yes")).otherwise(pl.lit("no")).alias("prediction")
    return rows.select(identity, named, churns.cast(pl.Float64).alias("score"), pl.lit(None, pl.String).alias("error"))


@pytest.mark.parametrize(("where", "value"), [("production", 1.0), ("train", 1.0), ("nowhere", None)])
def test_rows_are_measured_by_labels_in_production_or_by_id_in_train(
    tmp_path: Path, where: str, value: float | None
) -> None:
    """Rows without a label or a prediction, and those of other stages, count for nothing."""
    rows = sample.customers(40, 1)
    for part in ("production", "train"):
        (tmp_path / "1" / part).mkdir(parents=True)
    label = pl.when(pl.int_range(40) < 30).then("churned").alias("churned")  # of ten the label is not known
    labelled = rows.with_columns(label)
    (labelled if where == "production" else rows.drop("churned")).write_csv(tmp_path / "1" / "production" / "a.csv")
    late = labelled if where == "train" else rows.drop("churned")
    late.write_csv(tmp_path / "1" / "train" / "a.csv")
    broken = predicted(rows[20:30], right=False).with_columns(error=pl.lit("broken"))
    others = predicted(rows, right=False).with_columns(pl.col("customer_id").str.replace("1:", "2:"))
    answers = pl.concat([predicted(rows[:20]), broken, predicted(rows[30:], right=False), others])
    assert simulation.measure(CASE, Stage(1, tmp_path / "1"), answers) == value


def test_labels_of_one_class_measure_nothing(tmp_path: Path) -> None:
    rows = sample.customers(40, 1)
    (tmp_path / "1" / "production").mkdir(parents=True)
    rows.with_columns(churned=pl.lit("no")).write_csv(tmp_path / "1" / "production" / "a.csv")
    assert simulation.measure(CASE, Stage(1, tmp_path / "1"), predicted(rows)) is None


def test_a_pipeline_is_reduced_to_what_its_transform_needs() -> None:
    get = {"Get": "Steps.Prepare.X"}
    steps = [
        {"Name": "Prepare", "Type": "Processing", "Arguments": {"a": {"Get": "Parameters.A"}}},
        {"Name": "Score", "Type": "Transform", "Arguments": {"a": get}},
        {"Name": "Detect", "Type": "Processing", "Arguments": {"a": {"Get": "Steps.Score.X"}, "b": get}},
    ]
    steps[2]["Arguments"] = {**steps[2]["Arguments"], "c": {"Get": "Parameters.C"}}  # type: ignore[dict-item]
    definition = {"Version": "1", "Parameters": [{"Name": "A"}, {"Name": "C"}], "Steps": steps}
    before = copy.deepcopy(definition)
    assert simulation.scoring_steps(definition) == ("Prepare", "Score")
    assert definition == before


# the table


def row(tick: int, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "tick": tick,
        "window": f"2026-01-{tick:02}",
        "input": f"stage {tick}",
        "about": "",
        "learned_on": "stage 1",
        "drift": False,
        "drifted": (),
        "retrained_on": "",
        "before": 0.8,
        "after": None,
        "why": "",
    }
    return Row(**values | changes)


def known(value: float, low: float | None, high: float | None, alarm: bool = False) -> Performance:
    return Performance("auc", value, low, high, reference=None, drop=None, alarm=alarm)


def made(*rows: Row, metric: str = "auc") -> Table:
    return Table(metric, True, rows, {"stage 1": {entry.input: entry.before for entry in rows}})


RETRAINED = {"drift": True, "retrained_on": "stage 2", "drifted": ("age", "plan")}


def test_the_table_says_true_false_and_where_nothing_is_known_a_dash() -> None:
    lines = made(row(1), row(2, before=0.5, after=0.75, **RETRAINED), row(3, drift=None, before=None)).text()
    assert [line.split() for line in lines[1:]] == [
        ["1", "stage", "1", "stage", "1", "FALSE", "–", "0.800", "–", "–", "–"],
        ["2", "stage", "2", "stage", "1", "TRUE", "stage", "2", "0.500", "0.750", "–", "–"],
        ["3", "stage", "3", "stage", "1", "–", "–", "–", "–", "–", "–"],
    ]


def test_what_the_stages_say_of_a_published_table_stands_below_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the stages of pictures do: the drift and the accuracy that the authors of the system have shown."""
    (tmp_path / "usecase.toml").write_text((ROOT / "usecase.toml").read_text())
    folder = tmp_path / "stages"
    folder.mkdir()
    (folder / "about.txt").write_text("published  drift FALSE FALSE TRUE\n           of other pictures.\n")
    monkeypatch.setattr(simulation, "find_stages", lambda *_: [Stage(1, folder / "1-original")])
    monkeypatch.setattr(simulation, "build", lambda _: made(row(1)))
    for name in ("_begin", "open_loop", "_go"):
        monkeypatch.setattr(simulation, name, lambda *_: None)
    assert simulation.simulate(Repository(tmp_path), Options("dev")) == 0
    said = capsys.readouterr().out
    ours, published = (
        said.index("FALSE"),
        said.index("published  drift FALSE FALSE TRUE\n           of other pictures.\n"),
    )
    assert ours < published < said.index("table: ")


def test_where_nothing_is_estimated_the_table_and_the_page_say_why() -> None:
    regression = made(row(1, unknown="not known: only labels can tell"), row(2), metric="rmse")
    assert regression.text()[-1] == "performance without labels: not known: only labels can tell"
    assert "Without labels: not known: only labels can tell." in simulation.page(regression)


def test_estimates_stand_in_the_table_where_there_are_any() -> None:
    estimated = made(row(1), row(2, estimated=known(0.7, 0.6, 0.8)))
    assert estimated.text()[2].endswith("0.700 (0.600 to 0.800)  –")
    assert "0.700 (0.600 to 0.800)" in simulation.page(estimated)


def test_what_labels_gave_stands_beside_what_was_expected(tmp_path: Path) -> None:
    measured = known(0.65, 0.6, 0.7, alarm=True)
    result = made(row(1, estimated=known(0.8, 0.7, 0.9), realised=measured), row(2))
    lines = result.text()
    assert lines[0].split()[-2:] == ["estimated", "realised"]
    assert lines[1].endswith("0.800 (0.700 to 0.900)  0.650 (0.600 to 0.700), worse")
    assert lines[2].split()[-2:] == ["–", "–"]
    shown = simulation.page(result)
    assert "Estimated is what was expected without labels, realised by labels." in shown
    assert "stage 1: 0.8 (0.6 to 0.7)" in shown
    assert "stage 1, estimated: 0.8 (0.7 to 0.9)" in shown


def test_a_window_that_is_expected_to_score_worse_is_one_of_the_alarms() -> None:
    estimated = known(0.7, 0.6, 0.8, alarm=True)
    worse = row(2, estimated=estimated, before=0.6, why="No budget.")
    result = made(row(1, drift=True, estimated=estimated), worse)
    assert result.text()[2].endswith("0.700 (0.600 to 0.800), worse  –")
    assert (
        result.verdict()[1] == "1 of 2 windows drifted, 1 more was expected to score worse, and 0 led to a new release."
    )
    assert simulation.page(result).count('class="marked"') == 2
    assert simulation.shown(known(0.7, None, None)) == "0.700"


@pytest.mark.parametrize(
    ("metric", "after", "closes"), [("auc", 0.6, True), ("auc", 0.4, False), ("rmse", 0.4, True), ("rmse", 0.6, False)]
)
def test_the_loop_closes_where_retraining_made_it_better(metric: str, after: float, closes: bool) -> None:
    result = made(row(1), row(2, before=0.5, after=after, **RETRAINED), metric=metric)
    assert result.verdict()[0] is closes
    assert ("the loop closes" in simulation.page(result)) is closes


def test_the_table_is_made_from_what_the_account_holds(quick: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    worth = {"calm": 0.8, "drift": 0.7, "drift more": 0.6}
    monkeypatch.setattr(simulation, "of_release", lambda *_: {name: worth.get(name, 0.4) for name in NAMES})
    result = simulation.build(finish(quick))
    assert [entry.drift for entry in result.rows] == [False, False, True, False, True, True, False]
    assert [entry.learned_on for entry in result.rows] == [
        "calm",
        "calm",
        "calm",
        "drift",
        "drift",
        "drift",
        "drift more",
    ]
    assert [entry.retrained_on for entry in result.rows] == ["", "", "drift", "", "", "drift more", ""]
    assert [entry.after for entry in result.rows] == [None, None, 0.7, None, None, 0.6, None]
    assert "The training failed: The model is not good enough." in result.rows[4].why
    assert list(result.matrix) == ["calm", "drift", "drift more"]
    assert json.loads(json.dumps(asdict(result)))["rows"][2]["retrained_on"] == "drift"


def test_an_estimate_in_the_drift_report_is_taken_over(quick: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "of_release", lambda *_: dict.fromkeys(NAMES, 0.5))
    finish(quick)
    run = quick.state["ticks"][1]["run"].rpartition("/")[2]
    place = f"{quick.places.runs('inference')}/{run}/DetectDrift/drift/drift.json"
    storage = quick.account.storage
    performance = {"metric": "auc", "estimated": 0.71234, "low": 0.7, "high": 0.72, "alarm": True}
    storage.write_json(place, storage.read_json(place) | {"performance": performance})
    second = simulation.build(quick).rows[1]
    assert second.estimated == known(0.71234, 0.7, 0.72, alarm=True)
    assert simulation.build(quick).rows[0].estimated is None
    storage.write_json(place, storage.read_json(place) | {"performance": "not known"})
    assert simulation.build(quick).rows[1].estimated is None


def test_the_clock_is_simulated(quick: Loop) -> None:
    finish(quick)
    started = [quick.state["executions"][tick["run"]]["started"] for tick in quick.state["ticks"]]
    assert started[0] == FIRST.isoformat()
    assert started[3].startswith("2026-01-04T06:00")
    _, memory = retraining.load_memory(quick.aws, quick.places)
    assert memory.started[0] == "2026-01-03T06:10:00+00:00"
    assert len(memory.windows) <= max(RULES.windows, 2)
