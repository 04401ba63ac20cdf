"""`operations cost`: about what a run and a month cost, from the environment, run times and a table of prices.

An estimate before anything is spent, not a bill. All but the table on the screen needs the standard library only.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime

from operations.costing.estimates import Estimate, Options, make
from operations.failures import Failure
from operations.repository import Repository

__all__ = ["Options", "show", "summary"]


def show(repository: Repository, environment: str, options: Options) -> int:
    """Print the table, the totals and what they assume; the exit code. Raises Failure."""
    from operations.costing import table  # noqa: PLC0415 - rich is not there before `make setup`

    table.show(make(repository, environment, options, today()))
    return 0


def summary(repository: Repository, environment: str) -> list[str]:
    """Two to four lines for a plan or a deployment, which do not fail because of them."""
    try:
        return list(_lines(make(repository, environment, Options(), today())))
    except Failure as failure:
        return ["what it would cost can't be told:", str(failure)]


def _lines(estimate: Estimate) -> Iterator[str]:
    """The estimate in short: a run, a month, what to know before believing it, and where the rest is."""
    prices, currency = estimate.prices, estimate.prices.currency
    scoring, training = between(*estimate.run("inference")), between(*estimate.run("training"))
    runs = "no countable" if estimate.runs is None else f"{estimate.runs:.0f}"
    yield (
        f"about {scoring} {currency} a scoring run and {training} a training "
        f"(prices of {prices.region}, {prices.when:%B %Y})"
    )
    yield (
        f"about {between(*estimate.month)} {currency} a month with {runs} scoring runs, {estimate.retrainings:g} "
        f"training(s) and {estimate.stored_gb:g} GB; {money(estimate.fixed)} of it even if nothing runs"
    )
    if estimate.remarks:
        yield f"but {'; '.join(estimate.remarks)}"
    yield f"what that assumes: make cost ENV={estimate.where.name}"


def between(least: float, most: float) -> str:
    """One amount, or a range where spare capacity may make it less."""
    low, high = money(least), money(most)
    return high if low == high else f"{low} to {high}"


def money(amount: float) -> str:
    """Cents, and tenths of them for what is less than ten."""
    if 0 < amount < 0.0005:
        return "<0.001"
    return f"{amount:,.2f}" if amount >= 0.0995 or not amount else f"{amount:.3f}"


def today() -> date:
    """The day by which the age of the prices counts."""
    return datetime.now(UTC).date()
