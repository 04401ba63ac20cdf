"""Random tables with every trap through adopt, train, score and label: no row is lost or added without a word."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.component_flow import Flow, Scored

ROWS = 420
Values = list[Any]
Draw = np.random.Generator


def times(random: Draw, rows: int) -> Values:
    return [f"2024-{1 + n % 12:02}-{1 + n % 28:02} {n % 24:02}:30:00" for n in random.integers(0, 5000, rows)]


COLUMNS: dict[str, Callable[[Draw, int], Values]] = {
    "amount": lambda random, rows: random.normal(100, 20, rows).round(2).tolist(),
    "gaps in whole numbers": lambda random, rows: [
        None if n % 7 == 0 else int(n) for n in random.integers(0, 90, rows)
    ],
    "code": lambda random, rows: [10000 + int(n) for n in random.integers(0, 5, rows)],
    "plan": lambda random, rows: random.choice(["basic", "plus", "max"], rows).tolist(),
    "paid": lambda random, rows: random.choice([True, False], rows).tolist(),
    "flag with gaps": lambda random, rows: [(None, True, False)[n] for n in random.integers(0, 3, rows)],
    "since": lambda random, rows: [f"2024-{1 + n % 12:02}-{1 + n % 28:02}" for n in random.integers(0, 5000, rows)],
    "at": times,
    'with "quotes", and a comma': lambda random, rows: random.choice(["a,b", 'say "hi"', "two\nlines"], rows).tolist(),
    " blank before": lambda random, rows: random.integers(0, 50, rows).tolist(),
    "constant": lambda _, rows: [1] * rows,
    "empty": lambda _, rows: [None] * rows,
}
LABELS: dict[str, Callable[[Draw, np.ndarray], Values]] = {
    "words": lambda _, signal: ["yes" if value > 0 else "no" for value in signal],
    "zero and one": lambda _, signal: [int(value > 0) for value in signal],
    "booleans": lambda _, signal: [bool(value > 0) for value in signal],
    "three": lambda _, signal: ["abc"[int(value > -0.5) + int(value > 0.5)] for value in signal],
    "amounts": lambda _, signal: (signal * 10).round(3).tolist(),
}


@dataclass(frozen=True)
class Traps:
    """What is done to the lines of the CSV file that is scored: so many lines of a kind, at places that are drawn."""

    blank: int
    cells_empty: int
    short: int
    long: int
    bom: bool
    crlf: bool

    def set(self, text: str, width: int, random: Draw) -> bytes:
        """The file's bytes; records, not lines, are what is cut: a cell may hold a line break."""
        head, *records = _records(text)
        chosen = random.permutation(len(records) - 1)[: self.short + self.long]
        for number, place in enumerate(chosen):
            records[place] = _first_cell(records[place]) if number < self.short else f"{records[place]},1,2"
        for empty in [""] * self.blank + ["," * (width - 1)] * self.cells_empty:
            records.insert(int(random.integers(0, len(records))), empty)
        records += [""] * self.blank
        lines = ("\r\n" if self.crlf else "\n").join([head, *records]) + "\n"
        return (b"\xef\xbb\xbf" if self.bom else b"") + lines.encode()


def _records(text: str) -> list[str]:
    records: list[str] = []
    open_quote = False
    for line in text.rstrip("\n").split("\n"):
        if open_quote:
            records[-1] += f"\n{line}"
        else:
            records.append(line)
        open_quote ^= bool(line.count('"') % 2)
    return records


def _first_cell(record: str) -> str:
    return record.partition(",")[0]


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """A labelled table with a row id first; every column's values are as they lie in a Parquet file."""
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=2, max_size=6, unique=True))
    label = draw(st.sampled_from(sorted(LABELS)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    signal = random.normal(0, 1, ROWS)
    columns: dict[str, Values] = {"key": [f"k{n:04}" for n in range(ROWS)]}
    columns |= {name: COLUMNS[name](random, ROWS) for name in names}
    columns["signal"] = (signal + random.normal(0, 0.7, ROWS)).round(4).tolist()
    columns["label"] = LABELS[label](random, signal)
    return pl.DataFrame(columns, strict=False)


traps = st.builds(
    Traps,
    blank=st.integers(0, 3),
    cells_empty=st.integers(0, 3),
    short=st.integers(0, 2),
    long=st.integers(0, 2),
    bom=st.booleans(),
    crlf=st.booleans(),
)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),  # an example takes a second: a smaller one would be found in minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(table=tables(), trap=traps, seed=st.integers(0, 99))
def test_every_row_is_answered_or_reported_and_csv_and_parquet_say_the_same(
    table: pl.DataFrame, trap: Traps, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        learned, batch = table.head(300), table.tail(ROWS - 300)
        learned.write_parquet(folder / "learned.parquet")
        learned.write_csv(folder / "learned.csv")
        batch.write_parquet(folder / "batch.parquet")
        (folder / "batch.csv").write_bytes(trap.set(batch.write_csv(), batch.width, np.random.default_rng(seed)))
        scored = {kind: through(folder, kind) for kind in ("csv", "parquet")}
        check(scored["csv"], batch, trap)
        check(scored["parquet"], batch, Traps(0, 0, 0, 0, bom=False, crlf=False))
        same(scored["csv"].predictions, scored["parquet"].predictions)


def through(folder: Path, kind: str) -> Scored:
    flow = Flow(folder / kind).begin()
    assert flow.adopt(folder / f"learned.{kind}", "--label", "label", "--id", "key") == 0
    text = (flow.root / "usecase.toml").read_text(encoding="utf-8")
    text = text.replace("[columns]", "bad_rows = 0.1\n[columns]", 1)
    (flow.root / "usecase.toml").write_text(text, encoding="utf-8")
    flow.train()
    return flow.score(folder / f"batch.{kind}", labels=folder / "batch.parquet")


def check(scored: Scored, batch: pl.DataFrame, trap: Traps) -> None:
    """Rows in are rows out and rows reported; labels find every row that was scored."""
    cut = trap.short + trap.long
    errors = scored.predictions.filter(pl.col("error").is_not_null())
    assert scored.predictions.height == batch.height
    assert errors.height == cut == scored.summary["broken"]
    assert all("cells" in reason for reason in errors["error"])
    assert scored.report["rows"] == batch.height - cut  # nobody knows what the cells of a cut line mean
    assert scored.report["realised"]["rows"] == batch.height - cut


def same(first: pl.DataFrame, second: pl.DataFrame) -> None:
    """The answers to the rows that both files hold whole."""
    both = first.filter(pl.col("error").is_null()).join(second, on="key", how="inner", suffix="_other")
    assert both.height == first.filter(pl.col("error").is_null()).height
    assert both["prediction"].to_list() == both["prediction_other"].to_list()
