"""`operations train`: run the training pipeline here, register what it learned, release it when it is approved."""

from collections.abc import Iterable, Mapping
from typing import Any

from operations import backends, compiling, ending, models, parameters
from operations.engine import registry, running
from operations.engine.execution import now
from operations.engine.running import Finished, Order
from operations.engine.storage import Storage
from operations.engine.summary import Summary
from operations.failures import Failure
from operations.options import Options
from operations.repository import COMPONENTS, Repository

ABSENT = "s3://local/absent"  # the empty artifact: there is no champion yet
SAMPLE_ROWS, SAMPLE_SEED = "20000", "7"


def train(repository: Repository, options: Options) -> int:
    """The exit code. Raises Failure before anything is run."""
    with running.exclusively(repository):
        data = training_data(repository, options)
        definition = compiling.definition(repository, options.environment, "training")
        champion = registry.released(repository.release)
        if options.onward and champion is None:
            raise Failure("there is no released model to continue from; run `make train` without CONTINUE once.")
        backend = backends.make(repository, options.on)
        known = data | champion_artifacts(running.storage(repository), champion) | code(repository, COMPONENTS)
        known["GitCommit"] = parameters.git_commit(repository)
        known["ArtifactsPrefix"] = "s3://runs/training"
        known["ContinueTraining"] = str(options.onward).lower()
        values = parameters.values(definition, known, options.chosen)
        name = repository.pipeline(options.environment, "training")
        finished = running.run(repository, Order(definition, name, values), backend)
        return _tell(repository, finished)


def training_data(repository: Repository, options: Options) -> dict[str, str]:
    """Where the labelled rows are; without any data at all the sample is made. Raises Failure."""
    if options.data:
        found = {"TrainingData": parameters.location(options.data)}
    else:
        folder = repository.data("train")
        if not folder.exists() and repository.window() == "sample":
            make_sample(repository)
        if not folder.exists():
            shown = repository.shown(folder)
            raise Failure(f"{shown} does not exist; put the labelled rows there, or name them with --data.")
        found = {"TrainingData": folder.as_uri()}
    return found | {"ValidationData": repository.data("validation").as_uri()}


def make_sample(repository: Repository) -> None:
    """Write the sample, and say so."""
    print(f"there is no data yet: writing the sample ({SAMPLE_ROWS} rows) to data/sample", flush=True)
    arguments = ("--rows", SAMPLE_ROWS, "--seed", SAMPLE_SEED, "--output", "data/sample")
    compiling.run_module(repository, "data.sample", *arguments)


def champion_artifacts(storage: Storage, champion: Mapping[str, Any] | None) -> dict[str, str]:
    """The released preprocessor and model, or the empty artifact for both."""
    storage.write_json(f"{ABSENT}/manifest.json", {"component": "none"})
    artifacts = champion["artifacts"] if champion else {"preprocessor": ABSENT, "model": ABSENT}
    return {"ChampionPreprocessor": artifacts["preprocessor"], "ChampionModel": artifacts["model"]}


def code(repository: Repository, components: Iterable[str]) -> dict[str, str]:
    """The image parameters of components as they are now."""
    version = running.versions(repository)
    return {f"{name.capitalize()}Image": repository.image(name, version(name)) for name in components}


def _tell(repository: Repository, finished: Finished) -> int:
    summary = Summary(repository, running.storage(repository), finished.steps)
    print("", *summary.evaluation(), sep="\n")
    ending.warnings(repository, finished)
    if finished.failed:
        ending.failures(repository, finished)
        ending.lines(summary.places())
        return 1
    registered = [step.properties for step in finished.steps.values() if "ModelPackageArn" in step.properties]
    for package in registered:
        print(f"\ngate passed; {_released(repository, package, summary.metrics())}")
    ending.lines(summary.places())
    return 0


def _released(repository: Repository, package: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """Publish an approved package; a sentence about what stands now."""
    version, file = package["ModelPackageVersion"], models.manifest(repository, package)
    if not file.is_file():
        registry.publish(file, registry.manifest(package, metrics, now()))
    before = registry.released(repository.release)
    status = package.get("ModelApprovalStatus")
    if status != registry.APPROVED:
        return f"registered as version {version}, not released: its approval status is {status}"
    if before and before["model_package"] == package["ModelPackageArn"]:
        return f"version {version} is unchanged and stays released"
    registry.publish(repository.release, registry.released(file) or {})
    return f"registered and released as version {version}"
