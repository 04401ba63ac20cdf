"""`make simulate`: run the loop to its end, and say in a table and a report what retraining gave."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import polars as pl

from batchloop import repository
from batchloop.container import files, metrics, raw, realised, report
from batchloop.container.job import InputError
from batchloop.container.tables import LABEL
from batchloop.container.usecase import UseCase
from batchloop.control import handlers, reports
from batchloop.control.reports import Performance
from batchloop.engine import graph, running
from batchloop.engine.graph import Selection
from batchloop.engine.running import Order
from batchloop.engine.storage import write_json
from batchloop.repository import COMPONENTS, Repository, aligned
from batchloop.simulate.loop import ABOUT, Loop, Options, Stage, find_stages, open_loop

Values = dict[str, float | None]
NOTHING = "–"
KEPT = ("lock", "stages")  # all else is of one simulation


@dataclass(frozen=True)
class Row:
    """One tick: `before` is the metric of what was predicted, `after` that of a model retrained on this stage's rows.

    `estimated` is what monitoring made of the predictions without labels, where it does so, and `unknown` why not;
    `realised` is what it measured once it had the labels. An alarm of either can be a reason to retrain without drift.
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
    estimated: Performance | None = None
    realised: Performance | None = None
    why: str = ""
    unknown: str = ""

    @property
    def alarm(self) -> bool:
        return bool(self.drift) or any(known.alarm for known in (self.estimated, self.realised) if known)


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

    def cells(self) -> tuple[list[str], list[list[Any]]]:
        """Heads and rows; the last two are what monitoring made of each window without and with labels."""
        heads = ["tick", "input", "baseline learned on", "drift", "retrained on", f"{self.metric} before", "after"]
        rows = []
        for row in self.rows:
            known = [shown(value) for value in (row.estimated, row.realised)]
            drift, retrained = shown(row.drift), row.retrained_on or None
            rows.append([row.tick, row.input, row.learned_on, drift, retrained, row.before, row.after, *known])
        return [*heads, "estimated", "realised"], rows

    def text(self) -> list[str]:
        heads, rows = self.cells()
        lines = aligned([heads, *([shown(value) for value in row] for row in rows)])
        return [*lines, *([f"performance without labels: {self.unknown}"] if self.unknown else [])]

    def matrix_text(self) -> list[str]:
        lines = [[name, *(shown(row.get(stage)) for stage in self.stages)] for name, row in self.matrix.items()]
        return aligned([["trained on \\ tested on", *self.stages], *lines])

    def verdict(self) -> tuple[bool, str]:
        """Whether the loop closed, in a sentence."""
        retrained = [row for row in self.rows if row.retrained_on]
        worse = sum(row.estimated.alarm and not row.drift for row in self.rows if row.estimated)
        said = f"{sum(bool(row.drift) for row in self.rows)} of {len(self.rows)} windows drifted, "
        said += f"{worse} more {'was' if worse == 1 else 'were'} expected to score worse, " if worse else ""
        said += f"and {len(retrained)} led to a new release"
        gains = [metrics.lead(self.metric, row.after, row.before) for row in retrained if row.after and row.before]
        if gains:
            low, high = shown(min(gains)), shown(max(gains))
            said += f"; each made {self.metric} better by {low} to {high} on its window"
        return bool(gains) and min(gains) >= 0 < max(gains), f"{said}."


def build(loop: Loop) -> Table:
    """From what the simulated account holds."""
    releases = loop.releases()
    matrix: dict[str, Values] = {}
    for manifest in releases:
        name = loop.stage_of(manifest["training_data"])
        matrix[f"{name} again" if name in matrix else name] = of_release(loop, manifest)
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
    of_it = [entry for entry in releases if trained and f"/{trained}/" in made[entry["model_package"]]["baseline"]]
    new = of_it[0] if of_it else None
    judged = loop.report(tick["run"])
    estimated, realised = (reports.performance(judged, part) for part in (reports.ESTIMATE, reports.REALISED))
    return Row(
        tick=place + 1,
        window=stage.window,
        input=stage.name,
        about=stage.about,
        learned_on=loop.stage_of(used["training_data"]),
        drift=reports.VERDICTS.get(judged.get("verdict", "")),
        drifted=tuple(judged.get("drifted", [])),
        retrained_on=loop.stage_of(new["training_data"]) if new else "",
        before=of_release(loop, used)[stage.name],
        after=of_release(loop, new)[stage.name] if new else None,
        estimated=estimated,
        realised=realised,
        why=f"{tick['why']} The training failed: {failed}" if failed else tick["why"],
        unknown="" if estimated else reports.why_unknown(judged, reports.ESTIMATE),
    )


def measure(case: UseCase, stage: Stage, predictions: pl.DataFrame) -> float | None:
    """The gate's metric of a stage's rows, whose ids have its number before them; None where labels don't allow it."""
    mark, identity, series = f"{stage.number}:", pl.col(predictions.columns[0]), case.series
    own = predictions.lazy().filter(identity.str.starts_with(mark)).with_columns(identity.str.strip_prefix(mark))
    for part in ("labels",) if series else ("production", *(["train"] if case.data.id else [])):
        with suppress(InputError):  # no labels there
            joined = realised.join(case, stage.folder / part, own, stage.folder / "production")
            if joined.reason or joined.rows[LABEL].n_unique() < (2 if case.data.classes else 1):
                return None
            value = realised.scored_rows(case, joined.rows, case.prediction.threshold).measured()[case.gate.metric]
            return value if math.isfinite(value) else None
    return None


