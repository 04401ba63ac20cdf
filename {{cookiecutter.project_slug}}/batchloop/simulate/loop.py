"""The simulated loop: stages of data that come one a day, what happens after each, and the account it happens in."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from batchloop import local
from batchloop.container import files, raw
from batchloop.container.job import InputError
from batchloop.container.usecase import UseCase, of_labels
from batchloop.control import handlers, release, retraining, storage
from batchloop.control.names import COMPONENTS, Aws, Places, order
from batchloop.control.release import APPROVED
from batchloop.engine import running
from batchloop.engine.graph import Selection, StepStatus
from batchloop.engine.running import Finished, Order
from batchloop.pipelines import definitions
from batchloop.repository import PROCESSES, Repository
from batchloop.repository import component as content_hash
from batchloop.simulate.account import EXECUTING, FAILED, SUCCEEDED, Account

ABOUT = "about.txt"
PARTS = ("production", "train", "validation", "labels")
FIRST = datetime(2026, 1, 1, 6, 0, tzinfo=UTC)
PERIOD = timedelta(days=1)
BEFORE = timedelta(hours=1)  # the first training, ahead of the first schedule
TAKES = {"inference": timedelta(minutes=10), "training": timedelta(minutes=30)}  # of the simulated clock
PENDING = "PendingManualApproval"
MADE = (StepStatus.DONE, StepStatus.REUSED)


@dataclass(frozen=True)
class Options:
    """`stages` is a folder, "" the sample's, of a `seed` and `rows`; without `decision` nothing is retrained."""

    stages: str = ""
    decision: bool = True
    fresh: bool = False
    rows: int | None = None
    seed: int = 7


@dataclass(frozen=True)
class Stage:
    """`number` counts from 1; the folder holds production/, train/ and, where [split] asks for it, validation/."""

    number: int
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def time(self) -> datetime:
        """When its data comes; windows are named after that day."""
        return FIRST + (self.number - 1) * PERIOD

    @property
    def window(self) -> str:
        return f"{self.time:%Y-%m-%d}"

    @property
    def about(self) -> str:
        """What it is, in the words of its about.txt; "" without one."""
        file = self.folder / ABOUT
        return file.read_text(encoding="utf-8").strip() if file.is_file() else ""

    def copy(self, window: Path, labelled: bool = False) -> None:
        """Put copies of its files where a window's data lies, unless they are there; `labelled` rows are labels."""
        sources = {part: self.folder / part for part in PARTS}
        if labelled and not sources["labels"].is_dir():
            sources["labels"] = sources["production"]
        for part, source in sources.items():
            if source.is_dir() and not (window / part).exists():
                shutil.copytree(source, window / part, ignore=shutil.ignore_patterns(".*"))
                (window / part / storage.MARK).touch()


def find_stages(repository: Repository, options: Options) -> list[Stage]:
    """The user's stages in the order of windows, numbers by value; or the sample's. Raises InputError."""
    folder = Path(options.stages).expanduser().absolute() if options.stages else _sample(repository, options)
    names = sorted((path.parent.name for path in folder.glob("*/production/")), key=order)
    stages = [Stage(number, folder / name) for number, name in enumerate(names, 1)]
    if not stages:
        raise InputError(f"{folder} is no folder of stages; give one that holds <stage>/production and <stage>/train.")
    # later stages may lack train/: a retraining then waits for it
    for stage, part in [*((stage, "production") for stage in stages), (stages[0], "train")]:
        try:
            files.find(stage.folder / part)
        except InputError as error:
            raise InputError(f"stage {stage.name}: {error}") from None
    return stages


