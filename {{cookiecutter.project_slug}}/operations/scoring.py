"""`operations score`: run the inference pipeline here with what is released."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from operations import backends, compiling, docker, ending, parameters, training
from operations.engine import registry, running
from operations.engine.running import Order
from operations.engine.summary import Summary
from operations.failures import Failure
from operations.options import DOCKER, Options
from operations.repository import COMPONENTS, LABELLED, Repository


def score(repository: Repository, options: Options) -> int:
    """The exit code. Raises Failure before anything is run."""
    with running.exclusively(repository):
        release = registry.released(repository.release)
        if release is None:
            raise Failure("there is no released model yet; run `make train` first.")
        if gone := registry.gone(running.storage(repository), release):
            raise Failure(f"release {release['version']} can't score: {gone}; `make train` again.")
        data = parameters.location(options.data) if options.data else _production(repository)
        definition = compiling.definition(repository, options.environment, "inference")
        backend = backends.make(repository, options.on)
        known = {**released_parameters(release), "ProductionData": data, "ArtifactsPrefix": "s3://runs/inference"}
        known["LabelledData"] = _labels(repository, data, release)
        values = parameters.values(definition, known, options.chosen)
        compiling.check_chosen(repository, options.environment, definition, parameters.chosen(options.chosen, values))
        changed = _changed(repository, release)
        if options.on == DOCKER:  # what was released runs, wherever its image is still here
            changed = [name for name in changed if not docker.exists(release["images"][name])]
            known |= training.code(repository, changed)
        now = f"; {', '.join(changed)} changed since, and run as they are now" if changed else ""
        print(f"scoring with release {release['version']} of {release['created'][:10]}{now}")
        name = repository.pipeline(options.environment, "inference")
        finished = running.run(repository, Order(definition, name, values), backend)
    summary = Summary(repository, running.storage(repository), finished.steps)
    print()
    ending.lines(summary.scoring())
    ending.warnings(repository, finished)
    if finished.failed:
        ending.failures(repository, finished)
    ending.lines(summary.places())
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
    return folder.as_uri() if known else training.absent(running.storage(repository))


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
