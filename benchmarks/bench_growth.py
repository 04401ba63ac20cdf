"""How time and memory of each component grow with rows, columns, categories and files: a table and a plot for docs/.

Every point is the components' whole way from one table: each a fresh process with a limit of time and memory, kept at
once in build/bench/growth, so that an interrupted run goes on. Measured again only when the images' code changed. Time
is that of all processors: what else runs on the machine changes it least.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench_document import table
from bench_measure import Failed, Values, run
from bench_places import CLONE, TEMPLATE, Contract, Job, Places, code

SECONDS, MEMORY = 900.0, 8192.0  # that a point may take, MiB that it may have: beyond these it is ended, and said
PLOT = CLONE / "docs" / "growth.svg"
FEW_TREES = {"hyperparameters.num_iterations": 20, "hyperparameters.early_stopping_rounds": 0}
EXPLAINED = """\
Above 1: processing serve over columns. A request has a limit in bytes: the wider a table, the fewer rows has each
file of features, and each has a header for every column. Wide Parquet is unpacked a few columns at a time by way of
scratch, which 300 columns of 50,000 rows do not need yet. Below 1 a start of 0.3 to 0.7 s weighs more than the work."""
COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#555555")  # Okabe and Ito


@dataclass(frozen=True)
class Axis:
    """What grows, and everything that stays."""

    title: str
    points: tuple[int, ...]
    rows: int = 200_000
    numbers: int = 20
    categories: int = 8
    option: str = ""
    kind: str = "parquet"

    def shape(self, point: int) -> tuple[object, ...]:
        """Options of bench_tables.py."""
        options: dict[str, object] = {"rows": self.rows, "numbers": self.numbers, "categories": self.categories}
        if self.option == "columns":
            options |= {"numbers": point * 2 // 3, "categories": point - point * 2 // 3, "levels": 20}
        else:
            options |= {self.option: point}
        kind = ("--kind", self.kind) if self.option == "files" else ()
        return (*(part for name, value in options.items() for part in (f"--{name}", value)), *kind)

    def contract(self, point: int) -> Contract:
        """The columns of that table."""
        wide = self.option == "columns"
        numbers, categories = (point * 2 // 3, point - point * 2 // 3) if wide else (self.numbers, self.categories)
        return Contract(numbers, categories, settings=FEW_TREES)


AXES = {
    "rows": Axis("rows of 28 columns, Parquet", (100_000, 1_000_000, 10_000_000), option="rows"),
    "columns": Axis("columns of 50,000 rows", (30, 300, 3_000), 50_000, option="columns"),
    "categories": Axis("categories of a column", (10, 1_000, 1_000_000), 1_000_000, 2, 1, "levels"),
    "files-csv": Axis("CSV files of 200,000 rows", (1, 100, 10_000), option="files", kind="csv"),
    "files-parquet": Axis("Parquet files of 200,000 rows", (1, 100, 10_000), option="files"),
}


def way(places: Places, contract: Contract, raw: Path, answers: Path) -> dict[str, Job]:
    """Each component's modes from one table on, each given what those before it wrote.

    The algorithm's server is left out: its requests are bounded.
    """

    def job(component: str, mode: str, inputs: Mapping[str, Path]) -> Job:
        arguments = ("--max_payload_mb", "6") if (component, mode) == ("processing", "serve") else ()
        return Job(component, mode, inputs, contract, arguments, f"growth-{component}-{mode}")

    prepare = job("processing", "train", {"raw": raw, "champion": places.absent()})
    parts = {part: places.output(prepare, part) for part in ("train", "validation", "test", "champion_test")}
    fit = job("algorithm", "train", parts | {"champion": places.absent()})
    model = places.output(fit, "model")
    learn = job("monitoring", "train", {"raw": raw, "evaluation": places.output(fit, "data")})
    explain = job("explainability", "train", {"model": model, "features": parts["validation"]})
    explainer = places.output(explain, "explainer")
    features = job("processing", "serve", {"raw": raw, "preprocessor": places.output(prepare, "preprocessor")})
    batch = {"raw": raw, "predictions": answers, "baseline": places.output(learn, "baseline")}
    judge = job("monitoring", "serve", batch | {"explainer": explainer, "labels": places.absent()})
    given = {"features": places.output(features, "features"), "model": model, "explainer": explainer}
    jobs = (prepare, fit, learn, explain, features, judge, job("explainability", "serve", given))
    return {f"{each.component} {each.mode}": each for each in jobs}


def main(places: Places, names: Sequence[str], fresh: bool) -> None:
    """Every point that is not there yet; then the plot."""
    now = code(TEMPLATE / "batchloop" / "container") + code(TEMPLATE / "components")
    for name in names or AXES:
        for point in AXES[name].points:
            file = places.root / "growth" / f"{name}-{point:08d}.json"
            if fresh or not file.is_file() or json.loads(file.read_text(encoding="utf-8"))["code"] != now:
                values = measured(places, AXES[name], point)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps({"code": now, "values": values}, indent=1), encoding="utf-8")
    PLOT.write_text(plot(results(places)), encoding="utf-8")


def measured(places: Places, axis: Axis, point: int) -> dict[str, Values | str]:
    """Each component at this point, or why it did not get through; its table is gone afterwards."""
    target = places.table("raw" if axis.option == "files" else "raw.parquet", *axis.shape(point))
    answers = target.parent / "answers"
    places.ask("predictions", target, answers, 7)
    found: dict[str, Values | str] = {}
    for name, job in way(places, axis.contract(point), target, answers).items():
        try:
            found[name] = run(replace(places.begin(job), seconds=SECONDS, memory=MEMORY))
        except Failed as error:
            found[name] = str(error).splitlines()[-1].strip()
        print(f"{axis.title}, {point:,}: {name}: {cell(found[name])}", flush=True)
    shutil.rmtree(target.parent)
    return found


def results(places: Places) -> dict[str, dict[int, dict[str, Values | str]]]:
    """What was measured: axis → point → component → values, or why there are none."""
    found: dict[str, dict[int, dict[str, Values | str]]] = {name: {} for name in AXES}
    for file in sorted((places.root / "growth").glob("*.json")):
        name, _, point = file.stem.rpartition("-")
        found[name][int(point)] = json.loads(file.read_text(encoding="utf-8"))["values"]
    return {name: points for name, points in found.items() if points}


def cell(values: Values | str) -> str:
    """A point in the table."""
    return values if isinstance(values, str) else f"{values['cpu']:.1f} s, {values['memory']:,.0f} MiB"


def line(points: Mapping[int, Mapping[str, Values | str]], name: str, what: str) -> list[tuple[int, float]]:
    """A component's points that were reached."""
    found = [(point, values.get(name)) for point, values in points.items()]
    return [(point, values[what]) for point, values in found if isinstance(values, dict)]


