"""`make preflight`: what the account, its quotas and its network would refuse, found by looking alone.

Whoever may not look is told "not known": every call here only reads, and none is needed for a deployment.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

from batchloop.cloud import images
from batchloop.cloud.session import Session, opened
from batchloop.container.job import InputError
from batchloop.control import names
from batchloop.cost import TUNE, steps
from batchloop.pipelines import definitions
from batchloop.repository import Repository

OK, PROBLEM, UNKNOWN = "ok", "problem", "not known"
NO_SUBNET, NO_GROUP = ("InvalidSubnetID.NotFound",), ("InvalidGroup.NotFound",)
UNRESERVED = 100  # "as long as you leave at least 100": "PutFunctionConcurrency" in the Lambda API reference
CONSOLE = "ask for more in the console (Service Quotas, {service}); a new account often has none"
NEEDED = ("kms:Decrypt", "kms:GenerateDataKey")
RULES = "events.amazonaws.com"
PUBLISHERS = ("cloudwatch.amazonaws.com", RULES)  # what writes to the stack's topic


class Finding(NamedTuple):
    """One line: whether it is right, what was looked at, and what to do or to know about it."""

    state: str
    what: str
    remark: str = ""


def _judged(good: bool, what: str, remark: str) -> Finding:
    return Finding(OK, what) if good else Finding(PROBLEM, what, remark)


def show(repository: Repository) -> int:
    """Print what was found; the exit code, 1 where something would be refused. Raises InputError."""
    return 1 if report(opened(repository, account_is_set=True)) else 0


def report(session: Session) -> int:
    """Print what was found, problems first; their number."""
    found = sorted(findings(session), key=lambda finding: (PROBLEM, UNKNOWN, OK).index(finding.state))
    for finding in found:
        print(f"  {finding.state:<9}  {finding.what}" + (f": {finding.remark}" if finding.remark else ""))
    problems = sum(finding.state == PROBLEM for finding in found)
    if problems:
        print(f"{problems} of {len(found)} would stop a deployment or the first run.", flush=True)
    return problems


def findings(session: Session) -> Iterator[Finding]:
    """What can't be looked at, for whatever reason, hinders neither the next one nor a deployment."""
    for what, check in CHECKS.items():
        try:
            yield from check(session)
        except InputError as failed:
            yield Finding(UNKNOWN, what, str(failed))


def quotas(session: Session) -> Iterator[Finding]:
    """Of each instance type and kind of job: both APIs, because the applied ones leave out what was never changed."""
    environment, needs = session.environment, dict[tuple[str, str], dict[str, list[int]]]()
    for step, count in steps(environment, definitions.read(session.repository)[0]):
        instance = environment.instances[step.job].type
        kind = "spot training" if step.kind == "training" and environment.spot else step.kind
        needs.setdefault((instance, kind), {}).setdefault(step.pipeline, []).append(
            environment.tuning_jobs if step == TUNE else count
        )
    usual = session.pages("service-quotas", "list_aws_default_service_quotas", "Quotas", ServiceCode="sagemaker")
    applied = session.pages("service-quotas", "list_service_quotas", "Quotas", ServiceCode="sagemaker")
    known = {entry["QuotaName"]: entry["Value"] for entry in (*usual, *applied)}
    for (instance, kind), pipelines in needs.items():
        name = f"{instance} for {kind} job usage"
        least = max(max(counts) for counts in pipelines.values())
        most = max(sum(counts) for counts in pipelines.values())
        shape = f"{kind.rpartition(' ')[2].capitalize()}InstanceType"
        if instance not in session.client("sagemaker").meta.service_model.shape_for(shape).enum:
            yield Finding(PROBLEM, name, f"SageMaker takes no {instance} for it; name another in {environment.file}")
        elif name not in known:
            yield Finding(UNKNOWN, name, f"{environment.region} has no quota of that name, so perhaps not the type")
        elif known[name] < least:
            more = CONSOLE.format(service="Amazon SageMaker")
            yield Finding(PROBLEM, name, f"{known[name]:g}, and a job needs {least}; {more}")
        else:
            waits = "; jobs of one run may wait for one another" if known[name] < most else ""
            yield Finding(OK, name, f"{known[name]:g}{waits}")


