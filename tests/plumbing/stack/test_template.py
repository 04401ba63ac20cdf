"""infra/stack.yaml without AWS: linters, parameters, tags, names, both passes, and what watches over it."""

import copy
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from cfnlint.api import ManualArgs, lint_file  # type: ignore[import-untyped, unused-ignore]
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped, unused-ignore]

from plumbing.rendered import ROOT
from plumbing.stack.template import (
    ACCOUNT,
    FILE,
    FUNCTIONS,
    HERE,
    KEY,
    OPTIONS,
    REGION,
    NotMade,
    Stack,
    everything,
    template,
    texts,
)

CHECKOV = str(Path(__file__).resolve().parents[3] / ".venv-scanners" / "bin" / "checkov")
LONGEST = {"Namespace": "n" * 8, "Usecase": "u" * 31, "Environment": "staging", "BucketName": f"{'b' * 48}-{ACCOUNT}"}


# ---- linters


def test_cfn_lint_has_nothing_to_say() -> None:
    found = lint_file(FILE, ManualArgs(regions=[REGION, "us-east-1"]))
    assert not [f"line {match.linenumber}: {match.rule.id} {match.message}"[:300] for match in found]


def checkov(file: Path) -> dict[str, set[tuple[str, str]]]:
    """What the scanner says of each check and resource."""
    assert shutil.which(CHECKOV), f"there is no {CHECKOV}; `make scanners` makes it."
    command = [CHECKOV, "--file", str(file), "--framework", "cloudformation", "--skip-download", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = json.loads(done.stdout)["results"]
    assert not found["parsing_errors"]
    kinds = ("passed_checks", "failed_checks", "skipped_checks")
    return {
        kind: {(check["check_id"], check["resource"].rpartition(".")[2]) for check in found[kind]} for kind in kinds
    }


def test_checkov_has_nothing_to_say() -> None:
    found = checkov(FILE)
    assert found["failed_checks"] == set()
    assert len(found["passed_checks"]) > 50


def test_no_more_is_suppressed_than_would_fail(tmp_path: Path) -> None:
    bare = copy.deepcopy(template())
    for entry in bare["Resources"].values():
        entry.pop("Metadata", None)
    (tmp_path / "stack.json").write_text(json.dumps(bare))
    assert checkov(tmp_path / "stack.json")["failed_checks"] == {(check["id"], name) for name, check in suppressions()}


def suppressions() -> list[tuple[str, Mapping[str, str]]]:
    resources = template()["Resources"].items()
    return [
        (name, check)
        for name, entry in resources
        for check in entry.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]


def test_every_suppression_has_a_reason() -> None:
    assert suppressions()
    for name, check in suppressions():
        assert len(check["comment"].split()) >= 3, name


def test_the_template_is_no_template_of_the_template() -> None:
    assert not re.findall(r"\{\{|\{%|\{#", FILE.read_text())


def test_colons_in_braces_are_quoted_for_older_parsers_of_yaml() -> None:
    """YAML 1.1 parsers stop at "unexpected ':'" there, and CloudFormation does not say which one it uses."""
    depth = 0
    for token in yaml.scan(FILE.read_text()):
        if isinstance(token, yaml.FlowMappingStartToken | yaml.FlowSequenceStartToken):
            depth += 1
        elif isinstance(token, yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken):
            depth -= 1
        elif isinstance(token, yaml.ScalarToken) and token.plain and depth:
            assert ":" not in token.value, f"line {token.start_mark.line + 1}: {token.value}"


# ---- parameters, tags, names, both passes


def test_every_parameter_and_output_says_what_it_is() -> None:
    whole = template()
    for name, entry in (*whole["Parameters"].items(), *whole["Outputs"].items()):
        assert len(entry["Description"].split()) >= 3, name


def test_whatever_can_be_tagged_says_whose_it_is() -> None:
    tagged = 0
    for name, entry in everything().resources.items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, entry["Type"]).schema
        field = schema.get("tagging", {}).get("tagProperty", "/properties/Tags").rpartition("/")[2]
        if field in schema["properties"]:
            tagged += 1
            tags = {tag["Key"]: tag["Value"] for tag in entry["Properties"].get(field, [])}
            assert tags == {"namespace": "team", "usecase": "case", "environment": "dev"}, name
    assert tagged > 20


def test_the_longest_names_fit() -> None:
    """Forty characters of namespace and use case beside `staging`; the limits are the services' own."""
    limits = {
        "BucketName": 63,
        "FunctionName": 64,
        "ModelPackageGroupName": 63,
        "Name": 64,
        "QueueName": 80,
        "RoleName": 64,
    }
    long = everything(**LONGEST)
    names = [
        (field, text)
        for entry in long.resources.values()
        for field, text in entry["Properties"].items()
        if field in limits
    ]
    assert len(names) > 15
    for field, text in names:
        assert len(text) <= limits[field], f"{field} {text}"


def test_names_begin_with_namespace_use_case_and_environment() -> None:
    for entry in everything().resources.values():
        for field, text in entry["Properties"].items():
            if field.endswith("Name") and field not in (
                "MetricName",
                "AliasName",
                "LogGroupName",
                "FunctionName",
                "PolicyName",
            ):
                assert str(text).startswith("team-case-dev"), f"{field} {text}"


@pytest.mark.parametrize(
    "given",
    [dict(chosen) for size in (0, 1, 2, len(OPTIONS)) for chosen in itertools.combinations(OPTIONS.items(), size)],
)
def test_whatever_is_chosen_nothing_points_at_what_is_not_made(given: dict[str, str]) -> None:
    stack = Stack(**given)
    assert stack.outputs
    assert not [text for text in texts(list(stack.resources.values())) if "${" in text]


