"""`make preflight`, with answers that stand for an account; each is held against botocore's model of its service."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from batchloop.cloud import deploy, preflight
from batchloop.cloud.preflight import OK, PROBLEM, UNKNOWN, Finding
from batchloop.cloud.session import Session
from batchloop.container.job import InputError
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, Repository
from plumbing import deployed
from plumbing.deployed import ACCOUNT, REGION

KINDS = ("processing", "training", "spot training", "transform")
TYPES = ("ml.m5.large", "ml.m5.xlarge")
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
CONNECTION = f"arn:aws:codeconnections:{REGION}:{ACCOUNT}:connection/12345678-1234-1234-1234-123456789012"
DOCKERS = "application/vnd.docker.distribution.manifest.v2+json"
Answer = dict[str, Any] | str  # what the service says, or the code of its refusal


def quota(name: str, value: float) -> dict[str, Any]:
    return {"QuotaName": name, "Value": value}


def every(value: float) -> dict[str, Any]:
    return {"Quotas": [quota(f"{instance} for {kind} job usage", value) for instance in TYPES for kind in KINDS]}


class World:
    """What is asked is answered from `answers`, by operation; everything else is denied."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository = deployed.repository(root, monkeypatch)
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {
            "ListAWSDefaultServiceQuotas": every(0),
            "ListServiceQuotas": every(4),
            "GetFunctionConcurrency": "ResourceNotFoundException",
            "GetAccountSettings": {"AccountLimit": {"UnreservedConcurrentExecutions": 1000}},
            "GetParameter": {"Parameter": {"Value": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/case/x@sha256:1"}},
            "DescribeImages": {"imageDetails": [{"imageManifestMediaType": DOCKERS}]},
        }
        self.client = cache(self._client)

    def _client(self, service: str) -> Any:
        client = boto3.client(service, region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x")
        client.meta.events.register("before-call", self._answer)
        return client

    def _answer(self, model: Any, **_: object) -> tuple[Any, dict[str, Any]]:
        self.asked.append(model.name)
        said = self.answers.get(model.name, "AccessDeniedException")
        if isinstance(said, str):
            return SimpleNamespace(status_code=400), {"Error": {"Code": said, "Message": "because"}}
        problems = ParamValidator().validate(said, model.output_shape).generate_report().splitlines()
        assert [line for line in problems if line and not line.startswith("Missing required")] == []
        return SimpleNamespace(status_code=200), said

    def found(self) -> dict[str, Finding]:
        environment = definitions.read(self.repository)[1]
        session = Session(self.repository, environment, ACCOUNT, self.client)
        return {finding.what: finding for finding in preflight.findings(session)}

    def settle(self, **values: str) -> None:
        """Other values in environments/dev.toml."""
        deployed.environment(self.repository.root, **values)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def state(found: dict[str, Finding], words: str) -> str:
    [finding] = [finding for what, finding in found.items() if words in what]
    return finding.state


def test_an_account_that_is_ready_has_nothing_but_good_lines_and_was_only_read(world: World) -> None:
    found = world.found()
    assert {finding.state for finding in found.values()} == {OK}
    assert {what for what in found if what.startswith("ml.")} == {
        "ml.m5.large for processing job usage",
        "ml.m5.xlarge for processing job usage",
        "ml.m5.xlarge for spot training job usage",
        "ml.m5.large for transform job usage",
    }
    assert all(call.startswith(("Get", "List", "Describe")) for call in world.asked)


def test_who_may_not_look_is_told_what_is_not_known(world: World) -> None:
    world.answers.clear()
    world.settle(
        kms_key=f'"{KEY}"',
        notice_email='"a@b.example"',
        connection=f'"{CONNECTION}"',
        repository='"https://x.example/y"',
        subnets='["subnet-01234567"]',
        security_groups='["sg-01234567"]',
    )
    found = world.found()
    assert {finding.state for finding in found.values()} <= {UNKNOWN, OK}
    for words in ("quotas", "Lambda", "connection", "KMS", "S3", "notices", "the images"):
        assert state(found, words) == UNKNOWN
        assert "was denied" in next(finding.remark for what, finding in found.items() if words in what)


def test_before_anything_is_there_it_says_what_comes_first(world: World) -> None:
    world.answers |= {"GetParameter": "ParameterNotFound", "ListServiceQuotas": "ExpiredTokenException"}
    found = world.found()
    assert "`make bootstrap CREATE=yes ENV=dev` makes it" in found["the images"].remark
    assert found["SageMaker's quotas"] == Finding(
        UNKNOWN, "SageMaker's quotas", "your AWS credentials have expired; sign in again"
    )
    assert found["Lambda's concurrent executions"].state == OK


def test_a_quota_of_zero_is_a_problem_and_spot_has_its_own(world: World) -> None:
    """A run would try again for hours before it said so."""
    world.answers["ListServiceQuotas"] = {
        "Quotas": [*every(4)["Quotas"][3:], quota("ml.m5.large for processing job usage", 0)]
    }
    found = world.found()
    problem = found["ml.m5.large for processing job usage"]
    assert problem.state == PROBLEM
    assert problem.remark.startswith(
        "0, and a job needs 1; ask for more in the console (Service Quotas, Amazon SageMaker)"
    )
    world.answers["ListServiceQuotas"] = {"Quotas": [quota("ml.m5.xlarge for spot training job usage", 0)]}
    assert state(world.found(), "spot training") == PROBLEM
    world.settle(spot="false")
    found = world.found()
    assert "ml.m5.xlarge for training job usage" in found
    assert not [what for what in found if "spot" in what]


def test_trials_that_train_at_once_need_as_many_instances(world: World) -> None:
    file = world.repository.root / "usecase.toml"
    text = file.read_text().partition("[tuning]")[0] + "[tuning]\ntrials = 20\n[tuning.search]\nrate = [0.1, 0.2]\n"
    file.write_text(text)
    world.settle(tuning_jobs="5")
    [finding] = [finding for what, finding in world.found().items() if "spot training" in what]
    assert finding.state == PROBLEM
    assert finding.remark.startswith("4, and a job needs 5")


def test_what_was_never_changed_is_known_from_the_defaults(world: World) -> None:
    world.answers |= {"ListAWSDefaultServiceQuotas": every(8), "ListServiceQuotas": {"Quotas": []}}
    assert world.found()["ml.m5.large for processing job usage"] == Finding(
        OK, "ml.m5.large for processing job usage", "8"
    )


def test_one_instance_makes_jobs_of_a_run_wait_for_one_another(world: World) -> None:
    world.answers["ListServiceQuotas"] = every(1)
    assert "may wait for one another" in world.found()["ml.m5.large for processing job usage"].remark


def test_a_type_without_a_quota_is_not_known_and_one_that_the_job_can_t_have_is_a_problem(world: World) -> None:
    file = world.repository.root / "environments" / "dev.toml"
    file.write_text(
        file.read_text().replace('transform = { type = "ml.m5.large"', 'transform = { type = "ml.t3.large"')
    )
    file.write_text(
        file.read_text().replace('monitoring = { type = "ml.m5.large"', 'monitoring = { type = "ml.m7i.large"')
    )
    found = world.found()
    assert found["ml.t3.large for transform job usage"].state == PROBLEM  # CreateTransformJob has no t3
    assert found["ml.m7i.large for processing job usage"].state == UNKNOWN
    assert f"{REGION} has no quota of that name" in found["ml.m7i.large for processing job usage"].remark


@pytest.mark.parametrize(
    ("free", "there", "expected"),
    [(10, False, PROBLEM), (102, False, PROBLEM), (103, False, OK), (7, True, PROBLEM), (100, True, OK)],
)
def test_a_hundred_executions_have_to_stay_unreserved(world: World, free: int, there: bool, expected: str) -> None:
    world.answers["GetAccountSettings"] = {"AccountLimit": {"UnreservedConcurrentExecutions": free}}
    if there:
        world.answers["GetFunctionConcurrency"] = {"ReservedConcurrentExecutions": 1}
    assert state(world.found(), "Lambda") == expected


@pytest.mark.parametrize(("status", "expected"), [("AVAILABLE", OK), ("PENDING", PROBLEM), ("ERROR", PROBLEM)])
def test_a_connection_that_nobody_finished_is_a_problem(world: World, status: str, expected: str) -> None:
    world.settle(connection=f'"{CONNECTION}"', repository='"https://x.example/y"')
    world.answers["GetConnection"] = {"Connection": {"ConnectionStatus": status}}
    assert state(world.found(), "connection") == expected


def policy(*statements: tuple[dict[str, Any], Any, *tuple[Any, ...]]) -> dict[str, Any]:
    whole = [
        {"Effect": "Allow", "Principal": who, "Action": what, "Resource": "*", "Condition": dict(*condition)}
        for who, what, *condition in statements
    ]
    return {"Policy": json.dumps({"Version": "2012-10-17", "Statement": whole})}


ROOT_MAY = ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "kms:*")
SERVICES_MAY = (
    {"Service": ["events.amazonaws.com", "cloudwatch.amazonaws.com"]},
    ["kms:Decrypt", "kms:GenerateDataKey*"],
)


@pytest.mark.parametrize(
    ("statements", "problems"),
    [
        ((ROOT_MAY, SERVICES_MAY), set()),
        # an alarm comes with its source, a rule does not
        ((ROOT_MAY, (*SERVICES_MAY, {"StringEquals": {"AWS:SourceAccount": ACCOUNT}})), {"events.amazonaws.com"}),
        ((ROOT_MAY, (*SERVICES_MAY, {"StringLike": {"kms:ViaService": "sns.*"}})), set()),
        ((ROOT_MAY,), {"events.amazonaws.com", "cloudwatch.amazonaws.com"}),
        ((SERVICES_MAY,), {"IAM policies of your account"}),
        ((({"AWS": "arn:aws:iam::999999999999:root"}, "kms:*"), SERVICES_MAY), {"IAM policies of your account"}),
    ],
)
def test_a_key_has_to_serve_the_account_and_those_who_send_notices(
    world: World, statements: tuple[Any, ...], problems: set[str]
) -> None:
    world.settle(kms_key=f'"{KEY}"')
    world.answers |= {
        "DescribeKey": {"KeyMetadata": {"KeyId": "1", "KeyState": "Enabled", "KeyUsage": "ENCRYPT_DECRYPT"}},
        "GetKeyPolicy": policy(*statements),
    }
    found = world.found()
    said = {what.rpartition(" for ")[2] for what, finding in found.items() if finding.state == PROBLEM}
    assert said == problems
    world.answers["DescribeKey"] = {
        "KeyMetadata": {"KeyId": "1", "KeyState": "PendingDeletion", "KeyUsage": "SIGN_VERIFY"}
    }
    assert world.found()["the KMS key"] == Finding(PROBLEM, "the KMS key", "it is PendingDeletion, for SIGN_VERIFY")


def network(endpoints: list[dict[str, Any]], routes: list[dict[str, Any]], own: bool = True) -> dict[str, Answer]:
    belongs = {"SubnetId": "subnet-01234567"} if own else {"Main": True}
    table = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Routes": routes, "Associations": [belongs]}
    return {
        "DescribeSubnets": {"Subnets": [{"SubnetId": "subnet-01234567", "VpcId": "vpc-1"}]},
        "DescribeVpcEndpoints": {
            "VpcEndpoints": [{"VpcId": "vpc-1", "State": "available", **its} for its in endpoints]
        },
        "DescribeRouteTables": {"RouteTables": [table]},
        "DescribeSecurityGroups": {"SecurityGroups": [{"GroupId": "sg-01234567", "VpcId": "vpc-1"}]},
    }


S3 = f"com.amazonaws.{REGION}.s3"
GATEWAY = {"ServiceName": S3, "VpcEndpointType": "Gateway", "RouteTableIds": ["rtb-1"], "PrivateDnsEnabled": False}
INTERFACE = {"ServiceName": S3, "VpcEndpointType": "Interface", "PrivateDnsEnabled": True}
ELSEWHERE = {**GATEWAY, "RouteTableIds": ["rtb-2"]}
NAT = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1", "State": "active"}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (network([GATEWAY], []), OK),
        (network([GATEWAY], [], own=False), OK),
        (network([INTERFACE], []), OK),
        (network([], [NAT]), OK),
        (network([ELSEWHERE], []), PROBLEM),
        (network([INTERFACE | {"PrivateDnsEnabled": False}], []), PROBLEM),
        (network([], [NAT | {"State": "blackhole"}]), PROBLEM),
        (network([], [{"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1", "State": "active"}]), PROBLEM),
    ],
)
def test_jobs_in_a_vpc_need_a_way_to_s3(world: World, answers: dict[str, Answer], expected: str) -> None:
    world.settle(subnets='["subnet-01234567"]', security_groups='["sg-01234567"]')
    world.answers |= answers
    assert state(world.found(), "a way to S3") == expected


