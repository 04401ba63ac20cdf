"""The commands, as a user types them, in a miniature repository with a space and quotes in its path."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from batchloop.engine.running import RunSummary
from batchloop.pipelines import expressions
from batchloop.repository import of
from plumbing.engine_miniature import Miniature, build, inference, processes_of, training, until
from plumbing.rendered import ROOT


@pytest.fixture
def mini(tmp_path: Path) -> Miniature:
    return build(tmp_path / "a 'quoted' \"folder\"")


def test_training_releases_a_model_with_everything_that_belongs_to_it(mini: Miniature) -> None:
    said = mini.run("train")
    release = mini.release()
    assert "registered and released as version 1" in said
    assert "report.html" in said
    assert set(release["artifacts"]) == {"preprocessor", "model", "baseline", "explainer"}
    assert set(release["images"]) == {"processing", "algorithm", "monitoring", "explainability"}
    assert release["metrics"] == {"test:auc": 0.9}
    assert release["images"]["algorithm"].startswith("local/team/mini/algorithm:")
    [model] = mini.stored("runs/training/*/Train/**/model.tar.gz")
    with tarfile.open(model) as archive:
        assert archive.getnames() == ["model.txt"]
        assert archive.getmembers()[0].mtime == 0


def test_components_see_no_credentials_and_links_are_not_stored(mini: Miniature) -> None:
    mini.run("train")
    [log] = mini.root.glob("local/runs/*/logs/Prepare.log")
    names = json.loads(log.read_text().partition("environment ")[2].splitlines()[0])
    assert not [name for name in names if name.startswith("AWS_")]
    assert {"ML_ROOT", "USECASE_FILE", "CODE_VERSION"} <= set(names)
    assert {path.name for path in mini.stored("runs/training/*/Prepare/train/*")} == {"part-0.txt", "part-1.txt"}


def test_a_second_training_reuses_what_did_not_change(mini: Miniature) -> None:
    mini.run("train")
    before = mini.release()["artifacts"]
    said = mini.run("train")  # of the same, although there is a champion now
    assert mini.states() == {
        **dict.fromkeys(("Prepare", "Train", "Baseline", "Explainer"), "unchanged, reused"),
        **{"Check": "done", "Register": "done", "Reject": "not taken"},
    }
    assert "registered and released as version 2" in said  # the Model Registry takes the same again
    assert mini.release()["artifacts"] == before


def test_a_model_whose_validation_repeats_training_is_not_to_be_trusted(mini: Miniature) -> None:
    said = mini.run("train")
    assert "trusted" not in said + mini.run("models")
    file = mini.root / "components/algorithm/train.py"
    leak = '"leak": {"trusted": False, "reason": "9 of 10 rows have a twin"}'
    file.write_text(file.read_text().replace('"champion": None', f'"champion": None, {leak}'))
    said = mini.run("train")
    assert "not to be trusted on new rows: 9 of 10 rows have a twin" in said
    assert "registered and released as version 2, though what was measured says little of new rows" in said
    newest, before = mini.run("models").splitlines()
    assert newest.endswith("released  not to be trusted on new rows: 9 of 10 rows have a twin")
    assert "trusted" not in before


def test_changed_hyperparameters_do_not_run_processing_again(mini: Miniature) -> None:
    mini.run("train", "--set", "ChampionPreprocessor=s3://local/absent")
    mini.write("usecase.toml", (mini.root / "usecase.toml").read_text().replace("rounds = 3", "rounds = 4"))
    mini.run("train", "--set", "ChampionPreprocessor=s3://local/absent")
    assert mini.states()["Prepare"] == "unchanged, reused"
    assert mini.states()["Train"] == "done"


def test_changed_code_runs_its_component_again(mini: Miniature) -> None:
    mini.run("train", "--fresh")
    with (mini.root / "components/monitoring/train.py").open("a") as file:
        file.write("# changed\n")
    mini.run("train", "--fresh")
    states = mini.states()
    assert (states["Prepare"], states["Baseline"], states["Explainer"]) == (
        "unchanged, reused",
        "done",
        "unchanged, reused",
    )


def test_an_output_that_is_gone_is_made_again(mini: Miniature) -> None:
    mini.run("train", "--fresh")
    for part in mini.stored("runs/training/*/Prepare/train"):
        shutil.rmtree(part)
    mini.run("train", "--fresh")
    assert mini.states()["Prepare"] == "done"


def test_rows_that_change_behind_the_same_path_are_another_request(mini: Miniature) -> None:
    mini.run("train", "--fresh")
    before = mini.parameters()
    mini.write("data/sample/train/rows.txt", "oth\n")  # of the same size
    mini.run("train", "--fresh")
    assert mini.states()["Prepare"] == "done"
    after = mini.parameters()
    assert {name for name in before if before[name] != after[name]} == {"DataFingerprint"}
    trained = mini.stored(f"runs/training/{mini.newest()}/Prepare/train/part-0.txt")
    assert [file.read_text() for file in trained] == ["oth\n0"]


def test_an_artifact_that_set_names_is_read_anew_where_it_has_changed(mini: Miniature) -> None:
    """As in AWS, where whatever SET= points at gets a fingerprint of its own."""
    mini.write("given/learned.txt", "one")
    given = f"ChampionPreprocessor={(mini.root / 'given').as_uri()}/"
    for content, state in (
        ("one", "done"),
        ("one", "unchanged, reused"),
        ("two", "done"),
        ("one", "unchanged, reused"),
    ):
        mini.write("given/learned.txt", content)
        mini.run("train", "--fresh", "--set", given)
        assert mini.states()["Prepare"] == state
    mini.run("train", "--fresh", "--set", f"ArtifactsPrefix=s3://runs/elsewhere {given}")  # is written to, and not read
    assert mini.states()["Prepare"] == "unchanged, reused"
    said = mini.run("train", "--fresh", "--set", "ChampionPreprocessor=file:///nowhere/", code=1)
    assert "does not exist" in said


def test_a_request_that_stays_the_same_is_answered_from_the_cache_whatever_the_rows_are(mini: Miniature) -> None:
    """As in SageMaker: "Default cache key attributes by pipeline step type" names no data behind a URI."""
    mini.run("train", "--fresh")
    same = f"DataFingerprint={mini.parameters()['DataFingerprint']}"
    mini.write("data/sample/train/rows.txt", "other\n")
    mini.run("train", "--fresh", "--set", same)
    assert mini.states()["Prepare"] == "unchanged, reused"
    mini.run("train", "--fresh", "--set", "DataFingerprint=another")
    assert mini.states()["Prepare"] == "done"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"CacheConfig": {"Enabled": False, "ExpireAfter": "P30D"}}, "done"),
        ({"CacheConfig": {"Enabled": True, "ExpireAfter": "PT0M"}}, "done"),
        *(
            ({"CacheConfig": {"Enabled": True, "ExpireAfter": age}}, "unchanged, reused")
            for age in ("P1W", "1y", "T16m")
        ),
        ({"Name": "Prepare2"}, "done"),
        ({"Environment": {"A": "1"}}, "done"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 60}}, "unchanged, reused"),
        ({"ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.m5.large"}}}, "unchanged, reused"),
    ],
)
def test_only_the_documented_parts_of_a_request_count(mini: Miniature, change: dict[str, Any], state: str) -> None:
    mini.run("train", "--fresh")
    mini.run("score")
    definition = inference()
    step = definition["Steps"][0]
    for key, value in change.items():
        (step if key in ("CacheConfig", "Name") else step["Arguments"])[key] = value
    text = json.dumps(definition).replace("Steps.Prepare.", f"Steps.{step['Name']}.")
    digest, file = of(json.loads(text)), mini.root / "local" / "release.json"
    mini.write(f"local/releases/inference-{digest}.json", text)  # what the release runs under
    file.write_text(json.dumps(json.loads(file.read_text()) | {"definition": digest}))
    mini.run("score")
    assert mini.states()[step["Name"]] == state


@pytest.mark.parametrize(
    ("text", "days"),
    [
        *(("30d", 30), ("5y", 5 * 365), ("T16m", 16 / 1440), ("30dT5h", 30 + 5 / 24)),  # the guide's own examples
        *(("P30D", 30), ("p30d", 30), ("P4DT12H", 4.5), ("P1W", 7), ("P1Y2M3W4DT5H6M", 365 + 56 + 21 + 4 + 306 / 1440)),
        *(
            (text, None)
            for text in ("", "P", "T", "PT", "30", "a month", "P1S", "PT30S", "P1DT", "P-1D", "P1D2W", "1.5d")
        ),
    ],
)
def test_how_long_a_step_is_reused_is_read_as_the_service_documents_it(text: str, days: float | None) -> None:
    """ "Turn on step caching" in the SageMaker developer guide; a month and a year are the shortest there are."""
    assert expressions.seconds(text) == (None if days is None else pytest.approx(days * 86_400))


def test_a_model_below_the_gate_is_not_registered_and_the_numbers_are_said(mini: Miniature) -> None:
    mini.run("train")
    before = mini.release()
    said = mini.run("train", "--set", "Auc=0.4", code=1)
    assert "Reject: test:auc is 0.4 and must be 0.8" in said
    assert mini.states()["Register"] == "not taken"
    assert mini.release() == before


def test_a_failing_step_speaks_for_itself(mini: Miniature) -> None:
    mini.write("data/sample/train/rows.txt", "fail rows.txt: row 7 has no label\n")
    said = mini.run("train", code=1)
    assert "Prepare failed: rows.txt: row 7 has no label" in said
    assert "Prepare.log" in said
    assert "Traceback" not in said
    assert mini.states() == {
        "Prepare": "failed",
        **dict.fromkeys(("Train", "Baseline", "Explainer", "Check", "Register", "Reject"), "not run"),
    }


def test_a_crash_is_told_by_its_last_line(mini: Miniature) -> None:
    mini.write("data/sample/train/rows.txt", "crash boom\n")
    assert "Prepare failed: exit code 1: ValueError: boom" in mini.run("train", code=1)


def test_independent_steps_run_side_by_side(mini: Miniature) -> None:
    mini.definitions(takes="1.0")
    mini.run("train")
    spans = []
    for name in ("Baseline", "Explainer"):
        [log] = mini.root.glob(f"local/runs/*/logs/{name}.log")
        end = float(log.read_text().split()[0])
        spans.append((end - 1.0, end))
    assert max(start for start, _ in spans) < min(end for _, end in spans)


def running(mini: Miniature) -> bool:
    return any("sleeping" in log.read_text() for log in mini.root.glob("local/runs/*/logs/Prepare.log"))


def test_a_killed_run_leaves_no_process_and_is_resumed_by_the_same_command(mini: Miniature) -> None:
    mini.definitions(takes="30")
    process = mini.start("train")
    until(lambda: list(mini.root.glob("local/runs/*/logs/Explainer.log")))
    process.kill()
    process.communicate()
    until(lambda: not processes_of(mini.root))
    mini.write("components/monitoring/train.py", "print('0 quick')\ntrain = dict\n")
    mini.write("components/explainability/train.py", "print('0 quick')\ntrain = dict\n")
    mini.run("train")
    assert (mini.states()["Prepare"], mini.states()["Train"]) == ("unchanged, reused", "unchanged, reused")
    assert mini.states()["Baseline"] == "done"
    first = json.loads(sorted(mini.root.glob("local/runs/*/run.json"))[0].read_text())
    assert first["state"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_its_children_and_says_one_line(mini: Miniature, number: signal.Signals) -> None:
    mini.write("data/sample/train/rows.txt", "child\nsleep 60\n")
    process = mini.start("train")
    until(lambda: running(mini))
    assert processes_of(mini.root)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert len(err.strip().splitlines()) == 1
    assert not processes_of(mini.root)


def test_two_runs_at_once_are_refused_in_a_sentence(mini: Miniature) -> None:
    mini.write("data/sample/train/rows.txt", "sleep 60\n")
    first = mini.start("train")
    until(lambda: running(mini))
    said = mini.run("score", code=1)
    first.send_signal(signal.SIGINT)
    first.communicate()
    assert said == f"another run is at work here (process {first.pid}); wait for it.\n"


def test_scoring_sends_every_file_to_the_released_model(mini: Miniature) -> None:
    mini.run("train")
    said = mini.run("score")
    answers = mini.stored("runs/inference/*/Score/predictions/features/*")
    assert [path.name for path in answers] == ["part-0.txt.out", "part-1.txt.out"]
    assert answers[1].read_text() == "row\nNEW\n1"
    assert "predictions: local/storage/" in said
    assert "scoring with release 1" in said
    mini.run("score")
    # the model's name is another in each execution, and part of the request
    assert mini.states() == {"Prepare": "unchanged, reused", "CreateModel": "done", "Score": "done"}
    assert not processes_of(mini.root)


def test_a_refused_request_fails_the_step_in_the_servers_words(mini: Miniature) -> None:
    mini.run("train")
    mini.write("data/sample/production/rows.txt", "refuse\n")
    said = mini.run("score", code=1)
    assert "Score failed: part-0.txt was refused with status 400: row 3: no such plan" in said
    assert not processes_of(mini.root)


def test_a_payload_above_the_limit_is_not_sent(mini: Miniature) -> None:
    mini.run("train")
    mini.write("data/sample/production/rows.txt", "x" * 2**20)
    assert "has 1.0 MB, a request may have 1; raise MaxPayloadInMB" in mini.run("score", code=1)


def test_scoring_before_training_says_what_to_do(mini: Miniature) -> None:
    assert mini.run("score", code=1) == "there is no released model yet; run `make train` first.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "Rouns=3"], "there is no parameter 'Rouns'"),
        (["--set", "Rounds"], "is not Name=value"),
        (["--set", "Minimum=high"], "Minimum = 'high' is not a number"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (["--env", "moon"], "there is no environment 'moon'; there are dev"),
        (["--continue"], "goes on from the released model, and there is none"),
    ],
)
def test_a_wrong_command_is_answered_before_anything_runs(mini: Miniature, words: list[str], said: str) -> None:
    answer = mini.run("train", *words, code=1)
    assert said in answer
    assert not list(mini.root.glob("local/runs/*"))


def test_data_of_ones_own_is_read_where_it_lies(mini: Miniature, tmp_path: Path) -> None:
    (tmp_path / "my rows, 100%.txt").write_text("mine\n")
    mini.run("train", "--data", str(tmp_path / "my rows, 100%.txt"))
    assert mini.stored("runs/training/*/Prepare/train/part-0.txt")[0].read_text() == "mine\n0"
    assert (tmp_path / "my rows, 100%.txt").read_text() == "mine\n"


def test_a_model_that_waits_for_approval_is_not_released(mini: Miniature) -> None:
    said = mini.run("train", "--set", "ApprovalStatus=PendingManualApproval")
    assert "not released: its approval status is PendingManualApproval" in said
    assert not (mini.root / "local" / "release.json").exists()
    mini.run("models", "--use", "1")
    assert mini.release()["version"] == 1


def test_an_earlier_release_can_be_used_again(mini: Miniature) -> None:
    mini.run("train")
    first = mini.release()
    mini.run("train", "--set", "Auc=0.95")
    assert mini.release()["version"] == 2
    mini.run("models", "--use", "1")
    assert mini.release() == first
    listed = mini.run("models").splitlines()
    assert [line.split()[0] for line in listed] == ["2", "1"]
    assert listed[1].endswith("released")


def test_an_earlier_release_is_scored_with_under_its_own_pipeline(mini: Miniature) -> None:
    """As in SageMaker, where a release names a version of the pipeline."""
    mini.run("train")
    mini.run("score")
    assert "Report" not in mini.states()
    file = mini.root / "pipelines/inference.json"
    changed = json.loads(file.read_text())
    renamed = json.dumps(changed).replace('"Score"', '"ScoreAnew"').replace("Steps.Score.", "Steps.ScoreAnew.")
    file.write_text(renamed)
    said = mini.run("score")
    assert "under the pipeline that it was released with: `make train` takes the new one" in said
    assert {"Score", "ScoreAnew"} & set(mini.states()) == {"Score"}
    mini.run("train", "--set", "Auc=0.95")
    assert "under the pipeline" not in mini.run("score")
    assert {"Score", "ScoreAnew"} & set(mini.states()) == {"ScoreAnew"}
    mini.run("models", "--use", "1")
    mini.run("score")
    assert {"Score", "ScoreAnew"} & set(mini.states()) == {"Score"}
    mini.run("models", "--use", "2")
    mini.run("score")
    assert {"Score", "ScoreAnew"} & set(mini.states()) == {"ScoreAnew"}


def test_without_data_the_sample_is_written_first(mini: Miniature) -> None:
    (mini.root / "data/sample/train/rows.txt").unlink()
    (mini.root / "data/sample/train").rmdir()
    mini.write("data/sample.py", "import pathlib as p, sys\nout = p.Path(sys.argv[sys.argv.index('--output') + 1])\n")
    with (mini.root / "data/sample.py").open("a") as file:
        file.write("(out / 'train').mkdir(parents=True)\n(out / 'train' / 'rows.txt').write_text('made')\n")
    assert "there is no data yet" in mini.run("train")
    assert mini.stored("runs/training/*/Prepare/train/part-0.txt")[0].read_text() == "made0"


def test_the_window_says_which_data_is_used(mini: Miniature) -> None:
    mini.write("data/window", "own\n")
    assert "data/own/train does not exist" in mini.run("train", code=1)
    mini.write("data/own/train/rows.txt", "own\n")
    mini.run("train")
    assert mini.release()["data"].endswith("/data/own/train/")


def windows(mini: Miniature, learn: str) -> None:
    """The newest of these is in use."""
    for day in (9, 10, 11):
        mini.write(f"data/2026-11-{day}/train/rows of a day.txt", f"day {day}")
    mini.write("data/2026-11-8/production/rows.txt", "none")
    mini.write("data/window", "2026-11-11\n")
    with (mini.root / "usecase.toml").open("a", encoding="utf-8") as file:
        file.write(f'[retraining]\nlearn = "{learn}"\n')


def given(mini: Miniature) -> list[str]:
    """What the newest run's first step found of earlier windows."""
    log = sorted(mini.root.glob("local/runs/*/logs/Prepare.log"))[-1]
    return [line.removeprefix("earlier ") for line in log.read_text().splitlines() if line.startswith("earlier ")]


