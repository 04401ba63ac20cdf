"""The roles in infra/stack.yaml: no call of the code is missing, and none is granted that nothing makes."""

import fnmatch
import importlib
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from policy_sentry.querying.actions import get_actions_matching_condition_key

from plumbing.rendered import ROOT
from plumbing.stack.calls import Package, Unclear, operations
from plumbing.stack.policies import listed, problems
from plumbing.stack.template import (
    ACCOUNT,
    BUCKET,
    FUNCTIONS,
    HERE,
    KEY,
    POLICIES,
    REGION,
    Stack,
    everything,
    template,
    texts,
)

SERVICES = ("cloudwatch", "ecr", "glue", "s3", "sagemaker", "sns", "ssm")
# What Lambda does with a function's role, and what S3 and SNS do with it where there is a key.
BEHIND_THE_CODE = {"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage", "kms:Decrypt", "kms:GenerateDataKey"}

DOCKER = {  # what it does with the registry ("IAM permissions for pushing an image", ECR user guide)
    *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer"),
    *("ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"),
}
KEY_OF_APPROVAL = "sagemaker:ModelApprovalStatus"
NEEDS_NONE = "sts:GetCallerIdentity"  # "No permissions are required" (STS API reference)
MODULES = {"publish_release": "release"}  # the others are in handlers
ROLES = sorted(name for name, entry in template()["Resources"].items() if entry["Type"] == "AWS::IAM::Role")


def actions(statements: list[dict[str, Any]]) -> set[str]:
    allowing = [statement for statement in statements if statement["Effect"] == "Allow"]
    return {action for statement in allowing for action in listed(statement["Action"])}


@pytest.mark.parametrize("role", ROLES)
def test_statements_are_ones_that_iam_understands(role: str) -> None:
    statements = everything().statements(role)
    assert statements
    for statement in statements:
        assert not list(problems(statement)), f"{role} {statement['Sid']}"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ({"Action": "s3:Frobnicate", "Resource": "*"}, "there is no action"),
        ({"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::bucket/*"}, "never sees"),
        ({"Action": "sns:Publish", "Resource": "*"}, "never sees"),
        ({"Action": "ecr:DescribeImages", "Resource": f"arn:aws:ssm:{HERE}:parameter/a"}, "never sees"),
        (
            {
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::b",
                "Condition": {"StringLike": {"s3:prefixes": "a"}},
            },
            "knows no condition",
        ),
        ({"Action": "s3:GetObject", "Resource": ["arn:aws:s3:::b/*", "arn:aws:s3:::b"]}, "no action of"),
    ],
)
def test_statements_that_do_nothing_or_too_much_are_noticed(statement: dict[str, Any], problem: str) -> None:
    assert problem in " ".join(problems({"Effect": "Allow", "Sid": "it", **statement}))


def test_nobody_may_do_everything() -> None:
    for kind in POLICIES:
        for properties in everything().of(kind).values():
            assert not [text for text in texts(properties) if text.endswith(":*") and text.count(":") == 1]


@pytest.mark.parametrize("module", FUNCTIONS)
def test_a_function_may_make_the_calls_of_its_code_and_no_other(module: str) -> None:
    needed = Package(ROOT, ROOT / "batchloop" / "control", SERVICES).actions(MODULES.get(module, "handlers"), module)
    granted = actions(everything().statements(f"{FUNCTIONS[module]}Role"))
    assert needed - granted == set(), "the code calls them, the role does not grant them"
    assert granted - needed - BEHIND_THE_CODE == set(), "the role grants them, the code calls none"


SAMPLE = {
    "__init__.py": "",
    "handler": "",
    "start.py": """
from functools import partial
from sample import store
from sample.other import Box, table as chosen
def handler(event, aws):
    aws.sagemaker.start_pipeline_execution(PipelineName="p")
    chosen["a"](aws)
    return Box(aws).save, partial(aws.ssm.put_parameter, Name="n"), store.read(aws.s3)
def unused(aws):
    aws.s3.delete_object()
""",
    "store.py": """
def read(s3):
    return s3.head_object(), s3.get_paginator("list_objects_v2").paginate()
def never(ssm):
    ssm.get_parameter()
""",
    "other.py": """
class Box:
    def save(self):
        self.aws.sns.publish()
def _look(aws):
    aws.s3.put_object()
table = {"a": _look}
""",
}


