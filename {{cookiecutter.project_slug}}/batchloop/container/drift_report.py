"""Parts of monitoring's pages beside drift itself: expected performance, calibration, champion and challenger."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from batchloop.container import profile, report
from batchloop.container import realised as labelled
from batchloop.container.report import Interval, Section, Verdict
from batchloop.container.usecase import UseCase

PARTS = 15  # of the validation split in the table of calibration
LIMITS = (
    "The limits are meant to hold the metric that these labels will give 19 times of 20; less often where many scores "
    "lie where the validation split had few, or where tuning chose among many models on a small one. All this holds "
    "while only the data moves. When the relation between the columns and {label} has changed, the scores are "
    "confidently wrong, and nothing here can show it: compare with labels as soon as they arrive."
)


def performance(case: UseCase, found: Mapping[str, Any], rows: int) -> Section:
    """What the metrics of the batch are expected to be, the gate's first, or why nothing is known."""
    metrics = found["metrics"]
    unknown = f"Not known without labels: {found['reason']}." if found["reason"] else ""
    if not metrics:
        return Section("Expected performance", unknown)
    order = sorted(metrics, key=lambda name: name != found["metric"])
    text = (
        f"What the labels of this batch will say, expected from its scores, which were calibrated on the {rows:,} "
        f"labelled rows of the validation split. An alarm needs {found['metric']} to be worse by more than "
        f"{found['limit']:g}, and chance to be excluded (p below {case.drift.significance:g}){_tested(found)}. Worse "
        "by: than what is expected of the validation split in the same way, so that an error in both cancels out. "
    )
    table = report.table(
        ["metric", "expected", "from", "to", "on validation", "worse by"],
        [_expected(name, metrics[name]) for name in order],
        marked=[0] if found["alarm"] else [],
    )
    chart = [_chart(found)] if found["estimated"] is not None else []
    return Section(
        "Expected performance", f"{unknown} {text}{LIMITS.format(label=case.data.label)}", report.join(*chart, table)
    )


def realised(found: Mapping[str, Any]) -> Section:
    """What the metrics of the batch really are, beside what was expected; or why that is not known."""
    metrics, title = found["metrics"], "Realised performance"
    unknown = f"Not known: {found['reason']}. " if found["reason"] else ""
    share = "" if found["share"] is None else f" ({found['share']:.1%} of those scored)"
    bias = f"They are no random share of them: {found['bias']}. " if found["bias"] else ""
    text = f"{unknown}{found['rows']:,} rows have a prediction and a label{share}. {bias}{labelled.left_out(found)}"
    if not metrics:
        return Section(title, text)
    order = sorted(metrics, key=lambda name: name != found["metric"])
    text += f" An alarm needs a drop of more than {found['limit']:g} that chance does not explain."
    table = report.table(
        ["metric", "realised", "from", "to", "expected without labels", "on validation", "worse by", "alarm"],
        [_measured(name, metrics[name]) for name in order],
        marked=[place for place, name in enumerate(order) if metrics[name]["alarm"]],
    )
    return Section(title, text, report.join(*_comparison(found), table))


def _measured(name: str, found: Mapping[str, Any]) -> list[object]:
    numbers = [_rounded(found[key]) for key in ("value", "low", "high", "expected", "reference", "drop")]
    return [name, *numbers, "yes" if found["alarm"] else "no"]


def _comparison(found: Mapping[str, Any]) -> list[Any]:
    if found["value"] is None:
        return []
    now = Interval("this batch, with labels", found["low"], found["value"], found["high"])
    line = "" if found["reference"] is None else "; the line is the value on the validation split"
    chart = report.interval([now], found["metric"], f"Realised{line}", limit=("validation", found["reference"]))
    return [chart]


def _expected(name: str, found: Mapping[str, Any]) -> list[object]:
    return [name, *(_rounded(found[key]) for key in ("estimated", "low", "high", "reference", "drop"))]


def _tested(found: Mapping[str, Any]) -> str:
    return "" if found["p_value"] is None else f"; here p is {found['p_value']:.2g}"


def _chart(found: Mapping[str, Any]) -> Any:
    now = Interval("this batch, expected", found["low"], found["estimated"], found["high"])
    reference = found["reference"]
    line = "" if reference is None else "; the line is the value on the validation split"
    return report.interval([now], found["metric"], f"Expected now{line}", limit=("validation", reference))


def calibration(learned: Mapping[str, Any]) -> Section:
    """How often each score came true on the validation split, or why that is not known."""
    title = "How often scores come true"
    if "reason" in learned:
        return Section(title, f"Not known: {learned['reason']}. So performance can't be estimated without labels.")
    rows = [[name, *line] for name, cells in learned["cells"].items() for line in _reliability(cells)]
    text = (
        "Parts of the validation split, by score. Where labels are missing, a curve through these shares stands in for "
        "them: the performance of each batch is expected from it."
    )
    return Section(title, text, report.table(["score column", "mean score", "share that happened", "rows"], rows))


