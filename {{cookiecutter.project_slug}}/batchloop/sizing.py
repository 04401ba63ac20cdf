"""`make size`: which instances the jobs of a real run need, from what a sample of its rows has used on this machine.

Both pipelines run twice on rows of the table, once with few and once with more, in a copy of the repository. Each job
says at its end what it has used; the straight line through both gives the rest. What does not grow with the rows
(start, a search of fixed length) is so told apart from what does.
"""

import io
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from batchloop import cost, local
from batchloop import environment as environments
from batchloop.adopt import pictures
from batchloop.container import files, memory, usecase
from batchloop.container.job import InputError
from batchloop.container.lines import ROW
from batchloop.cost import STEPS, JobStep, Prices
from batchloop.engine import running
from batchloop.pipelines import definitions
from batchloop.repository import Repository

MOST_ROWS = 400_000  # that are measured, after a quarter of them
FAR = 100  # times the rows that were measured, from where on a line is a guess
USED = re.compile(r"used ([\d.]+) processor seconds and at most (\d+) MiB")
SPREAD = ("PrepareFeatures", "ScoreFeatures")  # steps that several instances share, besides those of JobStep.shared
MOST = 32  # instances of one job
APPROVED = "ApprovalStatus=Approved"
Measured = tuple[float, float, float]  # seconds, processor seconds and MiB of one job


class Use(NamedTuple):
    """What a job needs: seconds that nothing makes shorter, seconds that processors share, and MiB."""

    serial: float
    parallel: float
    memory: float


@dataclass(frozen=True)
class Choice:
    """Instances for a job, the minutes that it works, and what a run costs."""

    instance: str
    count: int
    minutes: float
    cost: float


