"""Every key of usecase.toml and environments/*.toml: refused with its line and the nearest right name, before a run."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import polars as pl
import pytest

from batchloop import cli
from batchloop.adopt import dates
from batchloop.container import artifacts, formats, hyperparameters, metrics, settings, usecase
from batchloop.container.job import InputError, column_hint, listed
from batchloop.control.names import Settings
from batchloop.environment import Build, Environment, Instances, Tracking
from batchloop.pipelines import definitions
from batchloop.repository import Repository
from plumbing.engine_miniature import Miniature, build
from plumbing.rendered import ROOT

USECASE = """\
[usecase]
name = "loans"
title = "Loans"
description = "who repays"
namespace = "bank"

[data]
task = "binary"
id = "id"
label = "repaid"
classes = ["no", "yes"]
time = "asked"
time_format = "%Y-%m-%d"
label_format = "1.234,5 %"
time_zone = "Europe/Berlin"
missing = ["", "NA"]
separator = ","
encoding = "utf-8"
decimal = "."
thousands = ""
header = true
bad_rows = 0.01

[columns]
town = { type = "category" }

[columns.income]
type = "number"
minimum = 0
maximum = 1e6
missing = ["-1"]

[columns."since ['] =.#"]
type = "date"
format = "%Y-%m-%d"
time_zone = "Europe/Berlin"
drift = false

[split]
method = "random"
group = ""
validation = 0.15
test = 0.15
seed = 7

[features]
rare = 20
vocabulary = 200
terms = 50
impute = "none"

[hyperparameters]
num_iterations = 600
num_leaves = 31
feature_fraction = 0.9
native_categories = false
seed = 7

[tuning]
trials = 0
timeout_seconds = 1800

[tuning.search]
num_leaves = [7, 127, "log"]
feature_fraction = [0.5, 1.0]
native_categories = [false, true]

[prediction]
threshold = 0.5
escape_formulas = true

[gate]
metric = "auc"
minimum = 0.7
minimum_lead = -0.005

[drift]
significance = 0.01
minimum_effect = 0.1
minimum_rows = 200
bins = 20
performance_drop = 0.05

[retraining]
enabled = true
on = ["drift", "performance", "realised"]
learn = "window"
alarms = 1
windows = 1
cooldown_hours = 24
budget = 4
budget_days = 30

[slices]
columns = ["town", "income"]
bins = 4
values = 20
minimum_rows = 100
limit = 0.6
not_evaluable = "fail"

[card]
owner = "us"
intended_use = ""
limitations = ""
ethics = ""
risk = "Low"

[explanation]
rows = 2000
rule = "random"
top = 5
seed = 7
"""
ENVIRONMENT = """\
account = "000000000000"
region = "eu-central-1"
bucket = ""
deployment_role = ""
keep_runs_days = 365
keep_trainings_days = 365
role = ""
approval = "Approved"
schedule = ""
kms_key = ""
create_key = false
permissions_boundary = ""
subnets = []
security_groups = []
spot = true
max_runtime_seconds = 3600
tuning_jobs = 0
hours_between_runs = 26
notice_email = ""
warehouse = ""
catalog = false
monthly_budget = 0

[tracking]
uri = "mlruns"

[build]
connection = ""
provider = "GITHUB"
repository = ""
branch = "main"

[instances.processing]
type = "ml.m5.large"
count = 1
volume_gb = 30

