"""Monitoring's pages, drift.html and baseline.html: their verdicts in words, and the numbers of their charts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from batchloop.container import profile, realised, report
from batchloop.container.report import Verdict
from batchloop.container.usecase import UseCase

PARTS = 15  # of the validation split in the table of calibration
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
    text = (
        f"{learned['rows']:,} rows of raw training data, {len(learned['columns'])} columns, and the scores of "
        f"{learned['score_rows']:,} validation rows."
    )
    verdict = Verdict("Baseline learned", "good", text, LOOK)
    if leak := (evaluation.get("leak") or {}).get("reason"):
        text += f" {leak[:1].upper()}{leak[1:]}."
        verdict = Verdict("Baseline learned, but validation repeats training", "bad", text, SPLIT)
    parts = [
        [name, *line]
        for name, cells in learned["performance"].get("cells", {}).items()
        for line in _reliability(*(np.asarray(cells[key], float) for key in ("scores", "rows", "hits")))
    ]
    title = f"{case.title}: what the training data looks like"
    return report.page(title, verdict, template="baseline", learned=learned, evaluation=evaluation, parts=parts)


def _reliability(scores: Any, rows: Any, hits: Any) -> list[list[Any]]:
    """Mean score, share of hits and rows, of parts with about as many rows each."""
    part = ((np.cumsum(rows) - rows / 2) / rows.sum() * PARTS).astype(int)
    count, score, hit = (np.bincount(part, weights=values) for values in (rows, rows * scores, hits))
    return [[score[one] / count[one], hit[one] / count[one], int(count[one])] for one in np.flatnonzero(count)]


def batch(case: UseCase, learned: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The page of serve mode; what labels say counts for more than what was expected without them."""
    verdict, expected, measured = found["verdict"], found["performance"]["alarm"], found.get("realised") or {}
    known = measured.get("value") is not None
    alarm = measured["alarm"] if known else expected
    worse = f", {'and' if verdict == 'drift' else 'but'} a worse model{'' if known else ' expected'}"
    word = verdict.capitalize() + (worse if alarm else ", but scored as well as before" if expected else "")
    next_step = (TRAIN if known else WORSE) if alarm else NEXT[verdict]
    reason = f"{found['reason']} {found['consequence']}".strip()
    return report.page(
        f"{case.title}: has the data drifted?",
        Verdict(word, "bad" if alarm else TONES[verdict], reason, next_step),
        template="drift",
        case=case,
        found=found,
        rows_learned=learned.get("performance", {}).get("rows", 0),
        left_out=realised.left_out(measured) if measured else "",
        column_charts=_charts(learned["columns"], [one for one in found["columns"] if one["psi_beyond_chance"] > 0]),
        score_charts=_charts(learned["scores"], [*found["scores"].values()]),
    )


def _charts(learned: Sequence[dict[str, Any]], columns: Sequence[Mapping[str, Any]]) -> Markup:
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
    return report.join(*charts)
