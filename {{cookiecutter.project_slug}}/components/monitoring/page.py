"""The two pages of monitoring: what was learned, and how far a batch is from it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from monitoring import profile, sections
from runtime import report
from runtime.report import Section, Verdict
from runtime.usecase import UseCase

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
    parts = sections.contest(evaluation)
    parts += [Section("Columns and scores", text, report.table(headers, rows))]
    parts += [sections.calibration(learned["performance"])]
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
        *([sections.realised(measured)] if measured else []),
        sections.performance(case, found["performance"], rows),
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
        *(_rounded(column[key]) for key in ("psi", "ks", "js", "wasserstein")),
        column.get("adjusted_p_value"),
        *(_rounded(100 * column[key]) for key in ("missing", "missing_baseline", "invalid")),
        _note(column),
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)


def _rounded(value: float | None) -> float | None:
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
    return [_chart(bins[column["name"]], column) for column in columns[:CHARTS]]


def _chart(learned: Mapping[str, Any], now: Mapping[str, Any]) -> Markup:
    """Shares a bin, then and now; a long tail of categories is left out."""
    before, after = (np.asarray(counts, float) for counts in (learned["counts"], now["counts"]))
    names = profile.labels(dict(learned))
    used = np.flatnonzero(before + after)
    if "values" in learned and len(used) > BARS:
        used = np.sort(used[np.argsort(-(before + after)[used], kind="stable")[:BARS]])
    shares = [counts / max(counts.sum(), 1) for counts in (before, after)]
    labels = [names[place] for place in used]
    return report.compare(labels, shares[0][used].tolist(), shares[1][used].tolist(), str(learned["name"]))