@pytest.mark.parametrize(
    ("call", "code"),
    [("DescribeSubnets", "InvalidSubnetID.NotFound"), ("DescribeSecurityGroups", "InvalidGroup.NotFound")],
)
def test_subnets_and_groups_of_another_account_or_region_are_a_problem(world: World, call: str, code: str) -> None:
    """An id says neither; only the account knows what is in it."""
    world.settle(subnets='["subnet-01234567"]', security_groups='["sg-01234567"]')
    world.answers |= network([GATEWAY], []) | {call: code}
    found = world.found()["the subnets" if call == "DescribeSubnets" else "the security groups"]
    assert found.state == PROBLEM
    assert found.remark == f"not all of them are in {REGION} of {ACCOUNT}"


def test_subnets_and_groups_are_of_one_vpc(world: World) -> None:
    """ "VpcConfig" in the SageMaker API reference."""
    world.settle(subnets='["subnet-01234567"]', security_groups='["sg-01234567"]')
    groups = {"SecurityGroups": [{"GroupId": "sg-01234567", "VpcId": "vpc-2"}]}
    world.answers |= network([GATEWAY], []) | {"DescribeSecurityGroups": groups}
    what = "one VPC of subnets and security groups"
    assert world.found()[what] == Finding(PROBLEM, what, "they are of vpc-1, vpc-2")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"Subscriptions": [{"Endpoint": "a@b.example", "SubscriptionArn": "arn:aws:sns:x"}]}, OK),
        ({"Subscriptions": [{"Endpoint": "a@b.example", "SubscriptionArn": "PendingConfirmation"}]}, PROBLEM),
        ({"Subscriptions": [{"Endpoint": "c@d.example", "SubscriptionArn": "arn:aws:sns:x"}]}, UNKNOWN),
        ("NotFound", UNKNOWN),
    ],
)
def test_an_address_that_confirmed_nothing_gets_no_notices(world: World, answer: Answer, expected: str) -> None:
    world.settle(notice_email='"a@b.example"')
    world.answers["ListSubscriptionsByTopic"] = answer
    assert state(world.found(), "notices to") == expected


