"""Train mode: learn the distribution of the raw training data, and of the model's scores on the validation split."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from monitoring import estimates, page, profile, realised
from monitoring.profile import Bins, Counted
from runtime import artifacts, paths, raw, usecase
from runtime.failures import InputError

log = logging.getLogger(__name__)
PLACE = "__place"  # of a row, from 0
GOLDEN = 2_654_435_761  # 2^32 times the golden ratio: the halves fall evenly on rows of any period (Knuth, 6.4)
ROWS_A_BIN = 20  # half of them are counted


def train(settings: Mapping[str, str]) -> None:
    """Write baseline (baseline.json) and report (report.html)."""
    del settings  # everything is in usecase.toml
    case = usecase.load()
    table = raw.read(paths.processing_input("raw"), case)
    kinds = {column.name: column.type for column in case.columns}
    rows, columns = learned(table.intact, kinds, case.drift.bins)
    if rows == 0:
        raise InputError(f"{table.files[0].name} holds a header and no rows.")
    evaluation = artifacts.unpacked(paths.processing_input("evaluation"), Path(tempfile.mkdtemp()))
    scored = pl.scan_parquet(evaluation / "predictions.parquet")
    score_rows, scores = learned(scored, score_kinds(scored), case.drift.bins)
    judged = _evaluation(evaluation)
    baseline = {
        "rows": rows,
        "columns": columns,
        "score_rows": score_rows,
        "scores": scores,
        "performance": estimates.learned(case, scored, judged),
        "validation": realised.learned(case, scored, judged),
    }
    with artifacts.writing(paths.processing_output("report")) as report:
        text = page.baseline(case, baseline, judged)
        (report / "report.html").write_text(text, encoding="utf-8")
    with artifacts.writing(paths.processing_output("baseline")) as folder:
        artifacts.write_json(folder / "baseline.json", baseline)
        parents = {"evaluation": artifacts.fingerprint(evaluation)}
        artifacts.write_manifest(folder, "monitoring", case.contract(), parents)
    log.info("%s columns of %s rows, %s scores learned", len(columns), f"{rows:,}", len(scores))


def _evaluation(folder: Path) -> dict[str, Any]:
    """What the algorithm says of its model; another one in its place may say nothing."""
    file = folder / "evaluation.json"
    found = artifacts.read_json(file) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def score_kinds(scored: pl.LazyFrame) -> dict[str, str]:
    """The columns of predictions that are monitored: every score, and the prediction itself."""
    schema = scored.collect_schema()
    kinds = {name: "number" for name in schema if name == "score" or name.startswith("score:")}
    return kinds | {"prediction": "number" if schema["prediction"].is_numeric() else "category"}


def learned(frame: pl.LazyFrame, kinds: Mapping[str, str], bins: int) -> tuple[int, list[dict[str, Any]]]:
    """Rows, and of each column its bins and what was counted in them, as plain data.

    One half of the rows draws the bins, and the other half is counted in them: rows that are counted in bins which
    were drawn through them look like no other sample of the same distribution.
    """
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    draws = pl.col(PLACE).cast(pl.Int64) * GOLDEN % 2**32 < 2**31
    placed = frame.with_row_index(PLACE)
    found = profile.learn(placed.filter(draws), kinds, max(1, min(bins, rows // ROWS_A_BIN)))
    _, counted = profile.count(frame, found)
    _, held = profile.count(placed.filter(~draws), found)
    return rows, [
        {**described(column, counted[name], rows), "counts": [int(value) for value in held[name].counts]}
        for column in found
        for name in (column["name"],)
    ]


def described(column: Bins, counted: Counted, rows: int) -> dict[str, Any]:
    """A column of baseline.json but for its counts: bins, and what people ask for."""
    present = float(counted.counts[:-1].sum())
    shared = {
        **column,
        "missing": (counted.counts[-1] - counted.invalid) / rows if rows else 0.0,
        "invalid": counted.invalid / rows if rows else 0.0,
    }
    if "values" in column:
        return shared
    mean = float(counted.sums.sum()) / present if present else 0.0
    variance = counted.squares / present - mean**2 if present else 0.0
    return {
        **shared,
        "means": bin_means(counted, column["edges"]),
        "low": counted.low,
        "high": counted.high,
        "mean": mean,
        "deviation": float(np.sqrt(max(0.0, variance))),
    }


def bin_means(counted: Counted, edges: list[float]) -> list[float]:
    """The value each bin stands for: the mean in it, or its right end where it is empty."""
    ends = [*edges, edges[-1] if edges else 0.0]
    pairs = zip(counted.sums[:-1], counted.counts[:-1], ends, strict=True)
    return [float(total / rows) if rows else end for total, rows, end in pairs]
