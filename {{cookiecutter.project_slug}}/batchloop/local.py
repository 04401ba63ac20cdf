"""`make train`, `make score` and `make models`: both pipelines on this machine, and its releases."""

import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from batchloop import repository as batchloop_repository
from batchloop.cloud import images
from batchloop.container import usecase
from batchloop.container.job import InputError, plain
from batchloop.control.names import FINGERPRINT, Settings, besides, earlier_windows, is_data
from batchloop.engine import containers, running, storage
from batchloop.engine.containers import Containers
from batchloop.engine.processes import Backend, Processes, versions
from batchloop.engine.running import Finished, Order, RunSummary
from batchloop.engine.steps import now
from batchloop.engine.storage import Storage, write_json
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, DOCKER, LABELLED, PROCESSES, Repository, definition_file, kept_definition

ABSENT = "s3://local/absent/"  # the empty artifact: there is no champion yet
KEPT = 5  # tables that folders of pictures have become
RAW = ("TrainingData", "ValidationData", "ProductionData")


@dataclass(frozen=True)
class RunOptions:
    """`data` is a path or URI ("" for the window's own), `parameters` are Name=value pairs, `on` is what steps run in.

    A training `continues` from the released model, or is `fresh`, without a champion.
    """

    data: str = ""
    parameters: Sequence[str] = ()
    on: str = PROCESSES
    continues: bool = False
    fresh: bool = False


def train(repository: Repository, options: RunOptions) -> int:
    """The exit code. Raises InputError before anything is run."""
    with running.exclusively(repository):
        with ThreadPoolExecutor() as beside:  # the sample is written while the pipelines compile
            gathering = beside.submit(_training_data, repository, options)
            definition = definitions.definition(repository, "training")
        data = gathering.result()
        champion = None if options.fresh else _champion(repository)
        if options.continues and champion is None:
            none = "FRESH trains without one; give one of them" if options.fresh else "there is none: leave it out once"
            raise InputError(f"CONTINUE goes on from the released model, and {none}.")
        stored = running.storage(repository)
        artifacts = champion["artifacts"] if champion else dict.fromkeys(("preprocessor", "model"), absent(stored))
        known = {
            "TrainingData": data,
            "ValidationData": definitions.folder(repository.data("validation")),
            "EarlierData": _earlier_data(repository, stored, options),
            "ChampionPreprocessor": artifacts["preprocessor"],
            "ChampionModel": artifacts["model"],
            **code(repository, COMPONENTS),
            "GitCommit": definitions.git_commit(repository),
            "ArtifactsPrefix": "s3://runs/training",
            "ContinueTraining": str(options.continues).lower(),
        }
        order = _order(repository, options, "training", definition, known)
        if champion and not options.continues:
            order = _again(repository, champion, order)
        finished = running.run(repository, order, backend(repository, options.on))
        summary = RunSummary(repository, finished)
        report(repository, finished, summary.evaluation())
        inference = definitions.definition(repository, "inference")
        both = {"training": definition, "inference": inference}
        for step in finished.steps.values():
            if "ModelPackageArn" in step.properties and not finished.failed:
                print(f"\ngate passed; {_release(repository, step.properties, summary, both)}")
        lines(summary.places())
        if (environment := definitions.read(repository)[1]).tracking.uri:
            from batchloop import tracking  # noqa: PLC0415 - optional

            tracking.after(repository, environment)
        return 1 if finished.failed else 0


def score(repository: Repository, options: RunOptions) -> int:
    """The exit code. Raises InputError before anything is run."""
    with running.exclusively(repository):
        release = storage.read_release(repository.release)
        if release is None:
            raise InputError("there is no released model yet; run `make train` first.")
        if gone := storage.missing_artifacts(running.storage(repository), release):
            raise InputError(f"release {release['version']} can't score: {gone}; `make train` again.")
        data = _rows(repository, options, "production")
        compiled = definitions.definition(repository, "inference")
        definition = kept_definition(repository, "inference", str(release.get("definition"))) or compiled
        own = "; under the pipeline that it was released with: `make train` takes the new one"
        engine, version = backend(repository, options.on), versions(repository)
        changed = [name for name in COMPONENTS if not release["images"].get(name, "").endswith(f":{version(name)}")]
        if options.on == DOCKER:  # what was released runs, wherever its image is still here
            changed = [name for name in changed if not containers.exists(release["images"][name])]
        known = {
            **{f"{name.capitalize()}Image": image for name, image in release["images"].items()},
            **{name.capitalize(): uri for name, uri in release["artifacts"].items()},
            **code(repository, changed),
            "ProductionData": data,
            "LabelledData": _labels(repository, data, release),
            "ArtifactsPrefix": "s3://runs/inference",
        }
        order = _order(repository, options, "inference", definition, known)
        since = f"; {', '.join(changed)} changed since, and run as they are now" if changed else ""
        since += "" if definition == compiled else own
        print(f"scoring with release {release['version']} of {release['created'][:10]}{since}")
        finished = running.run(repository, order, engine)
    summary = RunSummary(repository, finished)
    report(repository, finished, summary.scoring())
    lines(summary.places())
    if not finished.failed:
        names = "series, time" if "series" in repository.tables() else "the id"
        print(f"when labels of these rows have come: make label DATA=file (with {names} and the label)")
    return 1 if finished.failed else 0