def of_release(loop: Loop, manifest: Mapping[str, Any]) -> Values:
    """Stage → the metric of a release on its production rows; all of them are scored in one go, once."""
    local, identity, prefix = loop.repository.local, f"release-{manifest['version']}", "s3://measuring"
    file = local / "scores" / f"{manifest['version']}.json"
    if not file.is_file():
        definition = loop.account.definition(loop.places.pipeline("inference"))
        values, _ = handlers.scoring(loop.aws, loop.places, manifest, loop.stages[0].window)
        values |= {"ProductionData": _all_rows(loop), "ArtifactsPrefix": prefix}
        selection = Selection(scoring_steps(definition))
        finished = loop.run(Order(definition, "measuring", values, identity, True, selection))
        if finished.failed:
            why = "; ".join(step.message for step in finished.failed.values())
            raise InputError(f"release {manifest['version']} can't be measured: {why}")
        stored = loop.account.storage.files(f"{prefix}/{identity}/ScoreFeatures/predictions/")
        tables = [pl.read_parquet(path, glob=False) for name, path in stored if name.endswith(".out")]
        rows = pl.concat(tables, how="vertical_relaxed")
        measured = {stage.name: measure(loop.case, stage, rows) for stage in loop.stages}
        found = {name: None if value is None else round(value, 4) for name, value in measured.items()}  # no noise
        file.parent.mkdir(exist_ok=True)
        write_json(file, found)
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _all_rows(loop: Loop) -> str:
    """The URI of all stages' production rows, under ids that tell the stages apart."""
    folder, data, series = loop.repository.local / "rows", loop.case.data, loop.case.series
    name = series.id if series else data.id
    if not folder.is_dir():
        partial = folder.with_name(".rows")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for stage in loop.stages:
            for file in files.find(stage.folder / "production"):
                frame, mark = files.scan(file, data).drop(raw.ROW), f"{stage.number}:"
                if name:
                    marked = pl.concat_str([pl.lit(mark), raw.as_text(name).str.strip_chars()])
                    frame = frame.with_columns(marked.alias(name))
                frame.sink_parquet(partial / f"{mark}{file.name.split('.')[0]}.parquet")
        partial.rename(folder)
    return f"{folder.as_uri()}/"


def scoring_steps(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """The batch transform of a pipeline, and the steps that it needs."""
    nodes = graph.nodes(definition)
    wanted = {name for name, node in nodes.items() if node.type == "Transform"}
    wanted |= graph.ancestors(nodes, wanted)
    return tuple(name for name in nodes if name in wanted)


def shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return NOTHING if value is None else str(value).upper()
    if isinstance(value, Performance):
        limits = "" if None in (value.low, value.high) else f" ({shown(value.low)} to {shown(value.high)})"
        return f"{shown(value.value)}{limits}{', worse' if value.alarm else ''}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def page(table: Table) -> str:
    closed, said = table.verdict()
    return report.render("simulation.html", Path(__file__).parent, result=table, closed=closed, said=said)


def simulate(here: Repository, options: Options) -> int:
    """Simulate, print and write the table; the exit code, 0 also where it did not help. Raises InputError."""
    folder = "simulation" if options.decision else "simulation-off"  # nothing is left where the user's own runs are
    simulated = replace(here, elsewhere=here.local / folder)
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
    about = stages[0].folder.with_name(ABOUT)
    published = ["", about.read_text(encoding="utf-8").strip(), ""] if about.is_file() else []
    print("", *table.text(), "", *table.matrix_text(), "", table.verdict()[1], *published, sep="\n")
    for name in ("table.json", "report.html"):
        print(f"{name.partition('.')[0]}: {simulated.shown(simulated.local / name)}")
    return 0


def _begin(simulated: Repository, options: Options, stages: list[Stage]) -> None:
    """Go on with a simulation of the same things; what was made from others is cleared away."""
    file = simulated.local / "plan.json"
    made_from = [repository.files(stage.folder, [stage.folder]) for stage in stages]
    made_from += [repository.parts(simulated, name) for name in COMPONENTS]
    plan = {"made_from": repository.of([made_from, repository.sources(simulated)])}
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if before == plan:
        print("going on with the simulation that was begun; FRESH=yes begins anew", flush=True)
        return
    if before is not None:
        print("beginning anew: the stages, the components, the pipelines, settings or functions changed", flush=True)
    _clear(simulated)
    write_json(file, plan)


def _clear(simulated: Repository) -> None:
    for path in simulated.local.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _go(loop: Loop) -> None:
    """Go on to the end, with a line for each tick that is over."""
    begun = monotonic()
    print(f"training the first model on stage {loop.stages[0].name}", flush=True)
    for number in loop.ticks():
        what = f"tick {number} of {len(loop.stages)}, stage {loop.stages[number - 1].name}"
        print(f"{what}: {loop.state['ticks'][-1]['why']} ({monotonic() - begun:.0f} s)", flush=True)
        begun = monotonic()