@pytest.mark.parametrize(("learn", "days"), [("window", []), ("last 2", [10]), ("all", [9, 10])])
def test_training_learns_from_the_earlier_windows_that_are_asked_for(
    mini: Miniature, learn: str, days: list[int]
) -> None:
    windows(mini, learn)
    said = mini.run("train")
    names = [f"2026-11-{day}" for day in days]
    found = [line for line in given(mini) if "/train/" in line]
    assert found == sorted(f"{name}/train/rows of a day.txt day {name[8:].lstrip('-')}" for name in names)
    assert ("learning from window 2026-11-11" in said) is bool(days)
    assert ", ".join(names) in said
    assert mini.release()["data"].endswith("/2026-11-11/train/")


def test_a_changed_earlier_window_is_learned_from_again_and_an_unchanged_one_is_not(mini: Miniature) -> None:
    windows(mini, "all")
    mini.run("train")
    mini.run("train")
    mini.run("train")
    assert mini.states()["Prepare"] == "unchanged, reused"
    mini.write("data/2026-11-9/train/rows of a day.txt", "corrected")
    mini.run("train")
    assert mini.states()["Prepare"] == "done"


def test_data_that_is_named_has_no_earlier_windows(mini: Miniature) -> None:
    windows(mini, "all")
    assert "earlier" not in mini.run("train", "--data", "data/2026-11-11/train")


