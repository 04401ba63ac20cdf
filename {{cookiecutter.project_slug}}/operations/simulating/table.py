"""The simulation's result as a table: a row for each tick, and every model on every stage."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from functions import reports
from operations.simulating import measures
from operations.simulating.loop import Loop
from operations.simulating.scores import Scores, Values
from runtime import metrics


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
    return Table(measures.name(world.case), world.places.settings.enabled, rows, matrix)


def _row(loop: Loop, scores: Scores, releases: Sequence[Mapping[str, Any]], place: int) -> Row:
    world, stage, tick = loop.world, loop.stages[place], loop.world.state["ticks"][place]
    run = world.state["executions"][tick["run"]]
    used = next(entry for entry in releases if entry["artifacts"]["baseline"] == run["parameters"]["Baseline"])
    trained, failed = _training(loop, place + 1)
    new = next((entry for entry in releases if trained and f"/{trained}/" in entry["artifacts"]["baseline"]), None)
    report = world.report(tick["run"])
    found, measured = reports.expected(report), _measured(report, measures.name(world.case))
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
        estimated=rounded(found.estimated) if found else None,
        low=rounded(found.low) if found else None,
        high=rounded(found.high) if found else None,
        worse=bool(found and found.alarm),
        why=f"{tick['why']} The training failed: {failed}" if failed else tick["why"],
        unknown="" if found else reports.why_unknown(report),
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