@pytest.mark.parametrize(
    ("answer", "expected", "remark"),
    [
        (
            {"imageDetails": [{"imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json"}]},
            PROBLEM,
            "vnd.oci",
        ),
        ("ImageNotFoundException", PROBLEM, "is gone; `make push ENV=dev` makes it"),
    ],
)
def test_an_image_that_is_gone_or_refused_is_a_problem(
    world: World, answer: Answer, expected: str, remark: str
) -> None:
    world.answers["DescribeImages"] = answer
    found = [finding for what, finding in world.found().items() if what.startswith("the image of")]
    assert [finding.state for finding in found] == [expected] * len(COMPONENTS)
    assert remark in found[0].remark
    world.answers["GetParameter"] = {"Parameter": {"Value": "none"}}
    assert state(world.found(), "the image of algorithm") == UNKNOWN


def test_a_deployment_shows_it_before_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def stop(*_: object) -> None:
        said.append(capsys.readouterr().out)
        raise InputError("asked")

    here = deployed.repository(tmp_path, monkeypatch)
    session = SimpleNamespace(environment=definitions.read(here)[1], repository=here, name="dev")
    for name, instead in (("opened", lambda *_, **__: session), ("check", lambda _: None), ("Stack", stop)):
        monkeypatch.setattr(deploy, name, instead)
    monkeypatch.setattr("batchloop.cloud.run.pipelines", lambda _: [])
    monkeypatch.setattr(
        preflight, "findings", lambda _: [Finding(OK, "a thing"), Finding(PROBLEM, "another", "mend it")]
    )
    with pytest.raises(InputError, match="asked"):
        deploy.deploy(here, True)
    assert said == [
        "  problem    another: mend it\n  ok         a thing\n1 of 2 would stop a deployment or the first run.\n"
    ]


def test_the_exit_code_says_whether_something_is_wrong(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connect: Callable[..., Any] = lambda *_: world.client  # noqa: E731
    monkeypatch.setattr("batchloop.cloud.session.connect", connect)
    world.answers["GetCallerIdentity"] = {"Account": ACCOUNT}
    assert preflight.show(Repository(world.repository.root)) == 0
    world.answers["ListServiceQuotas"] = every(0)
    assert preflight.show(Repository(world.repository.root)) == 1
    assert "4 of 9 would stop a deployment" in capsys.readouterr().out