[instances]
algorithm = { type = "ml.m5.xlarge", count = 1, volume_gb = 30 }
transform = { type = "ml.m5.large", count = 1, volume_gb = 0 }
monitoring = { type = "ml.m5.large", count = 1, volume_gb = 30 }
explainability = { type = "ml.m5.xlarge", count = 1, volume_gb = 30 }
"""
Place = tuple[str, str, int]  # table ("" above the first), key, line
OPEN = ("tuning.search", "hyperparameters", "instances")  # tables whose keys are not ours, or are tables themselves
FORMATS = ['"%Q"', '"%Y-%m-%dd"', '"%YY-%m-%d"', '"%d.%m."', '"%H:%M"', '"%Y-%m-%d %I:%M"', '"%Y-%m-%d %H"', '"%Y %"']
ARN = "arn:aws:"
KEY = f"{ARN}kms:eu-central-1:000000000000:key/11111111-2222-3333-4444-555555555555"
SCHEDULES = [
    *("daily", "0 6 * * ? *", "cron(0 6 * * *)", "cron(0 6 * * * *)", "cron(0 6 ? * ? *)", "cron(0 6 1 * MON *)"),
    *("cron(0 25 * * ? *)", "cron(60 6 * * ? *)", "cron(0 6 32 * ? *)", "cron(0 6 0 * ? *)", "cron(0 6 * 13 ? *)"),
    *("cron(0 6 ? * 2-8 *)", "cron(0 6 ? * MO *)", "cron(0 6 * * ? 26)", "cron()", "cron(0 6 * * ? * *)"),
    *("rate(0 hours)", "rate(1 week)", "rate(5)", "rate(1.5 hours)", "rate(-1 days)", "rate(hour)"),
]
# beyond its range: what is refused, one text of TOML each
OUTSIDE = {
    "usecase.name": ['"Loans"', '"a--b"', '""'],
    "usecase.namespace": ['"my team"', '"-a"', '"aws-team"', '"ssm"'],
    "data.task": ['"ranking"', '""'],
    "data.label": ['""', '" "', '"town"'],
    "data.id": ['"income"', '"score"', '"repaid"'],
    "data.time": ['"__time"'],
    "data.time_format": ['"Y-m-d"', '"epoch"', *FORMATS],
    "data.label_format": ['"12,5 %"', '"hours"'],
    "data.time_zone": ['"Europe/Berln"', '"CEST!"'],
    "data.classes": ["[]", '["no"]', "[0, 1]", '["no", "no"]', '["no", "yes", "maybe"]', '["no", ""]'],
    "data.separator": ['""', '",,"', '"a"', '"\\n"', "'\"'"],
    "data.encoding": ['"utf-99"', '"hex"'],
    "data.decimal": ['";"', '""'],
    "data.thousands": ['"."', '"1"', '"  "'],
    "data.bad_rows": ["-0.1", "1.5"],
    "columns.income.type": ['"money"', '"date"'],
    "columns.income.minimum": ["2e6", "-inf"],
    "columns.income.maximum": ["-1", "nan"],
    "columns.since.type": ['"number"', '"Date"'],
    "columns.since.format": ['"day"', '"epoch m"', *FORMATS],
    "columns.since.time_zone": ['"Berlin"', '"../UTC"'],
    "split.method": ['"randm"', '"group"'],
    "split.validation": ["0", "1", "0.9"],
    "split.test": ["0", "1", "-0.1"],
    "split.seed": ["-1", "7.5", "1e3", "99999999999999999999"],
    "features.rare": ["-1"],
    "features.vocabulary": ["0", "-5"],
    "features.terms": ["0", "-5"],
    "features.impute": ['"mean"'],
    "tuning.trials": ["-1", "0.5"],
    "tuning.timeout_seconds": ["0", "-1"],
    "prediction.threshold": ["2", "-0.1", "50"],
    "gate.metric": ['"acu"', '"rmse"'],
    "gate.minimum": ["70", "25", "1.01", "-0.5", "-inf"],
    "gate.minimum_lead": ["-5", "2", "1"],
    "drift.significance": ["5", "0", "1", "-0.01"],
    "drift.minimum_effect": ["-0.1"],
    "drift.minimum_rows": ["0", "-200"],
    "drift.bins": ["-1", "0", "1", "20.0", "100000"],
    "drift.performance_drop": ["-0.05", "inf", "5", "1"],
    "retraining.on": ['["drfit"]', "[]", '["drift", "drfit"]', '"drift"', '[["drift"]]'],
    "retraining.learn": ['"last 0"', '"Window"', '"last x"', '"last"', '"last 03"', '"last 3 "', '""', '["all"]'],
    "retraining.alarms": ["0", "3", "-1"],
    "retraining.windows": ["0", "21"],
    "retraining.cooldown_hours": ["-1"],
    "retraining.budget": ["-1", "21"],
    "retraining.budget_days": ["-1"],
    "explanation.rows": ["-1"],
    "explanation.rule": ['"higest"'],
    "explanation.top": ["0", "-1"],
    "explanation.seed": ["-7"],
    **{f"card.{name}": [f'"{"x" * 1025}"'] for name in ("owner", "intended_use", "limitations", "ethics")},
    "card.risk": ['"high"', '""'],
    "slices.columns": ['["town", "town"]', '["repaid"]', '["__town"]'],
    "slices.bins": ["1", "21"],
    "slices.values": ["0", "201"],
    "slices.minimum_rows": ["0"],
    "slices.limit": ["70", "-0.1", "inf"],
    "slices.not_evaluable": ['"maybe"', '""'],
    ".account": ['"12"', "12", '"00000000000a"'],
    ".region": ['"Frankfurt"', '""', '"eu-centrall-1"', '"eu-central1"', '"eu-central-1a"', '"de-central-1"'],
    ".bucket": [
        *('"My_Bucket"', '"my.bucket"', '"ab"'),
        *('"sthree-data"', '"xn--data"', '"amzn-s3-demo-data"', '"data--x-s3"'),
    ],
    ".role": [
        '"admin"',
        f'"{ARN}iam::000000000000:user/x"',
        f'"{ARN}iam::123:role/x"',
        f'"{ARN}iam::111122223333:role/x"',
        '"arn:aws-cn:iam::000000000000:role/x"',
    ],
    ".deployment_role": [
        *('"admin"', f'"{ARN}iam::000000000000:user/x"', f'"{ARN}iam::aws:role/x"'),
        *('"arn:aws-us-gov:iam::000000000000:role/x"', f'"{ARN}iam::111122223333:role/x"'),
    ],
    ".keep_runs_days": ["-1", "1.5", "99999", "30"],
    ".keep_trainings_days": ["-1", "1.5", "99999", "30"],
    ".approval": ['"Maybe"', '"approved"'],
    ".schedule": [f'"{schedule}"' for schedule in SCHEDULES],
    ".kms_key": [
        *('"alias/mine"', f'"{ARN}kms:eu-central-1:000000000000:alias/x"', f'"{KEY.replace("eu-c", "us-")}"'),
        *(f'"{KEY.replace("eu-central", "eu-west")}"', f'"{KEY.replace("000000000000", "111122223333")}"'),
        f'"{KEY.replace("arn:aws:", "arn:aws-cn:")}"',
    ],
    ".permissions_boundary": [
        *('"Boundary"', f'"{ARN}iam::000000000000:role/x"'),
        *('"arn:aws-cn:iam::000000000000:policy/x"', f'"{ARN}iam::111122223333:policy/x"'),
    ],
    ".subnets": ['["subnet-1"]', "[1]", '["vpc-0123abcd"]', '["subnet-0123abcd"]'],
    ".security_groups": ['["g-1"]', '["sg-1"]'],
    ".max_runtime_seconds": ["0", "-1", "1e4", "999999999"],
    ".tuning_jobs": ["-1", "1.5", "101"],
    ".hours_between_runs": ["-1", "200"],
    ".notice_email": ['"me"'],
    ".warehouse": ['"primary"', '"athena:"', '"athena:a/b/c"', '"redshift:cluster"', '"snowflake:a/b"', '"athena:a b"'],
    ".monthly_budget": ["-1", "nan"],
    "tracking.uri": ['"sqlite:///x.db"', '"postgresql://host/x"'],
    "build.connection": [
        *('"arn:aws:codestar-connections:x"', '"arn:aws:codeconnections:x"'),
        f'"arn:aws-cn:codeconnections:cn-north-1:000000000000:connection/{"0" * 36}"',
    ],
    "build.repository": ['"git@github.com:a/b.git"', '"a/b"'],
    "build.provider": ['"SVN"', '"Github"'],
    "build.branch": ['"a b"', '""'],
    "instances.processing.type": ['"m5.large"', '"ml"', '"ml.m5"', '"ml.m5.larg"', '"ml.large"', '"ml.m5.2large"'],
    "instances.processing.count": ["0", "1.5", "101"],
    "instances.processing.volume_gb": ["-1", "0", "99999"],
}
# the rule is about two keys, and the line may be the other one's
TOGETHER = (
    *("data.id", "data.label", "columns.income.type", "columns.income.maximum", "columns.since.type"),
    *(".security_groups", "build.connection"),
)
WRONG_TYPES = ["3", "true", '"words"', "nan", "[1]", "{ a = 1 }", "2026-01-01"]
UNLIMITED = ("title", "description", "group", "missing")  # any text, or any texts


def places(text: str) -> list[Place]:
    """Where each key of a file stands, read as a person reads it."""
    found, table = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            table = line[1:-1]
        elif " = " in line:
            found.append((table, line.partition(" = ")[0], number))
    return found


def written(folder: Path, case: str = USECASE, where: str = ENVIRONMENT) -> Repository:
    (folder / "environments").mkdir(exist_ok=True)
    (folder / "usecase.toml").write_bytes(case.encode())
    (folder / "environments" / "dev.toml").write_bytes(where.encode())
    return Repository(folder)


def refused(folder: Path, place: Place, line: str) -> str:
    """What is said of either file with another line at a place; it names that line's number."""
    is_case = place in places(USECASE)
    text = (USECASE if is_case else ENVIRONMENT).split("\n")
    text[place[2] - 1] = line
    changed = "\n".join(text)
    with pytest.raises(InputError) as raised:
        definitions.read(written(folder, changed) if is_case else written(folder, where=changed))
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith("usecase.toml, line " if is_case else "environments/dev.toml, line ")
    return said