def test_a_wrong_learn_is_said_before_anything_runs(mini: Miniature) -> None:
    windows(mini, "last 0")
    assert "[retraining] learn = 'last 0' is not \"window\"" in mini.run("train", code=1)
    assert not list(mini.root.glob("local/runs/*"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is no manifest"),
        ('[{"prefix": "s3://runs/"}]', "with at least one key"),
        ('["a.txt"]', "is no manifest"),
        ('[{"prefix": ""}, "a.txt"]', "is no manifest"),
        ('[{"prefix": "s3://runs/"}, {"key": "a.txt"}]', "is no manifest"),
        ('[{"prefix": "s3://runs/"}, "nowhere.txt"]', "nowhere.txt"),
        ('[{"prefix": "s3://runs/"}, "../a.txt"]', "no location"),
        ("s3://runs/a", "not valid JSON"),
    ],
)
def test_a_manifest_that_the_service_would_refuse_is_refused(mini: Miniature, text: str, said: str) -> None:
    mini.write("local/storage/runs/listed.manifest", text)
    answer = mini.run("train", "--set", "EarlierData=s3://runs/listed.manifest", code=1)
    assert said in answer


def test_the_pipelines_are_compiled_only_when_something_changed(mini: Miniature) -> None:
    assert "compiling" in mini.run("train")
    assert "compiling" not in mini.run("train")
    with (mini.root / "environments" / "dev.toml").open("a") as file:
        file.write("# changed\n")
    assert "compiling" in mini.run("train")


