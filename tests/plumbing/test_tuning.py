"""TuneModel: how the search becomes a tuning job, what the checker refuses in one, and how it runs here."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from batchloop import cost, environment, local
from batchloop.container import hyperparameters, usecase
from batchloop.container.job import InputError
from batchloop.contract import suite
from batchloop.engine.processes import Backend, Job
from batchloop.engine.steps import PipelineExecution
from batchloop.engine.storage import Cache, Registry, Storage
from batchloop.engine.tuning import tuning
from batchloop.local import RunOptions
from batchloop.pipelines import check
from batchloop.pipelines import definitions as pipeline_definitions
from batchloop.repository import Repository
from plumbing.engine_miniature import Miniature, copied, processes_of
from plumbing.rendered import ROOT
from plumbing.test_pipelines import USECASE, Definition, broken, compiled, steps

SEARCH = """
[tuning]
trials = {trials}
[tuning.search]
learning_rate = [0.01, 0.2, "log"]
num_leaves = [7, 127, "log"]
feature_fraction = [0.5, 1.0]
native_categories = [false, true]
"""
MORE = "native_categories = false\nnum_leaves = 31\nfeature_fraction = 0.9\nlambda = 1.0\nseed = 7"
KNOWN = ("DataFingerprint",)
FOLDERS = ("batchloop", "components", "pipelines", "infra", "environments", "data", "locks")


def written(folder: Path, trials: str = "6", **changes: str) -> Path:
    """A repository's settings, with a search, and environments in which it is a step of its own."""
    folder.mkdir(parents=True)
    text = USECASE.format(task="binary", metric="auc", classes='["no", "yes"]', method="random")
    text = text.replace("native_categories = false", MORE) + SEARCH.format(trials=trials)
    (folder / "usecase.toml").write_text(text)
    (folder / "environments").mkdir()
    changes = {"region": '"eu-central-1"', "tuning_jobs": "3", **changes}
    for file in (ROOT / "environments").glob("*.toml"):
        text = file.read_text(encoding="utf-8")
        for key, value in changes.items():
            text = re.sub(rf"(?m)^{key} = [^#\n]*", f"{key} = {value} ", text)
        (folder / "environments" / file.name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Definition]:
    """The training pipeline with the search as a step; without one; and in a VPC with a key, by environment."""
    root = tmp_path_factory.mktemp("settings")
    subnet = {"subnets": '["subnet-0123456789abcdef0"]', "security_groups": '["sg-0123456789abcdef0"]'}
    folders = [
        written(root / "dev"),
        written(root / "staging", trials="0"),
        written(root / "prod", create_key="true", **subnet),
    ]
    return {name: found["training"] for name, found in compiled(folders).items()}


@pytest.fixture
def request_of(definitions: dict[str, Definition]) -> Any:
    return steps(definitions["dev"])["TuneModel"]["Arguments"]


def test_the_checker_knows_the_step(definitions: dict[str, Definition]) -> None:
    for definition in definitions.values():
        assert check.check(definition) == []


def test_the_search_space_is_usecase_toml_s(request_of: Any) -> None:
    config = request_of["HyperParameterTuningJobConfig"]
    assert config["ParameterRanges"] == {
        "IntegerParameterRanges": [
            {"Name": "num_leaves", "MinValue": "7", "MaxValue": "127", "ScalingType": "Logarithmic"}
        ],
        "ContinuousParameterRanges": [
            {"Name": "learning_rate", "MinValue": "0.01", "MaxValue": "0.2", "ScalingType": "Logarithmic"},
            {"Name": "feature_fraction", "MinValue": "0.5", "MaxValue": "1.0", "ScalingType": "Linear"},
        ],
        "CategoricalParameterRanges": [{"Name": "native_categories", "Values": ["false", "true"]}],
    }
    limits = config["ResourceLimits"]
    assert limits["MaxNumberOfTrainingJobs"] == {"Get": "Parameters.Trials"}
    assert (limits["MaxParallelTrainingJobs"], limits["MaxRuntimeInSeconds"], config["RandomSeed"]) == (3, 1800, 7)