EVERY = places(USECASE) + places(ENVIRONMENT)
OURS = [place for place in EVERY if place[0] not in (*OPEN, "columns")]


def named(place: Place) -> str:
    return f"{place[0].replace(chr(34), '').partition(' [')[0]}.{place[1]}"


@pytest.mark.parametrize("place", OURS, ids=named)
def test_a_misspelt_key_is_answered_with_the_nearest_one(tmp_path: Path, place: Place) -> None:
    table, key, number = place
    said = refused(tmp_path, place, f"{key}z = 1")
    assert f", line {number}: " in said
    assert f"unknown key {key + 'z'!r}; the nearest is {key!r}." in said
    assert f"[{table.partition('.')[0]}]" in said or not table


@pytest.mark.parametrize("place", OURS, ids=named)
def test_a_value_of_another_type_is_refused_with_the_type_that_is_right(tmp_path: Path, place: Place) -> None:
    _, key, number = place
    text = USECASE if place in places(USECASE) else ENVIRONMENT
    present = text.splitlines()[number - 1].partition(" = ")[2]
    kinds = {'"': (2,), "t": (1,), "f": (1,), "[": ()}.get(present[0], (0,))
    for position, value in enumerate(WRONG_TYPES):
        if position in kinds or (key in UNLIMITED and value.startswith('"')):
            continue
        said = refused(tmp_path, place, f"{key} = {value}")
        assert f", line {number}: " in said, said
        assert re.search(rf"{key} = .* is not ", said), said


@pytest.mark.parametrize("place", OURS, ids=named)
def test_a_value_outside_its_range_is_refused_where_it_stands(tmp_path: Path, place: Place) -> None:
    known = OUTSIDE.get(named(place))
    switch = any(f"\n{place[1]} = {word}\n" in USECASE + ENVIRONMENT for word in ("true", "false"))
    assert known or switch or place[1] in UNLIMITED, f"{named(place)} has no example of a value that is refused"
    for value in known or []:
        said = refused(tmp_path, place, f"{place[1]} = {value}")
        assert f", line {place[2]}: " in said or named(place) in TOGETHER, said
        assert place[1] in said or named(place) in TOGETHER, said


DATACLASSES = {f"{name}.": kind for name, kind in usecase.KINDS.items()} | {
    "usecase.": usecase.About,
    "columns.income.": usecase.Column,
    ".": Environment,
    "build.": Build,
    "tracking.": Tracking,
    "instances.processing.": Instances,
}


def beyond(hint: Any) -> list[str]:
    """What an annotation rules out, as TOML: a range overstepped, a choice misspelt, a number too large."""
    base, *rules = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    base = next((kind for kind in get_args(base) if kind in (int, float)), base)
    if get_origin(base) is Literal:
        return [f'"{choice}x"' for choice in get_args(base)]
    found = {int: ["2147483648", "1.5", "1e3"], float: ["nan", "inf", "-inf"]}.get(base, [])
    for rule in rules:
        if isinstance(rule, settings.Range):
            ends = ((rule.ge, -1), (rule.gt, 0), (rule.le, 1), (rule.lt, 0))
            found += [f"{end + step:g}" for end, step in ends if end is not None]
        elif isinstance(rule, settings.Matching) and not rule.pattern.startswith("(?s)"):
            found += [text if base is str else f"[{text}]" for text in ('"\\n"', '"{ä}"', '"x y"')]
    return found


@pytest.mark.parametrize("prefix", DATACLASSES)
def test_whatever_an_annotation_rules_out_is_refused_where_it_stands(tmp_path: Path, prefix: str) -> None:
    hints, tried = get_type_hints(DATACLASSES[prefix], include_extras=True), 0
    for place in EVERY:
        if named(place) != f"{prefix}{place[1]}" or place[1] not in hints:
            continue
        for value in beyond(hints[place[1]]):
            said = refused(tmp_path, place, f"{place[1]} = {value}")
            assert f", line {place[2]}: " in said, said
            assert re.search(rf"{place[1]} = .* is not ", said), said
            assert "Traceback" not in said
            tried += 1
    assert tried


NEEDED = [place for place in EVERY if place[0] not in OPEN and not place[0].startswith("columns")]


