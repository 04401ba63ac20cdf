"""From the command to the table: begin or go on, tick by tick, then write what was found."""

import json
import shutil
from time import monotonic

from operations import fingerprints
from operations.engine import running
from operations.engine.storage import write_json
from operations.repository import COMPONENTS, Repository
from operations.simulating import page, stages, table
from operations.simulating.loop import Loop
from operations.simulating.options import Options, Simulated
from operations.simulating.stages import Stage
from operations.simulating.table import Row, Table, number
from operations.simulating.world import open_world

KEPT = ("lock", "stages")  # all else is of one simulation


def run(repository: Repository, options: Options) -> int:
    """Simulate, print and write the table. Raises Failure."""
    simulated = Simulated(repository.root, options.decision)
    simulated.local.mkdir(parents=True, exist_ok=True)
    with running.exclusively(simulated):
        if options.fresh:
            _clear(simulated)
        found = stages.found(simulated, options)
        _begin(simulated, options, found)
        loop = Loop(open_world(simulated, options), found)
        _go(loop)
        result = table.build(loop)
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
    code = [root / "infra" / "functions", root / "operations"]
    return {
        "the stages": fingerprints.of([fingerprints.files(stage.folder, [stage.folder]) for stage in found]),
        "the components": fingerprints.of([fingerprints.component(simulated, name) for name in COMPONENTS]),
        "the pipelines or settings": fingerprints.sources(simulated, options.environment),
        "the functions or the simulation itself": fingerprints.of(fingerprints.files(root, code)),
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
    for name, text in (("table.csv", result.csv()), ("report.html", page.page(result))):
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
