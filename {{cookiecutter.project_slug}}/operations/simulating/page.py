"""The simulation's result as a page: what happened, tick by tick, and every model on every stage."""

from markupsafe import Markup

from operations.simulating.table import Table
from runtime import report
from runtime.failures import listed
from runtime.report import Interval, Point, Section, Verdict

WORDS = {True: "drift", False: "no drift", None: "no verdict"}
LIMITS = (
    "Drift is judged on distributions, without labels. What leaves every column and the scores as they were is not "
    "seen, however much it costs: noise that only loosens what belongs together is such a thing. An estimate without "
    "labels takes the reasons to be the old ones; where they have changed it is far off. And going back to the first "
    "stage is drift for a model that has learned from another one."
)


def page(table: Table) -> str:
    """The whole page as HTML."""
    sections = [
        Section("Tick by tick", "A tick is a day of the simulated clock.", _ticks(table)),
        Section("What the predictions were worth", _worth(table), _course(table)),
        Section("Every model on every stage", "Rows: learned from. Columns: tested on.", _matrix(table)),
        Section("The stages", "What changes from one to the next.", _stages(table)),
        Section("Why", "What the function after each scoring run decided, in its own words.", _reasons(table)),
        Section("What this can't show", LIMITS),
    ]
    return report.page("Drift, retraining, release", _verdict(table), sections)


def _verdict(table: Table) -> Verdict:
    closed, said = table.verdict()
    if not table.decision:
        return Verdict("decision off", "unknown", said, "Compare with the simulation in which the loop may retrain.")
    todo = "Read the rows without a retraining: is their metric one that you can live with?"
    return Verdict("the loop closes", "good", said, todo) if closed else Verdict("no gain", "bad", said, todo)


def _worth(table: Table) -> str:
    unknown = f" Without labels: {table.unknown()}." if table.unknown() else ""
    return f"Before, and after a retraining on the same stage.{unknown}"


def _ticks(table: Table) -> Markup:
    heads = ["Tick", "Input", "Baseline learned on", "Drift", "Retrained on", f"{table.metric} before", "After"]
    rows = [
        [row.tick, row.input, row.learned_on, WORDS[row.drift], row.retrained_on or None, row.before, row.after]
        for row in table.rows
    ]
    more = table.beside("Estimated without labels", "Realised, by labels")
    rows = [[*cells, *beside] for cells, *beside in zip(rows, *more.values(), strict=True)]
    alarms = [row.drift or row.worse or row.realised_worse for row in table.rows]
    return report.table([*heads, *more], rows, marked=[place for place, alarm in enumerate(alarms) if alarm])


def _course(table: Table) -> Markup:
    """The metric over the ticks, what monitoring made of it without labels and with them, and what retraining gave."""
    before = [Point(row.input, row.before, bool(row.drift)) for row in table.rows]
    gains = [
        (f"{row.input}, {when}", value)
        for row in table.rows
        if row.retrained_on
        for when, value in (("before", row.before), ("retrained", row.after))
        if value is not None
    ]
    intervals = [
        Interval(f"{row.input}, {how}", low, value, high)
        for row in table.rows
        for how, low, value, high in (
            ("estimated", row.low, row.estimated, row.high),
            ("realised", row.realised_low, row.realised, row.realised_high),
        )
        if low is not None and value is not None and high is not None
    ]
    parts = [report.timeline(before, "Metric of what was predicted", table.metric, mark="drift")]
    parts += [report.bars(gains, table.metric, "What each retraining gave")] if gains else []
    title = "Estimated without labels, and realised by them"
    parts += [report.interval(intervals, table.metric, title)] if intervals else []
    return report.join(*parts)


def _matrix(table: Table) -> Markup:
    stages = list(dict.fromkeys(row.input for row in table.rows))
    values = [[found.get(stage) for stage in stages] for found in table.matrix.values()]
    return report.matrix([*table.matrix], stages, values, "Trained on, tested on", table.metric)


def _stages(table: Table) -> Markup:
    rows = [[row.input, row.about or None, listed(row.drifted, 6) or None] for row in table.rows]
    return report.table(["Stage", "What it is", "What drifted, the strongest first"], rows)


def _reasons(table: Table) -> Markup:
    return report.table(["Tick", "Window", "Reason"], [[row.tick, row.window, row.why] for row in table.rows])
