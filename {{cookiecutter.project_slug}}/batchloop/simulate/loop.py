"""What predictions were worth: the gate's metric of a table of predictions and labels, by scikit-learn."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from batchloop.container import files, raw
from batchloop.container.job import InputError
from batchloop.container.usecase import UseCase, of_labels
from batchloop.control import handlers, release, retraining, storage
from batchloop.control.names import COMPONENTS
from batchloop.engine import graph, running
from batchloop.engine.running import Order
from batchloop.engine.storage import write_json
from batchloop.pipelines import expressions
from batchloop.repository import Failure
from batchloop.simulate import world as simulate_world
from batchloop.simulate.services import EXECUTING
from batchloop.simulate.world import Definition, Stage, World

if TYPE_CHECKING:
    import polars as pl


Measure = Callable[[UseCase, "pl.DataFrame"], float]
FALLBACK = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}


def name(case: UseCase) -> str:
    """The gate's metric, or, where it can't be measured here, another one of the task."""
    return case.gate.metric if case.gate.metric in MEASURES[case.data.task] else FALLBACK[case.data.task]


def measure(case: UseCase, rows: "pl.DataFrame") -> float | None:
    """Of rows with `label`, `prediction`, `score` and `error`; None without any, or where labels don't allow it.

    Rows that could not be scored have no prediction and count for nothing.
    """
    judged = rows.filter(rows["error"].is_null() & rows["label"].is_not_null())
    if judged.is_empty() or (case.data.task != "regression" and judged["label"].n_unique() < 2):
        return None
    return float(MEASURES[case.data.task][name(case)](case, judged))


def _library() -> Any:
    import sklearn.metrics  # noqa: PLC0415 - takes a second

    return sklearn.metrics


def _scored(function: str) -> Measure:
    """Of a binary task: the positive class against its score."""
    return lambda case, rows: getattr(_library(), function)(rows["label"] == case.data.classes[-1], rows["score"])


def _named(function: str, **options: Any) -> Measure:
    """The label against the prediction."""
    return lambda _case, rows: getattr(_library(), function)(rows["label"], rows["prediction"], **options)


def _positive(function: str) -> Measure:
    return lambda case, rows: _named(function, pos_label=case.data.classes[-1], zero_division=0)(case, rows)


def _shares(function: str, **options: Any) -> Measure:
    """Of several classes: the label against every class's score."""

    def measured(case: UseCase, rows: "pl.DataFrame") -> float:
        shares = rows.select(f"score:{name}" for name in sorted(case.data.classes)).to_numpy()
        found: float = getattr(_library(), function)(rows["label"], shares, labels=sorted(case.data.classes), **options)
        return found

    return measured


MEASURES: dict[str, dict[str, Measure]] = {
    "binary": {
        "auc": _scored("roc_auc_score"),
        "average_precision": _scored("average_precision_score"),
        "log_loss": _scored("log_loss"),
        "brier": _scored("brier_score_loss"),
        "accuracy": _named("accuracy_score"),
        "precision": _positive("precision_score"),
        "recall": _positive("recall_score"),
        "f1": _positive("f1_score"),
    },
    "multiclass": {
        "accuracy": _named("accuracy_score"),
        "balanced_accuracy": _named("balanced_accuracy_score"),
        "macro_f1": _named("f1_score", average="macro"),
        "auc": _shares("roc_auc_score", multi_class="ovr"),
        "log_loss": _shares("log_loss"),
    },
    "regression": {
        "rmse": _named("root_mean_squared_error"),
        "mae": _named("mean_absolute_error"),
        "r2": _named("r2_score"),
        "mean_absolute_percentage_error": _named("mean_absolute_percentage_error"),
        "median_absolute_error": _named("median_absolute_error"),
    },
}

Values = dict[str, float | None]