def _order(
    repository: Repository, options: RunOptions, pipeline: str, definition: Mapping[str, Any], known: Mapping[str, str]
) -> Order:
    """The pipeline with a value for each parameter; those of SET are checked as settings are. Raises InputError."""
    values = definitions.values(definition, {FINGERPRINT: "", **known}, options.parameters)
    chosen = definitions.chosen(repository, definition, options.parameters, values)
    values[FINGERPRINT] = values[FINGERPRINT] or fingerprint(repository, values, set(chosen) - {"ArtifactsPrefix"})
    return Order(definition, repository.names().pipeline(pipeline), values)


def fingerprint(repository: Repository, values: Mapping[str, Any], chosen: Collection[str] = ()) -> str:
    """Of the raw data of a run, and what the `chosen` parameters point at; what it is of is kept under it."""
    given = {*RAW, *(name for name in chosen if str(values[name]).startswith(("s3://", "file://")))}
    found = hashed(repository, values, sorted(given & {*values}))
    digest = batchloop_repository.of(list(chain.from_iterable(found.values())))
    write_json(fingerprinted(repository, digest), found)
    return digest


def fingerprinted(repository: Repository, digest: str) -> Path:
    """The file that keeps what a fingerprint is of."""
    return repository.local / "fingerprints" / f"{digest}.json"


def hashed(repository: Repository, values: Mapping[str, Any], names: Iterable[str]) -> dict[str, list[list[Any]]]:
    """Parameter → name, size and hash of each file. Raises InputError for what is not there."""
    stored = running.storage(repository)
    found = {name: stored.files(values[name]) for name in names}
    found |= {"EarlierData": stored.listed(values["EarlierData"])} if "EarlierData" in values else {}
    entries = iter(storage.hashed(repository.local / "digests.json", chain.from_iterable(found.values())))
    return {name: [next(entries) for _ in files] for name, files in found.items()}


def registered(repository: Repository, version: int) -> dict[str, Any]:
    """A package by its version: the environment's, or the only one that has it. Raises InputError."""
    found = [its for its in running.registry(repository).packages() if its["ModelPackageVersion"] == version]
    group = repository.names().prefix
    own = [its for its in found if its["ModelPackageGroupName"] == group] or found
    if len(own) != 1:
        others = " and of ".join(trained_for(repository, its) for its in own)
        several = f"none of {repository.environment}, but of {others}; ENV= names one of them."
        raise InputError(f"version {version} is {several if own else 'not registered; `make models` lists what is.'}")
    return own[0]


def trained_for(repository: Repository, package: Mapping[str, Any]) -> str:
    """The environment of a package's group."""
    names = repository.names()
    return str(package["ModelPackageGroupName"]).removeprefix(names.prefix.removesuffix(names.environment))


def models(repository: Repository, use: int | None) -> int:
    """List the registered versions, the newest first; or release one. Raises InputError where there is none of it."""
    packages = running.registry(repository).packages()
    if use is not None:
        package = registered(repository, use)
        if (release := storage.read_release(release_file(repository, package))) is None:
            raise InputError(f"what belongs to version {use} is no longer in local/releases; train again.")
        if gone := storage.missing_artifacts(running.storage(repository), release):
            raise InputError(f"version {use} can't be released: {gone}; train again.")
        write_json(repository.release, release)
        print(f"version {use} of {trained_for(repository, package)} is released.")
        return 0
    current = _readable(repository.release)
    if not packages:
        print("no model is registered here yet; run `make train`.")
    width = max((len(trained_for(repository, its)) for its in packages), default=0)
    for package in reversed(packages):
        mark = "released" if package["ModelPackageArn"] == current.get("model_package") else ""
        untrusted = _readable(release_file(repository, package)).get("untrusted")
        mark += f"  not to be trusted on new rows: {untrusted}" if untrusted else ""
        status, version = package.get("ModelApprovalStatus", ""), package["ModelPackageVersion"]
        name = trained_for(repository, package)
        print(f"{version:>4}  {name:<{width}}  {package['CreationTime']}  {status:<22} {mark}".rstrip())
    return 0