def test_a_reference_to_what_is_not_made_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = copy.deepcopy(template())
    del broken["Resources"]["RunEnded"]["Condition"]
    monkeypatch.setattr("plumbing.stack.template.template", lambda: broken)
    with pytest.raises(NotMade, match="AfterInference"):
        Stack()


def test_the_first_pass_makes_bucket_and_roles_and_no_function() -> None:
    first, second = Stack(), Stack(FunctionsKey="a.zip")
    assert not first.of("AWS::Lambda::Function")
    assert {"Bucket", "ExecutionRole", "Models", "Topic", "DeadLetters"} <= set(first.resources)
    assert set(first.resources) < set(second.resources)
    assert set(second.of("AWS::Lambda::Function")) == set(FUNCTIONS.values())


def test_what_can_not_be_made_again_is_kept() -> None:
    for name in ("Bucket", "Key", "Models"):
        entry = template()["Resources"][name]
        assert entry["DeletionPolicy"] == entry["UpdateReplacePolicy"] == "Retain", name


def test_artifacts_never_expire() -> None:
    rules = Stack().of("AWS::S3::Bucket")["Bucket"]["LifecycleConfiguration"]["Rules"]
    assert not [rule for rule in rules if any("Expiration" in key and "Noncurrent" not in key for key in rule)]
    for rule in rules:
        if "NoncurrentVersionExpiration" in rule:
            assert not "team/case/dev/training/x/TrainModel/model.tar.gz".startswith(rule["Prefix"])
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)


def test_the_bucket_is_closed_and_versioned_and_reports_new_objects() -> None:
    stack = Stack()
    bucket = stack.of("AWS::S3::Bucket")["Bucket"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    assert bucket["NotificationConfiguration"]["EventBridgeConfiguration"]["EventBridgeEnabled"] is True
    (statement,) = stack.of("AWS::S3::BucketPolicy")["BucketPolicy"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"], statement["Principal"]) == ("Deny", "s3:*", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert len(statement["Resource"]) == 2


@pytest.mark.parametrize(
    ("given", "key"),
    [({}, ""), ({"KmsKeyArn": KEY}, KEY), ({"CreateKey": "true"}, KEY), ({"CreateKey": "true", "KmsKeyArn": KEY}, KEY)],
)
def test_a_key_of_yours_encrypts_bucket_and_notices_and_without_one_aws_does(given: dict[str, str], key: str) -> None:
    stack = Stack(**given)
    (rule,) = stack.of("AWS::S3::Bucket")["Bucket"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    with_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    assert rule["ServerSideEncryptionByDefault"] == (with_key if key else {"SSEAlgorithm": "AES256"})
    assert stack.of("AWS::SNS::Topic")["Topic"].get("KmsMasterKeyId", "") == key
    assert stack.of("AWS::SQS::Queue")["DeadLetters"]["SqsManagedSseEnabled"] is True
    assert ("Key" in stack.resources) == (given == {"CreateKey": "true"})


def test_the_build_has_docker_and_knows_its_environment() -> None:
    build = everything(RepositoryProvider="GITLAB", Branch="release").of("AWS::CodeBuild::Project")["Build"]
    assert (build["Source"]["Type"], build["Source"]["BuildSpec"]) == ("GITLAB", "buildspec.yml")
    assert build["Environment"]["PrivilegedMode"] is True
    assert build["Environment"]["EnvironmentVariables"] == [{"Name": "ENV", "Value": "dev"}]
    assert build["Triggers"]["FilterGroups"][0][1]["Pattern"] == "^refs/heads/release$"


def test_functions_are_what_the_code_has() -> None:
    for module, name in FUNCTIONS.items():
        function = everything().of("AWS::Lambda::Function")[name]
        assert function["Handler"].endswith(f".{module}")
        file = ROOT / function["Handler"].rpartition(".")[0].replace(".", "/")
        assert f"\n{module} = handler(" in file.with_suffix(".py").read_text()
        assert function["FunctionName"] == f"team-case-dev-{module.replace('_', '-')}"
        assert set(function["Environment"]["Variables"]) == {
            "NAMESPACE",
            "USECASE",
            "ENVIRONMENT",
            "BUCKET",
            "TOPIC_ARN",
        }
        assert function["Role"].endswith(f"role/{function['FunctionName']}")
        assert function.get("ReservedConcurrentExecutions") == (None if name == "StartInference" else 1)


# ---- what watches over it


def test_alarms_tell_people_and_a_day_without_a_run_is_one() -> None:
    alarms = everything().of("AWS::CloudWatch::Alarm")
    assert set(alarms) == {"NoRun", "Drift", "FunctionErrors", "LostEvents"}
    assert all(alarm["AlarmActions"] == [f"arn:aws:sns:{HERE}:team-case-dev-notices"] for alarm in alarms.values())
    assert alarms["NoRun"]["TreatMissingData"] == "breaching"
    assert alarms["NoRun"]["Period"] * 168 <= 7 * 24 * 3600
    watched = {
        metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"] for metric in alarms["FunctionErrors"]["Metrics"][1:]
    }
    assert watched == set(everything().of("AWS::Lambda::Function")) or len(watched) == len(FUNCTIONS)


def test_charts_and_alarms_show_metrics_that_the_functions_publish() -> None:
    stack = everything()
    body = json.loads(stack.of("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"])
    shown = {stack.of("AWS::CloudWatch::Alarm")["Drift"]["MetricName"]}
    for widget in body["widgets"]:
        space = ""
        for line in widget["properties"].get("metrics", []):
            space = space if line[0] in (".", "...") else line[0]
            if space == "team/case":
                shown.add(line[1])
    code = "".join(file.read_text() for file in (ROOT / "batchloop" / "control").glob("*.py"))
    assert len(shown) > 5
    assert not {name for name in shown if f'"{name}":' not in code}
