"""`make simulate`: run the loop to its end, and say in a table and a report what retraining gave."""

import csv
import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import polars as pl
from markupsafe import Markup

from batchloop import repository
from batchloop.container import files, measures, metrics, raw, report
from batchloop.container.job import InputError, listed
from batchloop.container.report import Interval, Point, Section, Verdict
from batchloop.container.usecase import UseCase
from batchloop.control import handlers, reports
from batchloop.control.reports import Performance
from batchloop.engine import graph, running
from batchloop.engine.graph import Selection
from batchloop.engine.running import Order
from batchloop.engine.storage import write_json
from batchloop.repository import COMPONENTS, Failure, Repository
from batchloop.simulate.loop import Loop, Options, Simulated, Stage, find_stages, open_loop

__all__ = ["Options", "simulate"]
Values = dict[str, float | None]
KEPT = ("lock", "stages")  # all else is of one simulation
VERDICTS = {True: "drift", False: "no drift", None: "no verdict"}
LIMITS = (
    "Drift is judged on distributions, without labels. What leaves every column and the scores as they were is not "
    "seen, however much it costs: noise that only loosens what belongs together is such a thing. An estimate without "
    "labels takes the reasons to be the old ones; where they have changed it is far off. And going back to the first "
    "stage is drift for a model that has learned from another one."
)


def measure(case: UseCase, rows: pl.DataFrame) -> float | None:
    """The gate's metric of rows with `label`, `prediction`, scores and `error`, as the algorithm component computes it.

    None without any, or where labels don't allow it. Rows that could not be scored count for nothing.
    """
    task, classes = case.data.task, case.data.classes
    usable = rows.filter(rows["error"].is_null() & rows["label"].is_not_null())
    if usable.is_empty() or (task != "regression" and usable["label"].n_unique() < 2):
        return None
    labels, columns = usable["label"], ["prediction"]
    if task != "regression":
        labels = labels.cast(pl.String).cast(pl.Enum(classes)).to_physical()
        columns = ["score"] if task == "binary" else [f"score:{name}" for name in classes]
    scores = usable.select(columns).cast(pl.Float64).to_numpy()
    predicted = scores[:, 0] if len(columns) == 1 else scores
    found = measures.measure(task, labels.cast(pl.Float64).to_numpy(), predicted, case.prediction.threshold)
    value = found[case.gate.metric]
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Scores:
    """What predictions were worth; what is measured of a release is kept in a file."""

    loop: Loop

    def of_run(self, arn: str, stage: Stage) -> float | None:
        """The metric of what an inference execution predicted."""
        return self._measured(self.loop.places.runs("inference"), arn.rpartition("/")[2], self.labels(stage))

    def of_release(self, manifest: Mapping[str, Any]) -> Values:
        """Stage → the metric of a release on its production rows; all of them are scored in one go, once."""
        local, identity, prefix = self.loop.repository.local, f"release-{manifest['version']}", "s3://measuring"
        file = local / "scores" / f"{manifest['version']}.json"
        if not file.is_file():
            definition = self.loop.definitions["inference"]
            values = handlers.scoring(self.loop.places, manifest, self._all_rows()) | {"ArtifactsPrefix": prefix}
            selection = Selection(scoring_steps(definition))
            finished = self.loop.run(Order(definition, "measuring", values, identity, True, selection))
            if finished.failed:
                why = "; ".join(step.message for step in finished.failed.values())
                raise Failure(f"release {manifest['version']} can't be measured: {why}")
            found = {
                stage.name: self._measured(prefix, identity, self.labels(stage, f"{stage.place}:"))
                for stage in self.loop.stages
            }
            file.parent.mkdir(exist_ok=True)
            write_json(file, found)
        return dict(json.loads(file.read_text(encoding="utf-8")))

    def _measured(self, prefix: str, identity: str, labels: pl.DataFrame) -> float | None:
        """Of predictions with these labels."""
        stored = self.loop.account.storage.files(f"{prefix}/{identity}/ScoreFeatures/predictions")
        tables = [pl.read_parquet(path) for name, path in stored if name.endswith(".out")]
        predictions = pl.concat(tables, how="vertical_relaxed")
        first = predictions.columns[0]
        joined = predictions.join(labels, left_on=first, right_on="id", how="inner", maintain_order="left")
        return measure(self.loop.case, joined)

    def labels(self, stage: Stage, prefix: str = "") -> pl.DataFrame:
        """`id`, which `prefix` is put before, and `label`; no rows where nothing is known."""
        data = self.loop.case.data
        for part in ("production", *(["train"] if data.id else [])):
            try:
                table = raw.read(stage.folder / part, self.loop.case, labelled=True)
            except InputError:
                continue
            identity = pl.concat_str([pl.lit(prefix), pl.col(table.id)]).alias("id")
            return table.frame.select(identity, pl.col(data.label).alias("label")).unique("id", keep="first").collect()
        return pl.DataFrame(schema={"id": pl.String, "label": pl.String})

    def _all_rows(self) -> str:
        """The URI of all stages' production rows, under ids that tell the stages apart."""
        folder, data = self.loop.repository.local / "rows", self.loop.case.data
        if not folder.is_dir():
            partial = folder.with_name(".rows")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for stage in self.loop.stages:
                for file in files.find(stage.folder / "production"):
                    frame, mark = files.scan(file, data).drop(raw.ROW), f"{stage.place}:"
                    if data.id:
                        marked = pl.concat_str([pl.lit(mark), raw.as_text(data.id).str.strip_chars()])
                        frame = frame.with_columns(marked.alias(data.id))
                    frame.sink_parquet(partial / f"{mark}{file.name.split('.')[0]}.parquet")
            partial.rename(folder)
        return folder.as_uri()