def show(repository: Repository, data: str, real: int | None, longest: float) -> int:
    """Print a line a job; the exit code, 1 where nothing is large enough. Raises InputError.

    `data` is a table with labels ("" for the training data), `real` how many rows are to be worked on, in at most
    `longest` minutes a job.
    """
    environment = definitions.read(repository)[1]
    prices, case = cost.load(repository, environment.region), usecase.load(repository.root / "usecase.toml")
    found = files.find(Path(local.as_table(repository, data, True)) if data else repository.data("train"))
    frame = pl.concat([files.scan(file, case.data) for file in found], how="diagonal_relaxed").drop(ROW)
    there = int(frame.select(pl.len()).collect(engine="streaming").item())
    rows, sizes = real or there, [min(there, MOST_ROWS) // 4, min(there, MOST_ROWS)]
    print(f"{there:,} rows are there: both pipelines run on {sizes[0]:,}, then on {sizes[1]:,} of them", flush=True)
    with _linked(repository) as alone:
        few, many = (_measured(alone, found, frame.gather_every(there // size).head(size)) for size in sizes)
    print(f"\nfor {rows:,} rows, where no job works for more than {longest:g} minutes:")
    small = False
    if rows > FAR * sizes[1]:
        far = f"{rows / sizes[1]:,.0f} times the rows that were measured"
        print(f"({far}: more rows in DATA say more, above all of memory, which grows no more once batches are full)")
    for step in STEPS:
        use = extrapolated(few[step.name], many[step.name], (rows - sizes[1]) / (sizes[1] - sizes[0]))
        chosen = choice(step, use, prices, longest)
        small |= chosen is None
        now = environment.instances[step.job].type
        wrong = f"; {now}, which {environment.file} has, is too small" if 0 < memory.usable(now) < use.memory else ""
        print(f"  {step.name:<20} {_words(chosen, use)}{wrong}")
    print(
        "\nMeasured here and drawn on in a straight line, a processor here taken for one there. Copying the data is\n"
        "not in it, nor the disk (volume_gb)."
    )
    return int(small)


@contextmanager
def _linked(repository: Repository) -> Iterator[Repository]:
    """Links to the repository, without what runs left: neither models nor cached steps mix.

    Its environments have one instance a job, whose need is measured, and track nothing; its gate lets every model pass.
    """
    alone = replace(repository, root=repository.local.absolute() / "size", elsewhere=None)
    shutil.rmtree(alone.root, ignore_errors=True)
    try:
        (alone.root / "environments").mkdir(parents=True)
        for entry in repository.root.absolute().iterdir():
            if entry.name not in ("environments", "local", ".git"):
                (alone.root / entry.name).symlink_to(entry)
        for file in (repository.root / "environments").glob("*.toml"):
            text = re.sub(r"count = \d+", "count = 1", environments.untracked(file.read_text("utf-8")))
            (alone.root / "environments" / file.name).write_text(text, encoding="utf-8")
        training, compiled = definitions.definition(alone, "training"), alone.compiled / "training.json"
        compiled.write_text(json.dumps(ungated(training)), encoding="utf-8")
        yield alone
    finally:
        shutil.rmtree(alone.root, ignore_errors=True)


def _measured(alone: Repository, found: list[Path], rows: pl.LazyFrame) -> dict[str, Measured]:
    """What each step of both pipelines uses for these rows of the files found. Raises InputError where one fails."""
    case, sample, used = usecase.load(alone.root / "usecase.toml"), alone.local / "rows", dict[str, Measured]()
    shutil.rmtree(sample, ignore_errors=True)
    sample.mkdir(parents=True)
    rows.sink_parquet(sample / "sample.parquet")
    for folder in {file.parent for file in found}:
        pictures.bring(pl.scan_parquet(sample / "sample.parquet"), case, folder, sample)
    options = local.RunOptions(str(sample))
    runs = ((local.train, replace(options, parameters=(APPROVED,), fresh=True)), (local.score, options))
    for work, given in runs:
        with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
            failed = work(alone, given)
        if failed:
            raise InputError(f"`make {work.__name__}` fails on these rows: {said.getvalue().strip()[-600:]}")
        record = next(running.records(alone))
        for step, about in record["steps"].items():
            log = alone.local / "runs" / record["execution"] / "logs" / f"{step}.log"
            if log.is_file() and (told := USED.findall(log.read_text(encoding="utf-8", errors="replace"))):
                used[step] = about["seconds"], float(told[-1][0]), float(told[-1][1])
    return used


def ungated(training: Mapping[str, Any]) -> dict[str, Any]:
    """The training pipeline without the gate's conditions: it registers whatever a few rows have taught a model."""
    steps = json.loads(json.dumps(training["Steps"]))
    for arguments in (step["Arguments"] for step in steps if step["Type"] == "Condition"):
        if any(inner["Type"] == "RegisterModel" for inner in arguments["IfSteps"]):
            arguments["Conditions"] = []
    return {**training, "Steps": steps}


def extrapolated(few: Measured, many: Measured, more: float) -> Use:
    """On the line through both measurements, which falls nowhere; `more` is in steps from the first to the second."""
    wall, work, memory = (end + more * max(0.0, end - begin) for begin, end in zip(few, many, strict=True))
    if (cores := os.cpu_count() or 1) == 1:
        return Use(work, 0.0, memory)
    # wall = serial + parallel / cores, work = serial + parallel (Amdahl, 1967)
    parallel = min(work, max(0.0, (work - wall) / (1 - 1 / cores)))
    return Use(work - parallel, parallel, memory)


def choice(step: JobStep, use: Use, prices: Prices, longest: float) -> Choice | None:
    """The cheapest instances that are large and quick enough, among those with a price; None where there are none."""
    start, found = prices.assumed["start_minutes"], list[Choice]()
    most = MOST if step.shared or step.name in SPREAD else 1
    for instance, hour in prices.hours.items():
        if use.memory > memory.usable(instance):
            continue
        alone = (use.serial + use.parallel / memory.processors(instance)) / 60
        if (count := max(1, math.ceil(alone / longest))) <= most:
            minutes = alone / count
            found.append(Choice(instance, count, minutes, count * (minutes + start) / 60 * hour))
    return min(found, key=lambda its: (its.cost, its.count), default=None)


def _words(chosen: Choice | None, use: Use) -> str:
    needs = f"{use.memory / 1024:.1f} GiB and {(use.serial + use.parallel) / 60:.1f} processor minutes"
    if chosen is None:
        return f"no instance with a price is large or quick enough for {needs}"
    return f"{chosen.count} × {chosen.instance:<15} {chosen.minutes:8.1f} min {cost.money(chosen.cost):>8}   {needs}"
