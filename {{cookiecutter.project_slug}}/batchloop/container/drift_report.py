"""The drift report: a batch beside the baseline, as data (drift.json) and as a page; and the page of the baseline."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from batchloop.container import artifacts, measured, performance, profile, realised, report, seasonal
from batchloop.container.job import InputError
from batchloop.container.profile import Counted
from batchloop.container.protocols import Comparison, Distributions
from batchloop.container.realised import Joined
from batchloop.container.usecase import UseCase

log = logging.getLogger(__name__)
Column = dict[str, Any]
NOTHING_KNOWN: Mapping[str, float] = {}
PARTS = 15  # of the validation split in the table of calibration
CHARTS, BARS = 6, 24  # charts on a page, bins in a chart


def create(
    case: UseCase,
    baseline: Mapping[str, Any],
    table: profile.Rows | profile.Tally,
    predictions: pl.LazyFrame,
    importance: Mapping[str, float] = NOTHING_KNOWN,
) -> dict[str, Any]:
    """The whole report as plain data; `importance` is each raw column's share of the model's reasons, if known.

    `drifted_importance` is its sum over drifted columns, and `drifted_important` those of them with an even share or
    more; what is measured of one picture or text counts once. `performance` is described in performance.estimated.
    `alarms` are what asks for a retraining ("drift", "performance", later "realised"), `counts` those that [retraining]
    counts.
    """
    scored = predictions.filter(pl.col("error").is_null())
    rows, score_rows, compared = _compared(case, baseline, table, seasonal.scores(scored, case))
    columns, scores = compared[: len(baseline["columns"])], compared[len(baseline["columns"]) :]
    of = measured.sources(case.columns)
    for column in columns:
        name: str = column["name"]
        column["importance"] = importance.get(of.get(name, name), 0.0) if importance else None
    columns.sort(key=_most_important)
    total = predictions.select(pl.len()).collect(engine="streaming").item()
    expected = performance.estimated(case, baseline, scored)
    found = [column for column in [*columns, *scores] if column["drifted"] and rows >= case.drift.minimum_rows]
    verdict = "not enough data" if rows < case.drift.minimum_rows else "drift" if found else "no drift"
    share, important = _drifted_importance(columns if verdict == "drift" else [], of)
    decide, moved = [one for one in columns if one["decides"]], [one["name"] for one in scores if one["drifted"]]
    carried = _drifted_importance(decide, of)[0] if len(case.columns) > 1 else None
    reason = report.sentence("verdict", case=case, rows=rows, columns=decide, moved=moved, share=carried)
    alarms = (["drift"] if verdict == "drift" else []) + (["performance"] if expected["alarm"] else [])
    return {
        "verdict": verdict,
        "reason": f"{reason} {report.sentence('expectation', found=expected)}",
        "rows": rows,
        "baseline_rows": baseline["rows"],
        "errors": 1 - score_rows / total if total else 0.0,
        "drifted": [column["name"] for column in found],
        "left_out": _left_out(case),
        "drifted_importance": share,
        "drifted_important": important,
        "performance": expected,
        **_alarms(case, alarms),
        "columns": columns,
        "scores": {column["name"]: column for column in scores},
        "settings": asdict(case.drift),
    }


def with_labels(
    case: UseCase, baseline: Mapping[str, Any], drift: Mapping[str, Any], joined: Joined | None
) -> dict[str, Any]:
    """The report with `realised` (see realised.measured), null without labels; they may refute what was expected."""
    if joined is None:
        return {**drift, "realised": None}
    found = realised.measured(case, baseline, joined, drift["performance"])
    reason = f"{drift['reason']} {report.sentence('measurement', found=found)}"
    refuted = found["value"] is not None and not found["alarm"]
    alarms = [alarm for alarm in drift["alarms"] if not (refuted and alarm == "performance")]
    alarms += ["realised"] if found["alarm"] else []
    return {**drift, "reason": reason, "realised": found, **_alarms(case, alarms)}


def importance(folder: Path, contract: Mapping[str, Any]) -> dict[str, float]:
    """Each raw column's share of the model's reasons, from explainer.json's `source_importance`; empty where unknown.

    Another component in explainability's place may write no such thing: drift is found all the same.
    """
    try:
        artifacts.check_manifest(folder, "explainability", contract)
        found = artifacts.read_json(folder / "explainer.json")["source_importance"]
        total = sum(found.values())
        return {name: score / total for name, score in found.items()} if total > 0 else {}
    except (InputError, OSError, LookupError, TypeError, AttributeError) as error:
        log.warning("no importance of columns is known (%s): they are ordered by their drift alone", error)
        return {}


def _left_out(case: UseCase) -> dict[str, str]:
    """Columns that move by their nature, and who says so: they are shown, and don't count in the decision."""
    fixed = [column for column in case.columns if not column.drift]
    by_setting = dict.fromkeys(measured.kinds(fixed), "drift = false")
    return by_setting | {column.name: "[data] time" for column in case.columns if column.name == case.data.time}