def scoring_steps(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The batch transform of a pipeline, and the steps that it needs."""
    nodes = graph.nodes(definition)
    wanted = {name for name, node in nodes.items() if node.type == "Transform"}
    while more := {need for name in wanted for need in nodes[name].needs} - wanted:
        wanted |= more
    return tuple(name for name in nodes if name in wanted)


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

    def text(self) -> list[str]:
        """The rows as lines, then the matrix."""
        heads = ["tick", "input", "baseline learned on", "drift", "retrained on", f"{self.metric} before", "after"]
        beside = self.beside("estimated", "realised")
        cells = [
            [row.learned_on, cell(row.drift) or "–", row.retrained_on or "–", number(row.before), number(row.after)]
            for row in self.rows
        ]
        rows = zip(self.rows, cells, *beside.values(), strict=True)
        lines = aligned([[*heads, *beside], *([str(row.tick), row.input, *known, *more] for row, known, *more in rows)])
        if "estimated" not in beside and self.unknown:
            lines.append(f"performance without labels: {self.unknown}")
        return lines

    def matrix_text(self) -> list[str]:
        """The matrix as lines."""
        lines = [[name, *(number(row.get(stage)) for stage in self.stages)] for name, row in self.matrix.items()]
        return aligned([["trained on \\ tested on", *self.stages], *lines])

    def beside(self, estimated: str, realised: str) -> dict[str, list[str]]:
        """What monitoring made of each window without and with labels, as columns; those with anything in them."""
        columns = {
            estimated: [interval(row.estimated, row.low, row.high, row.worse) for row in self.rows],
            realised: [
                interval(row.realised, row.realised_low, row.realised_high, row.realised_worse) for row in self.rows
            ],
        }
        return {name: cells for name, cells in columns.items() if set(cells) != {"–"}}

    def csv(self) -> str:
        """The rows, comma-separated, with every value."""
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(asdict(self.rows[0])), lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            values = {name: cell(value) for name, value in asdict(row).items()}
            writer.writerow(values | {"drifted": " ".join(row.drifted)})
        return out.getvalue()

    def verdict(self) -> tuple[bool, str]:
        """Whether the loop closed, in a sentence."""
        retrained = [row for row in self.rows if row.retrained_on]
        worse = sum(row.worse and not row.drift for row in self.rows)
        said = f"{sum(bool(row.drift) for row in self.rows)} of {len(self.rows)} windows drifted, "
        said += f"{worse} more {'was' if worse == 1 else 'were'} expected to score worse, " if worse else ""
        said += f"and {len(retrained)} led to a new release"
        gains = [metrics.lead(self.metric, row.after, row.before) for row in retrained if row.after and row.before]
        if gains:
            low, high = number(min(gains)), number(max(gains))
            said += f"; each made {self.metric} better by {low} to {high} on its window"
        return bool(gains) and min(gains) > 0, f"{said}."


def build(loop: Loop) -> Table:
    """From what the simulated account holds, so that a simulation which was interrupted gives the same."""
    scores, releases = Scores(loop), loop.releases()
    matrix: dict[str, Values] = {}
    for manifest in releases:
        name = loop.stage_of(manifest["training_data"])
        measured = {stage: rounded(value) for stage, value in scores.of_release(manifest).items()}
        matrix[f"{name} again" if name in matrix else name] = measured
    rows = tuple(_row(loop, scores, releases, place) for place in range(len(loop.state["ticks"])))
    return Table(loop.case.gate.metric, loop.places.settings.enabled, rows, matrix)


def _row(loop: Loop, scores: Scores, releases: Sequence[Mapping[str, Any]], place: int) -> Row:
    stage, tick, runs = loop.stages[place], loop.state["ticks"][place], loop.state["executions"]
    baseline = runs[tick["run"]]["parameters"]["Baseline"]
    used = next(entry for entry in releases if entry["artifacts"]["baseline"] == baseline)
    started = (loop.places.pipeline("training"), place + 1)
    trainings = [(arn, run["why"]) for arn, run in runs.items() if (run["pipeline"], run["tick"]) == started]
    trained, failed = (trainings[0][0].rpartition("/")[2], trainings[0][1]) if trainings else ("", "")
    new = next((entry for entry in releases if trained and f"/{trained}/" in entry["artifacts"]["baseline"]), None)
    found = loop.report(tick["run"])
    estimate, realised = (reports.performance(found, part) for part in (reports.ESTIMATE, reports.REALISED))
    return Row(
        tick=place + 1,
        window=stage.window,
        input=stage.name,
        about=stage.about,
        learned_on=loop.stage_of(used["training_data"]),
        drift=reports.VERDICTS.get(found.get("verdict", "")),
        drifted=tuple(found.get("drifted", [])),
        retrained_on=loop.stage_of(new["training_data"]) if new else "",
        before=rounded(scores.of_run(tick["run"], stage)),
        after=rounded(scores.of_release(new)[stage.name]) if new else None,
        why=f"{tick['why']} The training failed: {failed}" if failed else tick["why"],
        unknown="" if estimate else reports.why_unknown(found, reports.ESTIMATE),
        **_figures(estimate, "estimated", "low", "high", "worse"),
        **_figures(realised, "realised", "realised_low", "realised_high", "realised_worse"),
    )


def _figures(found: Performance | None, *names: str) -> dict[str, Any]:
    values = (rounded(found.value), rounded(found.low), rounded(found.high), found.alarm) if found else ()
    return dict(zip(names, values or (None, None, None, False), strict=True))


def interval(value: float | None, low: float | None, high: float | None, worse: bool) -> str:
    """A metric with its limits, and whether it is an alarm."""
    limits = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
    return f"{number(value)}{limits}{', worse' if worse and value is not None else ''}"


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of one width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{text:<{w}}" for text, w in zip(line, widths, strict=True)).rstrip() for line in lines]


def cell(value: object) -> str:
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


def page(table: Table) -> str:
    """The whole page as HTML."""
    closed, said = table.verdict()
    verdict = Verdict("decision off", "unknown", said, "Compare with the simulation in which the loop may retrain.")
    if table.decision:
        todo = "Read the rows without a retraining: is their metric one that you can live with?"
        word, tone = ("the loop closes", "good") if closed else ("no gain", "bad")
        verdict = Verdict(word, "good" if tone == "good" else "bad", said, todo)
    worth = "Before, and after a retraining on the same stage."
    worth += f" Without labels: {table.unknown}." if table.unknown else ""
    values = [[row.get(stage) for stage in table.stages] for row in table.matrix.values()]
    matrix = report.matrix([*table.matrix], table.stages, values, "Trained on, tested on", table.metric)
    about = [[row.input, row.about or None, listed(row.drifted, 6) or None] for row in table.rows]
    stages = report.table(["Stage", "What it is", "What drifted, the strongest first"], about)
    reasons = report.table(["Tick", "Window", "Reason"], [[row.tick, row.window, row.why] for row in table.rows])
    sections = [
        Section("Tick by tick", "A tick is a day of the simulated clock.", _ticks(table)),
        Section("What the predictions were worth", worth, _course(table)),
        Section("Every model on every stage", "Rows: learned from. Columns: tested on.", matrix),
        Section("The stages", "What changes from one to the next.", stages),
        Section("Why", "What the function after each scoring run decided, in its own words.", reasons),
        Section("What this can't show", LIMITS),
    ]
    return report.page("Drift, retraining, release", verdict, sections)


def _ticks(table: Table) -> Markup:
    heads = ["Tick", "Input", "Baseline learned on", "Drift", "Retrained on", f"{table.metric} before", "After"]
    rows = [
        [row.tick, row.input, row.learned_on, VERDICTS[row.drift], row.retrained_on or None, row.before, row.after]
        for row in table.rows
    ]
    beside = table.beside("Estimated without labels", "Realised, by labels")
    rows = [[*cells, *more] for cells, *more in zip(rows, *beside.values(), strict=True)]
    alarms = [row.drift or row.worse or row.realised_worse for row in table.rows]
    return report.table([*heads, *beside], rows, marked=[place for place, alarm in enumerate(alarms) if alarm])


def _course(table: Table) -> Markup:
    """The metric over the ticks, what monitoring made of it without labels and with them, and what retraining gave."""
    gains, intervals = list[tuple[str, float]](), list[Interval]()
    for row in table.rows:
        after = (("before", row.before), ("retrained", row.after)) if row.retrained_on else ()
        gains += [(f"{row.input}, {when}", value) for when, value in after if value is not None]
        estimated = ("estimated", row.low, row.estimated, row.high)
        for how, *limits in (estimated, ("realised", row.realised_low, row.realised, row.realised_high)):
            if None not in limits:
                intervals.append(Interval(f"{row.input}, {how}", *limits))
    before = [Point(row.input, row.before, bool(row.drift)) for row in table.rows]
    parts = [report.timeline(before, "Metric of what was predicted", table.metric, mark="drift")]
    parts += [report.bars(gains, table.metric, "What each retraining gave")] if gains else []
    title = "Estimated without labels, and realised by them"
    parts += [report.interval(intervals, table.metric, title)] if intervals else []
    return report.join(*parts)


def simulate(here: Repository, options: Options) -> int:
    """Simulate, print and write the table; the exit code.

    0 also where the loop did not help; the table says so. Raises Failure where it can't be run.
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
        texts = {"table.csv": table.csv(), "report.html": page(table)}
        write_json(simulated.local / "table.json", asdict(table))
        for name, text in texts.items():
            partial = simulated.local / f".{name}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(simulated.local / name)
    print("", *table.text(), "", *table.matrix_text(), "", table.verdict()[1], sep="\n")
    for line in filter(None, map(_remark, table.rows)):
        print(line)
    for name in texts:
        print(f"{name.partition('.')[0]}: {simulated.shown(simulated.local / name)}")
    return 0


def _begin(simulated: Simulated, options: Options, stages: list[Stage]) -> None:
    """Go on with a simulation of the same things; what was made from others is cleared away."""
    file = simulated.local / "plan.json"
    plan = {  # what the result depends on → its hash
        "the stages": repository.of([repository.files(stage.folder, [stage.folder]) for stage in stages]),
        "the components": repository.of([repository.component(simulated, name) for name in COMPONENTS]),
        "the pipelines or settings": repository.sources(simulated, options.environment),
        "the functions or the simulation itself": repository.of(
            repository.files(simulated.root, [simulated.root / "batchloop"])
        ),
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
    shown = len(ticks)
    if not loop.releases():
        print(f"training the first model on stage {loop.stages[0].name}", flush=True)
    going = True
    while going:
        going = loop.step()
        if shown and (not going or (len(ticks) > shown and ticks[shown - 1]["why"])):
            where = f"tick {shown} of {len(loop.stages)}, stage {loop.stages[shown - 1].name}"
            print(f"{where}: {ticks[shown - 1]['why']} ({monotonic() - begun:.0f} s)", flush=True)
            begun = monotonic()
        shown = max(shown, len(ticks))


def _remark(row: Row) -> str:
    """An alarm that nothing was done about."""
    if not (row.drift or row.worse or row.realised_worse) or row.retrained_on:
        return ""
    alarm = "drifted" if row.drift else "was scored worse" if row.realised_worse else "was expected to score worse"
    return f"tick {row.tick} {alarm} and stays at {number(row.before)}: {row.why}"