def _sample(repository: Repository, options: Options) -> Path:
    """The sample's stages, written anew where they were made with other arguments. Raises InputError."""
    if repository.window() != "sample":
        raise InputError(
            "the sample's stages are none of your own table; give STAGES=folder with <stage>/production and "
            "<stage>/train (STAGES=data goes through the windows you have)."
        )
    folder, made = repository.local / "stages", f"{options.rows} rows, seed {options.seed}"
    stamp = folder / ".made"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != made:
        shutil.rmtree(folder, ignore_errors=True)
        rows = () if options.rows is None else ("--rows", str(options.rows))
        definitions.run_module(repository, "data.stages", *rows, "--seed", str(options.seed), "--output", str(folder))
        stamp.write_text(made, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Loop:
    """`stages` come one a tick; events hold what the functions read of them."""

    repository: Repository
    case: UseCase
    places: Places
    account: Account
    stages: list[Stage]

    @property
    def aws(self) -> Aws:
        return Aws(**dict.fromkeys((field.name for field in fields(Aws)), self.account))

    @property
    def state(self) -> dict[str, Any]:
        return self.account.state

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.state["now"])

    def releases(self) -> list[dict[str, Any]]:
        """Every release so far, the oldest first."""
        return release.history(self.aws, self.places)[::-1]

    def stage_of(self, uri: str) -> str:
        """The name of the stage whose rows lie at a URI, "" where it is none's."""
        window = self.places.window(uri, "train", "production")
        return next((stage.name for stage in self.stages if stage.window == window), "")

    def report(self, arn: str) -> dict[str, Any]:
        """The drift report of an inference execution, or of the one that measured it last; {} where it left none."""
        runs = {other: run for other, run in self.state["executions"].items() if run.get("source") == arn}
        arn = next((other for other, run in reversed(runs.items()) if run["status"] == SUCCEEDED), arn)
        uri = f"{self.places.runs('inference')}/{arn.rpartition('/')[2]}/DetectDrift/drift/drift.json"
        return storage.read_json(self.aws, uri) or {}

    def run(self, order: Order) -> Finished:
        """An order, here and now; of an attempt that was killed the finished steps are reused."""
        shutil.rmtree(self.repository.local / "runs" / order.identity, ignore_errors=True)
        order = replace(order, parameters=definitions.values(order.definition, order.parameters, ()))
        return running.run(self.repository, order, local.backend(self.repository, PROCESSES))

    def ticks(self) -> Iterator[int]:
        """The first model, then stage after stage: the numbers of ticks that are over. Raises InputError."""
        self._train_first()
        for number, stage in enumerate(self.stages, 1):
            self._bring_data(stage)
            self.state["ticks"].append({"run": "", "why": ""})
            self.state["now"] = stage.time.isoformat()
            self._send_labels(stage.window)
            self._start_scoring()
            self.settle()
            yield number

    def settle(self) -> None:
        """Carry out what was started, the oldest first, and tell the functions of it, until nothing is under way."""
        executions = self.state["executions"]
        while waiting := [arn for arn, run in executions.items() if run["status"] == EXECUTING]:
            before = len(self.releases())
            self._execute(executions[waiting[0]], waiting[0].rpartition("/")[2])
            self._send_package(executions[waiting[0]], waiting[0].rpartition("/")[2])
            self._send_end(executions[waiting[0]], waiting[0])
            if len(self.releases()) > before:
                event = {"detail": {"name": self.places.parameter("release"), "operation": "Update"}}
                release.parameter_changed(event, self.aws, self.places, self.now)

    def _train_first(self) -> None:
        """As a person does before anything can be scored."""
        stage = self.stages[0]
        self._bring_data(stage)
        self.state["now"] = (stage.time - BEFORE).isoformat()
        values = retraining.plan(self.aws, self.places, stage.window).values
        retraining.start(self.aws, self.places.pipeline("training"), values, ("first",), "the first model")
        self.settle()
        if not self.releases():
            [run] = self.state["executions"].values()
            why = run["why"] or "see notices"
            raise InputError(f"the first model, from stage {stage.name}, was not released: {why}")

    def _bring_data(self, stage: Stage) -> None:
        """Its data is there; scoring does not look at labels in production rows: the contract has no such column."""
        labelled = False
        with suppress(InputError):
            labelled = bool(raw.read(stage.folder / "production", of_labels(self.case), labelled=True))
        stage.copy(self.account.storage.path(self.places.data(stage.window, "").rstrip("/")), labelled)

    def _send_labels(self, window: str) -> None:
        """A window's labels have been put into S3, and marked."""
        for part in retraining.PARTS:
            if storage.complete(self.aws, self.places, window, part):
                bucket, key = storage.split(f"{self.places.data(window, part)}{storage.MARK}")
                event = {"detail": {"bucket": {"name": bucket}, "object": {"key": key}}}
                handlers.object_created(event, self.aws, self.places, self.now)

    def _start_scoring(self) -> None:
        """The schedule."""
        done = handlers.score({"window": ""}, self.aws, self.places, self.now)
        arn = done.split()[-1]
        if arn not in self.state["executions"]:
            raise InputError(f"the schedule's function started nothing: {done}")
        self.state["ticks"][-1]["run"] = arn

    def _execute(self, run: dict[str, Any], identity: str) -> None:
        """Run it with the local engine, and record its end."""
        steps, source = tuple(run.get("selected", ())), run.get("source", "").rpartition("/")[2]
        selection, definition = Selection(steps, source) if steps else None, self.account.definition(run["pipeline"])
        finished = self.run(Order(definition, run["pipeline"], run["parameters"], identity, True, selection))
        why = "; ".join(step.message for step in finished.failed.values())
        ended = datetime.fromisoformat(run["started"]) + TAKES[run["pipeline"].rpartition("-")[2]]
        run |= {"status": FAILED if finished.failed else SUCCEEDED, "why": why[:1024], "ended": ended.isoformat()}
        run["steps"] = [name for name, step in finished.steps.items() if step.status in MADE]
        self.state["now"] = run["ended"]

    def _send_package(self, run: Mapping[str, Any], identity: str) -> None:
        """A package was registered; where the environment leaves approval to a person, one approves it next."""
        # the execution that registered it: its id is a part of where the baseline lies; killed, it registers once more
        packages = self.account.registry.packages()
        its = [one for one in packages if identity in one["CustomerMetadataProperties"]["baseline"].split("/")]
        for package in its[:1]:
            detail = {name: package[name] for name in ("ModelPackageGroupName", "ModelPackageArn")}
            given = package["ModelApprovalStatus"]
            for status in (PENDING, APPROVED) if given == PENDING else (given,):
                if status != given:
                    approval = {"ModelApprovalStatus": status, "ApprovalDescription": "by the simulated person"}
                    self.state["approvals"][package["ModelPackageArn"]] = approval
                event = {"time": run["ended"], "detail": {**detail, "ModelApprovalStatus": status}}
                release.package_changed(event, self.aws, self.places, self.now)

    def _send_end(self, run: Mapping[str, Any], arn: str) -> None:
        """An execution has ended; what was decided is what is remembered."""
        detail = {"pipelineArn": arn.partition("/execution/")[0], "pipelineExecutionArn": arn}
        detail |= {"currentPipelineExecutionStatus": run["status"], "executionStartTime": run["started"]}
        decided = handlers.run_ended({"detail": detail}, self.aws, self.places, self.now)
        for tick in [tick for tick in self.state["ticks"] if tick["run"] == arn]:
            tick["why"] = decided