def slope(points: Sequence[tuple[int, float]]) -> float:
    """Of the last step on log-log paper: 1 is linear. Over all points, what is there at the start would hide it."""
    (x, y), (further, more) = points[-2:]
    return math.log(more / y) / math.log(further / x)


def section(places: Places) -> str:
    """For docs/performance.md; empty where nothing was measured."""
    text = []
    for name, points in results(places).items():
        lines = []
        for component in dict.fromkeys(component for values in points.values() for component in values):
            found = [line(points, component, what) for what in ("cpu", "memory")]
            slopes = [f"{slope(each):.2f}" if len(each) > 1 else "" for each in found]
            lines.append([component, *(cell(values.get(component, "")) for values in points.values()), *slopes])
        head = [AXES[name].title, *(f"{point:,}" for point in points), "slope of time", "of memory"]
        text.append(table(head, lines))
    if not text:
        return ""
    return "\n\n".join(
        [
            "## Growth",
            "Each component in a fresh process, once a point: seconds of all processors and the peak of memory. Ended "
            f"after {SECONDS:.0f} s or above {MEMORY / 1024:.0f} GiB. The slope is that of the last step on log-log "
            "paper: 1 is linear, as the dashed line is. LightGBM fits 20 trees.",
            "![Time and memory over rows, columns, categories and files](growth.svg)",
            *text,
            EXPLAINED,
        ]
    )


def short(power: int) -> str:
    """A power of ten beside its neighbours: 1, 10, 100, 1 k … 10 M."""
    thousands, rest = divmod(power, 3)
    return f"{10**rest}{('', ' k', ' M', ' G')[thousands]}"


def plot(axes: Mapping[str, Mapping[int, Mapping[str, Values | str]]]) -> str:
    """Panels on log-log paper: time above, memory below; each component has its colour."""
    names = list(dict.fromkeys(name for points in axes.values() for values in points.values() for name in values))
    wide, high, gap = 230, 200, 60
    parts = []
    for column, (axis, points) in enumerate(axes.items()):
        for number, (what, unit) in enumerate((("cpu", "s"), ("memory", "MiB"))):
            lines = {name: line(points, name, what) for name in names}
            place = (gap + column * (wide + gap), 30 + number * (high + gap))
            parts.append(panel(lines, place, (wide, high), f"{AXES[axis].title} → {unit}"))
    keys = [
        f'<text x="{gap + 190 * number}" y="{2 * (high + gap) + 30}" fill="{COLOURS[number]}">— {name}</text>'
        for number, name in enumerate(names)
    ]
    size = f'width="{gap + len(axes) * (wide + gap)}" height="{2 * (high + gap) + 50}"'
    style = 'font-family="sans-serif" font-size="12"'
    inside = "\n".join([*parts, *keys])
    white = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{white}\n{inside}\n</svg>\n'


def panel(
    lines: Mapping[str, Sequence[tuple[int, float]]], place: tuple[int, int], size: tuple[int, int], title: str
) -> str:
    """One plot; whole powers of ten are marked."""
    every = [point for points in lines.values() for point in points]
    if not every:
        return ""
    bounds = []
    for numbers in zip(*every, strict=True):
        low, high = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
        bounds.append((low, max(high, low + 1)))

    def at(axis: int, value: float) -> float:
        low, high = bounds[axis]
        share = (math.log10(value) - low) / (high - low)
        return place[0] + share * size[0] if axis == 0 else place[1] + (1 - share) * size[1]

    left, top = place
    parts = [f'<text x="{left}" y="{top - 8}">{title}</text>']
    for power in range(bounds[0][0], bounds[0][1] + 1):
        x = at(0, 10.0**power)
        parts.append(f'<path d="M{x:.1f} {top}v{size[1]}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + size[1] + 14}" text-anchor="middle">{short(power)}</text>')
    for power in range(bounds[1][0], bounds[1][1] + 1):
        y = at(1, 10.0**power)
        parts.append(f'<path d="M{left} {y:.1f}h{size[0]}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    decades = min(high - low for low, high in bounds)
    ends = [(at(0, 10.0 ** (bounds[0][0] + far)), at(1, 10.0 ** (bounds[1][0] + far))) for far in (0, decades)]
    linear = " ".join(f"{x:.1f},{y:.1f}" for x, y in ends)
    parts.append(f'<polyline points="{linear}" fill="none" stroke="#999" stroke-dasharray="4"/>')
    for colour, points in zip(COLOURS, lines.values(), strict=False):
        drawn = " ".join(f"{at(0, x):.1f},{at(1, y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{at(0, x):.1f}" cy="{at(1, y):.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
    return "\n".join(parts)
