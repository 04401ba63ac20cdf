"""Every release against every stage, by labels that only the simulation looks at.

A production file's label column is such a label: scoring ignores columns that the contract does not name. Where a
stage's production has none, rows of its train/ with the same id give them; where these don't either, nothing is known.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functions.places import COMPONENTS
from operations.engine import graph, running
from operations.engine.running import Order
from operations.engine.storage import write_json
from operations.failures import Failure
from operations.simulating import measures
from operations.simulating.stages import Stage
from operations.simulating.world import Definition, World
from pipelines import expressions
from runtime import files, raw
from runtime.failures import InputError

if TYPE_CHECKING:
    import polars as pl

Values = dict[str, float | None]


@dataclass(frozen=True)
class Scores:
    """What is measured is kept in a file for each release."""

    world: World
    stages: list[Stage]

    def of_run(self, arn: str, stage: Stage) -> float | None:
        """The metric of what an inference execution predicted."""
        place = f"{self.world.places.runs('inference')}/{arn.rpartition('/')[2]}/ScoreFeatures/predictions"
        return measures.measure(self.world.case, self._joined(place, self._labels(stage)))

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
            stage.name: measures.measure(self.world.case, self._joined(place, self._labels(stage, f"{stage.place}:")))
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