def open_loop(repository: Repository, options: Options, stages: list[Stage]) -> Loop:
    """An account as `make bootstrap` and `make push` leave a new one. Raises InputError."""
    case, environment = definitions.read(repository)
    here = f"{environment.region}:{environment.account}"
    topic = f"arn:{environment.place['partition']}:sns:{here}:{environment.prefix}-notices"
    places = Places.of(environment, repository.tables(), topic)
    if not options.decision:
        places = replace(places, settings=replace(places.settings, enabled=False))
    compiled = {name: definitions.definition(repository, name) for name in definitions.NAMES}
    opened = Account(
        storage=running.storage(repository),
        registry=running.registry(repository),
        definitions={places.pipeline(name): definition for name, definition in compiled.items()},
        arn=f"arn:{environment.place['partition']}:sagemaker:{here}",
    )
    loop = Loop(repository, case, places, opened, stages)
    bootstrap(loop, {name: repository.image(name, content_hash(repository, name)) for name in COMPONENTS})
    return loop


def bootstrap(loop: Loop, images: Mapping[str, str]) -> None:
    """What a new account has: no data, the empty artifact, and parameters, `none` but for images that were pushed."""
    shutil.rmtree(loop.account.storage.path(f"{loop.places.storage}/data"), ignore_errors=True)
    loop.account.notices.unlink(missing_ok=True)
    none = loop.places.nothing
    loop.account.storage.write_json(f"{none}manifest.json", {"component": "none"})
    loop.account.storage.write_json(f"{none}earlier.manifest", [{"prefix": none}, "manifest.json"])
    values = dict.fromkeys(loop.places.parameters, "none")
    values |= {loop.places.parameter(f"components/{name}/image"): image for name, image in images.items()}
    loop.state["parameters"] |= {name: [value] for name, value in values.items()}