@pytest.mark.parametrize("place", NEEDED, ids=named)
def test_a_key_that_is_missing_is_asked_for_and_one_given_twice_is_refused(tmp_path: Path, place: Place) -> None:
    is_case, (table, key, number) = place in places(USECASE), place
    lines = (USECASE if is_case else ENVIRONMENT).split("\n")
    kind = DATACLASSES.get(f"{table}.")
    twice = "\n".join([*lines[:number], lines[number - 1], *lines[number:]])
    with pytest.raises(InputError, match=rf"not valid TOML: Cannot overwrite a value \(at line {number + 1}"):
        definitions.read(written(tmp_path, twice) if is_case else written(tmp_path, where=twice))
    without = "\n".join([*lines[: number - 1], *lines[number:]])
    [entry] = [entry for entry in fields(kind) if entry.name == key] if kind else [None]
    if entry and entry.default is MISSING and entry.default_factory is MISSING:
        with pytest.raises(InputError, match=rf"(\[{table.partition('.')[0]}\].*|it) needs {key}: ") as raised:
            definitions.read(written(tmp_path, without) if is_case else written(tmp_path, where=without))
        assert "\n" not in str(raised.value)


def test_a_format_of_dates_is_taken_where_polars_reads_what_it_writes() -> None:
    moment, day = datetime(2031, 12, 28, 14, 59), datetime(2031, 12, 28)

    def reads(form: str) -> bool:
        with suppress(pl.exceptions.PolarsError):
            texts = pl.Series([moment]).dt.replace_time_zone("UTC").dt.strftime(form)
            found = texts.str.to_datetime(form, strict=False)[0]
            return found is not None and found.replace(tzinfo=None) in (moment, day, day.replace(day=1))
        return False

    clocks = ("", " %H", " %H:%M", " %I:%M", " %I:%M %p", " %M", " %S", " %p", " %H:%M %p", " %T", " %R", " %H:%S")
    forms = [f"{day}{clock}" for day in ("%Y-%m-%d", "%d.%m.%y", "%Y-%j", "%D", "%m-%d", "%d.%m.") for clock in clocks]
    forms += [f"%Y-%m-%d %{letter}" for letter in "EJKLNOQioABabe%"] + ["%F", "%Y-%m", "%c", "%v", "%+", "%Y-%m-%d%"]
    assert [form for form in forms if formats.DATES.holds(form) != reads(form)] == []
    assert all(map(formats.DATES.holds, (*dates.DAYS, *dates.PARTS, *formats.EPOCHS, "")))


@pytest.mark.parametrize(
    "schedule",
    [
        *("cron(0 6 * * ? *)", "cron(0/15 8-17 ? * MON-FRI *)", "cron(5,35 0 ? * sun *)", "cron(0 6 L * ? *)"),
        *(
            "cron(0 6 ? * 2#1 *)",
            "cron(0 6 * JAN,JUL ? 2030)",
            "cron(0 6 15W * ? *)",
            "rate(1 hour)",
            "rate(30 minutes)",
        ),
    ],
)
def test_what_aws_takes_is_taken(tmp_path: Path, schedule: str) -> None:
    boundary = f"{ARN}iam::aws:policy/PowerUserAccess"  # AWS's own policies belong to no account
    text = ENVIRONMENT.replace('schedule = ""', f'schedule = "{schedule}"').replace(
        'kms_key = ""', f'kms_key = "{KEY}"'
    )
    text = text.replace('permissions_boundary = ""', f'permissions_boundary = "{boundary}"')
    text = text.replace("subnets = []", 'subnets = ["subnet-0123abcd"]').replace(
        "security_groups = []", 'security_groups = ["sg-0123456789abcdef0"]'
    )
    assert definitions.read(written(tmp_path, where=text))[1].schedule == schedule


def test_a_connection_is_the_account_s_own(tmp_path: Path) -> None:
    for arn, said in (
        ("arn:aws-cn:codeconnections:cn-north-1:000000000000", "is of the partition aws-cn, and partition is 'aws'"),
        (
            f"{ARN}codeconnections:eu-west-1:111122223333",
            f"is of the account 111122223333, and account is '{'0' * 12}'",
        ),
    ):
        text = ENVIRONMENT.replace('connection = ""', f'connection = "{arn}:connection/{"0" * 36}"')
        text = text.replace('repository = ""', 'repository = "https://github.com/a/b"')
        with pytest.raises(InputError, match=re.escape(f"[build] connection {said}")) as raised:
            definitions.read(written(tmp_path, where=text))
        number = text[: text.index("connection = ")].count("\n") + 1
        assert f"environments/dev.toml, line {number}: " in str(raised.value)


@pytest.mark.parametrize("name", ["dev", "a" * 38, "Dev", "my-env", "my_env"])
def test_names_that_aws_has_no_room_for_are_refused(tmp_path: Path, name: str) -> None:
    repository = written(tmp_path)
    (tmp_path / "environments" / f"{name}.toml").write_text(ENVIRONMENT, encoding="utf-8")
    if name == "dev":
        assert definitions.read(replace(repository, environment=name))[1].prefix == "bank-loans-dev"
    else:
        with pytest.raises(InputError, match=rf"^environments/{name}.toml: the name of this file .* 43 characters"):
            definitions.read(replace(repository, environment=name))


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"QualityLimit": 70.0}, "[gate] minimum = 70: auc is from 0 to 1, so no model can reach it; is 0.7 meant?"),
        ({"MinimumLead": 2.0}, "[gate] minimum_lead = 2: auc is from 0 to 1"),
        ({"Trials": -1}, "[tuning] trials = -1 is not a whole number from 0 up."),
        ({"AlgorithmInstanceType": "ml.m5"}, "[instances] 'algorithm' type = 'ml.m5' is not an instance type"),
        ({"TransformInstanceCount": 0}, "[instances] 'transform' count = 0 is not a whole number from 1 to 100"),
    ],
)
def test_what_set_says_in_place_of_a_setting_is_checked_as_it_is(
    tmp_path: Path, chosen: dict[str, Any], sentence: str
) -> None:
    [(name, value)] = chosen.items()
    with pytest.raises(InputError, match=re.escape(sentence)) as raised:
        definitions.chosen(written(tmp_path), {}, [f"{name}={value}"], chosen)
    assert str(raised.value).startswith(f"SET={name}={value}: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("QualityLmit=0.7", "there is no parameter 'QualityLmit' to SET; the nearest is 'QualityLimit'."),
        ("qualitylimit=0.7", "the nearest is 'QualityLimit'."),
        ("QualityLimit", "SET=QualityLimit is not Name=value."),
        ("QualityLimit=0,7", "QualityLimit = '0,7' is not a number."),
        ("QualityLimit=nan", "QualityLimit = 'nan' is not a number."),
        ("Trials=1e3", "Trials = '1e3' is not a whole number."),
        ("Trials=", "SET=Trials= is not Name=value."),
        ("Trials=1 Trials=2", "SET gives Trials two values, 1 and 2; leave one of them out."),
    ],
)
def test_set_is_answered_in_a_sentence(words: str, sentence: str) -> None:
    kinds = {"QualityLimit": "Float", "Trials": "Integer", "Name": "String"}
    definition = {"Parameters": [{"Name": name, "Type": kind, "DefaultValue": 0} for name, kind in kinds.items()]}
    with pytest.raises(InputError, match=re.escape(sentence)):
        definitions.values(definition, {}, [words])
    assert definitions.values(definition, {}, [" Trials = 3  Name=a b "]) == {
        "QualityLimit": 0.0,
        "Trials": 3,
        "Name": "a b",
    }


