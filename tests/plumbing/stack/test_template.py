"""The templates of infra/ without AWS: linters, regions, parameters, tags, names, and what watches over them."""

import copy
import itertools
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import cfnlint  # type: ignore[import-untyped, unused-ignore]
import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from botocore.loaders import Loader
from cfnlint.api import ManualArgs, lint_file  # type: ignore[import-untyped, unused-ignore]
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped, unused-ignore]

from batchloop import environment as environments
from batchloop.cloud import stack as sent
from batchloop.container import usecase
from batchloop.container.job import InputError
from plumbing.rendered import ROOT
from plumbing.stack.template import (
    ACCOUNT,
    FILES,
    FUNCTIONS,
    HERE,
    KEY,
    OPTIONS,
    REGION,
    NotMade,
    Stack,
    everything,
    storage,
    template,
    texts,
)

CHECKOV = str(Path(__file__).resolve().parents[3] / ".venv-scanners" / "bin" / "checkov")
BOTH = ("stack", "storage")
SHIPPED = sorted(file.stem for file in (ROOT / "environments").glob("*.toml"))
REGIONS = environments.places()["regions"]
# What the schemas say of no name, other pages do (read in November 2026).
NO_MAXIMUM = {
    "BudgetName": 100,  # "Budget" in the AWS Budgets API reference
    "DatabaseName": 255,  # "Database" in the Glue API reference
    "DashboardName": 255,  # "PutDashboard" in the CloudWatch API reference
    "FunctionName": 64,  # "CreateFunction" in the Lambda API reference
    "ManagedPolicyName": 128,  # "CreatePolicy" in the IAM API reference
    "ModelPackageGroupName": 63,  # "CreateModelPackageGroup" in the SageMaker API reference
    "Name": 150,  # of a CodeBuild project: "AWS CodeBuild quotas"
    "QueueName": 80,  # "CreateQueue" in the SQS API reference
}
ONCE = ("AWS::IAM::", "AWS::S3::Bucket", "AWS::CloudWatch::Dashboard", "AWS::Budgets::")  # an account's, in all regions


# ---- linters


@pytest.mark.parametrize("name", FILES)
def test_cfn_lint_has_nothing_to_say(name: str) -> None:
    found = lint_file(FILES[name], ManualArgs(regions=[REGION, "us-east-1"]))
    assert not [f"line {match.linenumber}: {match.rule.id} {match.message}"[:300] for match in found]


@pytest.mark.parametrize("without", sorted({tuple(its["without"]) for its in REGIONS.values()}))
def test_cfn_lint_has_nothing_to_say_of_what_is_sent_to_any_region(tmp_path: Path, without: tuple[str, ...]) -> None:
    regions = [region for region, its in REGIONS.items() if tuple(its["without"]) == without]
    for name in BOTH:
        (tmp_path / f"{name}.yaml").write_text(sent.template(ROOT, f"{name}.yaml", without))
        found = lint_file(tmp_path / f"{name}.yaml", ManualArgs(regions=regions))
        unused = ("W2001", "W8001")  # parameters and conditions of what is left out
        assert not [f"{match.rule.id} {match.message}"[:300] for match in found if match.rule.id not in unused]


def test_regions_are_those_where_cloudformation_makes_all_that_is_needed() -> None:
    """cfn-lint has no figures of a region where it has us-east-1's: such a region is not supported."""
    kinds = {entry["Type"]: name for file in BOTH for name, entry in template(file)["Resources"].items()}
    folder = Path(cfnlint.__file__).parent / "data" / "schemas" / "providers"
    known = {file.stem: set(json.loads(file.read_text())) for file in folder.glob("*-*-*.json")}
    found = {}
    for partition in Loader().load_data("endpoints")["partitions"]:
        for region in partition["regions"]:
            types = known.get(region, set())
            own = region == "us-east-1" or (types and types != known["us-east-1"])
            lacking = {kinds[kind] for kind in set(kinds) - types}
            if own and lacking <= {"Budget", "Build"} and region in partition["services"]["api.sagemaker"]["endpoints"]:
                found[region] = (partition["partition"], partition["dnsSuffix"], lacking)
    suffixes = environments.places()["partitions"]
    assert found == {
        region: (its["partition"], suffixes[its["partition"]], set(its["without"])) for region, its in REGIONS.items()
    }
    assert len(found) > 25


def test_a_code_stands_for_one_region() -> None:
    codes = [its["code"] for its in REGIONS.values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(template()["Parameters"]["RegionCode"]["AllowedPattern"], code) for code in codes)


@pytest.mark.parametrize("name", BOTH)
def test_no_partition_and_no_host_is_written_out(name: str) -> None:
    """But for the principals of services, which are the same in every partition that is supported."""
    text = re.sub(r"[a-z]+\.amazonaws\.com", "", sent.template(ROOT, f"{name}.yaml"))
    assert "arn:aws" not in text
    assert "amazonaws" not in text


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


@pytest.mark.parametrize(("name", "least"), [("stack", 50), ("storage", 5), ("deployer", 3)])
def test_checkov_has_nothing_to_say(name: str, least: int) -> None:
    found = checkov(FILES[name])
    assert found["failed_checks"] == set()
    assert len(found["passed_checks"]) > least


