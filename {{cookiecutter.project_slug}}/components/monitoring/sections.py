"""Parts of monitoring's pages beside drift itself: expected performance, calibration, champion and challenger."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from runtime import report
from runtime.report import Interval, Section
from runtime.usecase import UseCase

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


def contest(found: Mapping[str, Any]) -> Section:
    """Champion and challenger on the same rows, for the person who approves."""
    interval = "" if found["lead_low"] is None else f" (95 %: {found['lead_low']:+.4f} to {found['lead_high']:+.4f})"
    apart = (
        ""
        if found["disagreement"] is None
        else f"they predict another class for {100 * found['disagreement']:.1f} % of the rows, and "
    )
    text = (
        f"Both models on the same {found['rows']:,} labelled rows: the test split of the data this run learned from. "
        "After drift that is the newest window, so this is the next batch, scored by both, with its labels. The new "
        f"model's lead in {found['metric']} is {_signed(found['lead'])}{interval}; {apart}their scores differ by "
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