def test_a_definition_that_the_checker_refuses_is_not_run(mini: Miniature) -> None:
    mini.write("pipelines/training.json", json.dumps({**training(), "Wrong": 1}))
    for _ in range(2):
        assert mini.run("train", code=1).endswith("training.json: Wrong is no key\n")
    assert not list(mini.root.glob("local/runs/*"))


def test_a_release_whose_artifacts_are_gone_is_no_champion_and_is_replaced(mini: Miniature) -> None:
    mini.run("train")
    first = mini.release()
    shutil.rmtree(mini.root / "local" / "storage")
    gone = "its preprocessor and model and baseline and explainer are gone"
    assert mini.run("score", code=1).startswith(f"release 1 can't score: {gone} from local/")
    assert gone in mini.run("models", "--use", "1", code=1)
    assert "goes on from the released model, and there is none" in mini.run("train", "--continue", code=1)
    said = mini.run("train")
    assert "release 1 can't be compared with: its preprocessor and model are gone" in said
    assert "registered and released as version 2" in said
    assert mini.release()["artifacts"] != first["artifacts"]
    mini.run("score")


def test_a_training_without_a_champion_is_asked_for_by_name(mini: Miniature) -> None:
    mini.run("train")
    mini.run("train", "--fresh", "--set", "Auc=0.95")
    assert mini.parameters()["ChampionModel"] == "s3://local/absent/"
    assert mini.release()["version"] == 2
    second = mini.release()["artifacts"]["model"]
    mini.run("train")
    assert mini.parameters()["ChampionModel"] == second
    assert "give one of them" in mini.run("train", "--fresh", "--continue", code=1)