def concurrency(session: Session) -> Iterator[Finding]:
    """What the functions reserve, unless they are there and have it already."""
    text = (session.repository.root / "infra" / "stack.yaml").read_text(encoding="utf-8")
    wanted = sum(map(int, re.findall(r"ReservedConcurrentExecutions: (\d+)", text)))
    function = {"FunctionName": f"{session.environment.prefix}-publish-release"}
    if session.find("lambda", "get_function_concurrency", ("ResourceNotFoundException",), **function) is not None:
        wanted = 0
    free = session.call("lambda", "get_account_settings", "AccountLimit")["UnreservedConcurrentExecutions"]
    why = f"{free} are free, {wanted} are to be reserved, and {UNRESERVED} have to stay"
    remark = f"{why}; {CONSOLE.format(service='AWS Lambda')}"
    yield _judged(free - wanted >= UNRESERVED, "Lambda's concurrent executions", remark)


def connection(session: Session) -> Iterator[Finding]:
    if arn := session.environment.build.connection:
        status = session.call("codeconnections", "get_connection", "Connection", ConnectionArn=arn)["ConnectionStatus"]
        to_do = f"it is {status}; finish it in the console (Developer Tools, Connections), by hand and once"
        yield _judged(status == "AVAILABLE", "the code connection", to_do)


def key(session: Session) -> Iterator[Finding]:
    """Whether it works, leaves permissions to IAM, and lets those write that send notices."""
    environment = session.environment
    if not environment.kms_key:
        return
    about = session.call("kms", "describe_key", "KeyMetadata", KeyId=environment.kms_key)
    if (about["KeyState"], about["KeyUsage"]) != ("Enabled", "ENCRYPT_DECRYPT"):
        yield Finding(PROBLEM, "the KMS key", f"it is {about['KeyState']}, for {about['KeyUsage']}")
    text = session.call("kms", "get_key_policy", "Policy", KeyId=environment.kms_key, PolicyName="default")
    statements = json.loads(text)["Statement"]
    publishers = (*PUBLISHERS, *(["budgets.amazonaws.com"] if environment.monthly_budget else []))
    whom = {session.account: "IAM policies of your account"} | {publisher: publisher for publisher in publishers}
    for principal, words in whom.items():
        allowed = [glob for one in statements for glob in _allowed(one, principal)]
        lacking = [action for action in NEEDED if not any(fnmatchcase(action, glob) for glob in allowed)]
        remark = f'it allows no {" and no ".join(lacking)}, as "Key policies" in the KMS guide describes it'
        if principal == RULES:
            remark += "; EventBridge sends none of the keys aws:Source… that a condition could hold"
        yield _judged(not lacking, f"the KMS key's policy for {words}", remark)


