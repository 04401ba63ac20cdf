"""What SageMaker asks of every image of this use case: jobs that write what they should, and a server that is there.

The local engine runs both pipelines in the images, twice, on rows of the use case's own table.
"""

import json
import time
from pathlib import Path

import polars as pl
import pytest

from batchloop import local, repository, sizing
from batchloop.container import artifacts, files, usecase
from batchloop.container.lines import ROW
from batchloop.engine import running, storage
from batchloop.engine.containers import docker
from batchloop.engine.graph import Progress
from batchloop.engine.processes import Container, Job
from batchloop.local import RunOptions
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, DOCKER, Repository

ROWS = 3000
HERE = repository.here()


def contents(ran: Repository) -> dict[str, str]:
    """Name → hash of every file that its runs have stored, without the runs' own names."""
    found = repository.files(ran.local, [ran.local / "storage" / "runs"])
    for run in [record["execution"] for record in running.records(ran)]:
        found = {name.replace(run, "run"): digest for name, digest in found.items()}
    return found


def _rows(source: Path, target: Path) -> str:
    """The first rows of a folder's tables."""
    case = usecase.load(HERE.root / "usecase.toml")
    frames = [files.scan(file, case.data) for file in files.find(source)]
    pl.concat(frames, how="diagonal_relaxed").drop(ROW).head(ROWS).sink_parquet(target)
    return str(target)


def _run(folder: Path, data: Path) -> Repository:
    """Train and score, whatever so few rows teach; what that leaves is in the folder."""
    learned, production = HERE.data("train"), HERE.data("production")
    if not learned.exists():
        definitions.run_module(HERE, "data.sample", "--rows", str(ROWS), "--output", str(data / "sample"))
        learned, production = data / "sample" / "train", data / "sample" / "production"
    ran, (case, environment) = Repository(HERE.root, folder), definitions.read(HERE)
    trials = environment.tuning_jobs if environment.tunes(case) else 0
    given, compiled = (sizing.APPROVED, f"Trials={trials}"), definitions.definition
    train = RunOptions(data=_rows(learned, data / "train.parquet"), parameters=given, on=DOCKER, fresh=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(definitions, "definition", lambda *which: sizing.ungated(compiled(*which)))
        assert local.train(ran, train) == 0
    rows = _rows(production if production.exists() else learned, data / "production.parquet")
    assert local.score(ran, RunOptions(data=rows, on=DOCKER)) == 0
    return ran


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return _run(tmp_path_factory.mktemp("ran"), tmp_path_factory.mktemp("data"))


def test_every_job_writes_every_output(ran: Repository) -> None:
    stored = running.storage(ran)
    steps = {name: step for record in running.records(ran) for name, step in record["steps"].items()}
    outputs = {name: running.outputs(Progress("", properties=step["properties"])) for name, step in steps.items()}
    assert sum(map(len, outputs.values())) > len(COMPONENTS)
    for name, output in ((name, uri) for name, uris in outputs.items() for uri in uris.values()):
        written = [file for file, _ in stored.files(output)]
        assert written, f"{name} wrote nothing to {output}"
        assert not [file for file in written if Path(file).name.startswith(".")]


def test_every_artifact_names_the_image_that_made_it(ran: Repository, tmp_path: Path) -> None:
    release, stored = storage.read_release(ran.release), running.storage(ran)
    assert release
    for component, name in zip(COMPONENTS, storage.ARTIFACTS, strict=True):
        path = stored.path(release["artifacts"][name])
        folder = artifacts.unpacked(path.parent if path.is_file() else path, tmp_path / name)
        manifest, version = json.loads((folder / "manifest.json").read_text()), release["images"][component]
        assert (manifest["component"], manifest["code_version"]) == (component, version.rpartition(":")[2])


def test_the_same_inputs_give_the_same_bytes(ran: Repository, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert contents(_run(tmp_path / "again", tmp_path / "data")) == contents(ran)


def test_it_answers_within_two_seconds_of_what_its_library_takes(ran: Repository, tmp_path: Path) -> None:
    """The best of several starts, each after an import of the model: other tests are at work on the same processors."""
    release, backend, taken = storage.read_release(ran.release), local.backend(ran, DOCKER), list[float]()
    assert release
    image = release["images"]["algorithm"]
    container = Container(image, ("serve",), environment={"SAGEMAKER_BATCH": "true"})
    while len(taken) < 8 and min(taken, default=2.0) >= 2:
        root = tmp_path / str(len(taken))
        artifacts.extract(running.storage(ran).path(release["artifacts"]["model"]), root / "model")
        begun = time.monotonic()
        docker("run", "--rm", "--entrypoint", "python", image, "-c", "import components.algorithm.model")
        imported = time.monotonic()
        with backend.serving(Job(container, root, tmp_path / "server.log")):
            taken.append(time.monotonic() - imported - (imported - begun))
    backend.close()
    assert min(taken) < 2, taken
