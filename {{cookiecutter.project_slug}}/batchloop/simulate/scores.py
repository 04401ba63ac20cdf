"""What predictions were worth, of a run and of a release on every stage: the gate's metric by the stages' labels."""

import json
import math
import shutil
from collections.abc import Mapping
from typing import Any

import polars as pl

from batchloop.container import files, raw, realised
from batchloop.container.job import InputError
from batchloop.container.tables import LABEL
from batchloop.container.usecase import UseCase
from batchloop.control import handlers
from batchloop.engine import graph
from batchloop.engine.graph import Selection
from batchloop.engine.running import Order
from batchloop.engine.storage import write_json
from batchloop.simulate.loop import Loop, Stage

Values = dict[str, float | None]


def measure(case: UseCase, rows: pl.DataFrame) -> float | None:
    """The gate's metric of rows with `label`, `prediction`, scores and `error`, as the algorithm component computes it.

    None without any, or where labels don't allow it. Rows that could not be scored count for nothing.
    """
    usable = rows.filter(pl.col("error").is_null() & pl.col("label").is_not_null()).rename({"label": LABEL})
    if usable.is_empty() or (case.data.task != "regression" and usable[LABEL].n_unique() < 2):
        return None
    found = realised.scored_rows(case, usable, case.prediction.threshold)
    value = found.measured()[case.gate.metric]
    return value if math.isfinite(value) else None


def of_run(loop: Loop, arn: str, stage: Stage) -> float | None:
    """The metric of what an inference execution predicted."""
    return _measured(loop, loop.places.runs("inference"), arn.rpartition("/")[2], labels(loop, stage))


def of_release(loop: Loop, manifest: Mapping[str, Any]) -> Values:
    """Stage → the metric of a release on its production rows; all of them are scored in one go, once."""
    local, identity, prefix = loop.repository.local, f"release-{manifest['version']}", "s3://measuring"
    file = local / "scores" / f"{manifest['version']}.json"
    if not file.is_file():
        definition = loop.definitions["inference"]
        values = handlers.scoring(loop.aws, loop.places, manifest, loop.stages[0].window)
        values |= {"ProductionData": _all_rows(loop), "ArtifactsPrefix": prefix}
        selection = Selection(scoring_steps(definition))
        finished = loop.run(Order(definition, "measuring", values, identity, True, selection))
        if finished.failed:
            why = "; ".join(step.message for step in finished.failed.values())
            raise InputError(f"release {manifest['version']} can't be measured: {why}")
        known = {stage.name: labels(loop, stage, f"{stage.number}:") for stage in loop.stages}
        found = {name: _measured(loop, prefix, identity, table) for name, table in known.items()}
        file.parent.mkdir(exist_ok=True)
        write_json(file, found)
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _measured(loop: Loop, prefix: str, identity: str, labels: pl.DataFrame) -> float | None:
    """Of predictions with these labels."""
    stored = loop.account.storage.files(f"{prefix}/{identity}/ScoreFeatures/predictions/")
    tables = [pl.read_parquet(path) for name, path in stored if name.endswith(".out")]
    predictions = pl.concat(tables, how="vertical_relaxed")
    first = predictions.columns[0]
    joined = predictions.join(labels, left_on=first, right_on="id", how="inner", maintain_order="left")
    return measure(loop.case, joined)


def labels(loop: Loop, stage: Stage, prefix: str = "") -> pl.DataFrame:
    """`id`, which `prefix` is put before, and `label`; no rows where nothing is known."""
    data = loop.case.data
    for part in ("production", *(["train"] if data.id else [])):
        try:
            table = raw.read(stage.folder / part, loop.case, labelled=True)
        except InputError:
            continue
        identity = pl.concat_str([pl.lit(prefix), pl.col(table.id)]).alias("id")
        return table.frame.select(identity, pl.col(data.label).alias("label")).unique("id", keep="first").collect()
    return pl.DataFrame(schema={"id": pl.String, "label": pl.String})


def _all_rows(loop: Loop) -> str:
    """The URI of all stages' production rows, under ids that tell the stages apart."""
    folder, data = loop.repository.local / "rows", loop.case.data
    if not folder.is_dir():
        partial = folder.with_name(".rows")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for stage in loop.stages:
            for file in files.find(stage.folder / "production"):
                frame, mark = files.scan(file, data).drop(raw.ROW), f"{stage.number}:"
                if data.id:
                    marked = pl.concat_str([pl.lit(mark), raw.as_text(data.id).str.strip_chars()])
                    frame = frame.with_columns(marked.alias(data.id))
                frame.sink_parquet(partial / f"{mark}{file.name.split('.')[0]}.parquet")
        partial.rename(folder)
    return f"{folder.as_uri()}/"


def scoring_steps(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The batch transform of a pipeline, and the steps that it needs."""
    nodes = graph.nodes(definition)
    wanted = {name for name, node in nodes.items() if node.type == "Transform"}
    wanted |= graph.ancestors(nodes, wanted)
    return tuple(name for name in nodes if name in wanted)