@pytest.mark.parametrize("name", BOTH)
def test_no_more_is_suppressed_than_would_fail(tmp_path: Path, name: str) -> None:
    bare = copy.deepcopy(template(name))
    for entry in bare["Resources"].values():
        entry.pop("Metadata", None)
    (tmp_path / "stack.json").write_text(json.dumps(bare))
    suppressed = {(check["id"], resource) for resource, check in suppressions(name)}
    assert checkov(tmp_path / "stack.json")["failed_checks"] == suppressed


def suppressions(name: str) -> list[tuple[str, Mapping[str, str]]]:
    resources = template(name)["Resources"].items()
    return [
        (name, check)
        for name, entry in resources
        for check in entry.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]


@pytest.mark.parametrize("name", BOTH)
def test_every_suppression_has_a_reason(name: str) -> None:
    assert suppressions(name)
    for resource, check in suppressions(name):
        assert len(check["comment"].split()) >= 3, resource


@pytest.mark.parametrize("name", BOTH)
def test_the_template_is_no_template_of_the_template(name: str) -> None:
    assert not re.findall(r"\{\{|\{%|\{#", FILES[name].read_text())


@pytest.mark.parametrize("name", BOTH)
def test_colons_in_braces_are_quoted_for_older_parsers_of_yaml(name: str) -> None:
    """YAML 1.1 parsers stop at "unexpected ':'" there, and CloudFormation does not say which one it uses."""
    depth = 0
    for token in yaml.scan(FILES[name].read_text()):
        if isinstance(token, yaml.FlowMappingStartToken | yaml.FlowSequenceStartToken):
            depth += 1
        elif isinstance(token, yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken):
            depth -= 1
        elif isinstance(token, yaml.ScalarToken) and token.plain and depth:
            assert ":" not in token.value, f"line {token.start_mark.line + 1}: {token.value}"


# ---- parameters, tags, names


@pytest.mark.parametrize("file", BOTH)
def test_every_parameter_and_output_says_what_it_is(file: str) -> None:
    whole = template(file)
    for name, entry in (*whole["Parameters"].items(), *whole.get("Outputs", {}).items()):
        assert len(entry["Description"].split()) >= 3, name


def test_whatever_can_be_tagged_says_whose_it_is() -> None:
    tagged = 0
    for name, entry in (everything().resources | storage(CreateKey="true").resources).items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, entry["Type"]).schema
        field = schema.get("tagging", {}).get("tagProperty", "/properties/Tags").rpartition("/")[2]
        if field in schema["properties"]:
            tagged += 1
            tags = {tag["Key"]: tag["Value"] for tag in entry["Properties"].get(field, [])}
            assert tags == {"namespace": "team", "usecase": "case", "environment": "dev"}, name
    assert tagged > 20


def named(**parameters: str) -> list[tuple[str, str, str, int]]:
    """Type, property, name and how long it may be, of all that has a name of its own."""
    found = []
    for stack in (everything(**parameters), storage(**parameters)):
        for entry in stack.resources.values():
            known = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, entry["Type"]).schema["properties"]
            properties = {**entry["Properties"], **entry["Properties"].get("Budget", {})}
            for field, text in properties.items():
                if re.fullmatch(r"(\w+)?Name", field) and field not in ("MetricName", "PolicyName"):
                    most = known.get(field, {}).get("maxLength") or NO_MAXIMUM[field]
                    found.append((entry["Type"], field, str(text), most))
    return found


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("environment", SHIPPED)
def test_the_longest_names_that_are_let_in_fit_and_no_longer_ones_do(region: str, environment: str) -> None:
    code = REGIONS[region]["code"]
    for more in (0, 1):
        letters = environments.places()["longest"] + more - len(code) - len(environment) - 1
        namespace, usecase = "n" * 8, "u" * (letters - 9)
        values = {"Namespace": namespace, "Usecase": usecase, "Environment": environment, "RegionCode": code}
        bucket = f"{namespace}-{usecase}-{environment}-{ACCOUNT}-{code}"
        names = named(**values, BucketName=bucket)
        assert len(names) > 25
        longer = {f"{field} {text}" for _, field, text, most in names if len(text) > most}
        assert bool(longer) == bool(more), longer


def test_policies_with_the_longest_names_fit_into_what_iam_takes() -> None:
    """ "IAM and AWS STS quotas": 6,144 characters for a managed policy, 10,240 for all of a role's own, no blanks."""
    letters = environments.places()["longest"] - len("apse1")
    names = {"Namespace": "n" * 8, "Usecase": "u" * (letters - 11), "Environment": "d", "RegionCode": "apse1"}
    role = {"DeploymentRoleArn": f"arn:aws:iam::{ACCOUNT}:role/{'r' * 64}"}
    place = {"AWS::Region": "ap-southeast-1", "BucketName": "b" * 63}
    for stack in (everything(**names, **place), Stack(template("deployer"), **names, **place, **role)):
        for name, its in {**stack.of("AWS::IAM::ManagedPolicy"), **stack.of("AWS::IAM::Role")}.items():
            own = its.get("Policies", [its])
            size = sum(len(json.dumps(policy["PolicyDocument"], separators=(",", ":"))) for policy in own)
            assert size <= (10_240 if "Policies" in its else 6_144), f"{name}: {size}"


