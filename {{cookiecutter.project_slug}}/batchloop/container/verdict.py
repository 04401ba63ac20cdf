"""The verdict on a batch: its columns and scores beside the baseline, in numbers and in words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any, cast

import numpy as np
import polars as pl

from batchloop.container import estimates, profile, realised
from batchloop.container.profile import Counted
from batchloop.container.protocols import Bins, Comparison, Counts, Distributions, DriftFile
from batchloop.container.realised import Joined
from batchloop.container.usecase import UseCase

Column = dict[str, Any]
Given = tuple[Mapping[str, Any], Counted, int, bool]  # column of the baseline, as it is now, rows, whether it decides
PLACE = "__place"  # of a row, from 0
GOLDEN = 2_654_435_761  # 2^32 times the golden ratio: the halves fall evenly on rows of any period (Knuth, 6.4)
ROWS_A_BIN = 20  # half of them are counted
NOTHING_KNOWN: Mapping[str, float] = {}


def module() -> DriftFile:
    """★ components/monitoring/drift.py."""
    return cast(DriftFile, import_module("components.monitoring.drift"))


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
    left_out = _left_out(case)
    given = [(was, counted[was["name"]], rows, was["name"] not in left_out) for was in baseline["columns"]]
    given += [(was, score_counted[was["name"]], score_rows, score_rows > 0) for was in baseline["scores"]]
    found = _compared(case, given)
    columns, scores = found[: len(baseline["columns"])], found[len(baseline["columns"]) :]
    deciding = [column for column in columns if column["decides"]]
    estimates.weigh(columns, importance)
    total = predictions.select(pl.len()).collect(engine="streaming").item()
    performance = estimates.judged(case, baseline, scored)
    verdict, reason = _verdict(case, rows, deciding, scores)
    drifted = [column["name"] for column in [*columns, *scores] if column["drifted"] and verdict == "drift"]
    alarms = [name for name, alarm in (("drift", verdict == "drift"), ("performance", performance["alarm"])) if alarm]
    share, important = estimates.drifted(columns if verdict == "drift" else [])
    return {
        "verdict": verdict,
        "reason": f"{reason} {sentence(estimates.in_words(performance))}",
        "rows": rows,
        "baseline_rows": baseline["rows"],
        "errors": 1 - score_rows / total if total else 0.0,
        "drifted": drifted,
        "left_out": left_out,
        "drifted_importance": share,
        "drifted_important": important,
        "performance": performance,
        **estimates.of(case, alarms),
        "columns": columns,
        "scores": {column["name"]: column for column in scores},
        "settings": asdict(case.drift),
    }


def measured(
    case: UseCase, baseline: Mapping[str, Any], report: Mapping[str, Any], joined: Joined | str | None
) -> dict[str, Any]:
    """The report with `realised`, described in realised.measured; null without labels.

    Labels that say otherwise refute what was expected without them.
    """
    if joined is None:
        return {**report, "realised": None}
    found = realised.measured(case, baseline, joined, report["performance"])
    reason = f"{report['reason']} {sentence(realised.in_words(found))}"
    refuted = {"performance"} if found["value"] is not None and not found["alarm"] else set()
    alarms = [alarm for alarm in report["alarms"] if alarm not in refuted] + (["realised"] if found["alarm"] else [])
    return {**report, "reason": reason, "realised": found, **estimates.of(case, alarms)}


def _left_out(case: UseCase) -> dict[str, str]:
    """Columns that move by their nature, and who says so: they are shown, and don't count in the decision."""
    told = {column.name: "drift = false" for column in case.columns if not column.drift}
    times = {column.name: "[data] time" for column in case.columns if column.name == case.data.time}
    return told | times


def sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _compared(case: UseCase, given: Sequence[Given]) -> list[Column]:
    """Each column beside the baseline; those that decide are judged together, any other one alone."""
    compare = module().compare
    together = iter(compare([_distributions(was, now) for was, now, _, decides in given if decides], case.drift))
    found = []
    for was, now, rows, decides in given:
        comparison = next(together) if decides else compare([_distributions(was, now)], case.drift)[0]
        found.append(_column(was, now, rows, comparison if decides else replace(comparison, drifted=False)))
        if not decides:
            found[-1] |= {"decides": False, "adjusted_p_value": None}
    return found


def _distributions(was: Mapping[str, Any], now: Counted) -> Distributions:
    means = _pooled_means(was, now) if "edges" in was else None
    return Distributions(np.asarray(was["counts"], float), now.counts, means, was.get("deviation", 0.0))


def _column(column: Mapping[str, Any], counted: Counted, rows: int, found: Comparison) -> Column:
    """One column now beside the baseline: effects, missing and invalid values, what was never seen before."""
    numeric = "edges" in column
    return {
        "name": column["name"],
        "kind": column["kind"],
        "decides": True,
        "drifted": found.drifted,
        "adjusted_p_value": found.adjusted_p_value,
        **{key: _finite(value) for key, value in found.effects.items()},
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


def _pooled_means(column: Mapping[str, Any], counted: Counted) -> Counts:
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
    first, (share, _) = drifted[0], estimates.drifted(columns)
    if share is None:
        return f"{count}, most of all {first['name']} (PSI {first['psi']:.2f})"
    carried = "it carries" if len(drifted) == 1 else "they carry"
    alone = "" if len(drifted) == 1 else f", {100 * first['importance']:.0f} % of the reasons"
    named = f"{first['name']} (PSI {first['psi']:.2f}{alone})"
    return f"{count}; {carried} {100 * share:.0f} % of the model's reasons, above all {named}"


def learned(frame: pl.LazyFrame, kinds: Mapping[str, str], bins: int) -> tuple[int, list[dict[str, Any]]]:
    """Rows, and of each column its bins and what was counted in them, as plain data.

    One half of the rows draws the bins, and the other half is counted in them: rows that are counted in bins which
    were drawn through them look like no other sample of the same distribution.
    """
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    draws = pl.col(PLACE).cast(pl.Int64) * GOLDEN % 2**32 < 2**31
    placed = frame.with_row_index(PLACE)
    found = module().profile(placed.filter(draws), kinds, max(1, min(bins, rows // ROWS_A_BIN)))
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