def _compared(
    case: UseCase, baseline: Mapping[str, Any], table: profile.Rows | profile.Tally, scored: profile.Rows
) -> tuple[int, int, list[Column]]:
    """Rows, scored rows, and each column and score beside the baseline: those that decide are compared together."""
    rows, counted = table if isinstance(table, tuple) else profile.count(table, baseline["columns"])
    score_rows, score_counted = profile.count(scored, baseline["scores"])
    left_out, compare = _left_out(case), profile.module().compare
    every = [(one, counted[one["name"]], one["name"] not in left_out) for one in baseline["columns"]]
    every += [(one, score_counted[one["name"]], score_rows > 0) for one in baseline["scores"]]
    together = iter(compare([_distributions(one, now) for one, now, decides in every if decides], case.drift))
    found = []
    for one, now, decides in every:
        comparison = next(together if decides else iter(compare([_distributions(one, now)], case.drift)))
        found.append(_column(one, now, comparison, decides))
    return rows, score_rows, found


def _distributions(learned: Mapping[str, Any], now: Counted) -> Distributions:
    surer = learned.get("design_effect", 1.0)
    before, counts = np.asarray(learned["counts"], float) / surer, now.counts / surer
    if "edges" not in learned:
        return Distributions(before, counts)
    # the value each bin stands for in both tables together: in the open tails the two can differ much
    means, rows = np.asarray(learned["means"], float), before[:-1] + counts[:-1]
    pooled = np.where(rows > 0, (before[:-1] * means + now.sums[:-1] / surer) / np.maximum(rows, 1 / surer), means)
    return Distributions(before, counts, pooled, learned["deviation"])


def _column(learned: Mapping[str, Any], now: Counted, found: Comparison, decides: bool) -> Column:
    """One column now beside the baseline: effects, missing and invalid values, what was never seen before."""
    numeric, every, rows = "edges" in learned, sum(learned["counts"]), max(float(now.counts.sum()), 1)
    beyond = []
    if numeric and now.low is not None and now.high is not None and learned["low"] is not None:
        ends = [report.dated(end, learned["kind"]) for end in (now.low, learned["low"], now.high, learned["high"])]
        low, least, high, most = (end if isinstance(end, str) else f"{end:.6g}" for end in ends)
        beyond += [f"down to {low}, learned from {least}"] if now.low < learned["low"] else []
        beyond += [f"up to {high}, learned to {most}"] if now.high > learned["high"] else []
    return {
        "name": learned["name"],
        "kind": learned["kind"],
        "decides": decides,
        "drifted": decides and found.drifted,
        "adjusted_p_value": found.adjusted_p_value if decides else None,
        # JSON knows no infinity: a constant that moved is any number of standard deviations away
        **{key: None if value is None or not np.isfinite(value) else value for key, value in found.effects.items()},
        "missing": float(now.counts[-1] - now.invalid) / rows,
        "missing_baseline": learned["missing"],
        "invalid": now.invalid / rows,
        "invalid_baseline": learned["invalid"],
        "unknown": None if numeric else float(now.counts[-2]) / rows,
        "unknown_baseline": None if numeric else learned["counts"][-2] / max(every, 1),
        "unknown_examples": list(now.unknown),
        "low": now.low,
        "high": now.high,
        "outside_range": "; ".join(beyond) or None,
        "counts": now.counts.astype(int).tolist(),
    }