@pytest.mark.parametrize("environment", SHIPPED)
def test_a_name_that_no_role_can_have_is_refused_before(environment: str) -> None:
    text = (ROOT / "environments" / f"{environment}.toml").read_text()
    most = environments.places()["longest"] - len("euc1") - len(environment) - 2
    for letters, fits in ((most, True), (most + 1, False)):
        case = usecase.UseCase.__new__(usecase.UseCase)
        object.__setattr__(case, "namespace", "n")
        object.__setattr__(case, "name", "u" * (letters - 1))
        if fits:
            environments.parse(tomllib.loads(text), environment, case)
        else:
            with pytest.raises(InputError, match=f"all of it at most {most + len(environment) + 2} characters"):
                environments.parse(tomllib.loads(text), environment, case)


def test_a_second_region_of_the_account_needs_no_name_that_the_first_one_has() -> None:
    first, second = named(), named(RegionCode="use1", BucketName=f"team-case-dev-{ACCOUNT}-use1")
    for (kind, field, here, _), (_, _, there, _) in zip(first, second, strict=True):
        if kind.startswith(ONCE):
            assert here != there, f"{kind} {field}"


def test_names_begin_with_namespace_use_case_and_environment() -> None:
    for kind, field, text, _ in named():
        if kind not in ("AWS::Logs::LogGroup", "AWS::Lambda::Permission"):
            assert text.replace("_", "-").startswith("team-case-dev"), f"{field} {text}"


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
    broken["Resources"]["AfterInference"]["Condition"] = "HasSchedule"
    monkeypatch.setattr("plumbing.stack.template.template", lambda: broken)
    with pytest.raises(NotMade, match="AfterInference"):
        Stack()


def test_what_can_not_be_made_again_is_kept_and_a_first_creation_leaves_nothing() -> None:
    for name in ("Bucket", "Key", "Models"):
        entry = template("storage")["Resources"][name]
        assert (entry["DeletionPolicy"], entry["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), name
    assert not [name for name, entry in template()["Resources"].items() if "DeletionPolicy" in entry]
    assert "Outputs" not in template("storage"), "a template that imports may not bring outputs"


@pytest.mark.parametrize(("runs", "trainings"), [("365", "365"), ("30", "0"), ("0", "60"), ("0", "0")])
def test_runs_and_trainings_expire_and_releases_and_raw_data_never_do(runs: str, trainings: str) -> None:
    given = {"KeepRunsDays": runs, "KeepTrainingsDays": trainings}
    rules = storage(**given).of("AWS::S3::Bucket")["Bucket"]["LifecycleConfiguration"]["Rules"]
    active = [rule for rule in rules if rule["Status"] == "Enabled"]
    gone = {rule["Prefix"]: rule["ExpirationInDays"] for rule in active if "ExpirationInDays" in rule}
    wanted = {"team/case/dev/inference/": runs, "team/case/dev/training/": trainings}
    assert gone == {prefix: days for prefix, days in wanted.items() if days != "0"}
    assert not [rule for rule in active if "team/case/dev/releases/7/".startswith(rule.get("Prefix", "?"))]
    assert any("AbortIncompleteMultipartUpload" in rule for rule in active)
    old = {rule["Prefix"] for rule in active if rule.get("NoncurrentVersionExpiration")}
    assert old == {*wanted, "team/case/data/"}


def test_the_bucket_is_closed_and_versioned_and_reports_new_objects() -> None:
    stack = storage()
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
    stack = storage(**given)
    (rule,) = stack.of("AWS::S3::Bucket")["Bucket"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    with_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    assert rule["ServerSideEncryptionByDefault"] == (with_key if key else {"SSEAlgorithm": "AES256"})
    assert ("Key" in stack.resources) == (given == {"CreateKey": "true"})
    others = Stack(KmsKeyArn=key)
    assert others.of("AWS::SNS::Topic")["Topic"].get("KmsMasterKeyId", "") == key
    assert others.of("AWS::SQS::Queue")["DeadLetters"]["SqsManagedSseEnabled"] is True


def test_the_build_has_docker_and_knows_its_environment() -> None:
    build = everything(RepositoryProvider="GITLAB", Branch="release").of("AWS::CodeBuild::Project")["Build"]
    assert (build["Source"]["Type"], build["Source"]["BuildSpec"]) == ("GITLAB", "buildspec.yml")
    assert build["Environment"]["PrivilegedMode"] is True
    assert {"Name": "ENV", "Value": "dev"} in build["Environment"]["EnvironmentVariables"]
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
            *(["CATALOG"] if name == "AfterInference" else []),
        }
        assert function["Role"].endswith(f"role/team-case-dev-euc1-{module.replace('_', '-')}")
        assert function.get("ReservedConcurrentExecutions") == (None if name == "StartInference" else 1)
        assert "Architectures" not in function  # arm64 is there "in most regions" (Lambda developer guide)


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
