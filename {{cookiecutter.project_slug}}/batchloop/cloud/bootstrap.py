"""`make bootstrap`: the image repositories and parameters that must be there before anything else."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from batchloop import cost
from batchloop import environment as environments
from batchloop.cloud.session import (
    MANAGED,
    NOT_SIGNED_IN,
    CallFailed,
    Connect,
    Session,
    foreign,
    sign_in,
    tag_list,
    tag_map,
)
from batchloop.container.job import InputError
from batchloop.control.names import NOTHING, RELEASED
from batchloop.environment import Environment
from batchloop.repository import Repository

Act = Callable[[], object]
SHARED = {"environment": "shared"}  # image repositories belong to every environment of the account
REPOSITORIES, PARAMETERS = "ECR repositories", "SSM parameters"
TYPE = "String"
SCANNED = {"scanOnPush": True}
SETTINGS: dict[str, tuple[Any, str, str]] = {  # of an image repository: value, what puts it, what another one is
    "imageTagMutability": ("IMMUTABLE", "put_image_tag_mutability", "tags are {}, not IMMUTABLE"),
    "imageScanningConfiguration": (SCANNED, "put_image_scanning_configuration", "images are not scanned on push"),
}
# An image that matches a rule's tags is not expired by a later one ("Lifecycle policies", ECR user guide): what was
# released stays for rollbacks, up to a thousand, and of all others the newest hundred.
BEYOND, PUSHED = {"countType": "imageCountMoreThan"}, {"countType": "sinceImagePushed", "countUnit": "days"}
EXPIRED: tuple[dict[str, Any], ...] = (
    {"tagStatus": "tagged", "tagPrefixList": [RELEASED], **BEYOND, "countNumber": 1000},
    {"tagStatus": "untagged", **PUSHED, "countNumber": 30},
    {"tagStatus": "any", **BEYOND, "countNumber": 100},
)
EXPIRE = {"type": "expire"}
LIFECYCLE = {"rules": [{"rulePriority": n, "selection": one, "action": EXPIRE} for n, one in enumerate(EXPIRED, 1)]}
EXISTS = {"RepositoryAlreadyExistsException", "ParameterAlreadyExists"}
# the states of a resource, as what `create` would do
MISSING, FOREIGN, DIFFERENT, RIGHT, UNKNOWN = "create", "not ours", "change", "leave", "unknown"
FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What is there: `create` makes what is missing; `foreign` says why it is another owner's; `differences` in words,
    each with what mends it, None where AWS allows no change.
    """

    create: Act | None = None
    foreign: str = ""
    differences: Mapping[str, Act | None] = field(default_factory=dict)

    @property
    def mends(self) -> list[Act]:
        return [mend for mend in self.differences.values() if mend]

    @property
    def state(self) -> str:
        return MISSING if self.create else FOREIGN if self.foreign else DIFFERENT if self.mends else RIGHT

    @property
    def remark(self) -> str:
        return self.foreign or "; ".join(self.differences)


class Resource(NamedTuple):
    """One thing that has to be there; `look` raises CallFailed where AWS does not say."""

    title: str
    name: str
    look: Callable[[], Finding]


def resources(session: Session) -> list[Resource]:
    names = session.environment
    return [
        *(Resource(REPOSITORIES, name, partial(image_repository, session, name)) for name in names.repositories),
        *(Resource(PARAMETERS, name, partial(parameter, session, name)) for name in names.parameters),
    ]


