"""An independent witness: the SDK's own Local Mode gets the same results from the same pipelines as our engine.

What of the pipelines Local Mode can't run, and what is put right for it, stands in local_mode.py beside this file.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import pytest

from batchloop.container import metrics
from batchloop.repository import Repository
from plumbing.contract.containers import HERE, Contract, said
from plumbing.engine_miniature import Miniature
from plumbing.rendered import TEMPLATE
from plumbing.test_engine_components import FOLDERS

NETWORK = "sagemaker-local"  # what Local Mode calls it
NO_CHAMPION = dict.fromkeys(("ChampionPreprocessor", "ChampionModel"), "s3://local/absent/")
NO_FILES = {"CheckQuality", "RejectModel", "CreateModel"}  # steps that store nothing
LIMIT = 600  # seconds that one run may take: other tests and their containers are at work too
BEYOND = 1e6  # further than any metric goes


def missing() -> str:
    """Which of the programs with which Local Mode starts and ends containers is not on this machine."""
    if not shutil.which("pgrep"):
        return "pgrep"
    compose = ["docker", "compose", "version"]
    there = shutil.which("docker") and subprocess.run(compose, check=False, capture_output=True).returncode == 0
    return "" if there else "`docker compose`"


MISSING = missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the SDK's Local Mode needs {MISSING}, which is not here")


@dataclass(frozen=True)
class Runs:
    """What both engines stored, by pipeline, and what both said: ours in its run.json, Local Mode in outcome.json."""

    ours: Mapping[str, Path]
    theirs: Mapping[str, Path]
    rejected: Mapping[str, Any]
    outcome: Mapping[str, Any]


@pytest.fixture(scope="module")
def runs(contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Both engines on the same rows in the same images; the second starts up while the first scores."""
    folder = tmp_path_factory.mktemp("witness")
    mini = copy_of_this_repository(contract, folder / "repository")
    ours = {"training": by_our_engine(mini, "training")}
    with local_mode(contract, folder) as process:  # not before: two fits at once hinder each other
        ours["inference"] = by_our_engine(mini, "inference")
        rejected = rejection(mini)
        code = process.wait(LIMIT)
    assert code == 0, (folder / "log").read_text(encoding="utf-8", errors="replace")
    theirs = {name: folder / "stored" / name for name in ours}
    return Runs(ours, theirs, rejected, json.loads((folder / "stored" / "outcome.json").read_text(encoding="utf-8")))