def sample(folder: Path, start: str = SAMPLE["start.py"]) -> Package:
    (folder / "sample").mkdir()
    for name, text in {**SAMPLE, "start.py": start}.items():
        (folder / "sample" / name).write_text(text)
    return Package(folder, folder / "sample", SERVICES)


def test_calls_are_found_wherever_a_handler_leads_and_nowhere_else(tmp_path: Path) -> None:
    expected = {
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
        "sagemaker:StartPipelineExecution",
        "sns:Publish",
        "ssm:PutParameter",
    }
    assert sample(tmp_path).actions("start") == expected


@pytest.mark.parametrize(
    "call",
    [
        "client.put_object()",
        "aws.s3.get_paginator(name)",
        "aws.s3.frobnicate()",
        "getattr(aws.s3, name)()",
        "client.get_paginator('x')",
    ],
)
def test_a_call_that_can_not_be_read_is_refused(tmp_path: Path, call: str) -> None:
    with pytest.raises(Unclear):
        sample(tmp_path, f"def handler(event, aws, client, name):\n    {call}\n").actions("start")


def test_the_names_that_the_code_uses_are_the_ones_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = everything()
    variables = stack.of("AWS::Lambda::Function")["AfterInference"]["Environment"]["Variables"]
    names = [variables[name] for name in ("NAMESPACE", "USECASE", "ENVIRONMENT", "BUCKET", "TOPIC_ARN")]
    places = importlib.import_module("batchloop.control.names").Places(*names, settings=None)
    run, image = places.pipeline("inference"), places.parameter("components/processing/image")
    wanted = {
        "StartInference": [
            ("s3:GetObject", f"{places.releases}1/files.json"),
            ("ssm:GetParameter", "release"),
            ("sagemaker:StartPipelineExecution", f"pipeline/{run}"),
        ],
        "AfterInference": [
            ("ssm:PutParameter", "retraining"),
            ("ssm:PutParameter", "inference/latest"),
            ("ssm:PutParameter", "training/latest"),
            ("ssm:GetParameter", "release"),
            ("ssm:GetParameter", image),
            ("s3:GetObject", f"{places.runs('inference')}/1/DetectDrift/drift/drift.json"),
            ("sagemaker:DescribePipelineExecution", f"pipeline/{run}/execution/1"),
            ("sagemaker:StartPipelineExecution", f"pipeline/{places.pipeline('training')}"),
        ],
        "LabelsArrived": [("ssm:PutParameter", "retraining"), ("sns:Publish", places.topic)],
        "PublishRelease": [
            ("ssm:PutParameter", "release"),
            ("ssm:PutParameter", image),
            ("s3:GetObject", f"{places.runs('training')}/1/LearnBaseline/report/evaluation.json"),
            ("s3:PutObject", f"{places.releases}1/model/model.tar.gz"),
            ("s3:GetObject", f"{places.releases}1/files.json"),
            ("sagemaker:ListPipelineVersions", f"pipeline/{run}"),
            ("sagemaker:DescribeModelPackage", f"model-package/{places.prefix}/7"),
            ("ecr:DescribeImages", "repository/team/case/algorithm"),
        ],
    }
    for function, calls in wanted.items():
        statements = stack.statements(f"{function}Role")
        for action, name in calls:
            assert allowed(statements, action, arn(action, name, places)), f"{function} {action} {name}"