def parameter(session: Session, name: str) -> Finding:
    """Looking needs ssm:GetParameter and ListTagsForResource; the rest PutParameter and AddTagsToResource."""
    call, wanted = partial(session.call, "ssm"), session.environment.tags | MANAGED
    found = session.find("ssm", "get_parameter", ("ParameterNotFound",), "Parameter", Name=name)
    if found is None:
        # without Overwrite: a value that came in between stays ("PutParameter" in the API reference)
        how = {"Type": TYPE, "Tier": "Standard", "Overwrite": False, "Tags": tag_list(wanted)}
        return Finding(create=partial(call, "put_parameter", Name=name, Value=NOTHING, **how))
    resource = {"ResourceType": "Parameter", "ResourceId": name}
    tags = tag_map(call("list_tags_for_resource", **resource).get("TagList", []))
    other_type = f"of type {found['Type']}, not {TYPE}, which AWS never changes"
    differences: dict[str, Act | None] = {} if found["Type"] == TYPE else {other_type: None}
    mend = partial(call, "add_tags_to_resource", **resource, Tags=tag_list(wanted))
    return Finding(foreign=foreign(tags, _owner(session)), differences=differences | _wrong_tags(tags, wanted, mend))


def image_repository(session: Session, name: str) -> Finding:
    """Looking needs ecr:DescribeRepositories, ListTagsForResource and GetLifecyclePolicy.

    Creating needs ecr:CreateRepository, TagResource and PutLifecyclePolicy, with a KMS key also kms:CreateGrant and
    DescribeKey ("Encryption at rest" in the ECR user guide); changing needs TagResource and the Put… calls below.
    """
    call, named, key = partial(session.call, "ecr"), {"repositoryName": name}, session.environment.kms_key
    encryption = {"encryptionType": "KMS", "kmsKey": key} if key else {"encryptionType": "AES256"}
    wanted = session.environment.tags | SHARED | MANAGED
    put_lifecycle = partial(call, "put_lifecycle_policy", **named, lifecyclePolicyText=json.dumps(LIFECYCLE))

    def create() -> None:
        """Tags come with it, so it is never there without saying whose it is."""
        settings = {member: value for member, (value, _, _) in SETTINGS.items()}
        call("create_repository", **named, **settings, encryptionConfiguration=encryption, tags=tag_list(wanted))
        put_lifecycle()

    missing = ("RepositoryNotFoundException",)
    found = session.find("ecr", "describe_repositories", missing, "repositories", repositoryNames=[name])
    if found is None:
        return Finding(create=create)
    arn = found[0]["repositoryArn"]
    tags = tag_map(call("list_tags_for_resource", resourceArn=arn).get("tags", []))
    if other := foreign(tags, _owner(session)):
        return Finding(foreign=other)
    differences: dict[str, Act | None] = {}
    for member, (value, operation, words) in SETTINGS.items():
        if (has := found[0].get(member)) != value:
            differences[words.format(has)] = partial(call, operation, **named, **{member: value})
    missing = ("LifecyclePolicyNotFoundException",)
    policy = session.find("ecr", "get_lifecycle_policy", missing, "lifecyclePolicyText", **named)
    if policy is None or json.loads(policy) != LIFECYCLE:
        differences["the lifecycle policy is missing or another"] = put_lifecycle
    encrypted = found[0].get("encryptionConfiguration", {"encryptionType": "AES256"})
    if not encryption.items() <= encrypted.items():  # fixed at creation ("EncryptionConfiguration", API reference)
        has, should = (" ".join(its.values()) for its in (encrypted, encryption))
        differences[f"encrypted with {has}, not {should}, which AWS never changes"] = None
    mend = partial(call, "tag_resource", resourceArn=arn, tags=tag_list(wanted))
    return Finding(differences=differences | _wrong_tags(tags, wanted, mend))


def _owner(session: Session) -> dict[str, str]:
    """The tags by which something is known to be this use case's."""
    return {key: value for key, value in session.environment.tags.items() if key != "environment"}


def _wrong_tags(tags: Mapping[str, str], wanted: Mapping[str, str], mend: Act) -> dict[str, Act | None]:
    """One difference for all tags that are missing or wrong; other people's further tags are theirs."""
    wrong = [f"{key}={value}" for key, value in wanted.items() if tags.get(key) != value]
    return {f"tags: {', '.join(wrong)}": mend} if wrong else {}