@dataclass(frozen=True)
class Scores:
    """What is measured is kept in a file for each release."""

    world: World
    stages: list[Stage]

    def of_run(self, arn: str, stage: Stage) -> float | None:
        """The metric of what an inference execution predicted."""
        place = f"{self.world.places.runs('inference')}/{arn.rpartition('/')[2]}/ScoreFeatures/predictions"
        return measure(self.world.case, self._joined(place, self._labels(stage)))

    def of_release(self, manifest: Mapping[str, Any]) -> Values:
        """Stage → the metric of a release on its production rows; all of them are scored in one go, once."""
        file = self.world.repository.local / "scores" / f"{manifest['version']}.json"
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            write_json(file, self._measured(manifest))
        found: Values = json.loads(file.read_text(encoding="utf-8"))
        return found

    def _measured(self, manifest: Mapping[str, Any]) -> Values:
        values = {
            "ProductionData": self._rows(),
            "ArtifactsPrefix": "s3://measuring",
            **{artifact.capitalize(): uri for artifact, uri in manifest["artifacts"].items()},
            **{f"{name.capitalize()}Image": manifest["images"][name] for name in COMPONENTS},
        }
        definition = only_scoring(self.world.definitions["inference"])
        known = {parameter["Name"] for parameter in definition["Parameters"]}
        given = {name: value for name, value in values.items() if name in known}
        identity = f"release-{manifest['version']}"
        finished = self.world.run(Order(definition, "measuring", given, identity, quiet=True))
        if finished.failed:
            why = "; ".join(step.message for step in finished.failed.values())
            raise Failure(f"release {manifest['version']} can't be measured: {why}")
        [place] = [
            step.properties["TransformOutput"]["S3OutputPath"]
            for step in finished.steps.values()
            if "TransformOutput" in step.properties
        ]
        return {
            stage.name: measure(self.world.case, self._joined(place, self._labels(stage, f"{stage.place}:")))
            for stage in self.stages
        }

    def _joined(self, uri: str, labels: "pl.DataFrame") -> "pl.DataFrame":
        """Predictions with their labels."""
        import polars as pl  # noqa: PLC0415

        stored = running.storage(self.world.repository).files(uri)
        tables = [pl.read_parquet(path) for name, path in stored if name.endswith(".out")]
        predictions = pl.concat(tables, how="vertical_relaxed")
        first = predictions.columns[0]
        joined = predictions.join(labels, left_on=first, right_on="id", how="inner", maintain_order="left")
        return joined.with_columns(pl.col("prediction").cast(joined.schema["label"]))

    def _labels(self, stage: Stage, prefix: str = "") -> "pl.DataFrame":
        """`id`, which `prefix` is put before, and `label`; no rows where nothing is known."""
        import polars as pl  # noqa: PLC0415

        data = self.world.case.data
        for part in ("production", *(["train"] if data.id else [])):
            try:
                table = raw.read(stage.folder / part, self.world.case, labelled=True)
            except InputError:
                continue
            identity = pl.concat_str([pl.lit(prefix), pl.col(table.id)]).alias("id")
            return table.frame.select(identity, pl.col(data.label).alias("label")).unique("id", keep="first").collect()
        return pl.DataFrame(schema={"id": pl.String, "label": pl.String})

    def _rows(self) -> str:
        """The URI of all stages' production rows, under ids that tell the stages apart."""
        folder = self.world.repository.local / "rows"
        if not folder.is_dir():
            partial = folder.with_name(".rows")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for stage in self.stages:
                for file in files.find(stage.folder / "production"):
                    name = f"{stage.place}:{file.name.split('.')[0]}.parquet"
                    self._marked(stage, files.scan(file, self.world.case.data)).sink_parquet(partial / name)
            partial.rename(folder)
        return folder.as_uri()

    def _marked(self, stage: Stage, frame: "pl.LazyFrame") -> "pl.LazyFrame":
        import polars as pl  # noqa: PLC0415

        name = self.world.case.data.id
        if name:
            text = raw.as_text(name).str.strip_chars()
            frame = frame.with_columns(pl.concat_str([pl.lit(f"{stage.place}:"), text]).alias(name))
        return frame.drop(raw.ROW)


def only_scoring(definition: Definition) -> Definition:
    """A pipeline without the steps that its batch transform does not need, and without their parameters."""
    nodes = graph.nodes(definition)
    wanted = {name for name, node in nodes.items() if node.type == "Transform"}
    while more := {need for name in wanted for need in nodes[name].needs} - wanted:
        wanted |= more
    steps = [step for step in definition["Steps"] if step["Name"] in wanted]
    used = {path.partition(".")[2] for path in expressions.gets(steps)}
    declared = [parameter for parameter in definition["Parameters"] if parameter["Name"] in used]
    return {**definition, "Steps": steps, "Parameters": declared}


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
        retraining.start(world.aws, world.places.pipeline("training"), values, ("first",), "the first model")
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
        for part in retraining.PARTS:
            bucket, key = storage.split(f"{world.places.data(window, part)}/")
            for entry in world.aws.s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]:
                account = world.aws.sagemaker.account
                event = simulate_world.object_created(account, bucket, entry["Key"], world.state["now"])
                handlers.object_created(event, world.aws, world.places, world.now)
        self._told(f"labels {window}")
        return True

    def _start_scoring(self) -> bool:
        """The schedule. Killed and asked again, the same window and release start the same execution."""
        world, ticks = self.world, self.world.state["ticks"]
        if not ticks or ticks[-1]["run"]:
            return False
        said = handlers.score(simulate_world.SCHEDULE, world.aws, world.places, world.now)
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
            event = simulate_world.package_changed(package, status, run["ended"])
            release.package_changed(event, world.aws, world.places, world.now)
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
            said = handlers.run_ended(simulate_world.run_changed(arn, run), world.aws, world.places, world.now)
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
