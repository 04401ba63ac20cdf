"""Categories of a batch that training did not know: a column of which none is known was written in another way."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from batchloop.container.job import InputError
from batchloop.container.raw import BROKEN
from batchloop.container.usecase import UseCase

FEW = 3  # rows, below which a batch of new categories is only warned of
BY_CHANCE = (0.05, 1e-5)  # a chance below the first is worth a word, below the second it is none


def counts(features: pl.LazyFrame | pl.DataFrame, learned: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Of each category: how many rows have a value, and how many one with a code of its own."""
    kinds = features.lazy().collect_schema()
    names = [feature["name"] for feature in learned["features"] if feature["kind"] == "category"]
    names = [name for name in names if isinstance(kinds.get(name), pl.Enum)]
    if not names:
        return {}
    own = (pl.col(names).to_physical() != 0).sum().name.prefix("own ")
    row = features.lazy().select(pl.col(names).count(), own).collect(engine="streaming").row(0)
    return {name: (row[at], row[len(names) + at]) for at, name in enumerate(names)}


class Known:
    """Counted batch by batch: what is known of the categories, and examples of what is not."""

    def __init__(self, learned: Mapping[str, Any]) -> None:
        self.learned = learned
        self.codes = dict[str, dict[str, str]]()  # by what is left of them without leading zeros, where that is no code
        for feature in learned["features"]:
            codes = {str(int(code)): code for code in feature.get("categories", ()) if code.isdecimal()}
            self.codes[feature["name"]] = {bare: codes[bare] for bare in codes.keys() - feature.get("categories", ())}
        self.present, self.own, self.lost = Counter[str](), Counter[str](), Counter[str]()
        self.examples: dict[str, str] = {}  # of codes that lost their zeros
        self.seen: dict[str, list[str]] = {}  # a few values, until one is known

    def count(self, batch: pl.DataFrame, features: pl.DataFrame) -> None:
        found = counts(features, self.learned)
        sources = {feature["name"]: feature["source"] for feature in self.learned["features"]}
        for name, (present, own) in found.items():
            if own < present and (self.codes[name] or not self.own[name] + own):
                cells = batch[sources[name]].filter(~batch[BROKEN]).drop_nulls()
                lost = cells.filter(cells.is_in([*self.codes[name]]))
                self.lost[name] += len(lost)
                if len(lost):
                    self.examples.setdefault(name, lost[0])
                few = [*self.seen.get(name, ()), *cells.unique(maintain_order=True).head(FEW)]
                self.seen[name] = [*dict.fromkeys(few)][:FEW]
            self.present[name] += present
            self.own[name] += own

    def check(self, usecase: UseCase) -> list[str]:
        """What to warn of: columns with categories of which training knew none, in too few rows to exclude chance.

        Raises InputError where chance is excluded and the column has not drift = false: it is written in another way.
        """
        warnings, moving = [], {column.name for column in usecase.columns if not column.drift}
        for feature in self.learned["features"]:
            name, column = feature["name"], feature["source"]
            then, present, known = self.learned.get("known", {}).get(name), self.present[name], self.own[name]
            zeros = self._without_zeros(name)
            if zeros and known:
                warnings.append(f"column {column!r}: {zeros}")
            if then is None or known or not present:
                continue
            unknown = (then[0] - then[1] + 1) / (then[0] + 2)  # of a value, as training saw it (Laplace's rule)
            if unknown**present > BY_CHANCE[0]:
                continue
            seen, wanted = (", ".join(map(repr, texts)) for texts in (self.seen[name], feature["categories"][1:4]))
            words = f"column {column!r}: training knew no value of its {present:,} here: {seen}; it knew {wanted}"
            words += f"; {zeros}" if zeros else ""
            if present >= FEW and unknown**present < BY_CHANCE[1] and column not in moving:
                advice = "mend the data, train again, or write drift = false beside it if it moves by its nature"
                raise InputError(f"{words} …; {advice}.")
            warnings.append(words)
        return warnings

    def _without_zeros(self, name: str) -> str:
        """Codes that lost their leading zeros where they were read as numbers, in words; "" where there are none."""
        if not self.lost[name]:
            return ""
        was = f"{self.examples[name]!r} was {self.codes[name][self.examples[name]]!r} in training"
        rows = f"leading zeros are missing in {self.lost[name]:,} rows ({was})"
        return f"{rows}: write the column as text, not as numbers"