def _allowed(statement: Mapping[str, Any], principal: str) -> list[str]:
    """The actions that it lets a principal do ("Key management", SNS guide), but where a condition bars EventBridge."""
    who = statement.get("Principal", {})
    named = ["*"] if who == "*" else [one for kind in ("AWS", "Service") for one in _listed(who.get(kind, []))]
    fits = {"*", principal, *(one for one in named if one.endswith(f":{principal}:root"))} & {*named}
    held = {key.lower() for its in statement.get("Condition", {}).values() for key in its}
    kept_out = principal == RULES and any(key.startswith("aws:source") for key in held)
    return _listed(statement.get("Action", [])) if fits and statement["Effect"] == "Allow" and not kept_out else []


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def route(session: Session) -> Iterator[Finding]:
    """Jobs in a VPC read and write S3 from there: through an endpoint, or a NAT gateway."""
    environment = session.environment
    if not environment.subnets:
        return
    look, there = partial(session.find, "ec2"), f"not all of them are in {environment.region} of {session.account}"
    subnets = look("describe_subnets", NO_SUBNET, "Subnets", SubnetIds=[*environment.subnets])
    groups = look("describe_security_groups", NO_GROUP, "SecurityGroups", GroupIds=[*environment.security_groups])
    yield _judged(subnets is not None, "the subnets", there)
    yield _judged(groups is not None, "the security groups", there)
    if subnets is None or groups is None:
        return
    networks = sorted({its["VpcId"] for its in (*subnets, *groups)})
    yield _judged(len(networks) == 1, "one VPC of subnets and security groups", f"they are of {', '.join(networks)}")
    in_vpc = [{"Name": "vpc-id", "Values": networks}]
    endpoints = list(session.pages("ec2", "describe_vpc_endpoints", "VpcEndpoints", Filters=in_vpc))
    tables = list(session.pages("ec2", "describe_route_tables", "RouteTables", Filters=in_vpc))
    ready = [its for its in endpoints if its["ServiceName"].endswith(".s3") and its["State"].lower() == "available"]
    gateways = {table for its in ready for table in its.get("RouteTableIds", [])}
    interfaces = {its["VpcId"] for its in ready if its["VpcEndpointType"] == "Interface" and its["PrivateDnsEnabled"]}
    for subnet in subnets:
        used = [(its, by) for its in tables for by in its["Associations"] if its["VpcId"] == subnet["VpcId"]]
        own = [its for its, by in used if by.get("SubnetId") == subnet["SubnetId"]]
        main = [its for its, by in used if by.get("Main")]
        table = (own or main or [{"RouteTableId": "of the subnet", "Routes": []}])[0]
        outside = any(way.get("NatGatewayId") and way.get("State") == "active" for way in table["Routes"])
        good = table["RouteTableId"] in gateways or subnet["VpcId"] in interfaces or outside
        to_do = f"make a gateway endpoint for S3 in {subnet['VpcId']} with the route table {table['RouteTableId']}"
        yield _judged(good, f"a way to S3 from {subnet['SubnetId']}", f"there is none; {to_do}")


def notices(session: Session) -> Iterator[Finding]:
    """Whether the mail that asks for it was answered."""
    environment, client = session.environment, session.client("sns")
    if not (address := environment.notice_email):
        return
    where = f"arn:{client.meta.partition}:sns:{environment.region}:{session.account}:{environment.prefix}-notices"
    missing = ("NotFound", "NotFoundException")
    found = session.find("sns", "list_subscriptions_by_topic", missing, "Subscriptions", TopicArn=where)
    arns = [its["SubscriptionArn"] for its in found or [] if its["Endpoint"] == address]
    what = f"notices to {address}"
    if arns:
        good = any(arn.startswith("arn:") for arn in arns)
        yield _judged(good, what, "the mail that asks to confirm them was not answered, so none come")
    else:
        yield Finding(UNKNOWN, what, f"`make deploy ENV={session.name}` asks for them, by a mail to be answered")


def pushed(session: Session) -> Iterator[Finding]:
    """Whether the recorded images are there, and of a kind that SageMaker takes."""
    own = f"{session.account}.dkr.ecr."
    for component, uri in images.recorded(session).items():
        what, push = f"the image of {component}", f"`make push ENV={session.name}` makes it"
        if uri == names.NOTHING:
            yield Finding(UNKNOWN, what, f"there is none yet; {push}")
        elif uri.startswith(own):
            name, _, digest = uri.partition("@")
            asked = {"repositoryName": name.partition("/")[2], "imageIds": [{"imageDigest": digest}]}
            missing = ("ImageNotFoundException", "RepositoryNotFoundException")
            found = session.find("ecr", "describe_images", missing, "imageDetails", **asked)
            kind = found[0].get("imageManifestMediaType", images.MANIFEST) if found else ""
            why = f"it is {kind}, and SageMaker takes {images.MANIFEST}" if kind else f"{uri} is gone; {push}"
            yield _judged(kind == images.MANIFEST, what, why)


CHECKS: dict[str, Callable[[Session], Iterator[Finding]]] = {
    "SageMaker's quotas": quotas,
    "Lambda's concurrent executions": concurrency,
    "the code connection": connection,
    "the KMS key": key,
    "a way to S3 from the subnets": route,
    "the notices' address": notices,
    "the images": pushed,
}
