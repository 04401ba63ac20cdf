"""Serve mode: hold a batch's raw data and scores against the baseline, and decide whether they have drifted."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from monitoring import consequences, drift, estimates, labels, page, profile, realised, reasons
from monitoring.labels import Joined
from monitoring.profile import Counted
from runtime import artifacts, paths, raw, usecase
from runtime.failures import InputError
from runtime.usecase import UseCase

log = logging.getLogger(__name__)
Column = dict[str, Any]
NOTHING_KNOWN: Mapping[str, float] = {}


def serve(settings: Mapping[str, str]) -> None:
    """Write drift (drift.json and report.html); where labels of the batch are given, with what it was really worth."""
    del settings  # everything is in usecase.toml
    case = usecase.load()
    place = paths.processing_input("baseline")
    artifacts.check_manifest(place, "monitoring", case.contract())
    baseline = artifacts.read_json(place / "baseline.json")
    table = raw.read(paths.processing_input("raw"), case)
    importance = reasons.shares(paths.processing_input("explainer"), case.contract())
    predictions = _predictions()
    report = judged(case, baseline, table.intact, predictions, importance)
    report = _measured(case, baseline, report, _labels(case, predictions))
    with artifacts.writing(paths.processing_output("drift")) as folder:
        artifacts.write_json(folder / "drift.json", report)
        (folder / "report.html").write_text(page.batch(case, baseline, report), encoding="utf-8")
    log.info("%s: %s %s", report["verdict"], report["reason"], report["consequence"])


def _predictions() -> pl.LazyFrame:
    """What the transform job wrote: a Parquet body for each file it was sent."""
    files = sorted(paths.processing_input("predictions").glob("*.out"))
    if not files:
        raise InputError("predictions holds no *.out file; did the transform job write its output?")
    return pl.scan_parquet(files)


def _labels(case: UseCase, predictions: pl.LazyFrame) -> Joined | str | None:
    """Labels of the batch beside its predictions, or why they don't go together; None where there are none yet."""
    folder = paths.processing_input("labels")
    if artifacts.is_absent(folder):
        return None
    return labels.join(case, folder, predictions, paths.processing_input("raw"))


def _measured(
    case: UseCase, baseline: Mapping[str, Any], report: Mapping[str, Any], joined: Joined | str | None
) -> dict[str, Any]:
    """The report with `realised`, described in realised.measured; null without labels.

    Labels that say otherwise refute what was expected without them.
    """
    if joined is None:
        return {**report, "realised": None}
    found = realised.measured(case, baseline, joined, report["performance"])
    reason = f"{report['reason']} {_sentence(realised.in_words(found))}"
    refuted = {"performance"} if found["value"] is not None and not found["alarm"] else set()
    alarms = [alarm for alarm in report["alarms"] if alarm not in refuted] + (["realised"] if found["alarm"] else [])
    return {**report, "reason": reason, "realised": found, **consequences.of(case, alarms)}


def judged(
    case: UseCase,
    baseline: Mapping[str, Any],
    frame: pl.LazyFrame,
    predictions: pl.LazyFrame,
    importance: Mapping[str, float] = NOTHING_KNOWN,
) -> dict[str, Any]:
    """The whole report as plain data; `importance` is each raw column's share of the model's reasons, if known.

    `importance` of a column is that share, `drifted_importance` its sum over drifted columns, and `drifted_important`
    those of them with more than an even share; `performance` is described in estimates.judged. `alarms` are what asks
    for a retraining ("drift", "performance", later "realised"), `counts` those that [retraining] counts, `consequence`
    says so.
    """
    rows, counted = profile.count(frame, baseline["columns"])
    scored = predictions.filter(pl.col("error").is_null())
    score_rows, score_counted = profile.count(scored, baseline["scores"])
    columns = [_column(column, counted[column["name"]], rows) for column in baseline["columns"]]
    scores = [_column(column, score_counted[column["name"]], score_rows) for column in baseline["scores"]]
    left_out = _left_out(case)
    for column in columns:
        column["decides"] = column["name"] not in left_out
    deciding = [column for column in columns if column["decides"]]
    _decide(case, [*deciding, *(scores if score_rows else [])])
    reasons.weigh(columns, importance)
    total = predictions.select(pl.len()).collect(engine="streaming").item()
    performance = estimates.judged(case, baseline, scored)
    verdict, reason = _verdict(case, rows, deciding, scores)
    drifted = [column["name"] for column in [*columns, *scores] if column["drifted"] and verdict == "drift"]
    alarms = [name for name, alarm in (("drift", verdict == "drift"), ("performance", performance["alarm"])) if alarm]
    share, important = reasons.drifted(columns if verdict == "drift" else [])
    return {
        "verdict": verdict,
        "reason": f"{reason} {_sentence(estimates.in_words(performance))}",
        "rows": rows,
        "baseline_rows": baseline["rows"],
        "errors": 1 - score_rows / total if total else 0.0,
        "drifted": drifted,
        "left_out": left_out,
        "drifted_importance": share,
        "drifted_important": important,
        "performance": performance,
        **consequences.of(case, alarms),
        "columns": columns,
        "scores": {column["name"]: column for column in scores},
        "settings": asdict(case.drift),
    }


