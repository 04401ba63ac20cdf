"""What the simulation's command line says, and where it keeps everything."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from batchloop import local
from batchloop import repository as batchloop_repository
from batchloop.container import files
from batchloop.container.job import InputError
from batchloop.container.usecase import UseCase
from batchloop.control import release, storage
from batchloop.control.memory import order
from batchloop.control.names import COMPONENTS, Aws, Places
from batchloop.engine import running
from batchloop.engine.graph import Selection
from batchloop.engine.running import Finished, Order
from batchloop.environment import Environment
from batchloop.pipelines import definitions
from batchloop.repository import PROCESSES, Failure, Repository
from batchloop.simulate.services import EXECUTING, FAILED, S3, SUCCEEDED, CloudWatch, Ecr, SageMaker, Sns, Ssm, State


@dataclass(frozen=True)
class Options:
    """`stages` is a folder, "" the sample's, which has `rows` and a `seed`; without `decision` nothing is retrained."""

    environment: str = "dev"
    stages: str = ""
    decision: bool = True
    fresh: bool = False
    rows: int = 4000
    seed: int = 7


@dataclass(frozen=True)
class Simulated(Repository):
    """The same repository, whose runs leave nothing where the user's own are."""

    decision: bool = True

    @property
    def local(self) -> Path:
        return self.root / "local" / ("simulation" if self.decision else "simulation-off")

    def compiled(self, environment: str) -> Path:
        """The user's own: the definitions are the same."""
        return self.root / "local" / "compiled" / environment


Event = dict[str, Any]
SCHEDULE: Event = {"window": ""}


def run_changed(arn: str, run: Mapping[str, Any]) -> Event:
    """The end of a pipeline execution."""
    pipeline = arn.partition("/execution/")[0].lower()
    detail = {
        "pipelineExecutionDisplayName": arn.rpartition("/")[2],
        "currentPipelineExecutionStatus": run["status"],
        "previousPipelineExecutionStatus": "Executing",
        "executionStartTime": _time(run["started"]),
        "executionEndTime": _time(run["ended"]),
        "pipelineExecutionDescription": "",
        "pipelineArn": pipeline,
        "pipelineExecutionArn": arn,
    }
    kind = "SageMaker Model Building Pipeline Execution Status Change"
    return _event(kind, run["ended"], [pipeline, arn], detail)


def package_changed(package: Mapping[str, Any], status: str, time: str) -> Event:
    """A model package that was registered, or approved."""
    arn = package["ModelPackageArn"]
    detail = {
        "ModelPackageGroupName": package["ModelPackageGroupName"],
        "ModelPackageVersion": package["ModelPackageVersion"],
        "ModelPackageArn": arn,
        "CreationTime": _time(time),
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": status,
        "LastModifiedTime": _time(time),
    }
    return _event("SageMaker Model Package State Change", time, [arn], detail)


def object_created(account: str, bucket: str, key: str, time: str) -> Event:
    """An object that was put into S3; `account` begins the ARNs of the pipelines."""
    about = {"version": "0", "bucket": {"name": bucket}, "object": {"key": key, "size": 1}, "reason": "PutObject"}
    event = _event("Object Created", time, [f"{account}:x"], about)
    return {**event, "source": "aws.s3", "resources": [f"arn:aws:s3:::{bucket}"]}


def _event(kind: str, time: str, resources: list[str], detail: Event) -> Event:
    _, _, _, region, account, _ = resources[0].split(":", 5)
    return {
        "version": "0",
        "id": "00000000-0000-0000-0000-000000000000",
        "detail-type": kind,
        "source": "aws.sagemaker",
        "account": account,
        "time": _time(time),
        "region": region,
        "resources": resources,
        "detail": detail,
    }