@pytest.mark.parametrize("text", ["{half", "[]", "{}", '{"artifacts": {"model": "s3://runs/x"}}', "nested"])
def test_a_damaged_release_is_said_with_both_ways_out(mini: Miniature, text: str) -> None:
    mini.run("train")
    if text == "nested":
        text = json.dumps(mini.release() | {"artifacts": dict.fromkeys(mini.release()["artifacts"], 5)})
    mini.write("local/release.json", text)
    for command in (["train"], ["score"], ["train", "--continue"]):
        said = mini.run(*command, code=1)
        assert said.startswith("release.json is damaged; ")
        assert "make models USE=" in said
        assert "make train FRESH=yes" in said
    assert mini.run("models").split()[0] == "1"
    mini.run("models", "--use", "1")
    assert mini.release()["version"] == 1
    mini.write("local/release.json", text)
    mini.run("train", "--fresh")
    assert mini.release()["version"] == 2


@pytest.mark.parametrize("damaged", ["{half", "{}", '["x"]', '[{"ModelPackageVersion": 1}]'])
def test_a_damaged_registry_is_said(mini: Miniature, damaged: str) -> None:
    mini.run("train")
    mini.write("local/registry.json", damaged)
    for command in (["models"], ["models", "--use", "1"], ["train"]):
        assert "registry.json is damaged; remove it" in mini.run(*command, code=1)