def _reliability(cells: Mapping[str, Any]) -> list[list[Any]]:
    """Mean score, share of hits and rows, of parts with about as many rows each."""
    scores, rows, hits = (np.asarray(cells[key], float) for key in ("scores", "rows", "hits"))
    part = ((np.cumsum(rows) - rows / 2) / rows.sum() * PARTS).astype(int)
    count, score, hit = (np.bincount(part, weights=values) for values in (rows, rows * scores, hits))
    return [[score[one] / count[one], hit[one] / count[one], int(count[one])] for one in np.flatnonzero(count)]


def contest(judged: Mapping[str, Any]) -> list[Section]:
    """Champion and challenger on the same rows, for the person who approves, or why they can't be compared."""
    if found := judged.get("comparison"):
        return [_contest(found)]
    if not (reason := judged.get("not_comparable")):
        return []
    text = f"The released model can't be compared with the new one: {reason} The gate's own limit alone has decided."
    return [Section("Champion and challenger", text)]


def _contest(found: Mapping[str, Any]) -> Section:
    interval = "" if found["lead_low"] is None else f" (95 %: {found['lead_low']:+.4f} to {found['lead_high']:+.4f})"
    apart = (
        ""
        if found["disagreement"] is None
        else f"they predict another class for {100 * found['disagreement']:.1f} % of the rows, and "
    )
    groups = "" if found.get("groups") is None else f" of {found['groups']:,} groups"
    text = (
        f"Both models on the same {found['rows']:,} labelled rows{groups}: the test split of the data this run learned "
        "from. After drift that is the newest window, so this is the next batch, scored by both, with its labels. The "
        f"new model's lead in {found['metric']} is {_signed(found['lead'])}{interval}; {apart}their scores differ by "
        f"{found['mean_absolute_difference']:.3g} on average."
    )
    sides = (("champion (released)", "champion"), ("challenger (new)", "challenger"))
    shares = [_quantile(share) for share in found["quantiles"]["share"]]
    rows = [[title, found[side], *found["quantiles"][side]] for title, side in sides]
    table = report.table(["model", found["metric"], *shares], [[_rounded(cell) for cell in row] for row in rows])
    return Section(f"Champion and challenger: {found['score']}", text, report.join(*_lead(found), table))


def _lead(found: Mapping[str, Any]) -> list[Any]:
    if found["lead"] is None or found["lead_low"] is None:
        return []
    lead = Interval("challenger − champion", found["lead_low"], found["lead"], found["lead_high"])
    return [report.interval([lead], found["metric"], "The new model's lead; more is better", limit=0.0)]


def _quantile(share: float) -> str:
    return {0.0: "lowest", 0.5: "median", 1.0: "highest"}.get(share, f"{share:.0%}".replace("%", " %"))


def _signed(value: float | None) -> str:
    return "not known" if value is None else f"{value:+.4f}"


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


CHARTS, BARS = 6, 24  # charts on a page, bins in a chart
NEXT = {
    "drift": "Look at the columns below: if the world has changed, train again on data of this window; if the data is "
    "broken, mend its source.",
    "no drift": "Nothing to do.",
    "not enough data": "Wait for a larger batch; this one counts neither as healthy nor as drifted.",
}
WORSE = "Get labels for this window and train again; until then, rely less on these predictions."
TRAIN = "Train again, on data with these labels; until then, rely less on the predictions."
TONES: Mapping[str, report.Tone] = {"drift": "bad", "no drift": "good", "not enough data": "unknown"}


LOOK = "Look for columns that are mostly missing, or whose range is not what you expect."
SPLIT = "Split by what the rows belong to, and train again; until then, expect less of new rows than was measured."