def test_a_trial_is_a_job_like_train_model_s_but_learns_and_tells_its_loss_only(
    definitions: dict[str, Definition],
) -> None:
    for name in ("dev", "prod"):
        found = steps(definitions[name])
        train, tune = (found[step]["Arguments"] for step in ("TrainModel", "TuneModel"))
        trial = tune["TrainingJobDefinition"]
        for key in ("RoleArn", "StoppingCondition", "VpcConfig", "EnableNetworkIsolation", "EnableManagedSpotTraining"):
            assert trial.get(key) == train.get(key), key
        assert tune["Tags"] == train["Tags"]
        assert trial["ResourceConfig"] == {**train["ResourceConfig"], "InstanceCount": 1}
        assert trial["OutputDataConfig"].get("KmsKeyId") == train["OutputDataConfig"].get("KmsKeyId")
        assert trial["EnableNetworkIsolation"] is True
        assert "CheckpointConfig" not in trial
        assert [channel["ChannelName"] for channel in trial["InputDataConfig"]] == ["train", "validation"]
        assert {
            channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] for channel in trial["InputDataConfig"]
        } == {"FullyReplicated"}
        given = {name: {"Get": f"Parameters.{place}"} for name, place in {"lambda": "Lambda", "seed": "Seed"}.items()}
        assert trial["StaticHyperParameters"] == {**given, "trial": "true"}
        assert found["TuneModel"]["CacheConfig"] == found["TrainModel"]["CacheConfig"]
        assert found["TuneModel"]["RetryPolicies"] == found["TrainModel"]["RetryPolicies"]
    assert "VolumeKmsKeyId" in trial["ResourceConfig"]
    assert "VpcConfig" in trial


def test_train_model_takes_the_best_trial_s_hyperparameters_and_searches_no_more(
    definitions: dict[str, Definition],
) -> None:
    given = steps(definitions["dev"])["TrainModel"]["Arguments"]["HyperParameters"]
    searched = ("learning_rate", "num_leaves", "feature_fraction", "native_categories")
    best = "Steps.TuneModel.BestTrainingJob.TunedHyperParameters"
    assert {name: given[name] for name in searched} == {name: {"Get": f"{best}['{name}']"} for name in searched}
    assert given["trials"] == "0"
    declared = {parameter["Name"] for parameter in definitions["dev"]["Parameters"]}
    assert declared & {"LearningRate", "NumLeaves", "Lambda", "Trials"} == {"Lambda", "Trials"}
    without = definitions["staging"]  # no trials
    assert "TuneModel" not in steps(without)
    assert {"LearningRate", "NumLeaves"} <= {parameter["Name"] for parameter in without["Parameters"]}


def config(definition: Definition) -> Any:
    return steps(definition)["TuneModel"]["Arguments"]["HyperParameterTuningJobConfig"]


def trial(definition: Definition) -> Any:
    return steps(definition)["TuneModel"]["Arguments"]["TrainingJobDefinition"]


