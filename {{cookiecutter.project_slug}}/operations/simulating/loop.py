"""What happens next in the simulated account, one thing at a time, as the state says: so it can be killed anywhere.

A tick is a period of the schedule. Its window's data arrives; the schedule starts the inference pipeline; its end may
start a training; a registered model may become the release. Each function gets the event that AWS would send it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from functions import (
    after_inference,
    executions,
    labels_arrived,
    measuring,
    publish_release,
    retraining,
    start_inference,
    storage,
)
from functions.places import COMPONENTS
from operations.failures import Failure
from operations.simulating import events
from operations.simulating.sagemaker import EXECUTING
from operations.simulating.stages import Stage
from operations.simulating.world import World
from runtime import raw
from runtime.failures import InputError
from runtime.usecase import of_labels

FIRST = datetime(2026, 1, 1, 6, 0, tzinfo=UTC)
PERIOD = timedelta(days=1)
BEFORE = timedelta(hours=1)  # the first training, ahead of the first schedule
PENDING, APPROVED = "PendingManualApproval", "Approved"


@dataclass(frozen=True)
class Loop:
    """`stages` come one a tick."""

    world: World
    stages: list[Stage]

    def step(self) -> bool:
        """Do the next thing; False when there is nothing left. Raises Failure where the first training fails.

        What is to be told comes before what is to be carried out: an event is tried again within minutes.
        """
        moves: list[Callable[[], bool]] = [
            self._tell_labels,
            self._start_scoring,
            self._tell_package,
            self._tell_end,
            self._carry_out,
            self._train_first,
            self._next_tick,
        ]
        return any(move() for move in moves)

    def window(self, stage: Stage) -> str:
        """Windows are named after the day their data came."""
        return f"{self._time(stage):%Y-%m-%d}"

    def stage_of(self, uri: str) -> str:
        """The name of the stage whose rows lie at a URI, "" where it is none's."""
        window = self.world.places.window(uri, "train", "production")
        return next((stage.name for stage in self.stages if self.window(stage) == window), "")

    def _time(self, stage: Stage) -> datetime:
        return FIRST + (stage.place - 1) * PERIOD

    def _train_first(self) -> bool:
        """As a person does before anything can be scored."""
        world, stage = self.world, self.stages[0]
        if world.releases():
            return False
        if world.state["executions"]:
            [run] = world.state["executions"].values()
            raise Failure(f"the first model, from stage {stage.name}, was not released: {run['why'] or 'see notices'}")
        self._set_clock(self._time(stage) - BEFORE)
        self._bring(stage)
        pushed = {name: world.places.parameter(f"components/{name}/image") for name in COMPONENTS}
        values = {
            "TrainingData": world.places.data(self.window(stage), "train"),
            "ArtifactsPrefix": world.places.runs("training"),
            **{f"{name.capitalize()}Image": world.state["parameters"][place][-1] for name, place in pushed.items()},
        }
        if world.places.given_validation:
            values["ValidationData"] = world.places.data(self.window(stage), "validation")
        executions.start(world.aws, world.places.pipeline("training"), values, ("first",), "the first model")
        return True

    def _next_tick(self) -> bool:
        state, place = self.world.state, len(self.world.state["ticks"])
        if place == len(self.stages):
            return False
        self._bring(self.stages[place])
        state["ticks"].append({"run": "", "why": ""})
        self._set_clock(self._time(self.stages[place]))
        return True

    def _bring(self, stage: Stage) -> None:
        places = self.world.places
        folder = places.data(self.window(stage), "").rstrip("/")
        stage.bring(self.world.aws.s3.storage.path(folder), self._labelled(stage))

    def _labelled(self, stage: Stage) -> bool:
        """Whether a stage's production rows hold their labels: scoring does not look at a column without a contract."""
        try:
            raw.read(stage.folder / "production", of_labels(self.world.case), labelled=True)
        except InputError:
            return False
        return True

    def _tell_labels(self) -> bool:
        """The labels of the newest window have been put into S3, a file an event."""
        world, place = self.world, len(self.world.state["ticks"])
        window = self.window(self.stages[place - 1]) if place else ""
        if not window or f"labels {window}" in world.state["told"]:
            return False
        for part in measuring.PARTS:
            bucket, key = storage.split(f"{world.places.data(window, part)}/")
            for entry in world.aws.s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]:
                account = world.aws.sagemaker.account
                event = events.object_created(account, bucket, entry["Key"], world.state["now"])
                labels_arrived.run(event, world.aws, world.places, world.now)
        self._told(f"labels {window}")
        return True

    def _start_scoring(self) -> bool:
        """The schedule. Killed and asked again, the same window and release start the same execution."""
        world, ticks = self.world, self.world.state["ticks"]
        if not ticks or ticks[-1]["run"]:
            return False
        said = start_inference.run(events.SCHEDULE, world.aws, world.places, world.now)
        arn = said.split()[-1]
        if arn not in world.state["executions"]:
            raise Failure(f"the schedule's function started nothing: {said}")
        ticks[-1]["run"] = arn
        world.state.save()
        return True

    def _carry_out(self) -> bool:
        for arn in self.world.executing()[:1]:
            self.world.carry_out(arn)
            return True
        return False

    def _tell_package(self) -> bool:
        """A package was registered; where the environment leaves approval to a person, one approves it next."""
        world = self.world
        for package in world.aws.sagemaker.registry.packages():
            arn, run = package["ModelPackageArn"], self._training_of(package)
            status = world.aws.sagemaker.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"]
            if run["status"] == EXECUTING or f"{arn} {status}" in world.state["told"]:
                continue
            event = events.package_changed(package, status, run["ended"])
            publish_release.run(event, world.aws, world.places, world.now)
            if status == PENDING:
                given = {"ModelApprovalStatus": APPROVED, "ApprovalDescription": "by the simulated person"}
                world.state["approvals"][arn] = given
            self._told(f"{arn} {status}")
            return True
        return False

    def _training_of(self, package: Mapping[str, Any]) -> Mapping[str, Any]:
        """The execution that registered a package: its id is a part of where the baseline lies."""
        parts = package["CustomerMetadataProperties"]["baseline"].split("/")
        runs: Mapping[str, Any] = self.world.state["executions"]
        return next(run for arn, run in runs.items() if arn.rpartition("/")[2] in parts)

    def _tell_end(self) -> bool:
        """An execution has ended; what was decided on it is what the loop remembers of it."""
        world = self.world
        for arn, run in world.state["executions"].items():
            if run["status"] == EXECUTING or arn in world.state["told"]:
                continue
            said = after_inference.run(events.run_changed(arn, run), world.aws, world.places, world.now)
            for tick in world.state["ticks"]:
                if tick["run"] == arn:
                    tick["why"] = self._decided(arn) or said
            self._told(arn)
            return True
        return False

    def _decided(self, arn: str) -> str:
        """The reason as it was remembered first: told twice, the function would only say that it knows."""
        _, memory = retraining.recall(self.world.aws, self.world.places)
        seen = any(window.run == arn.rpartition("/")[2] for window in memory.windows)
        return memory.reason if seen else ""

    def _told(self, what: str) -> None:
        self.world.state["told"].append(what)
        self.world.state.save()

    def _set_clock(self, time: datetime) -> None:
        self.world.state["now"] = time.isoformat()
        self.world.state.save()