def _most_important(column: Column) -> tuple[bool, bool, float, float, str]:
    """Drifted columns come first; among them counts the share of the reasons times the effect. Left out ones last."""
    effect, share = column["psi_beyond_chance"], column["importance"]
    weight = effect if share is None else share * effect
    return not column["decides"], not column["drifted"], -weight, -effect, column["name"]


def _drifted_importance(columns: list[Column], of: Mapping[str, str]) -> tuple[float | None, list[str]]:
    """The share of the reasons in drifted columns, and those of them with an even share or more; None if unknown."""
    if any(column["importance"] is None for column in columns):
        return None, []
    shares = {of.get(one["name"], one["name"]): one["importance"] for one in columns}
    drifted = dict.fromkeys(of.get(one["name"], one["name"]) for one in columns if one["drifted"])
    return sum(shares[name] for name in drifted), [name for name in drifted if shares[name] * len(shares) >= 1]


def _alarms(case: UseCase, alarms: Sequence[str]) -> dict[str, Any]:
    """What drift.json says of the alarms: which there are, which of them [retraining] counts, and what follows."""
    rules = case.retraining
    counts = [alarm for alarm in alarms if rules.enabled and alarm in rules.on]
    consequence = report.sentence("consequence", rules=rules, alarms=alarms, counts=counts)
    return {"alarms": list(alarms), "counts": counts, "consequence": consequence}


def baseline(case: UseCase, learned: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """The page of train mode; of the evaluation: how the model compares with the released one, and what it knew."""
    parts = list[list[Any]]()  # with about as many rows each: mean score, share of hits, rows
    for name, cells in learned["performance"].get("cells", {}).items():
        scores, rows, hits = (np.asarray(cells[key], float) for key in ("scores", "rows", "hits"))
        part = ((np.cumsum(rows) - rows / 2) / rows.sum() * PARTS).astype(int)
        count, score, hit = (np.bincount(part, weights=values) for values in (rows, rows * scores, hits))
        parts += [[name, score[n] / count[n], hit[n] / count[n], int(count[n])] for n in np.flatnonzero(count)]
    return report.render("baseline.html", case=case, learned=learned, evaluation=evaluation, parts=parts)


def batch(
    case: UseCase, learned: Mapping[str, Any], found: Mapping[str, Any], shown: Mapping[str, Any] = NOTHING_KNOWN
) -> str:
    """The page of serve mode; `shown` are some `pictures`, as appearance.examples gives them, and `forecasts`."""
    now, forecasts = shown.get("pictures", {}), shown.get("forecasts", ())
    pictures = [("learned", learned.get("pictures", {})), ("now", now)] if now else []
    return report.render(
        "drift.html",
        case=case,
        found=found,
        measures=measured.sources(case.columns),
        rows_learned=learned.get("performance", {}).get("rows", 0),
        forecast_charts=[report.forecast(one["past"], one["ahead"], one["name"]) for one in forecasts],
        column_charts=_charts(learned["columns"], [one for one in found["columns"] if one["psi_beyond_chance"] > 0]),
        score_charts=_charts(learned["scores"], [*found["scores"].values()]),
        pictures=[(when, [{"picture": one} for each in some.values() for one in each]) for when, some in pictures],
    )


def _charts(learned: Sequence[dict[str, Any]], columns: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Shares a bin of the first columns, then and now; a long tail of categories is left out."""
    bins, charts = {column["name"]: column for column in learned}, []
    for column in columns[:CHARTS]:
        known = bins[column["name"]]
        before, now = (np.asarray(counts, float) for counts in (known["counts"], column["counts"]))
        used = np.flatnonzero(before + now)
        if "values" in known and len(used) > BARS:
            used = np.sort(used[np.argsort(-(before + now)[used], kind="stable")[:BARS]])
        shares = [(counts / max(counts.sum(), 1))[used].tolist() for counts in (before, now)]
        names = profile.labels(known)
        charts.append(report.compare([names[position] for position in used], shares[0], shares[1], known["name"]))
    return charts