@pytest.mark.parametrize("text", ["x", "[]", "{}"])
def test_what_is_damaged_beside_a_release_is_as_if_it_were_not_there(mini: Miniature, text: str) -> None:
    mini.run("train")
    for file in (*mini.root.glob("local/releases/inference-*.json"), mini.root / "local" / "digests.json"):
        assert file.is_file()
        file.write_text(text)
    mini.run("score")


def test_a_terminal_without_such_signs_ends_no_command(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    mini.run("train")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert mini.run("models").isascii()
    assert "trained here" in mini.run("compare")


def test_whoever_has_seen_enough_ends_a_command_quietly(mini: Miniature) -> None:
    process = mini.start("models")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


def test_what_the_system_refuses_is_said_with_the_file(mini: Miniature) -> None:
    mini.write("local", "")
    for command in (["train"], ["score"], ["compare"], ["models"], ["compile"]):
        said = mini.run(*command, code=1)
        assert str(mini.root / "local") in said
        assert said.endswith(". Mend that, and say it again.\n")


def test_a_version_is_of_an_environment_and_said_to_be(mini: Miniature) -> None:
    """Where two have trained on this machine."""
    mini.run("train")
    [one] = json.loads((mini.root / "local/registry.json").read_text())
    (mini.root / "local/releases/team-mini-1.json").rename(mini.root / "local/releases/team-mini-dev-1.json")
    both = [one | {"ModelPackageGroupName": f"team-mini-{name}", "ModelPackageArn": name} for name in ("prod", "dev")]
    mini.write("local/registry.json", json.dumps(both))
    assert [line.split()[:2] for line in mini.run("models").splitlines()] == [["1", "dev"], ["1", "prod"]]
    assert mini.run("models", "--use", "1") == "version 1 of dev is released.\n"
    assert "version 1 is no longer in local/releases" in mini.run("models", "--use", "1", "--env", "prod", code=1)
    assert "version 1 is none of staging, but of prod and of dev; ENV= names one of them." in mini.run(
        "models", "--use", "1", "--env", "staging", code=1
    )
    mini.write("local/registry.json", json.dumps(both[1:]))
    assert mini.run("models", "--use", "1", "--env", "prod") == "version 1 of dev is released.\n"  # there is one alone


def on_a_terminal(mini: Miniature, interrupt: bool = False) -> tuple[int, str]:
    """The exit code of a training on a terminal, and all that stands there."""
    said = b""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(mini.root)
        os.execv(sys.executable, [sys.executable, "-m", "batchloop", "train"])
    try:
        while block := os.read(terminal, 65536):
            said += block
            if interrupt and b"sleeping" in said:  # what the step's log says last
                os.kill(child, signal.SIGINT)
                interrupt = False
    except OSError:  # how a terminal ends
        pass
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()


def test_a_terminal_gets_a_live_table(mini: Miniature) -> None:
    code, said = on_a_terminal(mini)
    assert code == 0
    assert "\x1b[" in said
    assert "seconds" in said


def test_the_last_frame_of_an_interrupted_run_says_what_was_stopped(mini: Miniature) -> None:
    mini.write("data/sample/train/rows.txt", "sleep 60\n")
    code, said = on_a_terminal(mini, interrupt=True)
    assert code == 130
    last = said.rpartition("seconds")[2]
    assert re.search(r"Prepare +\S*stopped", last)
    assert "running" not in last
    assert "The same command goes on from here." in last


def test_the_plan_needs_nothing_but_the_standard_library(mini: Miniature) -> None:
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.')\n"]
    command[-1] += "from batchloop.__main__ import main; sys.exit(main(['bootstrap', 'plan']))"
    done = subprocess.run(command, cwd=mini.root, capture_output=True, text=True, check=True, env={})
    assert "nothing was created" in done.stdout
    for name in ("processing", "algorithm", "monitoring", "explainability"):
        assert f"team/mini/{name}" in done.stdout
        assert f"/team/mini/dev/components/{name}/image" in done.stdout
    assert "/team/mini/dev/retraining" in done.stdout
    assert not (mini.root / "local").exists()


def test_a_full_disk_is_one_sentence(mini: Miniature) -> None:
    code = """
import errno, os, pathlib, sys
def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
pathlib.Path.write_text = full
from batchloop.__main__ import main
sys.exit(main(["train"]))
"""
    environment = {"COMPONENTS_PYTHON": sys.executable, **os.environ}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=mini.root, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["the disk is full"]


def test_running_needs_neither_the_sdk_nor_boto3() -> None:
    code = "import sys; from batchloop import __main__, local; print(*sys.modules)"
    given = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert not {"sagemaker", "boto3", "botocore", "polars", "rich"} & set(done.stdout.split())


class Told(RunSummary):
    """A summary of a run that stored this drift.json and nothing else."""

    def __init__(self, drift: dict[str, Any]) -> None:
        self.told, self.steps = drift, {}

    def drift(self) -> dict[str, Any]:
        return self.told


def test_no_drift_never_stands_alone_beside_an_alarm() -> None:
    quiet = {"verdict": "no drift", "reason": "None moved.", "drifted": []}
    assert list(Told(quiet).scoring()) == ["drift: no drift. None moved."]
    worse = {**quiet, "alarms": ["performance"], "consequence": "This is an alarm, which starts a retraining."}
    assert list(Told(worse).scoring())[1] == "alarm: This is an alarm, which starts a retraining."


def test_a_link_that_leads_nowhere_is_one_sentence(mini: Miniature) -> None:
    folder = mini.root / "linked"
    folder.mkdir()
    (folder / "x.csv").symlink_to("/nowhere/x.csv")
    said = mini.run("train", "--data", "linked", code=1)
    assert "linked/x.csv, a link to /nowhere/x.csv: No such file or directory; mend or remove it." in said
    assert "Traceback" not in said


def test_a_mistake_in_a_file_of_the_owner_s_is_said_with_its_line(mini: Miniature) -> None:
    mini.write("components/algorithm/rounds.py", "ROUNDS = undefined\n")
    mini.write("batchloop/container/hyperparameters.py", "import components.algorithm.rounds\n")
    said = mini.run("train", code=1)
    assert "components/algorithm/rounds.py, line 1: NameError: name 'undefined' is not defined" in said