@pytest.mark.parametrize("role", ROLES)
def test_only_the_release_path_writes_where_released_artifacts_lie(role: str) -> None:
    place = f"arn:aws:s3:::{BUCKET}/team/case/dev/releases/1/model/model.tar.gz"
    writing = {
        action
        for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion")
        if allowed(everything().statements(role), action, place)
    }
    assert writing == ({"s3:PutObject"} if role in ("PublishReleaseRole", "ReleaseRole") else set())
    reads = allowed(everything().statements(role), "s3:GetObject", place)
    assert reads == (role in ("ExecutionRole", "ReleaseRole", *(f"{FUNCTIONS[name]}Role" for name in FUNCTIONS)))


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reaches_into_another_environment_or_use_case(role: str) -> None:
    """Nor into one whose name begins alike: `case-dev` in prod is team-case-dev-prod.

    Promotion alone reads what another environment of the use case has released.
    """
    bucket, sagemaker = f"arn:aws:s3:::{BUCKET}", f"arn:aws:sagemaker:{HERE}"
    strangers = [f"arn:aws:ssm:{HERE}:parameter/team/{name}/release" for name in ("case/prod", "other/dev")]
    strangers += [f"{bucket}/team/case/prod/{pipeline}/1/x" for pipeline in ("inference", "training")]
    strangers += [f"{bucket}/team/other/{place}" for place in ("dev/inference/1/x", "data/1/train/x")]
    for name in ("team-case-prod", "team-other-dev", "team-case-dev-prod"):
        strangers += [f"{sagemaker}:pipeline/{name}-inference{tail}" for tail in ("", "/execution/1")]
        strangers += [f"{sagemaker}:model-package/{name}/1", f"arn:aws:iam::{ACCOUNT}:role/{name}-euc1-execution"]
    strangers += [f"arn:aws:ecr:{HERE}:repository/team/other/algorithm"]
    promoting = ("SeeOtherReleases", "SeeOtherArtifacts", "UseKeysOfOthers")
    statements = [its for its in everything().statements(role) if its["Sid"] not in promoting]
    globs = {glob for statement in statements for glob in listed(statement["Resource"])} - {"*"}
    assert not [(stranger, glob) for stranger in strangers for glob in globs if fnmatch.fnmatchcase(stranger, glob)]


def arn(action: str, name: str, places: Any) -> str:
    service = action.partition(":")[0]
    if name.startswith(("arn:", "s3:")):
        return name.replace("s3://", "arn:aws:s3:::")
    if service == "ssm":
        return f"arn:aws:ssm:{HERE}:parameter{name if name.startswith('/') else places.parameter(name)}"
    return f"arn:aws:{service}:{HERE}:{name}"


def allowed(statements: list[dict[str, Any]], action: str, resource: str, **request: str) -> bool:
    """As IAM decides: some statement allows it, and none denies it; `request` are the condition keys that are sent."""
    effects = {
        statement["Effect"]
        for statement in statements
        if action in listed(statement["Action"])
        and any(fnmatch.fnmatchcase(resource, glob) for glob in listed(statement["Resource"]))
        and held(statement, request)
    }
    return effects == {"Allow"}


def held(statement: dict[str, Any], request: dict[str, str]) -> bool:
    equal, like = (statement.get("Condition", {}).get(operator, {}) for operator in ("StringEquals", "StringLike"))
    return all(request.get(key) in listed(value) for key, value in equal.items()) and all(
        fnmatch.fnmatchcase(request.get(key, ""), glob) for key, globs in like.items() for glob in listed(globs)
    )


def test_only_a_person_approves_where_one_is_asked_for() -> None:
    """Whatever ApprovalStatus a run is given: RegisterModel works with the pipelines' role."""
    package = f"arn:aws:sagemaker:{HERE}:model-package/team-case-dev/7"
    for approval, effects in (("PendingManualApproval", [True, False]), ("Approved", [True, True])):
        stack = everything(Approval=approval)
        found = [
            allowed(
                stack.statements("ExecutionRole"), "sagemaker:CreateModelPackage", package, **{KEY_OF_APPROVAL: given}
            )
            for given in ("PendingManualApproval", "Approved")
        ]
        assert found == effects, approval
    people = everything().statements("ReleaseRole")
    assert allowed(people, "sagemaker:UpdateModelPackage", package, **{KEY_OF_APPROVAL: "Approved"})
    for role in set(ROLES) - {"ReleaseRole"}:
        granted = actions(everything().statements(role))
        assert "sagemaker:UpdateModelPackage" not in granted, role


def test_the_key_that_denies_an_approval_is_one_of_both_actions_that_give_it() -> None:
    """By the service authorization reference, "Actions, resources, and condition keys for Amazon SageMaker"."""
    known = set(get_actions_matching_condition_key("sagemaker", KEY_OF_APPROVAL))
    assert known == {"sagemaker:CreateModelPackage", "sagemaker:UpdateModelPackage"}


