"""How commands say what failed and where to read on."""

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from batchloop import repository as batchloop_repository
from batchloop.cloud import images
from batchloop.engine import cache, containers, running
from batchloop.engine.cache import now
from batchloop.engine.containers import Containers
from batchloop.engine.processes import Processes
from batchloop.engine.running import Finished, Order, Summary
from batchloop.engine.storage import Backend, Storage
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, DOCKER, LABELLED, Failure, Options, Repository


def failures(repository: Repository, finished: Finished) -> None:
    """One line for each failed step: its own message, and its log where it wrote one."""
    for name, step in finished.failed.items():
        log = repository.local / "runs" / finished.identity / "logs" / f"{name}.log"
        where = f"\n  log: {repository.shown(log)}" if log.is_file() else ""
        said = f"{name}: {step.message}" if step.type == "Fail" else f"{name} failed: {step.message}"
        print(f"{said}{where}", file=sys.stderr, flush=True)


def warnings(repository: Repository, finished: Finished) -> None:
    """What the steps that ran here found worth a warning."""
    for name in finished.steps:
        log = repository.local / "runs" / finished.identity / "logs" / f"{name}.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        lines(f"{name}: {line}" for line in text.splitlines() if line.startswith("warning: "))


def lines(texts: Iterable[str]) -> None:
    """Each on its own line."""
    for text in texts:
        print(text)


def make(repository: Repository, on: str) -> Backend:
    """Plain processes, or docker with its images built. Raises Failure where docker does not work."""
    if on == DOCKER:
        images.build(repository)
        return Containers(repository)
    return Processes(repository, running.versions(repository))


def manifest(repository: Repository, package: Mapping[str, Any]) -> Path:
    """The file that keeps what releasing this package means."""
    return repository.local / "releases" / f"{package['ModelPackageGroupName']}-{package['ModelPackageVersion']}.json"


def show(repository: Repository) -> int:
    """One line a version, newest first."""
    current = cache.undamaged(repository.release) or {}
    packages = running.registry(repository).packages()
    if not packages:
        print("no model is registered here yet; run `make train`.")
    for package in reversed(packages):
        mark = "released" if package["ModelPackageArn"] == current.get("model_package") else ""
        doubt = (cache.undamaged(manifest(repository, package)) or {}).get("untrusted")
        mark += f"  not to be trusted on new rows: {doubt}" if doubt else ""
        status, version = package.get("ModelApprovalStatus", ""), package["ModelPackageVersion"]
        print(f"{version:>4}  {package['CreationTime']}  {status:<22} {mark}".rstrip())
    return 0


def use(repository: Repository, version: int) -> int:
    """Release a registered version. Raises Failure where there is none."""
    for package in running.registry(repository).packages():
        if package["ModelPackageVersion"] == version:
            kept = cache.released(manifest(repository, package))
            if kept is None:
                raise Failure(f"what belongs to version {version} is no longer in local/releases; train again.")
            if gone := cache.gone(running.storage(repository), kept):
                raise Failure(f"version {version} can't be released: {gone}; train again.")
            cache.publish(repository.release, kept)
            print(f"version {version} is released.")
            return 0
    raise Failure(f"version {version} is not registered; `make models` lists what is.")


ABSENT = "s3://local/absent"  # the empty artifact: there is no champion yet
SAMPLE_ROWS, SAMPLE_SEED = "20000", "7"


def train(repository: Repository, options: Options) -> int:
    """The exit code. Raises Failure before anything is run."""
    with running.exclusively(repository):
        definition = definitions.definition(repository, options.environment, "training")
        data = training_data(repository, options)
        if options.onward and options.fresh:
            raise Failure("CONTINUE goes on from the released model, and FRESH trains without one; give one of them.")
        champion = None if options.fresh else _champion(repository)
        if options.onward and champion is None:
            raise Failure("there is no released model to continue from; run `make train` without CONTINUE once.")
        backend = make(repository, options.on)
        stored = running.storage(repository)
        known = data | earlier_data(repository, stored, options) | champion_artifacts(stored, champion)
        known |= code(repository, COMPONENTS)
        known["GitCommit"] = definitions.git_commit(repository)
        known["ArtifactsPrefix"] = "s3://runs/training"
        known["ContinueTraining"] = str(options.onward).lower()
        values = definitions.values(definition, known, options.chosen)
        definitions.check_chosen_settings(
            repository, options.environment, definition, definitions.chosen(options.chosen, values)
        )
        name = repository.names(options.environment).pipeline("training")
        finished = running.run(repository, Order(definition, name, values), backend)
        return _tell(repository, finished)


def training_data(repository: Repository, options: Options) -> dict[str, str]:
    """Where the labelled rows are; without any data at all the sample is made. Raises Failure."""
    if options.data:
        found = {"TrainingData": definitions.location(options.data)}
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
    definitions.run_module(repository, "data.sample", *arguments)


def _champion(repository: Repository) -> dict[str, Any] | None:
    """The release that the new model is compared with; one whose artifacts are gone is none, and that is said."""
    released = cache.released(repository.release)
    if released and (gone := cache.gone(running.storage(repository), released, ("preprocessor", "model"))):
        said = f"release {released['version']} can't be compared with: {gone}"
        print(f"{said}; [gate] minimum alone decides", flush=True)
        return None
    return released