def test_a_loop_that_could_never_retrain_is_refused(tmp_path: Path) -> None:
    text = USECASE.replace('"binary"', '"regression"').replace('["no", "yes"]', "[]").replace('"auc"', '"r2"')
    text = text.replace("performance_drop = 0.05", "performance_drop = 5")
    assert definitions.read(written(tmp_path, text))[0].retraining.on[1] == "performance"
    with pytest.raises(InputError, match=r'\[retraining\] on needs one of "drift" and "realised"'):
        definitions.read(written(tmp_path, text.replace('["drift", "performance", "realised"]', '["performance"]')))


def test_the_loop_has_the_same_settings_and_defaults_as_their_reader() -> None:
    defaults = {entry.name: entry.default for entry in fields(usecase.Retraining)}
    assert {entry.name: entry.default for entry in fields(Settings) if entry.name != "minimum_rows"} == defaults


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "--on", "podman"], "ON: invalid choice: 'podman'"),
        (["simulate", "--rows", "many"], "ROWS: 'many' is not a whole number from 1 up."),
        (["size", "--rows=0"], "ROWS: '0' is not a whole number from 1 up."),
        (["compare", "--last=0"], "LAST: '0' is not a whole number from 1 up."),
        (["cost", "--runs", "nan"], "RUNS: 'nan' is not a number from 0 up."),
        (["cost", "--gb", "inf"], "GB: 'inf' is not a number from 0 up."),
        (["cost", "--retrainings=-1"], "RETRAININGS: '-1' is not a number from 0 up."),
        (["promote", "--from", "dev"], "the following arguments are required: TO."),
    ],
)
def test_a_wrong_option_is_one_line_with_the_name_that_make_has_for_it(words: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)) as raised:
        cli.parser().parse_args(words)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("absent", "present", "hint"),
    [
        (["churned"], ["id", "Churned"], "; 'Churned' differs from 'churned' in upper and lower case or blanks"),
        (["a"], ["id", " a "], "; ' a ' differs from 'a'"),
        (["a", "b"], ["a;b"], "; its cells seem to be separated by ';'"),
        (["a", "b"], ["x", "3.5"], "; does the first line hold the names?"),
        (["a"], ["id", "other"], ""),
    ],
)
def test_columns_that_are_not_found_hear_what_may_be_wrong(absent: list[str], present: list[str], hint: str) -> None:
    said = column_hint(absent, present)
    assert said.startswith(hint)
    assert bool(said) == bool(hint)


def test_a_metric_that_is_none_is_answered_with_the_list_once(tmp_path: Path) -> None:
    said = refused(tmp_path, next(place for place in EVERY if place[:2] == ("gate", "metric")), 'metric = "xyz"')
    assert said.count("average_precision") == 1


def test_a_number_too_large_hears_the_largest(tmp_path: Path) -> None:
    place = next(place for place in EVERY if place[1] == "vocabulary")
    assert "from 1 up; 2,147,483,647 is the most." in refused(tmp_path, place, "vocabulary = 3000000000")


def test_every_key_that_is_read_has_its_examples_here() -> None:
    declared = {f"{name}.{entry.name}" for name, kind in usecase.KINDS.items() for entry in fields(kind)}
    declared |= {f"usecase.{entry.name}" for entry in fields(usecase.About)}
    declared |= {f".{entry.name}" for entry in fields(Environment)} - {".environment", ".namespace", ".usecase"}
    declared |= {f"build.{entry.name}" for entry in fields(Build)}
    declared |= {f"tracking.{entry.name}" for entry in fields(Tracking)}
    declared |= {f"instances.processing.{entry.name}" for entry in fields(Instances)}
    known = {named(place) for place in OURS}
    assert declared - known == {"tuning.search", ".build", ".instances", ".tracking"}
    columns = {name.rpartition(".")[2] for name in known if name.startswith("columns.")}
    assert columns == {entry.name for entry in fields(usecase.Column)} - {"name", "size", "colour"}  # of pictures


def test_everything_right_is_taken_and_so_is_what_this_repository_says(tmp_path: Path) -> None:
    case, where = definitions.read(written(tmp_path))
    assert (case.columns[2].name, case.gate.minimum, where.monthly_budget) == ("since ['] =.#", 0.7, 0)
    for file in (ROOT / "environments").glob("*.toml"):
        definitions.read(Repository(ROOT, environment=file.stem))


