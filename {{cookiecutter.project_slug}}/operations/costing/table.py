"""The estimate as a table, with what it leaves out and what it assumes below."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from operations.costing import between, money
from operations.costing.estimates import Estimate, JobCost
from operations.costing.prices import FILE

if TYPE_CHECKING:
    from rich.table import Table

    from operations.costing.standing import Charge

TITLES = {"training": "one training", "inference": "one scoring run"}
WITHOUT = ", without what has no price"
PLAIN_WIDTH = 110  # of a file or a pipe, which have none of their own


def show(estimate: Estimate) -> None:
    """Print it."""
    from rich.console import Console  # noqa: PLC0415 - the summary does without

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    where = estimate.where
    console.print(f"What {where.slug} would cost in {where.name}, about. Nothing was asked of AWS.")
    console.print(_table(estimate))
    for line in _below(estimate):
        console.print(line, markup=False, soft_wrap=True)


def _table(estimate: Estimate) -> "Table":
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "amount", "minutes", "taken"):
        table.add_column(heading, justify="right" if heading == "minutes" else "left")
    table.add_column(estimate.prices.currency, justify="right")
    for pipeline, title in TITLES.items():
        for job in estimate.jobs:
            if job.step.pipeline == pipeline:
                table.add_row(f"  {job.step.name}", *_job(job))
        label = title if estimate.whole(pipeline) else f"{title}{WITHOUT}"
        table.add_row(label, "", "", "", between(*estimate.run(pipeline)), style="bold")
        table.add_row()
    _add_month(table, estimate)
    return table


def _job(job: JobCost) -> tuple[str, str, str, str]:
    cost = "no price" if job.most is None or job.least is None else between(job.least, job.most)
    return f"{job.instances.count} × {job.instances.type}", f"{job.minutes:.1f}", job.origin, cost


def _add_month(table: "Table", estimate: Estimate) -> None:
    scoring, training, runs = estimate.run("inference"), estimate.run("training"), estimate.runs
    each = "?" if runs is None else between(runs * scoring[0], runs * scoring[1])
    table.add_row("  scoring runs", "?" if runs is None else f"{runs:.0f}", "", "", each)
    often = estimate.retrainings
    table.add_row("  trainings", f"{often:g}", "", "", between(often * training[0], often * training[1]))
    for charge in estimate.charges:
        table.add_row(f"  {charge.what}", charge.amount, "", "", _charge(charge))
    table.add_row(f"one month{_left_out(estimate)}", "", "", "", between(*estimate.month), style="bold")


def _left_out(estimate: Estimate) -> str:
    whole = all(estimate.whole(pipeline) for pipeline in TITLES)
    priced = whole and all(charge.cost is not None for charge in estimate.charges)
    runs = "" if estimate.runs is not None else ", without scoring runs"
    return runs if priced else f"{runs}{WITHOUT}"


def _charge(charge: "Charge") -> str:
    return "no price" if charge.cost is None else money(charge.cost)


def _below(estimate: Estimate) -> Iterator[str]:
    prices, assumed, where = estimate.prices, estimate.prices.assumed, estimate.where
    yield ""
    for remark in estimate.remarks:
        yield f"note: {remark}."
    yield f"Prices: {prices.source}, {prices.region}, {prices.when:%d %B %Y}; {FILE} says how they were come by."
    yield f"Minutes: {assumed.start_minutes:g} for the start of each job (assumed) and what it works:"
    yield "  as here     as long as the newest run on this machine, which is no SageMaker instance: MINUTES corrects it"
    yield f"  as given    MINUTES; assumed: it never ran here, {assumed.work_minutes:g} minutes are a guess"
    if where.spot:
        yield (
            f"Spare capacity: a training job may cost up to {prices.spot_saves:.0%} less, as AWS advertises it. "
            "The higher figure is without."
        )
    yield f"Images are shared by the environments of an account; {assumed.images_gb:g} GB is an assumption."
    yield "In no total: free tiers, taxes, requests and transfers, builds, notices, a VPC's endpoints, failed runs, and"
    yield "the functions, events and queues, which come to cents a month."
