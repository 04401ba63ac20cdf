"""Processed tables: Parquet files of features, and the schema file that says what each column is."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import polars as pl

from batchloop.container import artifacts, job, raw, split
from batchloop.container.job import InputError
from batchloop.container.protocols import FeaturesFile
from batchloop.container.usecase import UseCase

Schema = dict[str, Any]  # id, label, features: what features.json and preprocessor.json hold


def module() -> FeaturesFile:
    """★ components/processing/features.py."""
    return cast(FeaturesFile, import_module("components.processing.features"))


def schema(case: UseCase, learned: Sequence[dict[str, Any]]) -> Schema:
    """The description of a processed table. Raises InputError where two features would share a name."""
    names = [feature["name"] for feature in learned]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two features are called {name!r}; rename a column in [columns].")
    return {"id": case.data.id or raw.NO_ID, "label": case.data.label, "features": list(learned)}


def write_parts(frame: pl.LazyFrame, learned: Schema, parts: Sequence[str]) -> dict[str, int]:
    """Write each part of the frame into its output folder in one pass over it; the answer is rows a part."""
    folders = {part: artifacts.begin(job.processing_output(part)) for part in parts}
    selected = [*columns(learned), *([pl.col(raw.GROUP)] if raw.GROUP in frame.collect_schema() else [])]
    rows = dict.fromkeys(parts, 0)

    def name(context: Any) -> str:
        part = context.partition_keys[split.PART][0]
        return f"{part}/{artifacts.PARTIAL}/part-{context.index_in_partition:05d}.parquet"

    target = pl.PartitionBy(
        job.processing_output(""),
        key=split.PART,
        include_key=False,
        file_path_provider=name,
        approximate_bytes_per_file=2**60,
    )
    with artifacts.room(*folders.values()):
        frame.select(*selected, pl.col(split.PART)).sink_parquet(target, mkdir=True, engine="streaming")
        for part, folder in folders.items():
            if (file := folder / "part-00000.parquet").exists():
                rows[part] = pl.scan_parquet(file).select(pl.len()).collect().item()
            artifacts.write_json(folder / "features.json", learned)
            artifacts.finish(job.processing_output(part))
    return rows


def write_champion_test(frame: pl.LazyFrame, champion: Schema | None, reason: str) -> None:
    """The test rows as the champion's preprocessor sees them, or the empty artifact with the reason."""
    with artifacts.writing(job.processing_output("champion_test")) as folder:
        if champion is None:
            artifacts.write_absent(folder, reason)
            return
        frame.select(columns(champion)).sink_parquet(folder / "part-00000.parquet", engine="streaming")
        artifacts.write_json(folder / "features.json", champion)


def columns(learned: Schema) -> list[pl.Expr]:
    """Id, features and label, as a preprocessor makes them from typed raw columns."""
    return [pl.col(learned["id"]), *module().transform(learned["features"]), pl.col(learned["label"])]


def write_batch(table: raw.RawTable, learned: Schema, stem: Path, rows_per_file: int) -> list[Path]:
    """Features of a batch in files <stem>-00000.parquet … with at most `rows_per_file` rows; broken ones say why."""
    usable = ~pl.col(raw.BROKEN)
    columns = [pl.when(usable).then(value) for value in module().transform(learned["features"])]

    def name(context: Any) -> str:
        return f"{stem.name}-{context.index_in_partition:05d}.parquet"

    target = pl.PartitionBy(stem.parent, file_path_provider=name, max_rows_per_file=rows_per_file)
    table.frame.select(pl.col(learned["id"]), *columns, pl.col(raw.ERROR)).sink_parquet(target, engine="streaming")
    return sorted(stem.parent.glob(f"{stem.name}-*.parquet"))


def known(files: list[Path], learned: Schema) -> dict[str, tuple[int, int]]:
    """Of each category in written files: how many rows have a value, and how many one with a code of its own."""
    frame = pl.scan_parquet(files, glob=False)
    kinds = frame.collect_schema()
    names = [feature["name"] for feature in learned["features"] if feature["kind"] == "category"]
    names = [name for name in names if isinstance(kinds.get(name), pl.Enum)]
    found: dict[str, tuple[int, int]] = {}
    for start in range(0, len(names), raw.COLUMNS_AT_ONCE):
        some = slice(start, start + raw.COLUMNS_AT_ONCE)
        present = frame.select(pl.col(names[some]).count())
        own = frame.select((pl.col(names[some]).to_physical() != 0).sum())
        rows = [table.row(0) for table in pl.collect_all([present, own], engine="streaming")]
        found |= dict(zip(names[some], zip(*rows, strict=True), strict=True))
    return found


def bytes_per_row(learned: Mapping[str, Any]) -> int:
    """An upper estimate for sizing files: four bytes a feature, and room for an id and a reason."""
    return 4 * len(learned["features"]) + 64
