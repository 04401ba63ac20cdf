"""`make simulate`: run the loop to its end, and say in a table and a report what retraining gave."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
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
from batchloop.simulate import scores
from batchloop.simulate.loop import Loop, Options, Simulated, Stage, find_stages, open_loop
from batchloop.simulate.scores import Values

NOTHING = "–"
KEPT = ("lock", "stages")  # all else is of one simulation
VERDICTS = {True: "drift", False: "no drift", None: "no verdict"}
PERFORMANCE = (  # a part of a drift report, and the fields of a row that hold its value, limits and alarm
    (reports.ESTIMATE, "estimated", "low", "high", "worse"),
    (reports.REALISED, "realised", "realised_low", "realised_high", "realised_worse"),
)
LIMITS = (
    "Drift is judged on distributions, without labels. What leaves every column and the scores as they were is not "
    "seen, however much it costs: noise that only loosens what belongs together is such a thing. An estimate without "
    "labels takes the reasons to be the old ones; where they have changed it is far off. And going back to the first "
    "stage is drift for a model that has learned from another one."
)


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
    estimated: float | None = None
    low: float | None = None
    high: float | None = None
    worse: bool = False
    why: str = ""
    unknown: str = ""
    realised: float | None = None
    realised_low: float | None = None
    realised_high: float | None = None
    realised_worse: bool = False

    @property
    def alarm(self) -> bool:
        """Whether anything of this tick is an alarm."""
        return bool(self.drift or self.worse or self.realised_worse)

    @property
    def remark(self) -> str:
        """An alarm that nothing was done about, in a sentence."""
        if not self.alarm or self.retrained_on:
            return ""
        worse = "was scored worse" if self.realised_worse else "was expected to score worse"
        return f"tick {self.tick} {'drifted' if self.drift else worse} and stays at {shown(self.before)}: {self.why}"


@dataclass(frozen=True)
class Table:
    """`matrix` is trained on → tested on → metric; a stage that was learned twice has two entries."""

    metric: str
    decision: bool
    rows: tuple[Row, ...]
    matrix: Mapping[str, Values]

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(row.input for row in self.rows))

    @property
    def unknown(self) -> str:
        """Why nothing was estimated in the first tick that says so."""
        return next((row.unknown for row in self.rows if row.unknown), "")

    def cells(self, estimated: str, realised: str) -> tuple[list[str], list[list[Any]]]:
        """Heads and rows, and what monitoring made of each window without and with labels, where it made anything."""
        heads = ["tick", "input", "baseline learned on", "drift", "retrained on", f"{self.metric} before", "after"]
        beside = dict[str, list[str]]()
        for head, (_, *names) in zip((estimated, realised), PERFORMANCE, strict=True):
            column = [interval(*(getattr(row, name) for name in names)) for row in self.rows]
            if set(column) != {NOTHING}:
                beside[head] = column
        rows = [
            [row.tick, row.input, row.learned_on, row.drift, row.retrained_on or None, row.before, row.after, *more]
            for row, *more in zip(self.rows, *beside.values(), strict=True)
        ]
        return [*heads, *beside], rows

    def text(self) -> list[str]:
        """The rows as lines."""
        heads, rows = self.cells("estimated", "realised")
        lines = aligned([heads, *([shown(value) for value in row] for row in rows)])
        if "estimated" not in heads and self.unknown:
            lines.append(f"performance without labels: {self.unknown}")
        return lines

    def matrix_text(self) -> list[str]:
        """The matrix as lines."""
        lines = [[name, *(shown(row.get(stage)) for stage in self.stages)] for name, row in self.matrix.items()]
        return aligned([["trained on \\ tested on", *self.stages], *lines])

    def verdict(self) -> tuple[bool, str]:
        """Whether the loop closed, in a sentence."""
        retrained = [row for row in self.rows if row.retrained_on]
        worse = sum(row.worse and not row.drift for row in self.rows)
        said = f"{sum(bool(row.drift) for row in self.rows)} of {len(self.rows)} windows drifted, "
        said += f"{worse} more {'was' if worse == 1 else 'were'} expected to score worse, " if worse else ""
        said += f"and {len(retrained)} led to a new release"
        gains = [metrics.lead(self.metric, row.after, row.before) for row in retrained if row.after and row.before]
        if gains:
            low, high = shown(min(gains)), shown(max(gains))
            said += f"; each made {self.metric} better by {low} to {high} on its window"
        return bool(gains) and min(gains) > 0, f"{said}."


def build(loop: Loop) -> Table:
    """From what the simulated account holds, so that a simulation which was interrupted gives the same."""
    releases = loop.releases()
    matrix: dict[str, Values] = {}
    for manifest in releases:
        name = loop.stage_of(manifest["training_data"])
        measured = {stage: rounded(value) for stage, value in scores.of_release(loop, manifest).items()}
        matrix[f"{name} again" if name in matrix else name] = measured
    rows = tuple(_row(loop, releases, place) for place in range(len(loop.state["ticks"])))
    return Table(loop.case.gate.metric, loop.places.settings.enabled, rows, matrix)


def _row(loop: Loop, releases: Sequence[Mapping[str, Any]], place: int) -> Row:
    stage, tick, runs = loop.stages[place], loop.state["ticks"][place], loop.state["executions"]
    baseline = runs[tick["run"]]["parameters"]["Baseline"]
    used = next(entry for entry in releases if entry["artifacts"]["baseline"] == baseline)
    started = (loop.places.pipeline("training"), place + 1)
    trainings = [(arn, run["why"]) for arn, run in runs.items() if (run["pipeline"], run["tick"]) == started]
    trained, failed = (trainings[0][0].rpartition("/")[2], trainings[0][1]) if trainings else ("", "")
    # the release whose model package names what that execution made
    made = {its["ModelPackageArn"]: its["CustomerMetadataProperties"] for its in loop.account.registry.packages()}
    places = {entry["version"]: made[entry["model_package"]]["baseline"] for entry in releases}
    new = next((entry for entry in releases if trained and f"/{trained}/" in places[entry["version"]]), None)
    judged, figures = loop.report(tick["run"]), dict[str, Any]()
    for part, *names in PERFORMANCE:
        if known := reports.performance(judged, part):
            limits = (rounded(value) for value in (known.value, known.low, known.high))
            figures |= dict(zip(names, (*limits, known.alarm), strict=True))
    return Row(
        tick=place + 1,
        window=stage.window,
        input=stage.name,
        about=stage.about,
        learned_on=loop.stage_of(used["training_data"]),
        drift=reports.VERDICTS.get(judged.get("verdict", "")),
        drifted=tuple(judged.get("drifted", [])),
        retrained_on=loop.stage_of(new["training_data"]) if new else "",
        before=rounded(scores.of_run(loop, tick["run"], stage)),
        after=rounded(scores.of_release(loop, new)[stage.name]) if new else None,
        why=f"{tick['why']} The training failed: {failed}" if failed else tick["why"],
        unknown="" if "estimated" in figures else reports.why_unknown(judged, reports.ESTIMATE),
        **figures,
    )


def interval(value: float | None, low: float | None, high: float | None, worse: bool) -> str:
    """A metric with its limits, and whether it is an alarm."""
    limits = "" if low is None or high is None else f" ({shown(low)} to {shown(high)})"
    return f"{shown(value)}{limits}{', worse' if worse and value is not None else ''}"


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of one width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{text:<{w}}" for text, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def rounded(value: float | None) -> float | None:
    """Four digits: more would only be noise."""
    return None if value is None else round(value, 4)


def shown(value: object) -> str:
    """A cell as people read it."""
    if value is None or isinstance(value, bool):
        return NOTHING if value is None else str(value).upper()
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def page(table: Table) -> str:
    """The whole page as HTML."""
    closed, said = table.verdict()
    verdict = Verdict("decision off", "unknown", said, "Compare with the simulation in which the loop may retrain.")
    if table.decision:
        todo = "Read the rows without a retraining: is their metric one that you can live with?"
        verdict = Verdict("the loop closes" if closed else "no gain", "good" if closed else "bad", said, todo)
    course = "Before, and after a retraining on the same stage."
    course += f" Without labels: {table.unknown}." if table.unknown else ""
    heads, rows = table.cells("Estimated without labels", "Realised, by labels")
    heads = [head if head.startswith(table.metric) else head[:1].upper() + head[1:] for head in heads]
    rows = [[*cells[:3], VERDICTS[row.drift], *cells[4:]] for row, cells in zip(table.rows, rows, strict=True)]
    alarms = [place for place, row in enumerate(table.rows) if row.alarm]
    values = [[row.get(stage) for stage in table.stages] for row in table.matrix.values()]
    matrix = report.matrix([*table.matrix], table.stages, values, "Trained on, tested on", table.metric)
    about = [[row.input, row.about or None, listed(row.drifted, 6) or None] for row in table.rows]
    stages = report.table(["Stage", "What it is", "What drifted, the strongest first"], about)
    reasons = report.table(["Tick", "Window", "Reason"], [[row.tick, row.window, row.why] for row in table.rows])
    sections = [
        Section("Tick by tick", "A tick is a day of the simulated clock.", report.table(heads, rows, marked=alarms)),
        Section("What the predictions were worth", course, report.join(*_course(table))),
        Section("Every model on every stage", "Rows: learned from. Columns: tested on.", matrix),
        Section("The stages", "What changes from one to the next.", stages),
        Section("Why", "What the function after each scoring run decided, in its own words.", reasons),
        Section("What this can't show", LIMITS),
    ]
    return report.page("Drift, retraining, release", verdict, sections)


def _course(table: Table) -> Iterator[Markup]:
    """Charts: the metric over the ticks, what retraining gave, and what monitoring estimated and measured."""
    gains, intervals = list[tuple[str, float]](), list[Interval]()
    for row in table.rows:
        after = (("before", row.before), ("retrained", row.after)) if row.retrained_on else ()
        gains += [(f"{row.input}, {when}", value) for when, value in after if value is not None]
        for _, value, low, high, _ in PERFORMANCE:
            limits = [getattr(row, name) for name in (low, value, high)]
            if None not in limits:
                intervals.append(Interval(f"{row.input}, {value}", *limits))
    before = [Point(row.input, row.before, bool(row.drift)) for row in table.rows]
    yield report.timeline(before, "Metric of what was predicted", table.metric, mark="drift")
    if gains:
        yield report.bars(gains, table.metric, "What each retraining gave")
    if intervals:
        yield report.interval(intervals, table.metric, "Estimated without labels, and realised by them")


def simulate(here: Repository, options: Options) -> int:
    """Simulate, print and write the table; the exit code.

    0 also where the loop did not help; the table says so. Raises InputError where it can't be run.
    """
    simulated = Simulated(here.root, options.decision)
    simulated.local.mkdir(parents=True, exist_ok=True)
    with running.exclusively(simulated):
        if options.fresh:
            _clear(simulated)
        stages = find_stages(simulated, options)
        _begin(simulated, options, stages)
        loop = open_loop(simulated, options, stages)
        _go(loop)
        table = build(loop)
        write_json(simulated.local / "table.json", asdict(table))
        partial = simulated.local / ".report.html.partial"
        partial.write_text(page(table), encoding="utf-8")
        partial.replace(simulated.local / "report.html")
    remarks = [row.remark for row in table.rows if row.remark]
    print("", *table.text(), "", *table.matrix_text(), "", table.verdict()[1], *remarks, sep="\n")
    for name in ("table.json", "report.html"):
        print(f"{name.partition('.')[0]}: {simulated.shown(simulated.local / name)}")
    return 0


def _begin(simulated: Simulated, options: Options, stages: list[Stage]) -> None:
    """Go on with a simulation of the same things; what was made from others is cleared away."""
    file, root = simulated.local / "plan.json", simulated.root
    plan = {  # what the result depends on → its hash
        "the stages": repository.of([repository.files(stage.folder, [stage.folder]) for stage in stages]),
        "the components": repository.of([repository.component(simulated, name) for name in COMPONENTS]),
        "the pipelines or settings": repository.sources(simulated, options.environment),
        "the functions or the simulation itself": repository.of(repository.files(root, [root / "batchloop"])),
    }
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if before == plan:
        print("going on with the simulation that was begun; FRESH=yes begins anew", flush=True)
        return
    if before is not None:
        changed = ", ".join(name for name in plan if plan[name] != before.get(name))
        print(f"beginning anew: {changed} changed", flush=True)
    _clear(simulated)
    write_json(file, plan)


def _clear(simulated: Simulated) -> None:
    for path in simulated.local.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _go(loop: Loop) -> None:
    """Step on to the end, with a line for each tick that is over."""
    ticks, begun = loop.state["ticks"], monotonic()
    number, going = len(ticks), True
    if not loop.releases():
        print(f"training the first model on stage {loop.stages[0].name}", flush=True)
    while going:
        going = loop.step()
        if number and (not going or (len(ticks) > number and ticks[number - 1]["why"])):
            what = f"tick {number} of {len(loop.stages)}, stage {loop.stages[number - 1].name}"
            print(f"{what}: {ticks[number - 1]['why']} ({monotonic() - begun:.0f} s)", flush=True)
            begun = monotonic()
        number = max(number, len(ticks))