def _time(moment: str) -> str:
    """As EventBridge writes it."""
    return datetime.fromisoformat(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


ABOUT = "about.txt"
PARTS = ("production", "train", "validation", "labels")


@dataclass(frozen=True)
class Stage:
    """`place` counts from 1; the folder holds production/, train/ and, where [split] asks for it, validation/."""

    place: int
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def about(self) -> str:
        """What it is, in the words of its about.txt; "" without one."""
        file = self.folder / ABOUT
        return file.read_text(encoding="utf-8").strip() if file.is_file() else ""

    def bring(self, window: Path, labelled: bool = False) -> None:
        """Put copies of its files where a window's data lies, each part in one rename.

        `labelled`: its production rows hold their labels, which are the window's labels too.
        """
        sources = {part: self.folder / part for part in PARTS}
        if labelled and not sources["labels"].is_dir():
            sources["labels"] = sources["production"]
        for part, source in sources.items():
            target = window / part
            if source.is_dir() and not target.exists():
                partial = window / f".{part}"
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(source, partial, ignore=shutil.ignore_patterns(".*"))
                partial.rename(target)


def found(repository: Repository, options: Options) -> list[Stage]:
    """The user's stages in the order of windows, numbers by value; or the sample's. Raises Failure."""
    folder = Path(options.stages).expanduser().absolute() if options.stages else _sample(repository, options)
    if not folder.is_dir():
        raise Failure(f"{options.stages} is no folder; give one that holds <stage>/production and <stage>/train.")
    names = sorted((path.name for path in folder.iterdir() if (path / "production").is_dir()), key=order)
    stages = [Stage(place, folder / name) for place, name in enumerate(names, 1)]
    if not stages:
        raise Failure(f"{folder.name} holds no <stage>/production; each stage has that and <stage>/train.")
    for part, wanted in (("production", stages), ("train", stages[:1])):
        for stage in wanted:
            _check(stage, part)
    return stages


def _check(stage: Stage, part: str) -> None:
    """Later stages may lack train/: a retraining then waits for it. Raises Failure."""
    try:
        files.find(stage.folder / part)
    except InputError as error:
        raise Failure(f"stage {stage.name}: {error}") from None


def _sample(repository: Repository, options: Options) -> Path:
    """The sample's stages, written anew where they were made with other arguments. Raises Failure."""
    if repository.window() != "sample":
        raise Failure(
            "the sample's stages are none of your own table; give STAGES=folder with <stage>/production and "
            "<stage>/train (STAGES=data goes through the windows you have)."
        )
    folder, made = repository.local / "stages", f"{options.rows} rows, seed {options.seed}"
    stamp = folder / ".made"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != made:
        shutil.rmtree(folder, ignore_errors=True)
        arguments = ("--rows", str(options.rows), "--seed", str(options.seed), "--output", str(folder))
        definitions.run_module(repository, "data.stages", *arguments)
        stamp.write_text(made, encoding="utf-8")
    return folder


TAKES = {"inference": timedelta(minutes=10), "training": timedelta(minutes=30)}  # of the simulated clock
Definition = Mapping[str, Any]


@dataclass(frozen=True)
class World:
    """`definitions` are the compiled pipelines, by "training" and "inference"."""

    repository: Simulated
    case: UseCase
    places: Places
    aws: Aws
    state: State
    definitions: Mapping[str, Definition]

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.state["now"])

    def report(self, arn: str) -> dict[str, Any]:
        """The drift report of an inference execution, or of the one that measured it last; {} where it left none."""
        again = [other for other, run in self.state["executions"].items() if run.get("source") == arn]
        arn = next((other for other in again[::-1] if self.state["executions"][other]["status"] == SUCCEEDED), arn)
        place = f"{self.places.runs('inference')}/{arn.rpartition('/')[2]}/DetectDrift/drift/drift.json"
        return storage.read_json(self.aws, place) or {}

    def releases(self) -> list[dict[str, Any]]:
        """Every release so far, the oldest first."""
        return release.history(self.aws, self.places)[::-1]

    def carry_out(self, arn: str) -> None:
        """Run what was started, with the local engine, and record its end."""
        run = self.state["executions"][arn]
        kind = "training" if run["pipeline"] == self.places.pipeline("training") else "inference"
        selection = None
        if run.get("selected"):
            selection = Selection(tuple(run["selected"]), run["source"].rpartition("/")[2])
        order = Order(
            self.definitions[kind], run["pipeline"], run["parameters"], arn.rpartition("/")[2], True, selection
        )
        finished = self.run(order)
        why = "; ".join(step.message for step in finished.failed.values())
        ended = (datetime.fromisoformat(run["started"]) + TAKES[kind]).isoformat()
        run |= {"status": FAILED if finished.failed else SUCCEEDED, "why": why[:1024], "ended": ended}
        self.state["now"] = ended
        self.state.save()

    def run(self, order: Order) -> Finished:
        """An order, here and now; of an attempt that was killed the finished steps are reused."""
        shutil.rmtree(self.repository.local / "runs" / order.identity, ignore_errors=True)
        every = definitions.values(order.definition, order.parameters, ())
        order = replace(order, parameters=every)
        return running.run(self.repository, order, local.make(self.repository, PROCESSES))

    def executing(self) -> list[str]:
        """Executions that wait to be carried out, the oldest first."""
        return [arn for arn, run in self.state["executions"].items() if run["status"] == EXECUTING]


def open_world(repository: Simulated, options: Options) -> World:
    """The account as it was left, or as `make bootstrap` and `make push` leave a new one. Raises Failure."""
    case, where = definitions.read(repository, options.environment)
    places = _places(repository, options, where)
    state = State(repository.local / "state.json")
    compiled = {name: definitions.definition(repository, options.environment, name) for name in definitions.NAMES}
    known = {places.pipeline(name): definition for name, definition in compiled.items()}
    account = f"arn:aws:sagemaker:{where.region}:{where.account}"
    digests = {f"{where.folder}/{name}": digest(repository, name) for name in COMPONENTS}
    aws = Aws(
        cloudwatch=CloudWatch(repository.local / "metrics.jsonl"),
        ecr=Ecr(digests),
        s3=S3(running.storage(repository)),
        sagemaker=SageMaker(state, running.registry(repository), known, account),
        sns=Sns(state, repository.local / "notices.jsonl"),
        ssm=Ssm(state),
    )
    world = World(repository, case, places, aws, state, compiled)
    if not state["parameters"]:
        furnish(world, {name: f"{where.image(name)}@{digest(repository, name)}" for name in COMPONENTS})
    return world


def digest(repository: Simulated, component: str) -> str:
    """What stands for an image's digest: it changes with the image's content."""
    content = batchloop_repository.component(repository, component)
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def _places(repository: Simulated, options: Options, where: Environment) -> Places:
    topic = f"arn:aws:sns:{where.region}:{where.account}:{where.prefix}-notices"
    places = Places.of(where, repository.tables(), topic)
    return places if options.decision else replace(places, settings=replace(places.settings, enabled=False))


def furnish(world: World, images: Mapping[str, str]) -> None:
    """What a new account has: the empty artifact, and the parameters, `none` but for the images that were pushed."""
    none, stored = f"{world.places.storage}/none", running.storage(world.repository)
    stored.write_json(f"{none}/manifest.json", {"component": "none"})
    stored.write_json(f"{none}/earlier.manifest", [{"prefix": f"{none}/"}, "manifest.json"])
    values = {"release": "none", "retraining": "none"}
    values |= {f"components/{name}/artifact": "none" for name in COMPONENTS}
    values |= {f"components/{name}/image": image for name, image in images.items()}
    for name, value in values.items():
        world.state["parameters"][world.places.parameter(name)] = [value]
    world.state.save()
