"""The simulation's result as a table: a row for each tick, and every model on every stage."""

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

from markupsafe import Markup

from batchloop import repository
from batchloop.container import metrics, report
from batchloop.container.job import listed
from batchloop.container.report import Interval, Point, Section, Verdict
from batchloop.control import reports
from batchloop.engine import running
from batchloop.engine.storage import write_json
from batchloop.repository import COMPONENTS, Repository
from batchloop.simulate import loop as simulate_loop
from batchloop.simulate import world
from batchloop.simulate.loop import Loop, Scores, Values
from batchloop.simulate.world import Options, Simulated, Stage, open_world

__all__ = ["Options", "simulate"]


@dataclass(frozen=True)
class Row:
    """One tick: `before` is the metric of what was predicted, `after` that of a model retrained on this stage's rows.

    `estimated` (with its interval) is what monitoring made of the predictions without labels, where it does so, and
    `worse` whether that raised an alarm, which can be a reason to retrain without any drift; `unknown`: why there is no
    estimate. `realised` (with its interval) is what monitoring measured once it had the labels, `realised_worse`
    whether that was an alarm.
    """

    tick: int
    window: str
    input: str
    about: str
    learned_on: str
    drift: bool | None
    drifted: tuple[str, ...]
    retrained_on: str
    before: float | None
    after: float | None
    estimated: float | None
    low: float | None
    high: float | None
    worse: bool
    why: str
    unknown: str = ""
    realised: float | None = None
    realised_low: float | None = None
    realised_high: float | None = None
    realised_worse: bool = False

    def estimate(self) -> str:
        """What was expected without labels, "" where nothing was."""
        return _within(self.estimated, self.low, self.high, self.worse)

    def measurement(self) -> str:
        """What labels gave, "" where there were none."""
        return _within(self.realised, self.realised_low, self.realised_high, self.realised_worse)


@dataclass(frozen=True)
class Table:
    """`matrix` is trained on → tested on → metric; a stage that was learned twice has two entries."""

    metric: str
    decision: bool
    rows: tuple[Row, ...]
    matrix: Mapping[str, Values]

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    def text(self) -> list[str]:
        """The rows as lines."""
        heads = ["tick", "input", "baseline learned on", "drift", "retrained on", f"{self.metric} before", "after"]
        found = self.beside("estimated", "realised")
        rows = zip(self.rows, *found.values(), strict=True)
        lines = aligned([[*heads, *found], *([*_cells(row), *more] for row, *more in rows)])
        known = "estimated" in found or not self.unknown()
        return lines if known else [*lines, f"performance without labels: {self.unknown()}"]

    def unknown(self) -> str:
        """Why nothing was estimated in the first tick that says so."""
        return next((row.unknown for row in self.rows if row.unknown), "")

    def beside(self, estimated: str, realised: str) -> dict[str, list[str]]:
        """What monitoring made of each window without and with labels, as columns; those with anything in them."""
        columns = {
            estimated: [row.estimate() or "–" for row in self.rows],
            realised: [row.measurement() or "–" for row in self.rows],
        }
        return {name: cells for name, cells in columns.items() if set(cells) != {"–"}}

    def matrix_text(self) -> list[str]:
        """The matrix as lines."""
        stages = list(dict.fromkeys(row.input for row in self.rows))
        lines = [[trained, *(number(values.get(stage)) for stage in stages)] for trained, values in self.matrix.items()]
        return aligned([["trained on \\ tested on", *stages], *lines])

    def csv(self) -> str:
        """The rows, comma-separated, with every value."""
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(asdict(self.rows[0])), lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            values = {name: plain(value) for name, value in asdict(row).items()}
            writer.writerow(values | {"drifted": " ".join(row.drifted)})
        return out.getvalue()

    def verdict(self) -> tuple[bool, str]:
        """Whether the loop closed, in a sentence."""
        retrained = [row for row in self.rows if row.retrained_on]
        alarms = sum(bool(row.drift) for row in self.rows)
        worse = sum(row.worse and not row.drift for row in self.rows)
        said = f"{alarms} of {len(self.rows)} windows drifted, "
        said += f"{worse} more {'was' if worse == 1 else 'were'} expected to score worse, " if worse else ""
        said += f"and {len(retrained)} led to a new release"
        gains = [metrics.lead(self.metric, row.after, row.before) for row in retrained if row.after and row.before]
        if gains:
            low, high = min(gains), max(gains)
            said += f"; each made {self.metric} better by {number(low)} to {number(high)} on its window"
        return bool(gains) and min(gains) > 0, f"{said}."