@contextmanager
def local_mode(contract: Contract, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Local Mode at work in a process of its own; nothing of it is left afterwards."""
    label = f"usecase.witness={secrets.token_hex(8)}"
    images = {f"{name.capitalize()}Image": image for name, image in contract.images.items()}
    given = json.dumps({**images, "Trials": 0, "QualityLimit": limit(reachable=False)})
    folders = (contract.folder / "data", folder / "stored")
    with network(), (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "plumbing.contract.local_mode", *folders, label, given],
            cwd=HERE.root,
            env=variables(folder / "home"),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process, label)


def variables(home: Path) -> dict[str, str]:
    """This environment with nothing of AWS and no proxy in it, and with temporary files in the test's own folder."""
    home.mkdir()
    unwanted = re.compile("AWS_|SAGEMAKER_|.*_proxy$", re.IGNORECASE)
    kept = {key: value for key, value in os.environ.items() if not unwanted.match(key)}
    kept.setdefault("DOCKER_CONFIG", str(Path.home() / ".docker"))  # plugins and contexts of docker lie there
    return kept | {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": f"{HERE.root}{os.pathsep}{TEMPLATE / 'tests'}"}


def end(process: "subprocess.Popen[bytes]", label: str) -> None:
    """Nothing of it is left: neither processes nor containers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if left := said("docker", "ps", "--all", "--quiet", "--filter", f"label={label}").split():
        said("docker", "rm", "--force", "--volumes", *left)


@contextmanager
def network() -> Iterator[None]:
    """The network that Local Mode joins, made beforehand so that it leads nowhere and is heard on loopback only."""
    bridge = "com.docker.network.bridge"
    options = ["--opt", f"{bridge}.host_binding_ipv4=127.0.0.1", "--opt", f"{bridge}.enable_ip_masquerade=false"]
    options += ["--label", f"com.docker.compose.network={NETWORK}"]
    subprocess.run(["docker", "network", "create", *options, NETWORK], check=False, capture_output=True)
    try:
        yield
    finally:  # one that is somebody else's, or in use, stays
        subprocess.run(["docker", "network", "rm", NETWORK], check=False, capture_output=True)


def limit(*, reachable: bool) -> float:
    """A quality limit that every model passes, or none."""
    metric = HERE.tables()["gate"]["metric"]
    low, high = span()
    return high if (metric in metrics.SMALLER_IS_BETTER) == reachable else low


def span() -> tuple[float, float]:
    """The values that the gate's metric can have, as far as tests go."""
    low, high = metrics.values(HERE.tables()["gate"]["metric"], HERE.tables()["data"]["task"])
    return float(max(low, -BEYOND)), float(min(high, BEYOND))


def copy_of_this_repository(contract: Contract, root: Path) -> Miniature:
    """Its code and settings with the contract's rows, so that the runs and releases of this one stay as they are."""
    ignored = shutil.ignore_patterns("__pycache__", "train", "production", "validation", "window")
    for name in FOLDERS:
        skipped = shutil.ignore_patterns("__pycache__") if name == "components" else ignored
        shutil.copytree(HERE.root / name, root / name, ignore=skipped)
    shutil.copy(HERE.root / "usecase.toml", root)
    if HERE.compiled.exists():  # the engine sees whether they are still those of the sources
        shutil.copytree(HERE.compiled, Repository(root).compiled)
    for part in ("train", "production", "validation"):
        if (rows := contract.folder / "data" / part).exists():
            shutil.copytree(rows, Repository(root).data(part))
    return Miniature(root)


def by_our_engine(mini: Miniature, pipeline: str) -> Path:
    """The folder that a run in containers stored."""
    passes = {"Trials": 0, "QualityLimit": limit(reachable=True), "ApprovalStatus": "Approved"}
    passes["MinimumLead"] = span()[0] - span()[1]
    words = ["train", *settings(passes)] if pipeline == "training" else ["score"]
    code, told = command(mini, *words)
    assert code == 0, told
    [folder] = (mini.root / "local" / "storage" / "runs" / pipeline).glob("[0-9]*")
    return folder


def rejection(mini: Miniature) -> dict[str, Any]:
    """The steps of a training run whose model is not good enough."""
    fails = {**NO_CHAMPION, "Trials": 0, "QualityLimit": limit(reachable=False)}
    code, told = command(mini, "train", *settings(fails))
    assert code == 1, told
    newest = sorted(mini.root.glob("local/runs/*/run.json"))[-1]
    return dict(json.loads(newest.read_text(encoding="utf-8"))["steps"])


def command(mini: Miniature, *words: str) -> tuple[int, str]:
    """Exit code and words of `batchloop …` with docker."""
    process = mini.start(*words, "--on", "docker")
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()  # the engine sees to what a killed run leaves
    return process.returncode, out + err


def settings(chosen: Mapping[str, Any]) -> list[str]:
    return [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]


def contents(folder: Path) -> dict[str, str]:
    """Place of every stored file → hash. Archives count by what is in them; the names of jobs, which are never the
    same twice, are left out."""
    found = {}
    for file in (path for path in folder.rglob("*") if path.is_file()):
        step, *below = file.relative_to(folder).parts
        # Local Mode lays answers beside each other, the service below their prefix as the inputs lay
        below = [below[0], below[-1]] if file.suffix == ".out" else below
        place = "/".join([step, *(part for part in below if step not in part)])
        for name, content in members(file):
            found[place + name] = hashlib.sha256(content).hexdigest()
    return found


def members(file: Path) -> Iterator[tuple[str, bytes]]:
    """The files in an archive, or the file itself under no name."""
    if not file.name.endswith(".tar.gz"):
        yield "", file.read_bytes()
        return
    with tarfile.open(file) as archive:
        for member in archive:
            if (content := archive.extractfile(member)) is not None:
                yield f"/{PurePosixPath(member.name)}", content.read()


def read(folder: Path, place: str) -> Any:
    """A stored file's value: of JSON what it says, of Parquet the table."""
    [file] = folder.glob(place)
    if file.suffix == ".json":
        return json.loads(file.read_text(encoding="utf-8"))
    return pl.read_parquet(file.read_bytes())


def test_what_local_mode_is_not_asked_is_what_it_refuses(runs: Runs) -> None:
    registering, spreading = runs.outcome["refused"]
    assert "Step type RegisterModel is not supported in local mode." in registering
    assert "DataDistribution: ShardedByS3Key is not currently supported in Local Mode" in spreading


def test_it_runs_every_other_step(runs: Runs) -> None:
    training, inference = (runs.outcome[name]["steps"] for name in ("training", "inference"))
    assert set(training) == set(runs.rejected) - {"RegisterModel"}
    assert {name for name, state in training.items() if state != "Succeeded"} == {"RejectModel"}
    assert set(inference.values()) == {"Succeeded"}


@pytest.mark.parametrize("pipeline", ["training", "inference"])
def test_every_job_stores_the_same_bytes(runs: Runs, pipeline: str) -> None:
    ours, theirs = contents(runs.ours[pipeline]), contents(runs.theirs[pipeline])
    assert {place.partition("/")[0] for place in ours} == set(runs.outcome[pipeline]["steps"]) - NO_FILES
    assert theirs == ours


def test_the_gate_looks_at_the_same_metrics_and_rejects_in_the_same_words(runs: Runs) -> None:
    training = runs.outcome["training"]
    assert training["metrics"]["TrainModel"] == runs.rejected["TrainModel"]["properties"]["FinalMetricDataList"]
    assert training["failure"] == f"Step 'RejectModel' failed with message: {runs.rejected['RejectModel']['message']}"


def test_the_same_rows_get_the_same_predictions_reasons_and_verdict(runs: Runs) -> None:
    predictions = "ScoreFeatures/predictions/**/*.out"
    explanations = "ExplainPredictions/explanations/explanations.parquet"
    for place in (predictions, explanations):
        ours, theirs = read(runs.ours["inference"], place), read(runs.theirs["inference"], place)
        assert ours.height > 0
        assert ours.equals(theirs)
    ours, theirs = (read(folder["inference"], "DetectDrift/drift/drift.json") for folder in (runs.ours, runs.theirs))
    assert (ours["verdict"], ours["drifted"]) == (theirs["verdict"], theirs["drifted"])