DEPLOYING = [
    *(("cloud.deploy", name) for name in ("deploy", "teardown")),
    *(("cloud.run", name) for name in ("upsert", "run", "minutes")),
    ("cloud.bootstrap", "run"),
    ("cloud.images", "push"),
    ("cloud.preflight", "show"),
    ("cloud.upload", "upload"),
    ("trainings", "compare"),
    ("tracking", "track"),
    *(("audit.account", name) for name in ("there", "Fetched", "Released")),  # make audit FROM=
]
WORKGROUPS = [f"arn:aws:athena:{HERE}:workgroup/{name}" for name in ("analysts", "production")]
ASKING = {"AthenaArns": ",".join(WORKGROUPS), "RedshiftArns": f"arn:aws:redshift-serverless:{HERE}:workgroup/1"}
ASKING["RedshiftArns"] += f",arn:aws:redshift:{HERE}:cluster:c,arn:aws:redshift:{HERE}:dbname:c/sales"
BY_ATHENA = {  # with the rights of whoever asks ("IAM policies for Amazon Athena", Step Functions developer guide)
    *("athena:GetDataCatalog", "lakeformation:GetDataAccess"),
    *("glue:BatchGetPartition", "glue:GetDatabase", "glue:GetPartition", "glue:GetPartitions", "glue:GetTable"),
    *("s3:GetBucketLocation", "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts"),
}
BY_VERSION = {"s3:DeleteObjectVersion"}  # what DeleteObject asks for where it names one
BY_REDSHIFT = {"redshift-serverless:GetCredentials", "redshift:GetClusterCredentialsWithIAM"}  # of its Data API
LOOKING = ("codeconnections", "ec2", "kms", "lambda", "service-quotas")  # besides, for the preflight
QUERYING = ("athena", "redshift-data")


def test_the_deployers_policy_is_as_small_as_the_calls_of_the_commands() -> None:
    whole = Package(ROOT, ROOT / "batchloop", (*SERVICES, *LOOKING, *QUERYING, "cloudformation", "sts"), by_text=True)
    needed = {call for place in DEPLOYING for call in whole.actions(*place)} - {NEEDS_NONE}
    stack = Stack(template("deployer"), DeploymentRoleArn=f"arn:aws:iam::{ACCOUNT}:role/cloudformation", **ASKING)
    policies = stack.of("AWS::IAM::ManagedPolicy")
    statements = [its for name in ("Deployer", "Querier") for its in policies[name]["PolicyDocument"]["Statement"]]
    granted = actions(statements) - BY_ATHENA - BY_REDSHIFT - BY_VERSION
    assert needed - granted == set(), "the commands call them, the policy does not grant them"
    keys = {"kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKey"}  # what S3 and ECR do for whoever calls them
    assert granted - needed - DOCKER - keys - {"iam:PassRole"} == set(), "granted, and no command calls them"
    for statement in statements:
        assert not list(problems(statement)), statement["Sid"]
    passed = [statement for statement in statements if statement["Action"] == "iam:PassRole"]
    assert all("iam:PassedToService" in statement["Condition"]["StringEquals"] for statement in passed)


def test_queries_are_allowed_where_a_workgroup_or_a_redshift_is_named() -> None:
    role = {"DeploymentRoleArn": f"arn:aws:iam::{ACCOUNT}:role/cloudformation"}
    for given, services in (
        ({}, set()),
        ({"AthenaArns": ASKING["AthenaArns"]}, {"athena", "glue", "lakeformation", "s3"}),
        ({"RedshiftArns": ASKING["RedshiftArns"]}, {"redshift", "redshift-data", "redshift-serverless", "s3"}),
    ):
        policies = Stack(template("deployer"), **role, **given).of("AWS::IAM::ManagedPolicy")
        assert set(policies) == ({"Deployer", "Querier"} if given else {"Deployer"})
        found = actions(policies["Querier"]["PolicyDocument"]["Statement"]) if given else set()
        assert {action.partition(":")[0] for action in found} == services
        assert found & BY_ATHENA == (BY_ATHENA if "athena" in services else set())


def test_queries_run_in_the_named_workgroups_alone_and_their_rows_are_deleted_for_good() -> None:
    stack = Stack(template("deployer"), DeploymentRoleArn=f"arn:aws:iam::{ACCOUNT}:role/cloudformation", **ASKING)
    statements = stack.of("AWS::IAM::ManagedPolicy")["Querier"]["PolicyDocument"]["Statement"]
    for group in (*WORKGROUPS, f"arn:aws:athena:{HERE}:workgroup/others"):
        assert allowed(statements, "athena:StartQueryExecution", group) == (group in WORKGROUPS)
    data = "team/case/data/2026-11-24"
    for folder in (
        f"{data}/_production/0123/",
        f"{data}/_train/0123/",
        f"{data}/production/",
        "team/case/dev/training/1/",
    ):
        waiting, its = "/_" in folder, f"arn:aws:s3:::{BUCKET}/{folder}rows"
        assert allowed(statements, "s3:DeleteObjectVersion", its) == waiting, folder
        listed_by = {"s3:prefix": folder}
        assert allowed(statements, "s3:ListBucketVersions", f"arn:aws:s3:::{BUCKET}", **listed_by) == waiting, folder