WHOLE = [
    ("[drift]", "[drfit]", "there is no table [drfit] to set; the nearest is 'drift'"),
    ("[retraining]", "[retrainning]", "the nearest is 'retraining'"),
    ("[tuning.search]", "[tuning.serach]", "the nearest is 'search'"),
    ("[drift]", "[[drift]]", "[drift] is a list of tables, and should be one table"),
    ("[columns]\n", "[[columns]]\n", "[columns]"),
    ("[usecase]", "bins = 3\n[usecase]", "'bins' stands outside all tables; it belongs into [drift]"),
    ("[split]", '[other]\n"a.b" = 1\n[split]', "there is no table [other]"),
    ('town = { type = "category" }', "town = 3", "[columns] 'town' is 3, and should be one table"),
    ('town = { type = "category" }', "town = { }", "[columns] 'town' needs type: one of number"),
    ('town = { type = "category" }', 'town = { type = "category", minimum = 1 }', "minimum is for numbers"),
    ('town = { type = "category" }', 'repaid = { type = "category" }', "the model would see the answer"),
    ('town = { type = "category" }', 'town = { type = "category", name = "x" }', "unknown key 'name'"),
    ('metric = "auc"\n', "", "[gate] needs metric"),
    ("num_leaves = 31", "num_leaves = [31]", "[hyperparameters] num_leaves = [31] is not a number, true, false"),
    ("num_leaves = 31", "num_leaves = nan", "[hyperparameters] num_leaves = nan is not"),
    ("num_leaves = 31", f'num_leaves = "{"x" * 300}"', "a text of at most 256 characters"),
]


@pytest.mark.parametrize(("before", "after", "sentence"), WHOLE)
def test_tables_and_nesting_are_checked_too(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    text = USECASE.replace(before, after, 1)
    with pytest.raises(InputError, match=re.escape(sentence)) as raised:
        definitions.read(written(tmp_path, text))
    number = re.search(r"^usecase.toml, line (\d+): ", str(raised.value))
    assert number
    line = text.splitlines()[int(number[1]) - 1]
    assert line in after or (not after and line == "[gate]")


@pytest.mark.parametrize(
    ("before", "after"), [("algorithm = {", "algoritm = {"), ("count = 1, volume_gb = 0", "count = 1")]
)
def test_every_job_of_an_environment_has_its_instances(tmp_path: Path, before: str, after: str) -> None:
    with pytest.raises(InputError, match=r"^environments/dev.toml, line \d+: \[instances\] .*(algorithm|volume_gb)"):
        definitions.read(written(tmp_path, where=ENVIRONMENT.replace(before, after, 1)))


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("[a]\nb = 1\n", ("a", "b"), 2),
        ("[a]\nb = 1\n", ("a", "c"), 1),
        ("[a]\nb = 1\n", ("c",), None),
        ("# x\n\na.b.c = 1\n", ("a", "b", "c"), 3),
        ("[a]\n'x y'.\"z.w\" = 1\n", ("a", "x y", "z.w"), 2),
        ("[a]\nx = [\n  1, # b = 1\n  2,\n]\nb = 2\n", ("a", "b"), 6),
        ("[a]\n\n# why\nx = [\n  1,\n]\nb = 2\n", ("a", "x"), 4),
        ('[a]\nx = """\n[b]\nc = 1\n"""\n[b]\nc = 2\n', ("b", "c"), 7),
        ("[a]\r\nb = 1\r\nc = 2\r\n", ("a", "c"), 3),
        ("[a]\nb = { c = 1, d = 2 }\n", ("a", "b", "d"), 2),
        ("[a.b]\nc = 1\n[a]\nd = 1\n", ("a", "d"), 4),
        ("[[a]]\nb = 1\n[[a]]\nc = 1\n", ("a", "c"), 1),
        ("b = 1\n[a]\nb = 2", ("a", "b"), 3),
    ],
)
def test_the_line_of_a_key_is_found_as_the_parser_finds_it(text: str, path: tuple[str, ...], line: int | None) -> None:
    assert settings.line(text, path) == line


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    case, where = ("﻿" + text.replace("\n", "\r\n") for text in (USECASE, ENVIRONMENT))
    repository = written(tmp_path, case, where)
    assert definitions.read(repository)[0].name == repository.tables()["usecase"]["name"] == "loans"
    with pytest.raises(InputError, match="line 81: "):
        definitions.read(written(tmp_path, case.replace("bins = 20", "bins = -1"), where))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (USECASE.encode("utf-16"), "usecase.toml is not UTF-8 text; save it as UTF-8"),
        (USECASE.replace("Loans", "Kreditö").encode("latin-1"), "is not UTF-8 text"),
        ((USECASE + "top = 6\n").encode(), r"not valid TOML: Cannot overwrite a value \(at line 114"),
        (b"a = " + b"[" * 100_000, "not valid TOML"),
        (b"", r"there is no \[data\] table"),
    ],
)
def test_a_file_that_is_no_toml_is_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    repository = written(tmp_path)
    (tmp_path / "usecase.toml").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        definitions.read(repository)


@pytest.mark.parametrize(
    ("task", "metric", "minimum", "taken"),
    [
        ("binary", "auc", 1, True),
        ("binary", "auc", 1.5, False),
        ("binary", "log_loss", 25, True),
        ("binary", "log_loss", -1, False),
        ("binary", "brier", 1.5, False),
        ("multiclass", "brier", 1.5, True),
        ("regression", "rmse", 70, True),
        ("regression", "r2", -3, True),
        ("regression", "r2", 1.1, False),
        ("regression", "auc", 0.7, False),
    ],
)
def test_the_gate_has_a_limit_that_its_metric_can_have(task: str, metric: str, minimum: float, taken: bool) -> None:
    if taken:
        metrics.check_gate(task, metric, minimum, 0, 0)
    else:
        with pytest.raises(InputError, match=r"^\[gate\] (minimum|metric) = "):
            metrics.check_gate(task, metric, minimum, 0, 0)