def earlier_data(repository: Repository, storage: Storage, options: Options) -> dict[str, str]:
    """The manifest of the earlier windows that [retraining] learn asks for, as the control plane writes it.

    Data that is named by its path is no window, and nothing is earlier.
    """
    from batchloop.control.memory import (  # noqa: PLC0415 - __main__ says where the functions are
        Settings,
        before,
        besides,
    )

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
    manifest = f"s3://local/earlier/{batchloop_repository.of(entries)}.manifest"
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
    warnings(repository, finished)
    if finished.failed:
        failures(repository, finished)
        lines(summary.places())
        return 1
    registered = [step.properties for step in finished.steps.values() if "ModelPackageArn" in step.properties]
    for package in registered:
        print(f"\ngate passed; {_released(repository, package, summary)}")
    lines(summary.places())
    return 0


def _released(repository: Repository, package: Mapping[str, Any], summary: Summary) -> str:
    """Publish an approved package; a sentence about what stands now."""
    version, file = package["ModelPackageVersion"], manifest(repository, package)
    if cache.undamaged(file) is None:
        about = cache.manifest(package, summary.metrics(), now()) | {"untrusted": summary.untrusted()}
        cache.publish(file, about)
    before = cache.undamaged(repository.release)
    status = package.get("ModelApprovalStatus")
    if status != cache.APPROVED:
        return f"registered as version {version}, not released: its approval status is {status}"
    if before and before["model_package"] == package["ModelPackageArn"]:
        return f"version {version} is unchanged and stays released"
    cache.publish(repository.release, cache.released(file) or {})
    doubt = ", though what was measured says little of new rows" if summary.untrusted() else ""
    return f"registered and released as version {version}{doubt}"


def score(repository: Repository, options: Options) -> int:
    """The exit code. Raises Failure before anything is run."""
    with running.exclusively(repository):
        release = cache.released(repository.release)
        if release is None:
            raise Failure("there is no released model yet; run `make train` first.")
        if gone := cache.gone(running.storage(repository), release):
            raise Failure(f"release {release['version']} can't score: {gone}; `make train` again.")
        data = definitions.location(options.data) if options.data else _production(repository)
        definition = definitions.definition(repository, options.environment, "inference")
        backend = make(repository, options.on)
        known = {**released_parameters(release), "ProductionData": data, "ArtifactsPrefix": "s3://runs/inference"}
        known["LabelledData"] = _labels(repository, data, release)
        values = definitions.values(definition, known, options.chosen)
        definitions.check_chosen_settings(
            repository, options.environment, definition, definitions.chosen(options.chosen, values)
        )
        changed = _changed(repository, release)
        if options.on == DOCKER:  # what was released runs, wherever its image is still here
            changed = [name for name in changed if not containers.exists(release["images"][name])]
            known |= code(repository, changed)
        now = f"; {', '.join(changed)} changed since, and run as they are now" if changed else ""
        print(f"scoring with release {release['version']} of {release['created'][:10]}{now}")
        name = repository.names(options.environment).pipeline("inference")
        finished = running.run(repository, Order(definition, name, values), backend)
    summary = Summary(repository, running.storage(repository), finished.steps)
    print()
    lines(summary.scoring())
    warnings(repository, finished)
    if finished.failed:
        failures(repository, finished)
    lines(summary.places())
    if not finished.failed:
        print("when labels of these rows have come: make label DATA=file (with the id and the label)")
    return 1 if finished.failed else 0


def released_parameters(release: Mapping[str, Any]) -> dict[str, str]:
    """The inference pipeline's images and artifacts, all from one manifest."""
    images = {f"{name.capitalize()}Image": image for name, image in release["images"].items()}
    artifacts = {name.capitalize(): uri for name, uri in release["artifacts"].items()}
    return images | artifacts


def _labels(repository: Repository, data: str, release: Mapping[str, Any]) -> str:
    """Where labels of the window lie already, which then is measured as it is scored; or the empty artifact.

    A release that has learned from these very rows is not measured by them.
    """
    folder, learned = repository.data("labels"), repository.data("train") / LABELLED
    known = data == _folder(repository) and folder.is_dir()
    if known and learned.is_file() and learned.stat().st_mtime < datetime.fromisoformat(release["created"]).timestamp():
        print("the released model has learned from these rows and their labels, so they can't say how good it is")
        known = False
    return folder.as_uri() if known else absent(running.storage(repository))


def _folder(repository: Repository) -> str:
    return repository.data("production").as_uri()


def _production(repository: Repository) -> str:
    folder = repository.data("production")
    if not folder.exists():
        raise Failure(f"{repository.shown(folder)} does not exist; put rows to score there, or name them with DATA=.")
    return folder.as_uri()


def _changed(repository: Repository, release: Mapping[str, Any]) -> list[str]:
    """Which components differ from the released ones."""
    version, images = running.versions(repository), release["images"]
    return [name for name in COMPONENTS if name in images and not images[name].endswith(f":{version(name)}")]
