"""What `make cost` says: figures worked out by hand, and that it never passes over what it does not know."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from batchloop import cost
from batchloop.container.job import InputError
from batchloop.cost import Estimate, Usage
from batchloop.environment import runs_a_month
from batchloop.pipelines import check
from batchloop.repository import Repository
from plumbing.rendered import ROOT

ACCOUNT, TODAY = "123456789012", date(2026, 3, 1)
USECASE = """
[usecase]
name = "loans"
namespace = "bank"
[data]
task = "binary"
id = "id"
label = "repaid"
classes = ["no", "yes"]
[columns]
income = { type = "number" }
[hyperparameters]
learning_rate = 0.05
[gate]
metric = "auc"
minimum = 0.5
"""
# over prod.toml, so that whatever else an environment must have is there
ENVIRONMENT = {
    "region": '"eu-south-2"',
    "schedule": '"cron(0 6 1 * ? *)"',
    "kms_key": '""',
    "create_key": "false",
    "hours_between_runs": "26",
    "spot": "false",
    "processing": '{ type = "ml.m5.large", count = 1, volume_gb = 30 }',
    "algorithm": '{ type = "ml.m5.xlarge", count = 1, volume_gb = 30 }',
    "transform": '{ type = "ml.m5.large", count = 1, volume_gb = 0 }',
    "monitoring": '{ type = "ml.m5.large", count = 1, volume_gb = 30 }',
    "explainability": '{ type = "ml.m5.xlarge", count = 1, volume_gb = 30 }',
}
# a cent and two cents a minute; a gigabyte of disk is 0.001 and 0.002 an hour
PRICES = """
date = 2026-02-01
currency = "USD"
source = "nobody's pages"
elsewhere = "eu-south-2"
[assumed]
start_minutes = 1
work_minutes = 7
retrainings = 1
data_gb = 20
images_gb = 3
[regions.eu-south-2]
processing_disk_gb_month = 0.73
training_disk_gb_month = 1.46
s3_gb_month = 0.02
ecr_gb_month = 0.1
kms_key_month = 1.0
alarm_month = 0.1
dashboard_month = 3.0
[regions.eu-south-2.instance_hour]
"ml.m5.large" = 0.6
"ml.m5.xlarge" = 1.2
"""
STACK = """
Resources:
  NoRun:
    Type: AWS::CloudWatch::Alarm
    Condition: WatchesRuns
  Errors:
    Type: AWS::CloudWatch::Alarm
    Properties: {Metrics: [{MetricStat: {Stat: Sum}}, {MetricStat: {Stat: Sum}}, {Expression: a}]}
  Dashboard:
    Type: AWS::CloudWatch::Dashboard
  Bucket:
    Type: AWS::S3::Bucket