HYPERPARAMETERS = [
    ("num_leaves = 31", "num_leavs = 31", "num_leavs = 31: LightGBM knows no such name; the nearest is 'num_leaves'"),
    ("num_leaves = 31", "num_leaves = 1", "num_leaves = 1: (num_leaves) > (1) does not hold"),
    ("num_leaves = 31", 'num_leaves = "31"', "num_leaves = '31': it is not a number; leave out the quotes"),
    ("num_leaves = 31", "num_leaves = 31.5", "num_leaves = 31.5: Parameter num_leaves should be of type int"),
    ("feature_fraction = 0.9", "feature_fraction = 2", "feature_fraction = 2: (feature_fraction) <= (1.0)"),
    ("feature_fraction = 0.9", "feature_fraction = true", "feature_fraction = True: "),
    ("feature_fraction = 0.9", 'boosting = "rff"', "boosting = 'rff': Unknown boosting type"),
    ("feature_fraction = 0.9", 'metric = "auc"', "[gate] metric is what a model is judged by"),
    ("num_iterations = 600", "num_iterations = 0", "num_iterations = 0: it is at least 1"),
    ("num_iterations = 600", "num_iterations = 60.5", "num_iterations = 60.5: it is not a whole number"),
    (
        "native_categories = false",
        'native_categories = "false"',
        "native_categories = 'false': it is not true or false",
    ),
    ('num_leaves = [7, 127, "log"]', "num_leavs = [7, 127]", "'num_leavs' is not among [hyperparameters]; the nearest"),
    ('num_leaves = [7, 127, "log"]', "num_leaves = [1, 127]", "[tuning.search] num_leaves: 1 can't be tried"),
    ('num_leaves = [7, 127, "log"]', 'num_leaves = [0, 9, "log"]', '"log" needs values above 0'),
    ('num_leaves = [7, 127, "log"]', "num_leaves = [nan, 127]", "[tuning.search] num_leaves = [nan, 127] is not"),
    ('num_leaves = [7, 127, "log"]', "num_leaves = []", "[tuning.search] num_leaves = [] is not"),
    ('num_leaves = [7, 127, "log"]', "num_leaves = 7", "[tuning.search] num_leaves = 7 is not"),
    ('num_leaves = [7, 127, "log"]', "num_leaves = [127, 7]", "[tuning.search] num_leaves = [127, 7] is not"),
    ('num_leaves = [7, 127, "log"]', "num_leaves = [7, 7]", "num_leaves = [7, 7] is not [low, high]"),
    ('num_leaves = [7, 127, "log"]', "num_leaves = [7.5, 127]", "num_leaves = [7.5, 127] is not [low, high]"),
    ('num_leaves = [7, 127, "log"]', "num_leaves = [7]", "num_leaves = [7] is not [low, high]"),
    ('num_leaves = [7, 127, "log"]', 'num_leaves = [7, 127, "lgo"]', 'or [low, high, "log"]'),
    ('num_leaves = [7, 127, "log"]', "num_iterations = [0, 5]", "num_iterations: 0 can't be tried: it is at least 1"),
    ('num_leaves = [7, 127, "log"]', "seed = [-1, 5]", "seed: -1 can't be tried: it is at least 0"),
    ("native_categories = [false, true]", "native_categories = [false]", "native_categories = [False] is not"),
]


@pytest.mark.parametrize("case", HYPERPARAMETERS)
def test_what_training_would_refuse_is_refused_without_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: tuple[str, str, str]
) -> None:
    before, after, sentence = case
    text = USECASE.replace(before, after, 1)
    written(tmp_path, text)
    monkeypatch.setenv("USECASE_FILE", str(tmp_path / "usecase.toml"))
    assert hyperparameters.main([]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert sentence in said
    assert f"usecase.toml, line {text.splitlines().index(after) + 1}: " in said


def test_an_override_of_a_hyperparameter_is_tried_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path)
    monkeypatch.setenv("USECASE_FILE", str(tmp_path / "usecase.toml"))
    assert hyperparameters.main([]) == hyperparameters.main(["num_leaves=15", "seed=8"]) == 0
    assert hyperparameters.main(["num_leaves=1"]) == 1
    assert "usecase.toml: [hyperparameters] num_leaves = 1: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return build(tmp_path_factory.mktemp("settings") / "mini")


@pytest.mark.parametrize(
    "change",
    [
        ("usecase.toml", "[gate]", "[gatee]", "usecase.toml, line 17: there is no table [gatee]"),
        ("usecase.toml", "[gate]", '[retraining]\non = ["drfit"]\n[gate]', "the nearest is 'drift'"),
        ("usecase.toml", "minimum = 0.5", "minimum = 50", "usecase.toml, line 19: [gate] minimum = 50: auc is from"),
        ("environments/dev.toml", "count = 1", "count = 0", "environments/dev.toml, line "),
        ("batchloop/container/hyperparameters.py", "", "raise SystemExit('error: no')", "no"),
    ],
)
@pytest.mark.parametrize("command", ["train", "compile"])
def test_nothing_runs_before_every_setting_is_right(
    mini: Miniature, change: tuple[str, str, str, str], command: str
) -> None:
    file, before, after, sentence = change
    text = (mini.root / file).read_text(encoding="utf-8")
    mini.write(file, text.replace(before, after, 1))
    try:
        said = mini.run(command, code=1)
    finally:
        mini.write(file, text)
    assert sentence in said
    assert "Traceback" not in said
    assert not list(mini.root.glob("local/runs/*"))


VALUES = [
    "GDP ($ per capita)",
    " income",
    'it\'s "quoted" `id` #1 100 % back\\slash \\',
    "Größe 顧客 🚀",
    "$(shell echo expanded) $$HOME ${PATH} $x",
    "two\nlines",
    "a.b,c=d;e&f|g<h>*?~!",
]


@pytest.mark.parametrize("given", ["argument", "variable"])
@pytest.mark.parametrize("value", VALUES)
def test_make_hands_a_value_on_as_it_is(tmp_path: Path, value: str, given: str) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys\nsys.stdout.buffer.write(sys.argv[-1].encode())\n", encoding="utf-8")
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    own_program = f"BATCHLOOP := {shlex.quote(sys.executable)} {shlex.quote(str(program))}"
    makefile = tmp_path / "Makefile"
    makefile.write_text(re.sub("(?m)^BATCHLOOP := .*", lambda _: own_program, text), encoding="utf-8")
    argument = [f"LABEL={value}"] if given == "argument" else []
    words = ["make", "--file", str(makefile), "--old-file=setup", "adopt", *argument]
    own = os.environ | ({"LABEL": value} if given == "variable" else {})
    done = subprocess.run(words, cwd=ROOT, env=own, capture_output=True, check=True)
    expected = value if given == "variable" or Path("/proc/self/cmdline").exists() else value.lstrip()
    assert done.stdout.decode() == f"--label={expected}"