def _left_out(case: UseCase) -> dict[str, str]:
    """Columns that move by their nature, and who says so: they are shown, and don't count in the decision."""
    told = {column.name: "drift = false" for column in case.columns if not column.drift}
    times = {column.name: "[data] time" for column in case.columns if column.name == case.data.time}
    return told | times


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _column(column: Mapping[str, Any], counted: Counted, rows: int) -> Column:
    """One column now beside the baseline: effects, missing and invalid values, what was never seen before."""
    numeric = "edges" in column
    means = _pooled_means(column, counted) if numeric else None
    effect = drift.effect(np.asarray(column["counts"], float), counted.counts, means, column.get("deviation", 0.0))
    effects = {key: _finite(value) for key, value in asdict(effect).items()}
    return {
        "name": column["name"],
        "kind": column["kind"],
        "decides": True,
        "drifted": False,
        "adjusted_p_value": None,
        **effects,
        "missing": _share(counted.counts[-1] - counted.invalid, rows),
        "missing_baseline": column["missing"],
        "invalid": _share(counted.invalid, rows),
        "invalid_baseline": column["invalid"],
        "unknown": None if numeric else _share(counted.counts[-2], rows),
        "unknown_baseline": None if numeric else _share(column["counts"][-2], sum(column["counts"])),
        "unknown_examples": counted.unknown,
        "low": counted.low,
        "high": counted.high,
        "outside_range": outside(column, counted) if numeric else None,
        "counts": [int(value) for value in counted.counts],
    }


def _pooled_means(column: Mapping[str, Any], counted: Counted) -> drift.Counts:
    """The value each bin stands for in both tables together: in the open tails the two can differ much."""
    learned, means = np.asarray(column["counts"], float)[:-1], np.asarray(column["means"], float)
    rows = learned + counted.counts[:-1]
    total = learned * means + counted.sums[:-1]
    return np.where(rows > 0, total / np.maximum(rows, 1), means)


def outside(column: Mapping[str, Any], counted: Counted) -> str | None:
    """Which learned extremes are exceeded, in words; None where they are not."""
    if counted.low is None or counted.high is None or column["low"] is None:
        return None
    below = f"down to {counted.low:.6g}, learned from {column['low']:.6g}" if counted.low < column["low"] else ""
    above = f"up to {counted.high:.6g}, learned to {column['high']:.6g}" if counted.high > column["high"] else ""
    return "; ".join(part for part in (below, above) if part) or None


def _share(part: float, rows: int) -> float:
    return float(part) / rows if rows else 0.0


def _finite(value: float | None) -> float | None:
    """JSON knows no infinity: a constant that moved is any number of standard deviations away."""
    return value if value is None or np.isfinite(value) else None


def _decide(case: UseCase, columns: list[Column]) -> None:
    """Set `drifted`: chance is excluded for all columns together, and the effect is large enough to matter."""
    corrected = drift.holm([column["p_value"] for column in columns])
    for column, p_value in zip(columns, corrected, strict=True):
        column["adjusted_p_value"] = p_value
        column["drifted"] = (
            p_value < case.drift.significance and column["psi_beyond_chance"] >= case.drift.minimum_effect
        )


def _verdict(case: UseCase, rows: int, columns: list[Column], scores: list[Column]) -> tuple[str, str]:
    if rows < case.drift.minimum_rows:
        return "not enough data", f"{rows:,} rows are fewer than [drift] minimum_rows = {case.drift.minimum_rows:,}."
    drifted = [column for column in columns if column["drifted"]]
    moved = [column["name"] for column in scores if column["drifted"]]
    if not drifted and not moved:
        return "no drift", f"none of {len(columns)} columns moved more than chance and [drift] minimum_effect allow."
    if not drifted:
        return "drift", (
            f"none of {len(columns)} columns drifted, but the model's output moved ({', '.join(moved)}): columns have "
            "moved together, or these are rows that the model has learned from."
        )
    parts = [_drifted(columns, drifted)]
    if moved:
        parts.append(f"the model's output moved too ({', '.join(moved)})")
    return "drift", "; ".join(parts) + "."


def _drifted(columns: list[Column], drifted: list[Column]) -> str:
    """How many columns drifted, how much of the model's reasons they carry, and which one is first among them."""
    count = f"{len(drifted)} of {len(columns)} columns drifted"
    first, (share, _) = drifted[0], reasons.drifted(columns)
    if share is None:
        return f"{count}, most of all {first['name']} (PSI {first['psi']:.2f})"
    carried = "it carries" if len(drifted) == 1 else "they carry"
    alone = "" if len(drifted) == 1 else f", {100 * first['importance']:.0f} % of the reasons"
    named = f"{first['name']} (PSI {first['psi']:.2f}{alone})"
    return f"{count}; {carried} {100 * share:.0f} % of the model's reasons, above all {named}"