CHANGES: dict[str, Callable[[Definition], Any]] = {
    "an unknown strategy": lambda d: config(d).update(Strategy="Guess"),
    "less than two minutes": lambda d: config(d)["ResourceLimits"].update(MaxRuntimeInSeconds=119),
    "more at once than there are": lambda d: config(d)["ResourceLimits"].update(MaxParallelTrainingJobs=7),
    "more trials than a job may have": lambda d: config(d)["ResourceLimits"].update(MaxNumberOfTrainingJobs=751),
    "no trials": lambda d: config(d)["ResourceLimits"].update(MaxNumberOfTrainingJobs=0),
    "an objective that nobody prints": lambda d: config(d)["HyperParameterTuningJobObjective"].update(MetricName="x"),
    "an empty range": lambda d: config(d)["ParameterRanges"]["IntegerParameterRanges"][0].update(MinValue="127"),
    "a logarithm of nothing": lambda d: config(d)["ParameterRanges"]["ContinuousParameterRanges"][0].update(
        MinValue="0"
    ),
    "a number in a range, which are texts": lambda d: config(d)["ParameterRanges"]["IntegerParameterRanges"][0].update(
        MinValue=7
    ),
    "more than thirty ranges": lambda d: config(d)["ParameterRanges"]["CategoricalParameterRanges"].extend(
        {"Name": f"x{number}", "Values": ["a", "b"]} for number in range(27)
    ),
    "more than thirty choices": lambda d: config(d)["ParameterRanges"]["CategoricalParameterRanges"][0].update(
        Values=[str(number) for number in range(31)]
    ),
    "a hyperparameter both given and searched": lambda d: trial(d)["StaticHyperParameters"].update(num_leaves="31"),
    "less time to wait than to run": lambda d: trial(d)["StoppingCondition"].update(MaxWaitTimeInSeconds=1),
    "a key for a volume of the hardware's own": lambda d: trial(d)["ResourceConfig"].update(
        InstanceType="ml.g5.xlarge", VolumeKmsKeyId="0000"
    ),
    "an input that also takes what begins so": lambda d: trial(d)["InputDataConfig"][0]["DataSource"][
        "S3DataSource"
    ].update(S3Uri="s3://bucket/data/train"),
    "a hyperparameter that was not searched": lambda d: steps(d)["TrainModel"]["Arguments"]["HyperParameters"].update(
        x={"Get": "Steps.TuneModel.BestTrainingJob.TunedHyperParameters['lambda']"}
    ),
    "a result that a tuning job does not have": lambda d: steps(d)["TrainModel"]["Arguments"]["HyperParameters"].update(
        x={"Get": "Steps.TuneModel.BestTrainingJob.Model"}
    ),
    "a step that is never reused": lambda d: trial(d)["StaticHyperParameters"].update(
        x={"Get": "Execution.PipelineExecutionId"}
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_checker_refuses(definitions: dict[str, Definition], name: str) -> None:
    assert broken(definitions["dev"], CHANGES[name])


@pytest.mark.parametrize(("name", "trials"), [("dev", 3), ("staging", 0)])
def test_the_contract_trains_through_any_gate_with_no_more_trials_than_have_to_be(
    definitions: dict[str, Definition], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trials: int
) -> None:
    """`staging` searches inside TrainModel, `dev` in jobs of their own, of which none can be asked for no trial."""
    here = Repository(written(tmp_path / "here", tuning_jobs="3" if name == "dev" else "0"))
    monkeypatch.setattr(suite, "HERE", here)
    monkeypatch.setattr(pipeline_definitions, "definition", lambda *_which: definitions[name])
    monkeypatch.setattr(suite, "_rows", lambda _source, target: str(target))
    here.data("train").mkdir(parents=True)
    asked = list[RunOptions]()

    def train(repository: Repository, options: RunOptions) -> int:
        definition = pipeline_definitions.definition(repository, "training")
        assert steps(definition)["CheckQuality"]["Arguments"]["Conditions"] == []
        values = pipeline_definitions.values(definition, dict.fromkeys(KNOWN, "x"), options.parameters)
        monkeypatch.setattr(pipeline_definitions, "check_hyperparameters", lambda *_: None)
        pipeline_definitions.chosen(here, definition, options.parameters, values)
        assert (values["Trials"], values["ApprovalStatus"]) == (trials, "Approved")
        return len(asked)

    def score(_repository: Repository, options: RunOptions) -> int:
        asked.append(options)
        return 0

    monkeypatch.setattr(local, "train", train)
    monkeypatch.setattr(local, "score", score)
    suite._run(tmp_path / "ran", tmp_path)
    assert len(asked) == 1
    assert steps(definitions[name])["CheckQuality"]["Arguments"]["Conditions"]


class Told(Backend):
    """Instead of a process, each trial prints the losses that a function has for its hyperparameters."""

    def __init__(self, losses: Callable[[Mapping[str, str]], list[float]]) -> None:
        super().__init__()
        self.losses, self.seen, self.lock = losses, list[Mapping[str, str]](), threading.Lock()

    def run(self, job: Job, hopeless: Callable[[], bool] | None = None) -> None:
        given = json.loads((job.root / "input/config/hyperparameters.json").read_text())
        with self.lock:
            self.seen.append(given)
        for loss in self.losses(given):
            with job.log.open("a") as log:
                log.write(f"metric trial:loss={loss}\n")
            if hopeless and hopeless():
                return


def execution(folder: Path, backend: Backend) -> PipelineExecution:
    stored = Storage(folder / "storage")
    for channel in ("train", "validation"):
        stored.write_json(f"s3://bucket/{channel}/rows.json", {})
    return PipelineExecution("1", folder, stored, Cache(folder / "cache", stored), backend, Registry(folder / "r.json"))


def arguments(trials: int, at_once: int = 1, **limits: int) -> dict[str, Any]:
    channels = [
        {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": f"s3://bucket/{name}/"}}}
        for name in ("train", "validation")
    ]
    return {
        "HyperParameterTuningJobConfig": {
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "trial:loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": trials, "MaxParallelTrainingJobs": at_once, **limits},
            "ParameterRanges": {
                "ContinuousParameterRanges": [{"Name": "x", "MinValue": "0.0", "MaxValue": "1.0"}],
                "CategoricalParameterRanges": [{"Name": "flag", "Values": ["false", "true"]}],
            },
            "TrainingJobEarlyStoppingType": "Auto",
            "RandomSeed": 7,
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": {"trial": "true"},
            "AlgorithmSpecification": {
                "TrainingImage": "team/case/algorithm:1",
                "MetricDefinitions": [{"Name": "trial:loss", "Regex": r"metric trial:loss=(\S+)"}],
            },
            "InputDataConfig": channels,
        },
    }


def test_the_best_trial_is_told_as_the_service_describes_it(tmp_path: Path) -> None:
    backend = Told(lambda given: [9.0, float(given["x"])])
    found = tuning("TuneModel", arguments(8, at_once=3), execution(tmp_path, backend))
    best = min(backend.seen, key=lambda given: float(given["x"]))
    assert len(backend.seen) == 8
    assert best["_tuning_objective_metric"] == "trial:loss"
    assert found["BestTrainingJob"]["TunedHyperParameters"] == {"x": best["x"], "flag": best["flag"]}
    assert found["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == float(best["x"])
    assert re.fullmatch(r"pipelines-1-TuneModel-00\d", found["BestTrainingJob"]["TrainingJobName"])


def test_the_same_request_gives_the_same_answer_however_trials_overtake_each_other(tmp_path: Path) -> None:
    answers = [
        tuning("TuneModel", arguments(12, at_once=4), execution(tmp_path / str(turn), Told(lambda g: [float(g["x"])])))
        for turn in range(2)
    ]
    assert answers[0] == answers[1]


def test_a_trial_that_fails_is_one_less_and_is_told_of(tmp_path: Path) -> None:
    def losses(given: Mapping[str, str]) -> list[float]:
        if given["flag"] == "true":
            raise InputError("no memory left.")
        return [float(given["x"])]

    found = tuning("TuneModel", arguments(8), execution(tmp_path, Told(losses)))
    assert found["BestTrainingJob"]["TunedHyperParameters"]["flag"] == "false"
    assert found["TrainingJobStatusCounters"]["Failed"] > 0
    assert "warning: TuneModel-" in (log := (tmp_path / "logs/TuneModel.log").read_text())
    assert "failed: no memory left." in log


def test_where_every_trial_fails_the_step_does_with_their_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of 3 trials came to its end: it printed no trial:loss\."):
        tuning("TuneModel", arguments(3), execution(tmp_path, Told(lambda _given: [])))


def test_a_trial_that_is_behind_is_given_up(tmp_path: Path) -> None:
    """Eight good ones, then one that begins worse than they did and would go on for long."""
    printed = list[int]()

    def losses(given: Mapping[str, str]) -> list[float]:
        count = len(printed)
        printed.append(count)
        return [0.5, 0.4] if count < 8 else [0.9] * 50

    found = tuning("TuneModel", arguments(9), execution(tmp_path, Told(losses)))
    assert found["TrainingJobStatusCounters"] == {"Completed": 8, "Stopped": 1, "Failed": 0}
    lines = (tmp_path / "logs/TuneModel-009.log").read_text().splitlines()
    assert len(lines) == 1


def test_the_search_ends_with_its_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of 0 trials came to its end; give it more time"):
        tuning("TuneModel", arguments(3, MaxRuntimeInSeconds=0), execution(tmp_path, Told(lambda _given: [1.0])))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """This repository with three trials, two at once, trained on a small sample with a quick fit."""
    root = tmp_path_factory.mktemp("tuned") / "repository"
    copied(root, FOLDERS, num_iterations=40, trials=3)
    file = root / "environments/dev.toml"
    file.write_text(re.sub(r"(?m)^tuning_jobs = 0", "tuning_jobs = 2", file.read_text()))
    command = [sys.executable, "-m", "data.sample", "--rows", "2000", "--output", "data/sample"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    assert "registered and released as version 1" in Miniature(root).run("train")
    return Miniature(root)


def tuned(copy: Miniature) -> Any:
    """The best trial of the newest run."""
    file = copy.root / "local/runs" / copy.newest() / "run.json"
    return json.loads(file.read_text())["steps"]["TuneModel"]["properties"]["BestTrainingJob"]


def test_the_model_is_that_of_the_best_hyperparameters_given_by_hand(copy: Miniature) -> None:
    best = tuned(copy)
    [log] = copy.root.glob("local/runs/*/logs/TuneModel.log")
    assert len(log.read_text().splitlines()) == 3
    file = copy.root / "environments/dev.toml"
    settings = file.read_text()
    file.write_text(settings.replace("tuning_jobs = 2", "tuning_jobs = 0"))
    given = {"".join(map(str.capitalize, name.split("_"))): text for name, text in best["TunedHyperParameters"].items()}
    by_hand = [word for name, value in {**given, "Trials": "0"}.items() for word in ("--set", f"{name}={value}")]
    copy.run("train", "--fresh", *by_hand)
    file.write_text(settings)
    assert "TuneModel" not in copy.states()
    assert copy.states()["TrainModel"] == "unchanged, reused"  # its request is the same to the letter
    assert not processes_of(copy.root)


def test_a_search_is_reused_like_any_step_and_made_anew_on_other_features(copy: Miniature) -> None:
    copy.run("train", "--fresh")
    assert copy.states()["TuneModel"] == "unchanged, reused"
    copy.run("train", "--continue")  # features of the champion's preprocessor
    assert copy.states()["TuneModel"] == copy.states()["TrainModel"] == "done"
    copy.run("train", "--fresh", "--set", "Trials=4")
    assert copy.states()["TuneModel"] == "done"
    assert "2 training jobs at once of 1" in copy.run("train", "--set", "Trials=1", code=1)
    assert "there is no parameter 'LearningRate'" in copy.run("train", "--set", "LearningRate=0.1", code=1)


def test_the_cost_preview_and_the_quotas_count_the_trials(tmp_path: Path) -> None:
    folder = written(tmp_path / "dev")
    case = usecase.load(folder / "usecase.toml")
    found = environment.load(folder / "environments", "dev", case)
    [(step, count)] = [(step, count) for step, count in cost.steps(found, case) if step.name == "TuneModel"]
    assert (step.job, step.kind, count) == ("algorithm", "training", 6)
    assert [step.name for step, _ in cost.steps(found, usecase.load(ROOT / "usecase.toml"))].count("TuneModel") == 0


def test_ranges_are_chosen_from_as_the_request_writes_them() -> None:
    class Low:
        """Optuna's trial that always takes the lowest value."""

        def suggest_categorical(self, _name: str, values: Any) -> Any:
            return values[0]

        def suggest_int(self, _name: str, low: int, _high: int, log: bool) -> int:
            return low

        def suggest_float(self, _name: str, low: float, _high: float, log: bool) -> float:
            return low

    ranges: list[tuple[str, Any]] = [
        ("IntegerParameterRanges", {"Name": "a", "MinValue": "7", "MaxValue": "9", "ScalingType": "Linear"}),
        ("ContinuousParameterRanges", {"Name": "b", "MinValue": "1e-05", "MaxValue": "1.0"}),
        ("CategoricalParameterRanges", {"Name": "c", "Values": ["false", "true"]}),
    ]
    assert hyperparameters.suggested(ranges, Low()) == {"a": "7", "b": "1e-05", "c": "false"}
