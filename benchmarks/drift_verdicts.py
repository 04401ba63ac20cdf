"""Who judges: the monitoring component on frames or on drawn counts, scipy's two-sample tests, and a peer library."""

import json
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import drift_tables as tables
import numpy as np
import polars as pl
from scipy import stats

from batchloop.container import drift_report, profile, usecase
from batchloop.container.protocols import Counts
from batchloop.container.usecase import UseCase
from components.monitoring import drift

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "{{cookiecutter.project_slug}}" / "usecase.toml"
NO_SCORES = pl.LazyFrame(schema={"error": pl.String})
LEARNED = 20_000  # rows of a baseline
Baseline = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Columns that drifted, and columns for which the corrected test alone excludes chance."""

    drifted: frozenset[str]
    tested: frozenset[str]


def case(columns: Sequence[str]) -> UseCase:
    """The shipped usecase.toml, with these columns instead of the sample's."""
    shipped = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    about = {"name": "benchmark", "title": "", "description": "", "namespace": "none"}
    kinds = {name: {"type": tables.kind(name)} for name in columns}
    return usecase.parse({**shipped, "usecase": about, "columns": kinds})


def baseline(settings: UseCase, frame: pl.DataFrame) -> Baseline:
    """What train mode learns of the raw columns; no scores, so that the columns alone are judged."""
    kinds = {column.name: column.type for column in settings.columns}
    rows, columns = profile.learned(frame.lazy(), kinds, settings.drift.bins)
    return {"rows": rows, "columns": columns, "scores": [], "performance": {"reason": "not measured here"}}


def ours(settings: UseCase, known: Baseline, frame: pl.LazyFrame) -> Verdict:
    """The report that serve mode writes, from rows."""
    return _verdict(settings, drift_report.create(settings, known, frame, NO_SCORES)["columns"])


def drawn(settings: UseCase, known: Baseline, counts: Sequence[Counts]) -> Verdict:
    """The same decision on counts that were drawn; the effect is only worked out where the test lets it matter."""
    effects = [
        _effect(np.asarray(column["counts"], float), now, settings.drift.significance)
        for column, now in zip(known["columns"], counts, strict=True)
    ]
    found = zip(known["columns"], drift.decide(effects, settings.drift), strict=True)
    return _verdict(settings, [{"name": column["name"], **asdict(comparison)} for column, comparison in found])


def _effect(before: Counts, now: Counts, level: float) -> drift.Effect:
    p_value = drift.homogeneity(before, now)
    effect = drift.psi(before, now) - drift.chance(before, now) if p_value < level else 0.0
    return drift.Effect(effect, effect, 0.0, 0.0, None, None, p_value)


def _verdict(settings: UseCase, columns: Sequence[Mapping[str, Any]]) -> Verdict:
    level = settings.drift.significance
    return Verdict(
        drifted=frozenset(column["name"] for column in columns if column["drifted"]),
        tested=frozenset(column["name"] for column in columns if column["adjusted_p_value"] < level),
    )


@dataclass(frozen=True)
class Known:
    """A baseline with everything that was there when it was learned."""

    settings: UseCase
    baseline: Baseline
    frame: pl.DataFrame


def learned(random: np.random.Generator, columns: int, rows: int = LEARNED) -> Known:
    names = tables.names(columns)
    settings, frame = case(names), tables.frame(random, names, rows)
    return Known(settings, baseline(settings, frame), frame)


def real(random: np.random.Generator, known: Known, rows: int, batches: int) -> Iterator[Verdict]:
    """Verdicts of batches of rows."""
    for _ in range(batches):
        frame = tables.frame(random, known.frame.columns, rows)
        yield ours(known.settings, known.baseline, frame.lazy())


def counted(
    random: np.random.Generator, known: Known, rows: int, batches: int, shifts: tables.Shifts | None = None
) -> Iterator[Verdict]:
    """Verdicts of batches whose counts are drawn from the true shares of the baseline's bins."""
    changed = shifts or {}
    shares = [tables.bin_shares(one, changed.get(one["name"], tables.NONE)) for one in known.baseline["columns"]]
    counts = [random.multinomial(rows, share, batches).astype(float) for share in shares]
    for batch in zip(*counts, strict=True):
        yield drawn(known.settings, known.baseline, batch)


def scipy_drifted(before: pl.DataFrame, now: pl.DataFrame, level: float) -> frozenset[str]:
    """Columns that ks_2samp (numbers, gaps left out) or chi2_contingency (categories, gaps as one) call different."""
    p_values = [_two_sample(before[name], now[name]) for name in before.columns]
    corrected = drift.holm(p_values)
    return frozenset(name for name, p_value in zip(before.columns, corrected, strict=True) if p_value < level)


def _two_sample(before: pl.Series, now: pl.Series) -> float:
    if before.dtype.is_numeric():
        return float(stats.ks_2samp(before.drop_nulls().to_numpy(), now.drop_nulls().to_numpy()).pvalue)
    counts = [series.fill_null("missing").value_counts(name="rows") for series in (before, now)]
    both = counts[0].join(counts[1], on=before.name, how="full", coalesce=True).fill_null(0)
    return float(stats.chi2_contingency(both.select("rows", "rows_right").to_numpy().T, correction=False).pvalue)


def peer(python: Path, folder: Path, batches: Sequence[Path]) -> dict[str, Any]:
    """What the peer library says of Parquet batches against folder/baseline.parquet, and how long it took."""
    script = Path(__file__).with_name("drift_peer.py")
    command = [str(python), "-W", "ignore", str(script), str(folder / "baseline.parquet"), *map(str, batches)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout)
    return found