def release_file(repository: Repository, package: Mapping[str, Any]) -> Path:
    """The file that keeps what releasing this package means."""
    return repository.local / "releases" / f"{package['ModelPackageGroupName']}-{package['ModelPackageVersion']}.json"


def _readable(file: Path) -> dict[str, Any]:
    """A release's manifest; {} for none and for a damaged one: for whoever writes over it."""
    with suppress(InputError):
        return storage.read_release(file) or {}
    return {}


def _release(repository: Repository, package: Mapping[str, Any], summary: RunSummary, both: Mapping[str, Any]) -> str:
    """Publish an approved package with both pipelines as they are; a sentence about what stands now."""
    version, file = package["ModelPackageVersion"], release_file(repository, package)
    digests = {name: batchloop_repository.of(definition) for name, definition in both.items()}
    for name, digest in digests.items():
        write_json(definition_file(repository, name, digest), both[name])
    about = storage.release_of(package, summary.metrics(), now())
    about |= {"untrusted": summary.untrusted(), "definition": digests["inference"], "training": digests["training"]}
    write_json(file, about)
    status = package.get("ModelApprovalStatus")
    if status != "Approved":
        return f"registered as version {version}, not released: its approval status is {status}"
    before = _readable(repository.release)
    write_json(repository.release, about)
    same = f", the same model as version {before['version']}" if before.get("artifacts") == about["artifacts"] else ""
    doubt = ", though what was measured says little of new rows" if summary.untrusted() else ""
    return f"registered and released as version {version}{same}{doubt}"


def backend(repository: Repository, on: str) -> Backend:
    """Plain processes, or docker with its images built. Raises InputError where docker does not work."""
    if on == DOCKER:
        images.build(repository)
        return Containers(repository)
    return Processes(repository)


def code(repository: Repository, components: Iterable[str]) -> dict[str, str]:
    version = versions(repository)
    return {f"{name.capitalize()}Image": repository.image(name, version(name)) for name in components}


def _training_data(repository: Repository, options: RunOptions) -> str:
    """Where the labelled rows are; without any data at all the sample is made. Raises InputError."""
    begun = repository.local / "sample"  # until all of its files are written
    empty = repository.window() == "sample" and (begun.exists() or not repository.data("train").exists())
    if empty and not options.data:
        print("there is no data yet: writing the sample to data/sample", flush=True)
        begun.touch()
        definitions.run_module(repository, "data.sample", "--output", "data/sample")
        begun.unlink()
    return _rows(repository, options, "train")


def _rows(repository: Repository, options: RunOptions, part: str) -> str:
    """Where the rows lie that are named, or the window's, to learn from or to score. Raises InputError for none."""
    if options.data:
        return definitions.location(_kept_table(repository, options.data, part == "train"))
    folder, rows = repository.data(part), {"train": "the labelled rows", "production": "rows to score"}[part]
    if not folder.exists():
        raise InputError(f"{repository.shown(folder)} does not exist; put {rows} there, or name them with DATA=.")
    return definitions.folder(folder)


def as_table(
    repository: Repository, data: str, labelled: bool, alone: Collection[str] | None = None, kept: str = ""
) -> str:
    """The data that the user names; pictures that are no table yet become one, until the program ends or `kept` there.

    `alone` are labels of these ids, whose pictures are in folders by their class.
    """
    place, case = Path(data).expanduser().absolute(), usecase.parse(repository.tables())
    if not place.exists() or not any(column.type == "image" for column in case.columns):
        return data
    from batchloop.adopt import pictures  # noqa: PLC0415 - only where there are pictures
    from batchloop.container import files  # noqa: PLC0415

    target = Path(kept or files.scratch("pictures-")) / place.name
    return str(pictures.staged(place, case, target, labelled, alone))


