"""`operations train`: run the training pipeline here, register what it learned, release it when it is approved."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from operations import backends, compiling, ending, fingerprints, models, parameters
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
        definition = compiling.definition(repository, options.environment, "training")
        data = training_data(repository, options)
        if options.onward and options.fresh:
            raise Failure("CONTINUE goes on from the released model, and FRESH trains without one; give one of them.")
        champion = None if options.fresh else _champion(repository)
        if options.onward and champion is None:
            raise Failure("there is no released model to continue from; run `make train` without CONTINUE once.")
        backend = backends.make(repository, options.on)
        stored = running.storage(repository)
        known = data | earlier_data(repository, stored, options) | champion_artifacts(stored, champion)
        known |= code(repository, COMPONENTS)
        known["GitCommit"] = parameters.git_commit(repository)
        known["ArtifactsPrefix"] = "s3://runs/training"
        known["ContinueTraining"] = str(options.onward).lower()
        values = parameters.values(definition, known, options.chosen)
        compiling.check_chosen(repository, options.environment, definition, parameters.chosen(options.chosen, values))
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
            raise Failure(f"{shown} does not exist; put the labelled rows there, or name them with DATA=.")
        found = {"TrainingData": folder.as_uri()}
    return found | {"ValidationData": repository.data("validation").as_uri()}


def make_sample(repository: Repository) -> None:
    """Write the sample, and say so."""
    print(f"there is no data yet: writing the sample ({SAMPLE_ROWS} rows) to data/sample", flush=True)
    arguments = ("--rows", SAMPLE_ROWS, "--seed", SAMPLE_SEED, "--output", "data/sample")
    compiling.run_module(repository, "data.sample", *arguments)


def _champion(repository: Repository) -> dict[str, Any] | None:
    """The release that the new model is compared with; one whose artifacts are gone is none, and that is said."""
    released = registry.released(repository.release)
    if released and (gone := registry.gone(running.storage(repository), released, ("preprocessor", "model"))):
        said = f"release {released['version']} can't be compared with: {gone}"
        print(f"{said}; [gate] minimum alone decides", flush=True)
        return None
    return released


def earlier_data(repository: Repository, storage: Storage, options: Options) -> dict[str, str]:
    """The manifest of the earlier windows that [retraining] learn asks for, as the control plane writes it.

    Data that is named by its path is no window, and nothing is earlier.
    """
    from functions.memory import Settings, before  # noqa: PLC0415 - __main__ says where the functions are
    from functions.wording import besides  # noqa: PLC0415

    settings = Settings.of(repository.tables())
    root = repository.root / "data"
    windows = [folder.parent.name for folder in root.glob("*/train")]
    names = [] if options.data else before(windows, repository.window())
    files = {name: [file for _, file in storage.files((root / name / "train").as_uri())] for name in names}
    chosen = [name for name in names if files[name]][: settings.earlier][::-1]
    if not chosen:
        entries: list[object] = [{"prefix": f"{absent(storage)}/"}, "manifest.json"]
    else:
        print(f"learning from window {repository.window()} and {besides(chosen)}", flush=True)
        keys = [quote(file.relative_to(root).as_posix()) for name in chosen for file in files[name]]
        entries = [{"prefix": f"{root.as_uri()}/"}, *keys]
    manifest = f"s3://local/earlier/{fingerprints.of(entries)}.manifest"
    storage.write_json(manifest, entries)
    return {"EarlierData": manifest}


def absent(storage: Storage) -> str:
    """The URI of the empty artifact, which stands for what there is not."""
    storage.write_json(f"{ABSENT}/manifest.json", {"component": "none"})
    return ABSENT


def champion_artifacts(storage: Storage, champion: Mapping[str, Any] | None) -> dict[str, str]:
    """The released preprocessor and model, or the empty artifact for both."""
    nothing = absent(storage)
    artifacts = champion["artifacts"] if champion else {"preprocessor": nothing, "model": nothing}
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
        print(f"\ngate passed; {_released(repository, package, summary)}")
    ending.lines(summary.places())
    return 0


def _released(repository: Repository, package: Mapping[str, Any], summary: Summary) -> str:
    """Publish an approved package; a sentence about what stands now."""
    version, file = package["ModelPackageVersion"], models.manifest(repository, package)
    if registry.undamaged(file) is None:
        about = registry.manifest(package, summary.metrics(), now()) | {"untrusted": summary.untrusted()}
        registry.publish(file, about)
    before = registry.undamaged(repository.release)
    status = package.get("ModelApprovalStatus")
    if status != registry.APPROVED:
        return f"registered as version {version}, not released: its approval status is {status}"
    if before and before["model_package"] == package["ModelPackageArn"]:
        return f"version {version} is unchanged and stays released"
    registry.publish(repository.release, registry.released(file) or {})
    doubt = ", though what was measured says little of new rows" if summary.untrusted() else ""
    return f"registered and released as version {version}{doubt}"
