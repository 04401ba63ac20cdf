"""The simulation with this repository's own components and compiled pipelines, on three small stages of the sample."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plumbing.engine_miniature import Miniature, copied, processes_of

FOLDERS = ("batchloop", "components", "pipelines", "environments", "data", "locks", "infra")
CHOSEN = ("0-original", "3-wallet", "4-onward")
STARTED = """
import sys
from batchloop import repository
from batchloop.simulate import simulation
from batchloop.simulate.loop import Options
options = Options(stages="chosen", decision="off" not in sys.argv, fresh="fresh" in sys.argv)
raise SystemExit(simulation.simulate(repository.here(), options))
"""


@dataclass(frozen=True)
class Copy:
    """This repository elsewhere, with the sample's contract, a quick fit and the chosen stages."""

    root: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", STARTED, *words]
        given = os.environ | {"PYTHONPATH": str(self.root)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, env=given, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    def run(self, *words: str) -> str:
        process = self.start(*words)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        return said

    def killed(self, when: Callable[[], bool], *words: str) -> None:
        """Start it, and kill it as soon as something is so."""
        process = self.start(*words)
        while not when():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def result(self, folder: str = "simulation") -> dict[str, bytes]:
        return {name: (self.root / "local" / folder / name).read_bytes() for name in ("table.json",)}

    def records(self, folder: str = "simulation") -> list[dict[str, Any]]:
        found = list[dict[str, Any]]()
        for file in (self.root / "local" / folder / "runs").glob("*/run.json"):
            with suppress(FileNotFoundError):  # cleared away just now
                found.append(json.loads(file.read_text()) | {"logs": file.parent / "logs"})
        return found

    def states(self, step: str, folder: str = "simulation") -> list[str]:
        """How each run of a step ended."""
        return sorted(its["steps"][step]["state"] for its in self.records(folder) if step in its["steps"])

    def at_work(self, step: str, scored: int) -> bool:
        """Whether a step says something, so many windows having been scored."""
        records = self.records()
        logs = [its["logs"] / f"{step}.log" for its in records if its["state"] == "running"]
        done = sum(its["state"] == "done" and its["pipeline"].endswith("inference") for its in records)
        return done == scored and any(log.is_file() and log.stat().st_size for log in logs)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    root = tmp_path_factory.mktemp("simulated") / "repository"
    copied(root, FOLDERS, num_iterations=80, rows=200)  # rows are those explained one by one
    command = [sys.executable, "-m", "data.stages", "--rows", "2400", "--output", "every"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (root / "chosen").mkdir()
    for name in CHOSEN:
        (root / "every" / name).rename(root / "chosen" / name)
    # whatever table the repository has been given since, here it takes the sample on anew
    Miniature(root).run("adopt", "--data", "chosen/0-original/train/customers.csv", "--label", "churned")
    return Copy(root)


@dataclass(frozen=True)
class Interrupted:
    """A simulation that was killed three times: what it ended in, and what its last attempt said."""

    result: dict[str, bytes]
    said: str


@pytest.fixture(scope="module")
def whole(copy: Copy) -> dict[str, bytes]:
    """The table of a simulation that nothing interrupted."""
    said = copy.run("fresh")
    assert "1 of 3 windows drifted, and 1 led to a new release" in said
    assert "report: local/simulation/report.html" in said
    assert not (copy.root / "local" / "release.json").exists()
    return copy.result()


@pytest.fixture(scope="module")
def interrupted(copy: Copy) -> Interrupted:
    """Killed three times; as it was before the first drift, it is also kept to go on from without the decision."""
    copy.killed(lambda: copy.at_work("TrainModel", 0), "fresh")
    assert not (copy.root / "local" / "simulation" / "table.json").exists()
    copy.killed(lambda: copy.at_work("ScoreFeatures", 1))
    local = copy.root / "local"
    shutil.copytree(local / "simulation", local / "simulation-off", symlinks=True)
    copy.killed(lambda: copy.at_work("TrainModel", 2))
    said = copy.run()
    return Interrupted(copy.result(), said)


def rows(result: dict[str, bytes]) -> list[dict[str, Any]]:
    return list(json.loads(result["table.json"])["rows"])


def test_drift_is_seen_retrained_on_and_the_metric_recovers(whole: dict[str, bytes]) -> None:
    found = rows(whole)
    assert [row["input"] for row in found] == list(CHOSEN)
    assert [row["drift"] for row in found] == [False, True, False]
    assert [row["learned_on"] for row in found] == ["0-original", "0-original", "3-wallet"]
    assert [row["retrained_on"] for row in found] == ["", "3-wallet", ""]
    assert found[1]["after"] > found[1]["before"] + 0.15
    assert found[2]["before"] > 0.65
    assert all(row["estimated"]["low"] <= row["estimated"]["value"] <= row["estimated"]["high"] for row in found)
    assert "which carry" in found[1]["why"]


def test_what_monitoring_measured_by_labels_is_what_scikit_learn_says(whole: dict[str, bytes]) -> None:
    found = rows(whole)
    for row in found:
        assert row["realised"]["value"] == pytest.approx(row["before"], abs=1e-4)
        assert row["realised"]["low"] < row["realised"]["value"] < row["realised"]["high"]
    assert [row["realised"]["alarm"] for row in found] == [False, True, False]


def test_what_was_predicted_is_worth_what_the_release_is_worth_on_that_stage(whole: dict[str, bytes]) -> None:
    matrix = json.loads(whole["table.json"])["matrix"]
    assert list(matrix) == ["0-original", "3-wallet"]
    for row in rows(whole):
        assert row["before"] == matrix[row["learned_on"]][row["input"]]
    assert rows(whole)[1]["after"] == matrix["3-wallet"]["3-wallet"]


def test_killed_at_any_time_it_goes_on_to_the_same_table(
    copy: Copy, whole: dict[str, bytes], interrupted: Interrupted
) -> None:
    assert "going on with the simulation that was begun" in interrupted.said
    assert copy.states("TrainModel") == ["done", "unchanged, reused"]
    assert interrupted.result == whole
    assert not processes_of(copy.root)


def test_run_again_it_does_nothing_anew(copy: Copy, interrupted: Interrupted) -> None:
    copy.run()
    assert copy.result() == interrupted.result
    for step, times in (("TrainModel", 2), ("DetectDrift", 3)):
        assert copy.states(step) == ["unchanged, reused"] * times


def test_without_the_decision_the_metric_stays_down(
    copy: Copy, whole: dict[str, bytes], interrupted: Interrupted
) -> None:
    """It goes on from where the windows had not drifted yet, so that the first training need not be run again."""
    copy.run("off")
    assert copy.states("TrainModel", "simulation-off") == ["unchanged, reused"]
    off, on = rows(copy.result("simulation-off")), rows(whole)
    assert [row["drift"] for row in off] == [False, True, True]
    assert not any(row["retrained_on"] for row in off)
    assert off[2]["before"] < on[2]["before"] - 0.15
    assert all("[retraining] enabled = false" in row["why"] for row in off[1:])
    assert copy.result() == interrupted.result