def baseline(case: UseCase, learned: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """The page of train mode; of the evaluation: how the model compares with the released one, and what it knew."""
    leak = (evaluation.get("leak") or {}).get("reason")
    learned_from = (
        f"{learned['rows']:,} rows of raw training data, {len(learned['columns'])} columns, and the scores of "
        f"{learned['score_rows']:,} validation rows."
    )
    verdict = Verdict("Baseline learned", "good", learned_from, LOOK)
    if leak:
        verdict = Verdict(
            "Baseline learned, but validation repeats training", "bad", f"{learned_from} {_sentence(leak)}", SPLIT
        )
    headers = ["column", "type", "missing %", "invalid %", "distinct", "lowest", "mean", "highest"]
    rows = [_learned(column) for column in [*learned["columns"], *learned["scores"]]]
    text = "Dates count as days since 1970. Distinct counts the values that have a bin of their own."
    parts = contest(evaluation)
    parts += [Section("Columns and scores", text, report.table(headers, rows))]
    parts += [calibration(learned["performance"])]
    return report.page(f"{case.title}: what the training data looks like", verdict, parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _learned(column: Mapping[str, Any]) -> list[object]:
    distinct = len(column["values"]) if "values" in column else None
    shares = [100 * column["missing"], 100 * column["invalid"]]
    return [column["name"], column["kind"], *shares, distinct, *(column.get(key) for key in ("low", "mean", "high"))]


def batch(case: UseCase, learned: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The page of serve mode."""
    bins = {kind: {column["name"]: column for column in learned[kind]} for kind in ("columns", "scores")}
    scores = list(found["scores"].values())
    strongest = [column for column in found["columns"] if column["psi_beyond_chance"] > 0]
    rows = learned.get("performance", {}).get("rows", 0)
    measured = found.get("realised")
    parts = [
        *([realised(measured)] if measured else []),
        performance(case, found["performance"], rows),
        Section("Columns", _explanation(case, found), _table(found["columns"])),
        Section("The first columns' changes", "", report.join(*_charts(bins["columns"], strongest))),
        Section("The model's output", _errors(found), report.join(_table(scores), *_charts(bins["scores"], scores))),
    ]
    title = f"{case.title}: has the data drifted?"
    return report.page(title, _verdict(found), [part for part in parts if part.body or part.text])


def _verdict(found: Mapping[str, Any]) -> Verdict:
    """What labels say counts for more than what was expected without them."""
    verdict, expected, measured = found["verdict"], found["performance"]["alarm"], found.get("realised") or {}
    known = measured.get("value") is not None
    alarm = measured["alarm"] if known else expected
    worse = f", {'and' if verdict == 'drift' else 'but'} a worse model{'' if known else ' expected'}"
    word = verdict.capitalize() + (worse if alarm else ", but scored as well as before" if expected else "")
    todo = (TRAIN if known else WORSE) if alarm else NEXT[verdict]
    return Verdict(word, "bad" if alarm else TONES[verdict], f"{found['reason']} {found['consequence']}".strip(), todo)


def _explanation(case: UseCase, found: Mapping[str, Any]) -> str:
    return (
        f"{found['rows']:,} rows against {found['baseline_rows']:,} of training. A column has drifted when chance is "
        f"excluded (p below {case.drift.significance:g}, corrected for the number of columns) and its population "
        f"stability index, less what chance gives, is {case.drift.minimum_effect:g} or more. {_order(found)}"
        f"{_left_out(found)}"
    )


def _left_out(found: Mapping[str, Any]) -> str:
    names = ", ".join(f"{name} ({why})" for name, why in found["left_out"].items())
    return f" Left out of the decision, because they move by their nature: {names}." if names else ""


def _order(found: Mapping[str, Any]) -> str:
    if any(column["importance"] is None for column in found["columns"]):
        return "How much the model uses each column is not known here."
    return (
        "Reasons are a column's share of all attributions in training; drifted columns come first, and among them the "
        "larger product of share and change."
    )


def _errors(found: Mapping[str, Any]) -> str:
    return f"{found['errors']:.2%} of the rows could not be scored."


def _table(columns: list[dict[str, Any]]) -> Markup:
    headers = [
        "column",
        "drift",
        "reasons %",
        "PSI",
        "KS",
        "JS",
        "Wasserstein",
        "p corrected",
        "missing %",
        "missing before, %",
        "invalid %",
        "note",
    ]
    drifted = [place for place, column in enumerate(columns) if column["drifted"]]
    return report.table(headers, [_row(column) for column in columns], marked=drifted)


def _row(column: Mapping[str, Any]) -> list[object]:
    return [
        column["name"],
        ("yes" if column["drifted"] else "no") if column["decides"] else "left out",
        _percent(column.get("importance")),
        *(_rounded_value(column[key]) for key in ("psi", "ks", "js", "wasserstein")),
        column.get("adjusted_p_value"),
        *(_rounded_value(100 * column[key]) for key in ("missing", "missing_baseline", "invalid")),
        _note(column),
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)


def _rounded_value(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _note(column: Mapping[str, Any]) -> str:
    parts = []
    if column["unknown"]:
        shares = f"{column['unknown']:.2%} other values ({column['unknown_baseline']:.2%} in training)"
        parts.append(f"{shares}: {', '.join(column['unknown_examples'])}")
    if column["outside_range"]:
        parts.append(str(column["outside_range"]))
    return "; ".join(parts)


def _charts(bins: Mapping[str, Any], columns: list[dict[str, Any]]) -> list[Markup]:
    return [_column_chart(bins[column["name"]], column) for column in columns[:CHARTS]]


def _column_chart(learned: Mapping[str, Any], now: Mapping[str, Any]) -> Markup:
    """Shares a bin, then and now; a long tail of categories is left out."""
    before, after = (np.asarray(counts, float) for counts in (learned["counts"], now["counts"]))
    names = profile.labels(dict(learned))
    used = np.flatnonzero(before + after)
    if "values" in learned and len(used) > BARS:
        used = np.sort(used[np.argsort(-(before + after)[used], kind="stable")[:BARS]])
    shares = [counts / max(counts.sum(), 1) for counts in (before, after)]
    labels = [names[place] for place in used]
    return report.compare(labels, shares[0][used].tolist(), shares[1][used].tolist(), str(learned["name"]))