def test_the_release_role_may_make_every_call_of_the_commands_and_no_other() -> None:
    whole = Package(ROOT, ROOT / "batchloop", (*SERVICES, "sts"), by_text=True)
    commands = ("release", "rollback", "show", "promote")
    needed = {call for name in commands for call in whole.actions("cloud.release", name)} - {NEEDS_NONE}
    granted = actions(everything().statements("ReleaseRole"))
    assert needed - granted == set(), "the commands call them, the role does not grant them"
    assert granted - needed - {"kms:Decrypt", "kms:GenerateDataKey"} == set(), "granted, and no command calls them"


@pytest.mark.parametrize("approval", ["Approved", "PendingManualApproval"])
def test_there_is_somebody_who_may_release_roll_back_and_promote_in_every_environment(approval: str) -> None:
    """The deployer's policy writes over no release, whoever approves."""
    stack, release = everything(Approval=approval), f"arn:aws:ssm:{HERE}:parameter/team/case/dev/release"
    assert allowed(stack.statements("ReleaseRole"), "ssm:PutParameter", release)
    assert stack.outputs["ReleaseRoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/team-case-dev-euc1-release"


@pytest.mark.parametrize("key", [KEY, ""])
@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1"])
def test_promotion_reads_what_was_released_in_another_environment_of_any_region(region: str, key: str) -> None:
    """And its key: whoever reads an object needs kms:Decrypt ("Using SSE with KMS keys", S3 user guide)."""
    there, bucket = f"{region}:{ACCOUNT}", f"arn:aws:s3:::team-case-staging-{ACCOUNT}-use1"
    statements, folder = everything(KmsKeyArn=key).statements("ReleaseRole"), "team/case/staging/releases/1/"
    image, release = f"arn:aws:ecr:{there}:repository/team/case/algorithm", f"arn:aws:ssm:{there}:parameter/team/case"
    by_s3 = {"kms:ViaService": f"s3.{region}.amazonaws.com"}
    assert allowed(statements, "ssm:GetParameter", f"{release}/staging/release")
    assert allowed(statements, "s3:ListBucket", bucket, **{"s3:prefix": folder})
    assert allowed(statements, "s3:GetObject", f"{bucket}/{folder}model/model.tar.gz")
    assert allowed(statements, "kms:Decrypt", f"arn:aws:kms:{there}:key/99999999-2222-3333-4444-555555555555", **by_s3)
    for action in ("ecr:DescribeImages", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
        assert allowed(statements, action, image), action
    assert allowed(statements, "ecr:PutImage", image) is (region == REGION)
    assert not allowed(statements, "ssm:PutParameter", f"{release}/staging/release")
    assert not allowed(statements, "ssm:GetParameter", f"{release}/staging/retraining")
    assert not allowed(statements, "s3:GetObject", f"{bucket}/team/case/data/1/train/rows.csv")
    assert not allowed(statements, "kms:Decrypt", f"arn:aws:kms:{there}:key/1")


def holds(condition: Mapping[str, Mapping[str, Any]], request: Mapping[str, str]) -> bool:
    """Whether a request meets StringLike and StringLikeIfExists: "…IfExists condition operators" in the IAM guide."""
    for operator, keys in condition.items():
        for key, patterns in keys.items():
            assert operator in ("StringLike", "StringLikeIfExists")
            if key not in request:
                if operator == "StringLike":
                    return False
            elif not any(fnmatch.fnmatchcase(request[key], pattern) for pattern in listed(patterns)):
                return False
    return True


def test_the_jobs_role_may_look_at_its_bucket_and_list_its_own_prefix_alone() -> None:
    """HeadBucket is s3:ListBucket without a prefix, and SageMaker's guide grants it without a condition."""
    [listing] = [one for one in everything().statements("ExecutionRole") if one["Sid"] == "ListOwnPrefix"]
    for request, wanted in (
        ({}, True),
        ({"s3:prefix": "team/case/data/2026-11-01/train/"}, True),
        ({"s3:prefix": "team/other/data/"}, False),
        ({"s3:prefix": ""}, False),
    ):
        assert holds(listing["Condition"], request) is wanted, request


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_the_boundary_that_is_asked_for(role: str) -> None:
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    assert everything(PermissionsBoundaryArn=boundary).of("AWS::IAM::Role")[role]["PermissionsBoundary"] == boundary
    assert "PermissionsBoundary" not in everything(PermissionsBoundaryArn="").of("AWS::IAM::Role")[role]


def test_network_interfaces_are_for_a_vpc_and_keys_for_whoever_has_one() -> None:
    plain = actions(Stack().statements("ExecutionRole"))
    with_vpc = actions(Stack(SubnetIds="subnet-1").statements("ExecutionRole")) - plain
    with_key = actions(Stack(KmsKeyArn=KEY).statements("ExecutionRole")) - plain
    assert {action.partition(":")[0] for action in with_vpc} == {"ec2"}
    assert {action.partition(":")[0] for action in with_key} == {"kms"}


def test_the_build_may_make_every_call_of_push_and_upsert() -> None:
    granted = actions(everything(Approval="Approved").statements("BuildRole"))
    methods = {
        name: f"{service}:{operation}" for service in SERVICES for name, operation in operations(service).items()
    }
    cloud = Package(ROOT, ROOT / "batchloop" / "cloud", SERVICES)
    code = "".join(cloud.source(*place) for place in (("images", "push"), ("run", "upsert")))
    called = {methods[name] for name in re.findall(r"'(\w+)'", code) if name in methods}
    assert {"ecr:GetAuthorizationToken", "ssm:PutParameter", "sagemaker:CreatePipeline"} <= called <= granted
    stacks = set(re.findall(r"'(describe_stack\w*)'", code))
    assert {f"cloudformation:{operations('cloudformation')[name]}" for name in stacks} <= granted


def test_a_push_writes_no_pipeline_where_a_person_approves() -> None:
    build = everything().statements("BuildRole")
    assert not [action for action in actions(build) if action.startswith(("sagemaker:", "iam:"))]
    project = everything().of("AWS::CodeBuild::Project")["Build"]
    assert {"Name": "APPROVAL", "Value": "PendingManualApproval"} in project["Environment"]["EnvironmentVariables"]
    spec = yaml.safe_load((ROOT / "buildspec.yml").read_text(encoding="utf-8"))
    [command] = [line for line in spec["phases"]["build"]["commands"] if "upsert" in line]
    for approval, said in (("PendingManualApproval", "make deploy ENV=prod"), ("Approved", "upsert ENV=prod")):
        code = f"make() {{ echo $@; }}; {command}"
        done = subprocess.run(
            ["bash", "-euc", code],
            env={"ENV": "prod", "APPROVAL": approval},
            capture_output=True,
            text=True,
            check=True,
        )
        assert said in done.stdout


def test_whoever_deploys_writes_neither_a_release_nor_what_was_released() -> None:
    stack = Stack(template("deployer"), DeploymentRoleArn=f"arn:aws:iam::{ACCOUNT}:role/cloudformation")
    people = stack.of("AWS::IAM::ManagedPolicy")["Deployer"]["PolicyDocument"]["Statement"]
    parameter, bucket = f"arn:aws:ssm:{HERE}:parameter/team/case/prod", f"arn:aws:s3:::{BUCKET}/team/case"
    for overwrite, makes in (("true", False), ("false", True)):
        assert allowed(people, "ssm:PutParameter", f"{parameter}/release", **{"ssm:Overwrite": overwrite}) is makes
    assert allowed(people, "ssm:PutParameter", f"{parameter}/components/algorithm/image", **{"ssm:Overwrite": "true"})
    for key in ("prod/releases/1/model/model.tar.gz", "prod/releases/1/files.json", "prod/training/1/TrainModel/x"):
        assert not allowed(people, "s3:PutObject", f"{bucket}/{key}")
        assert not allowed(people, "s3:DeleteObject", f"{bucket}/{key}")
    for key in ("data/1/train/x.csv", "none/manifest.json", "dev/functions/1.zip", "dev/stack/1.yaml"):
        assert allowed(people, "s3:PutObject", f"{bucket}/{key}")
