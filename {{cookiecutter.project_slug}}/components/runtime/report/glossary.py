"""The words of the reports' tables, a line each: shown where a header is pointed at, and at the end of the page."""

from collections.abc import Iterable

TERMS = {
    "PSI": "Population stability index, 0 upwards: how much the shares of the values have moved. Chance alone gives "
    "more than 0, the more so the fewer rows; 0.1 is often called a small change, 0.25 a large one.",
    "KS": "Kolmogorov–Smirnov distance, 0 to 1: the largest gap between the two cumulative distributions; "
    "numbers and dates only.",
    "JS": "Jensen–Shannon distance, 0 (the same distribution) to 1 (nothing in common).",
    "Wasserstein": "How far the values have moved on average, in standard deviations of the training data; "
    "numbers and dates only.",
    "p corrected": "How likely chance alone makes a change this large, corrected for testing many columns at once "
    "(Holm).",
    "missing %": "Share of the rows without a value, in percent.",
    "invalid %": "Share of the rows whose value cannot be read as the column's type, in percent.",
    "distinct": "How many values have a bin of their own; the rarer ones share one.",
    "reasons %": "The column's share of all attributions in training: how much the model uses it, in percent.",
    "importance": "Mean absolute attribution: how far a feature moves the raw score of a row, on average.",
    "direction": "Correlation of a number with its own attribution, -1 to 1: near 1, larger values push the score up; "
    "near -1, down.",
    "raw score": "What the model adds up before it becomes a probability or a class.",
    "attribution": "What one feature adds to the raw score of one row; all of them and the base value make the score.",
}


def anchor(term: str) -> str:
    """The place of a term on the page."""
    return f"term-{list(TERMS).index(term) + 1}"


def linked(header: str) -> tuple[str, str] | None:
    """Anchor and explanation of a table's header, if it has any; a unit after a comma is no part of the term."""
    term = header if header in TERMS else header.partition(",")[0]
    return (anchor(term), TERMS[term]) if term in TERMS else None


def used(bodies: Iterable[str]) -> list[tuple[str, str, str]]:
    """Anchor, term and explanation of what the tables link to."""
    text = "".join(bodies)
    return [(anchor(term), term, TERMS[term]) for term in TERMS if f'href="#{anchor(term)}"' in text]
