"""`make size`: lines through two measurements, the instances that they ask for, and both pipelines on a small table."""

import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from batchloop import sizing
from batchloop.cost import STEPS, JobStep, Prices
from batchloop.sizing import Use
from data import sample
from plumbing.rendered import ROOT

HOURS = {"ml.c5.large": 0.1, "ml.m5.large": 0.115, "ml.m5.xlarge": 0.23, "ml.m5.4xlarge": 0.92, "ml.r5.large": 0.15}
PRICES = Prices(
    date(2026, 9, 27), "USD", "a test", "us-east-1", {"start_minutes": 1.5}, {}, {**HOURS, "ml.g5.xlarge": 0}
)
PREPARE, TRAIN, SCORE = STEPS[0], STEPS[1], STEPS[5]


def test_what_grows_with_the_rows_is_told_from_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    # a second of one processor, and a second of two processors for each step of rows; 100 MiB and 50 more each
    use = sizing.extrapolated((2.0, 3.0, 150.0), (3.0, 5.0, 200.0), 8)
    assert use == pytest.approx((1.0, 20.0, 600.0))
    assert sizing.extrapolated((1.0, 1.0, 90.0), (0.9, 0.8, 80.0), 100) == pytest.approx((0.8, 0.0, 80.0))
    # beside others, a job waits: that is no work
    assert sizing.extrapolated((5.0, 1.0, 90.0), (9.0, 2.0, 90.0), 1) == pytest.approx((3.0, 0.0, 90.0))


@pytest.mark.parametrize(
    ("use", "step", "longest", "wanted"),
    [
        (Use(60, 0, 500), PREPARE, 60, ("ml.c5.large", 1)),
        (Use(60, 0, 3500), PREPARE, 60, ("ml.m5.large", 1)),  # three quarters of 4 GiB are less
        (Use(60, 0, 9000), PREPARE, 60, ("ml.r5.large", 1)),
        (Use(0, 4 * 3600, 500), TRAIN, 60, ("ml.m5.xlarge", 1)),
        (Use(0, 4 * 3600, 500), SCORE, 60, ("ml.c5.large", 2)),
        (Use(2 * 3600, 0, 500), TRAIN, 60, None),  # more processors don't help
        (Use(60, 0, 64 * 1024), TRAIN, 60, None),
    ],
)
def test_the_cheapest_that_is_large_and_quick_enough_is_chosen(
    use: Use, step: JobStep, longest: float, wanted: tuple[str, int] | None
) -> None:
    chosen = sizing.choice(step, use, PRICES, longest)
    assert (chosen and (chosen.instance, chosen.count)) == wanted
    if chosen:
        hours = chosen.count * (chosen.minutes + 1.5) / 60
        assert chosen.cost == pytest.approx(hours * HOURS[chosen.instance])


def test_both_pipelines_are_measured_on_a_part_of_the_table_and_leave_nothing(tmp_path: Path) -> None:
    """Under a gate that no model passes, and where trainings are tracked."""
    root = tmp_path / "a use case"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("local", ".venv*"))
    sample.customers(1600, 7).write_csv(root / "own.csv")
    case, dev = root / "usecase.toml", root / "environments/dev.toml"
    text = case.read_text().replace("columns = []  ", 'columns = ["plan"]').replace("# limit = 0.65", "limit = 1.0 ")
    case.write_text(
        text.replace("minimum_lead = -0.005", "minimum_lead = 0.9").replace("minimum = 0.70", "minimum = 1.0")
    )
    dev.write_text(dev.read_text().replace('tracking.uri = ""', f'tracking.uri = "{tmp_path}/mlruns"'))
    words = ["size", "--data", "own.csv", "--rows", "1000000"]
    done = subprocess.run(
        [sys.executable, "-m", "batchloop", *words],
        cwd=root,
        env={**os.environ, "COMPONENTS_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,600 rows are there: both pipelines run on 400, then on 1,600 of them" in done.stdout
    assert "625 times the rows that were measured" in done.stdout
    rows = dict(
        re.findall(r"^  (\w+) +1 × (ml\.\S+) .* min .* GiB and .* processor minutes", done.stdout, re.MULTILINE)
    )
    assert set(rows) == {step.name for step in STEPS}
    assert not (root / "local" / "size").exists()
    assert not (root / "local" / "release.json").exists()
    assert not (tmp_path / "mlruns").exists()  # what is trained only to measure is tracked nowhere