def _kept_table(repository: Repository, data: str, labelled: bool) -> str:
    """The same in local/, where the last ones stay, and what `make label` needs; the caller holds the lock."""
    root = repository.local.absolute() / "pictures"
    digest = batchloop_repository.of(str(Path(data).expanduser().absolute()))
    found = as_table(repository, data, labelled, kept=str(root / digest))
    done = [its for its in running.records(repository) if its["state"] == "done" and "ScoreFeatures" in its["steps"]]
    scored = str({its["pipeline"]: its["parameters"]["ProductionData"] for its in done[::-1]})  # the last of each
    for old in sorted(root.glob("*"), key=lambda folder: folder.stat().st_mtime)[:-KEPT]:
        if old.name not in scored:
            shutil.rmtree(old)
    return found


def _champion(repository: Repository) -> dict[str, Any] | None:
    """The release that the new model is compared with; one whose artifacts are gone is none, and that is said."""
    release = storage.read_release(repository.release)
    names = ("preprocessor", "model")
    if release and (gone := storage.missing_artifacts(running.storage(repository), release, names)):
        print(f"release {release['version']} can't be compared with: {gone}; [gate] minimum alone decides", flush=True)
        return None
    return release


def _again(repository: Repository, release: Mapping[str, Any], order: Order) -> Order:
    """What the released model itself was trained by, where just that is asked for again: the cache then answers."""
    before = given(repository, release)
    champion = {f"Champion{name.capitalize()}": release["artifacts"][name] for name in ("preprocessor", "model")}
    if {**before, **champion, "GitCommit": order.parameters.get("GitCommit")} != order.parameters:
        return order
    return replace(order, parameters={**order.parameters, **{name: before[name] for name in champion}})


def given(repository: Repository, release: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the run that trained a release; {} where nothing tells them any more."""
    execution = release["artifacts"]["model"].removeprefix("s3://runs/training/").partition("/")[0]
    runs = running.records(repository)
    return next((run["parameters"] for run in runs if run["execution"] == execution), {})


def _earlier_data(repository: Repository, stored: Storage, options: RunOptions) -> str:
    """The manifest of earlier windows that [retraining] learn asks for; none where data is named by its path."""
    settings, root, files = Settings.of(repository.tables()), repository.root / "data", dict[str, list[Path]]()
    windows = [folder.parent.name for folder in root.glob("*/train")]
    for name in [] if options.data else earlier_windows(windows, repository.window()):
        found = stored.files(definitions.folder(root / name / "train"))
        files[name] = [file for key, file in found if is_data(key)]
    earlier = [name for name in files if files[name]][: settings.earlier][::-1]
    entries: list[object] = [{"prefix": absent(stored)}, "manifest.json"]
    if earlier:
        print(f"learning from window {repository.window()} and {besides(earlier)}", flush=True)
        keys = [quote(file.relative_to(root).as_posix()) for name in earlier for file in files[name]]
        entries = [{"prefix": definitions.folder(root)}, *keys]
    manifest = f"s3://local/earlier/{batchloop_repository.of(entries)}.manifest"
    stored.write_json(manifest, entries)
    return manifest


def absent(stored: Storage) -> str:
    stored.write_json(f"{ABSENT}manifest.json", {"component": "none"})
    return ABSENT


def _labels(repository: Repository, data: str, release: Mapping[str, Any]) -> str:
    """Where labels of the window lie, by which it is measured at once, unless the release has learned from them."""
    folder, learned = repository.data("labels"), repository.data("train") / LABELLED
    known = data == definitions.folder(repository.data("production")) and folder.is_dir()
    if known and learned.is_file() and learned.stat().st_mtime < datetime.fromisoformat(release["created"]).timestamp():
        print("the released model has learned from these rows and their labels, so they can't say how good it is")
        known = False
    return definitions.folder(folder) if known else absent(running.storage(repository))


def report(repository: Repository, finished: Finished, texts: Iterable[str] = ()) -> None:
    """What came of a run, its steps' warnings, and for each that failed its own message and where its log lies."""
    lines(["", *texts])
    folder = repository.local / "runs" / finished.identity / "logs"
    logs = {name: log for name in finished.steps if (log := folder / f"{name}.log").is_file()}
    for name, log in logs.items():
        text = log.read_text(encoding="utf-8", errors="replace")
        lines(f"{name}: {line}" for line in text.splitlines() if line.startswith("warning: "))
    for name, step in finished.failed.items():
        where = f"\n  log: {repository.shown(logs[name])}" if name in logs else ""
        failed = "" if step.type == "Fail" else " failed"
        print(f"{name}{failed}: {plain(step.message)}{where}", file=sys.stderr, flush=True)


def lines(texts: Iterable[str]) -> None:
    for text in texts:
        print(plain(text))