def build(loop: Loop) -> Table:
    """From what the simulated account holds, so that a simulation which was interrupted gives the same."""
    world, scores = loop.world, Scores(loop.world, loop.stages)
    releases = world.releases()
    matrix = {}
    for manifest in releases:
        name = loop.stage_of(manifest["training_data"])
        measured = {stage: rounded(value) for stage, value in scores.of_release(manifest).items()}
        matrix[f"{name} again" if name in matrix else name] = measured
    rows = tuple(_row(loop, scores, releases, place) for place in range(len(world.state["ticks"])))
    return Table(simulate_loop.name(world.case), world.places.settings.enabled, rows, matrix)


def _row(loop: Loop, scores: Scores, releases: Sequence[Mapping[str, Any]], place: int) -> Row:
    world, stage, tick = loop.world, loop.stages[place], loop.world.state["ticks"][place]
    run = world.state["executions"][tick["run"]]
    used = next(entry for entry in releases if entry["artifacts"]["baseline"] == run["parameters"]["Baseline"])
    trained, failed = _training(loop, place + 1)
    new = next((entry for entry in releases if trained and f"/{trained}/" in entry["artifacts"]["baseline"]), None)
    report = world.report(tick["run"])
    found, measured = reports.performance(report, reports.ESTIMATE), _measured(report, simulate_loop.name(world.case))
    return Row(
        tick=place + 1,
        window=loop.window(stage),
        input=stage.name,
        about=stage.about,
        learned_on=loop.stage_of(used["training_data"]),
        drift={"drift": True, "no drift": False}.get(report.get("verdict", "")),
        drifted=tuple(report.get("drifted", [])),
        retrained_on=loop.stage_of(new["training_data"]) if new else "",
        before=rounded(scores.of_run(tick["run"], stage)),
        after=rounded(scores.of_release(new)[stage.name]) if new else None,
        estimated=rounded(found.value) if found else None,
        low=rounded(found.low) if found else None,
        high=rounded(found.high) if found else None,
        worse=bool(found and found.alarm),
        why=f"{tick['why']} The training failed: {failed}" if failed else tick["why"],
        unknown="" if found else reports.why_unknown(report, reports.ESTIMATE),
        realised=rounded(measured.get("value")),
        realised_low=rounded(measured.get("low")),
        realised_high=rounded(measured.get("high")),
        realised_worse=measured.get("alarm") is True,
    )