"""
MINUTES = "processing=4 algorithm=9 transform=2 monitoring=2 explainability=5"

CURRENT = re.compile(r"ml\.([mcr][67]i|g[56])\.")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setattr(cost, "today", lambda: TODAY)
    environment = (ROOT / "environments" / "prod.toml").read_text(encoding="utf-8")
    for key, value in ENVIRONMENT.items():
        environment, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", environment)
        assert found == 1, key
    files = {
        "usecase.toml": USECASE,
        "environments/dev.toml": environment,
        "batchloop/prices.toml": PRICES,
        "infra/stack.yaml": STACK,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return Repository(tmp_path)


def change(here: Repository, name: str, old: str, new: str) -> None:
    file = here.root / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def estimate(here: Repository, **options: Any) -> Estimate:
    return cost.make(here, Usage(**options))


def priced(found: Estimate, step: str) -> float | None:
    [job] = [line for line in found.lines if line.what == step]
    return job.cost


def test_a_run_costs_its_jobs_minutes_and_disks(here: Repository) -> None:
    found = estimate(here, minutes=MINUTES)
    assert priced(found, "PrepareTrainingData") == pytest.approx(5 * 0.01 + 30 * 0.001 * 5 / 60)
    assert priced(found, "TrainModel") == pytest.approx(10 * 0.02 + 30 * 0.002 * 10 / 60)
    assert priced(found, "ScoreFeatures") == pytest.approx(3 * 0.01), "batch transform sizes its own disk"
    assert found.run("training") == pytest.approx(0.417)
    assert found.run("inference") == pytest.approx(0.237)
    assert found.remarks == ()


def test_a_month_is_its_runs_and_what_is_kept(here: Repository) -> None:
    found = estimate(here, minutes=MINUTES, retrainings=2)
    charges = {line.what: line.cost for line in found.of("")}
    assert charges == pytest.approx(
        {
            "S3": 20 * 0.02,
            "images in ECR": 3 * 0.1,
            "alarms": 3 * 0.1,
            "dashboard": 3.0,
        }
    )
    assert found.run("") == pytest.approx(4.0)
    assert found.month == pytest.approx(4.0 + 0.237 + 2 * 0.417)


def test_runs_trainings_and_gigabytes_are_the_caller_s_to_say(here: Repository) -> None:
    usual = estimate(here, minutes=MINUTES, runs=0, retrainings=0, gb=0)
    assert usual.month == pytest.approx(3.6)
    assert estimate(here, minutes=MINUTES, runs=10, retrainings=0, gb=0).month == pytest.approx(3.6 + 10 * 0.237)
    assert estimate(here, runs=0, gb=100).run("") == pytest.approx(3.6 + 2.0)


KEYS = [
    ('kms_key = ""', 'kms_key = "arn:aws:kms:eu-south-2:000000000000:key/11111111-2222-3333-4444-555555555555"'),
    ("create_key = false", "create_key = true"),
]


@pytest.mark.parametrize(("old", "new"), KEYS)
def test_a_key_is_charged_where_the_environment_names_or_makes_one(here: Repository, old: str, new: str) -> None:
    change(here, "environments/dev.toml", old, new)
    assert estimate(here).run("") == pytest.approx(5.0)


def test_the_alarm_for_missing_runs_is_charged_only_where_it_watches(here: Repository) -> None:
    change(here, "environments/dev.toml", "hours_between_runs = 26", "hours_between_runs = 0")
    assert estimate(here).run("") == pytest.approx(3.9)


def test_every_instance_is_billed_with_its_disk(here: Repository) -> None:
    one = priced(estimate(here), "PrepareTrainingData")
    change(
        here,
        "environments/dev.toml",
        'processing = { type = "ml.m5.large", count = 1',
        'processing = { type = "ml.m5.large", count = 3',
    )
    assert one is not None
    assert priced(estimate(here), "PrepareTrainingData") == pytest.approx(3 * one)


def test_spare_capacity_is_in_no_total_because_nobody_promises_what_it_saves(here: Repository) -> None:
    usual = estimate(here, minutes=MINUTES)
    change(here, "environments/dev.toml", "spot = false", "spot = true")
    assert estimate(here, minutes=MINUTES).run("training") == usual.run("training") == pytest.approx(0.417)


def test_what_has_no_price_is_named_and_in_no_total(here: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    change(here, "environments/dev.toml", 'algorithm = { type = "ml.m5.xlarge"', 'algorithm = { type = "ml.p9.large"')
    change(here, "batchloop/prices.toml", "processing_disk_gb_month = 0.73\n", "")
    change(here, "batchloop/prices.toml", "s3_gb_month = 0.02\n", "")
    found = estimate(here, minutes=MINUTES)
    assert priced(found, "TrainModel") is None
    assert found.run("training") == pytest.approx(0.05 + 0.03 + 0.12)
    assert found.run("") == pytest.approx(3.6)
    assert found.remarks == ("no price for the disks of processing jobs, ml.p9.large, S3 in eu-south-2: in no total",)
    assert cost.show_cost(here, Usage(minutes=MINUTES)) == 0
    said = capsys.readouterr().out
    [row] = [line for line in said.splitlines() if "TrainModel" in line]
    assert row.split()[-2:] == ["no", "price"]
    assert "one training, without what has no price" in said
    assert "one scoring run, without" not in said
    assert "one month, without what has no price" in said
    assert "note: no price for the disks of processing jobs, ml.p9.large, S3" in said


def test_another_region_s_prices_are_said_to_be_that(here: Repository) -> None:
    change(here, "environments/dev.toml", "eu-south-2", "ap-east-1")
    [remark] = estimate(here).remarks
    assert remark == "there are no prices for ap-east-1: the figures are eu-south-2's, an order of magnitude"
    assert "no prices for ap-east-1" in " ".join(cost.summary(here))


def test_prices_older_than_a_year_are_said_to_be_old(here: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    written = date(2026, 2, 1)
    monkeypatch.setattr(cost, "today", lambda: written + timedelta(days=365))
    assert estimate(here).remarks == ()
    monkeypatch.setattr(cost, "today", lambda: written + timedelta(days=366))
    [remark] = estimate(here).remarks
    assert "the prices are 12 months old" in remark
    assert "batchloop/prices.toml" in remark


DAYS = 365.25 / 12
SCHEDULES = [
    ("", 0),
    ("rate(1 hour)", 730),
    ("rate(30 minutes)", 1460),
    ("rate(7 days)", 730 / 168),
    ("cron(0 6 * * ? *)", DAYS),
    ("cron(0 6 ? * * *)", DAYS),
    ("cron(0/15 8-17 ? * MON-FRI *)", 4 * 10 * DAYS * 5 / 7),
    ("cron(0 */6 * * ? *)", 4 * DAYS),
    ("cron(5,35 0 ? * sun *)", 2 * DAYS / 7),
    ("cron(0 6 ? * 1 *)", DAYS / 7),
    ("cron(0 6 1,15 * ? *)", 2),
    ("cron(0 6 31 * ? *)", 7 / 12),
    ("cron(0 6 29 2 ? *)", 0.25 / 12),
    ("cron(0 6 L * ? *)", 1),
    ("cron(0 6 ? * 2#1 *)", 1),
    ("cron(0 6 * JAN,JUL ? *)", 62 / 12),
]


@pytest.mark.parametrize(("schedule", "runs"), SCHEDULES)
def test_the_runs_of_a_month_follow_from_the_schedule(schedule: str, runs: float) -> None:
    assert runs_a_month(schedule) == pytest.approx(runs)


UNCOUNTABLE = [
    "cron(0 6 * * ? 2030)",
    "cron(0 6 ? * FRI-MON *)",
    "cron(0 6 ? * L *)",
]


@pytest.mark.parametrize("schedule", UNCOUNTABLE)
def test_where_the_schedule_does_not_tell_runs_are_asked_for(
    here: Repository, schedule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs_a_month(schedule) is None
    change(here, "environments/dev.toml", "cron(0 6 1 * ? *)", schedule)
    [remark] = estimate(here).remarks
    assert "RUNS=30" in remark
    cost.show_cost(here, Usage())
    assert "one month, without scoring runs" in capsys.readouterr().out
    assert estimate(here, runs=4).remarks == ()


def test_a_single_date_is_no_number_of_runs_a_month() -> None:
    assert runs_a_month("at(2026-01-01T00:00:00)") is None


def test_an_environment_without_a_schedule_says_that_its_month_has_no_runs(here: Repository) -> None:
    change(here, "environments/dev.toml", "cron(0 6 1 * ? *)", "")
    [remark] = estimate(here).remarks
    assert remark.startswith("dev has no schedule")
    assert estimate(here, runs=3).remarks == ()


WRONG = [
    ({"minutes": "proccessing=4"}, "there is no job 'proccessing'; there are .*processing"),
    ({"minutes": "processing"}, "MINUTES: processing needs a number from 0"),
    ({"minutes": "processing=-1"}, "MINUTES: processing needs a number from 0"),
    ({"minutes": "processing=nan"}, "MINUTES: processing needs a number from 0"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG)
def test_what_is_no_amount_is_refused(here: Repository, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        estimate(here, **options)


def test_a_broken_table_and_an_unknown_environment_are_failures_of_one_sentence(here: Repository) -> None:
    with pytest.raises(InputError, match="there is no environment 'test'"):
        cost.make(replace(here, environment="test"), Usage())
    change(here, "batchloop/prices.toml", "work_minutes = 7\n", "")
    with pytest.raises(InputError, match=r"batchloop/prices.toml has no 'work_minutes'"):
        estimate(here)
    (here.root / "batchloop" / "prices.toml").write_text("date =")
    with pytest.raises(InputError, match="not valid TOML"):
        estimate(here)


def test_the_table_shows_its_figures_and_says_what_they_assume(
    here: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cost.show_cost(here, Usage(minutes=MINUTES)) == 0
    said = capsys.readouterr().out
    rows = {" ".join(line.split()) for line in said.splitlines()}
    assert "amount minutes taken USD" in rows
    assert "TrainModel 1 × ml.m5.xlarge 10.0 as given 0.21" in rows
    assert "one training 0.42" in rows
    assert "one scoring run 0.24" in rows
    assert "one month 4.65" in rows
    for assumption in (
        "1 for the start of each job (assumed)",
        "up to 90%",
        "nobody's pages",
        "free tiers",
    ):
        assert assumption in said
    assert "note:" not in said


def test_the_summary_is_short_and_needs_nothing_but_the_standard_library(here: Repository) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from batchloop import cost\n"
        "from batchloop.repository import Repository\n"
        f"print(*cost.summary(Repository(Path({str(here.root)!r}))), sep='\\n')\n"
    )
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True, text=True)
    said = ran.stdout.splitlines()
    assert 2 <= len(said) <= 4
    assert said[0].startswith("about 0.41 USD a scoring run and 0.50 a training (prices of eu-south-2, February 2026)")
    assert said[1].startswith("about 4.91 USD a month with 1 scoring runs, 1 training(s) and 20 GB; 4.00 of it even if")
    assert said[-1] == "what that assumes: make cost ENV=dev"


def test_a_plan_does_not_fail_because_its_cost_can_t_be_told(here: Repository) -> None:
    change(here, "batchloop/prices.toml", 'currency = "USD"', "")
    assert cost.summary(here) == [
        "what it would cost can't be told:",
        "batchloop/prices.toml has no 'currency'.",
    ]


SMALL = [
    (0, "0.00"),
    (0.0001, "<0.001"),
    (0.0005, "0.001"),
    (0.0042, "0.004"),
    (0.0994, "0.099"),
    (0.0995, "0.10"),
    (1234.5, "1,234.50"),
]


@pytest.mark.parametrize(("amount", "text"), SMALL)
def test_small_amounts_do_not_look_like_nothing(amount: float, text: str) -> None:
    assert cost.money(amount) == text


def test_alarms_are_counted_by_their_metrics_and_one_needs_a_schedule(here: Repository) -> None:
    assert cost.watchers(here, scheduled=True) == (3, 1)
    assert cost.watchers(here, scheduled=False) == (2, 1)
    assert cost.watchers(Repository(ROOT), scheduled=True) == (7, 1)


def test_the_table_of_this_repository_knows_every_type_that_jobs_may_be_given_here(here: Repository) -> None:
    shutil.copy(ROOT / "batchloop" / "prices.toml", here.root / "batchloop" / "prices.toml")
    types = tomllib.loads((ROOT / "batchloop" / "engine" / "instances.toml").read_text(encoding="utf-8"))["types"]
    for region in ("us-east-1", "eu-central-1", "eu-west-1"):
        found = cost.load(here, region)
        assert found.region == region
        # of the current families only us-east-1's prices were found; where there are none, `make cost` says so
        assert set(types) - set(found.hours) == {
            name for name in types if region != "us-east-1" and CURRENT.match(name)
        }
        assert set(found.hours) <= set(types)
        assert all(0.04 < price < 8 for price in found.hours.values())
        assert {name for name in found.figures if "disk" not in name} == {
            "s3_gb_month",
            "ecr_gb_month",
            "kms_key_month",
            "alarm_month",
            "dashboard_month",
        }
    assert cost.load(here, "me-south-1").region == "us-east-1"
    assert (cost.load(here, "us-east-1").date, cost.load(here, "eu-west-1").date) == (
        date(2026, 9, 27),
        date(2025, 6, 18),
    )


def test_current_families_are_known_and_every_job_may_have_them(here: Repository) -> None:
    types = tomllib.loads((ROOT / "batchloop" / "engine" / "instances.toml").read_text(encoding="utf-8"))["types"]
    families = {name.split(".")[1] for name in types if CURRENT.match(name)}
    assert families == {"m6i", "m7i", "c6i", "c7i", "r6i", "r7i", "g5", "g6"}
    for kind in ("Processing", "Training", "Transform"):
        taken = check.service().shape_for(f"{kind}InstanceType").enum
        older = r"ml\.(t3|r5)\." if kind == "Transform" else "none"  # which batch transform does not take
        assert {name for name in types if not re.match(older, name)} <= set(taken)


def test_a_step_of_the_owner_s_that_is_not_counted_is_named(here: Repository) -> None:
    folder = here.compiled
    folder.mkdir(parents=True)
    steps = [{"Name": "PrepareFeatures", "Type": "Processing"}, {"Name": "Deliver", "Type": "Processing"}]
    (folder / "inference.json").write_text(json.dumps({"Steps": steps}))
    estimate = cost.make(here, Usage())
    assert "in no total: Deliver" in estimate.remarks