def each(session: Session, act: Callable[[Resource], tuple[str, str]], failed: str) -> list[str]:
    """Print what `act` says of each resource, a word and a remark; the words, `failed` where it raises InputError.

    Of a kind that can't be reached, the others are not tried.
    """
    words = []
    for title, group in groupby(resources(session), attrgetter("title")):
        wanted, hopeless = list(group), False
        print(f"  {len(wanted)} {title}")
        for resource in wanted:
            try:
                word, remark = (failed, "not tried") if hopeless else act(resource)
            except InputError as failure:
                word, remark = failed, str(failure)
                hopeless = isinstance(failure, CallFailed) and failure.hopeless
            print(f"    {word:<8}  {resource.name}" + (f": {remark}" if remark else ""), flush=True)
            words.append(word)
    return words


def state(resource: Resource) -> tuple[str, str]:
    """The state of a resource in AWS, and a remark. Raises CallFailed."""
    finding = resource.look()
    return finding.state, finding.remark


def plan(session: Session) -> int:
    """Print what `create` would do. Raises InputError where it would not finish."""
    states = each(session, state, UNKNOWN)
    command = f" To carry it out: {session.environment.bootstrap}" if {MISSING, DIFFERENT} & set(states) else ""
    print(f"nothing was created: this is the plan.{command}", flush=True)
    if refused := sum(found in (FOREIGN, UNKNOWN) for found in states):
        raise InputError(f"{refused} of {len(states)} can't be compared or are not ours: see above.")
    return 0


def create(session: Session) -> int:
    """Whatever fails for one resource, the others go on. Raises InputError with the command that finishes."""
    words = each(session, settle, FAILED)
    if FAILED in words:
        print("as it is now:")  # looked at anew: a lost answer may have been a success
        each(session, state, UNKNOWN)
        command = session.environment.bootstrap
        raise InputError(f"{words.count(FAILED)} of {len(words)} were not finished. To finish: {command}")
    print("everything is there.")
    if not session.environment.account_is_set:
        file = session.environment.file
        print(f'write account = "{session.account}" into {file}, so that nothing ends up in another account.')
    return 0


def settle(resource: Resource) -> tuple[str, str]:
    """Created, changed or left, and a remark. Raises InputError where it is somebody else's or a call failed."""
    finding = resource.look()
    if finding.create:
        try:
            finding.create()
        except CallFailed as failed:
            if failed.code not in EXISTS:
                raise
            # made since we looked: by somebody else, or by a call of ours whose answer was lost
            finding = resource.look()
        else:
            return "created", ""
    if finding.create:
        raise InputError("AWS says both that it exists and that it does not; wait a minute")
    if finding.foreign:
        raise InputError(finding.foreign)
    for mend in finding.mends:
        mend()
    return "changed" if finding.mends else "left", finding.remark


def run(repository: Repository, choice: str, connecting: Connect | None = None) -> int:
    """Print what should be there and what is; `create` makes the difference. Raises InputError with what to do."""
    environment = environments.unchecked(repository.root / "environments", repository.names())
    try:
        session = sign_in(repository, environment, connecting)
    except InputError as failure:
        if choice == "create":
            reason = f"nothing was created, and what exists is not known: {failure}."
            raise InputError(f"{reason}\nTo finish: {environment.bootstrap}") from None
        print(_title(environment, environment.account if environment.account_is_set else "not set"))
        for title, names in ((REPOSITORIES, environment.repositories), (PARAMETERS, environment.parameters)):
            print(f"  {len(names)} {title}", *names, sep="\n    ")
        print(*cost.summary(repository), sep="\n", flush=True)
        print(f"nothing was created: this is the plan. It could not look at the account: {failure}.", flush=True)
        return 0 if isinstance(failure, CallFailed) and failure.cause == NOT_SIGNED_IN else 1
    print(_title(environment, session.account), flush=True)
    if choice == "create":
        return create(session)
    code = plan(session)
    print(*cost.summary(repository), sep="\n", flush=True)  # once it is deployed: this costs next to nothing
    return code


def _title(environment: Environment, account: str) -> str:
    place = f"{environment.environment}, account {account}, region {environment.region or 'not set'}"
    return f"{environment.usecase} needs in AWS ({place}):"