def _measured(report: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """What the drift report says of a metric by labels; {} where it says nothing."""
    metrics_of: Mapping[str, Any] = (report.get("realised") or {}).get("metrics", {})
    return dict(metrics_of.get(metric, {}))


def _training(loop: Loop, tick: int) -> tuple[str, str]:
    """The id of the training that was started in a tick, and why it failed; both "" where there is no such thing."""
    pipeline = loop.world.places.pipeline("training")
    for arn, run in loop.world.state["executions"].items():
        if (run["pipeline"], run["tick"]) == (pipeline, tick):
            return arn.rpartition("/")[2], run["why"]
    return "", ""


def _cells(row: Row) -> list[str]:
    cells = [str(row.tick), row.input, row.learned_on, plain(row.drift) or "–", row.retrained_on or "–"]
    return [*cells, number(row.before), number(row.after)]


def _within(value: float | None, low: float | None, high: float | None, worse: bool) -> str:
    if value is None:
        return ""
    limits = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
    return f"{number(value)}{limits}{', worse' if worse else ''}"


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of one width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def plain(value: object) -> str:
    """A value in a cell of CSV."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return "" if value is None else str(value)


def rounded(value: float | None) -> float | None:
    """Four digits: more would only be noise."""
    return None if value is None else round(value, 4)


def number(value: float | None) -> str:
    """A metric as people read it."""
    return "–" if value is None else f"{value:.3f}"


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


KEPT = ("lock", "stages")  # all else is of one simulation


def run(repository: Repository, options: Options) -> int:
    """Simulate, print and write the table. Raises Failure."""
    simulated = Simulated(repository.root, options.decision)
    simulated.local.mkdir(parents=True, exist_ok=True)
    with running.exclusively(simulated):
        if options.fresh:
            _clear(simulated)
        found = world.found(simulated, options)
        _begin(simulated, options, found)
        loop = Loop(open_world(simulated, options), found)
        _go(loop)
        result = build(loop)
        _write(simulated, result)
    _show(simulated, result)
    return 0


def _begin(simulated: Simulated, options: Options, found: list[Stage]) -> None:
    """Go on with a simulation of the same things; what was made from others is cleared away."""
    file, plan = simulated.local / "plan.json", _plan(simulated, options, found)
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if before == plan:
        print("going on with the simulation that was begun; FRESH=yes begins anew", flush=True)
        return
    if before is not None:
        changed = ", ".join(name for name in plan if plan[name] != before.get(name))
        print(f"beginning anew: {changed} changed", flush=True)
    _clear(simulated)
    write_json(file, plan)


def _plan(simulated: Simulated, options: Options, found: list[Stage]) -> dict[str, str]:
    """What the result depends on → its hash."""
    root = simulated.root
    code = [root / "batchloop"]
    return {
        "the stages": repository.of([repository.files(stage.folder, [stage.folder]) for stage in found]),
        "the components": repository.of([repository.component(simulated, name) for name in COMPONENTS]),
        "the pipelines or settings": repository.sources(simulated, options.environment),
        "the functions or the simulation itself": repository.of(repository.files(root, code)),
    }


def _clear(simulated: Simulated) -> None:
    for path in simulated.local.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _go(loop: Loop) -> None:
    """Step on to the end, with a line for each tick that is over."""
    shown, begun = len(loop.world.state["ticks"]), monotonic()
    if not loop.world.releases():
        print(f"training the first model on stage {loop.stages[0].name}", flush=True)
    while loop.step():
        ticks = len(loop.world.state["ticks"])
        if ticks > shown and shown and loop.world.state["ticks"][shown - 1]["why"]:
            _tell(loop, shown, monotonic() - begun)
            begun = monotonic()
        shown = max(shown, ticks)
    if shown:
        _tell(loop, shown, monotonic() - begun)


def _tell(loop: Loop, tick: int, seconds: float) -> None:
    why = loop.world.state["ticks"][tick - 1]["why"]
    print(f"tick {tick} of {len(loop.stages)}, stage {loop.stages[tick - 1].name}: {why} ({seconds:.0f} s)", flush=True)


def _write(simulated: Simulated, result: Table) -> None:
    """table.csv, table.json and report.html, each in one rename."""
    write_json(simulated.local / "table.json", result.plain())
    for name, text in (("table.csv", result.csv()), ("report.html", page(result))):
        partial = simulated.local / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(simulated.local / name)


def _show(simulated: Simulated, result: Table) -> None:
    print("", *result.text(), "", *result.matrix_text(), "", sep="\n")
    _, said = result.verdict()
    print(said)
    for line in map(_remark, result.rows):
        if line:
            print(line)
    for what, name in (("table", "table.csv"), ("report", "report.html")):
        print(f"{what}: {simulated.shown(simulated.local / name)}")


def _remark(row: Row) -> str:
    """An alarm that nothing was done about."""
    if not (row.drift or row.worse or row.realised_worse) or row.retrained_on:
        return ""
    alarm = "drifted" if row.drift else "was scored worse" if row.realised_worse else "was expected to score worse"
    return f"tick {row.tick} {alarm} and stays at {number(row.before)}: {row.why}"


def simulate(repository: Repository, options: Options) -> int:
    """The exit code: 0 also where the loop did not help; the table says so. Raises Failure where it can't be run."""

    return run(repository, options)