def test_a_switch_is_yes_or_no() -> None:
    def run(word: str) -> "subprocess.CompletedProcess[str]":
        words = ["make", "--old-file=setup", "--dry-run", "train", f"FRESH={word}"]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "--fresh" in run("yes").stdout
    assert "--fresh" not in run("no").stdout
    assert run("no").returncode == 0
    assert "FRESH=ja: it is yes or no" in run("ja").stderr


@pytest.mark.parametrize("value", ["", " ", "ja", "YES", "$x", '"yes"', "Größe"])
@pytest.mark.parametrize("name", ["FRESH", "CONTINUE", "CREATE", "CONFIRM", "APPROVE", "UPGRADE"])
def test_what_is_neither_yes_nor_no_runs_nothing(name: str, value: str) -> None:
    targets = {"CREATE": "bootstrap", "CONFIRM": "deploy", "APPROVE": "release", "UPGRADE": "lock"}
    words = ["make", "--old-file=setup", "--dry-run", targets.get(name, "train"), f"{name}={value}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if value.strip():
        assert f"{name}={value}: it is yes or no" in done.stderr
        assert done.returncode
    else:
        assert done.returncode == 0
        assert not {"--fresh", "--continue", "create", "--confirm", "--approve"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "train DTA=x",
            "make train takes no DTA; did you mean DATA? It takes CONTINUE DATA ENV FRESH ON SET BASE_IMAGE",
        ),
        ("train data=x", "make train takes no data; did you mean DATA?"),
        ("score FRESH=yes", "make score takes no FRESH. It takes DATA ENV ON SET BASE_IMAGE"),
        ("score BIN=/x", "make score takes no BIN."),
        ("clean ENV=prod", "make clean takes no ENV. It takes nothing"),
        ("ENV=prod", "make help takes no ENV."),
        ("preflight BASE_IMAGE=x", "make preflight takes no BASE_IMAGE. It takes ENV"),
        ("train it's=x", "make train takes no it's"),
        ("trian", "make has no verb trian; did you mean train?"),
    ],
)
def test_make_refuses_what_it_would_not_use(words: str, said: str) -> None:
    done = subprocess.run(["make", *words.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout


def test_make_takes_what_any_of_its_verbs_does_and_what_is_for_all() -> None:
    given = ["train", "push", "DATA=x", "FROM=dev", "VERBOSE=yes", "PYTHON=python3"]
    words = ["make", "--old-file=setup", "--dry-run", *given]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert '-m batchloop --verbose train --env="$ENV" --data="$DATA"' in said
    install = ["make", "--dry-run", "install", "DATA=x"]  # within a verb: it gets what the verb was given
    subprocess.run(install, cwd=ROOT, capture_output=True, check=True)


def test_make_lists_every_verb_once_below_who_needs_it() -> None:
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    groups = [line for line in said.splitlines() if line[:1].isalpha()]
    assert groups[:3] == ["Data scientist", "ML engineer", "Platform engineer"]
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z]+):[^#\n]*## ", text, re.MULTILINE)) - {"help"}
    listed_there = re.findall(r"^  make ([a-z]+) +\S", said, re.MULTILINE)
    assert sorted(listed_there) == sorted(verbs)


def test_every_value_that_make_takes_is_handed_on_by_its_name() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed_there = re.search(r"^GIVEN := ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert listed_there
    given = set(listed_there[1].replace("\\\n", " ").split())
    used = {
        name for names in re.findall(r"\$\(call (?:batchloop|options),([A-Z_ ]+)\)", text) for name in names.split()
    }
    assert used <= given
    promised = set(re.findall(r"\b([A-Z_]{2,})=", "".join(line for line in text.splitlines(True) if "## " in line)))
    assert promised - {"DRIFT"} <= given | {"GIVEN"}


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_command_names_a_function_that_takes_its_options(command: cli.Command) -> None:
    function = cli.load(command.function)
    inspect.signature(function).bind(None, *cli.arguments(function, command.given))


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_make_hands_on_the_options_that_a_command_declares(command: cli.Command) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    [recipe] = re.findall(rf"^{command.name}: .*\n\t(.*)$", text, re.MULTILINE)
    handed = re.findall(r"\$\(call (?:batchloop|options),([A-Z_ ]+)\)$", recipe)
    assert set(" ".join(handed).split()) == {option for option in command.options if option.isupper()}


def test_an_artifact_says_which_columns_were_other_when_it_was_learned(tmp_path: Path) -> None:
    def contract(**changes: dict[str, Any]) -> dict[str, Any]:
        columns = {"age": {"type": "number", "maximum": 120}, "town": {"type": "category"}} | changes
        tables: dict[str, Any] = {"usecase": {"name": "loans"}, "gate": {"metric": "auc", "minimum": 0.7}}
        tables["data"] = {"task": "binary", "label": "y", "classes": ["no", "yes"]}
        return usecase.parse(tables | {"columns": {name: spec for name, spec in columns.items() if spec}}).contract()

    artifacts.write_manifest(tmp_path, "processing", contract())
    artifacts.check_manifest(tmp_path, "processing", contract())
    found = {
        "column 'plan' is new": contract(plan={"type": "category"}),
        "column 'town' is gone": contract(town={}),
        "column 'age' maximum was 120, now 130": contract(age={"type": "number", "maximum": 130}),
        "column 'age' maximum was 120, now not set": contract(age={"type": "number"}),
        "column 'town' type was category, now boolean": contract(town={"type": "boolean"}),
        "column 'c4' is new, and 4 more": contract(**{f"c{number}": {"type": "number"} for number in range(9)}),
    }
    for words, other in found.items():
        with pytest.raises(InputError, match=re.escape(words)):
            artifacts.check_manifest(tmp_path, "processing", other)


def test_a_list_in_a_sentence_says_how_many_it_leaves_out() -> None:
    assert listed(["a"]) == "a"
    assert listed(map(str, range(3)), 3) == "0, 1, 2"
    assert listed(range(2000), 3) == "0, 1, 2, and 1,997 more"
