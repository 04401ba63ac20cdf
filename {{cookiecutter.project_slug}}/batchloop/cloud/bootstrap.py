"""What was found in the account in place of what is wanted."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from batchloop.cloud.session import (
    SHARED,
    Account,
    CallFailed,
    Connect,
    NotSignedIn,
    Wanted,
    ask,
    connect,
    read,
    sign_in,
)
from batchloop.repository import Failure


@dataclass(frozen=True)
class Difference:
    """In words, how something differs from what is wanted; `mend` changes it, None where AWS allows no change."""

    what: str
    mend: Callable[[], object] | None = None


@dataclass(frozen=True)
class Finding:
    """`create` makes what is missing; `stranger` says why what is there is somebody else's. Neither: it is there."""

    create: Callable[[], object] | None = None
    stranger: str = ""
    differences: tuple[Difference, ...] = ()

    @property
    def mendable(self) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if difference.mend)

    def mend(self) -> None:
        """Change what can be changed. Raises CallFailed."""
        for difference in self.differences:
            if difference.mend:
                difference.mend()

    @property
    def told(self) -> str:
        """The differences, for a person."""
        return "; ".join(difference.what for difference in self.differences)


class Kind(Protocol):
    """Resources of one kind, by name."""

    @property
    def title(self) -> str: ...

    @property
    def names(self) -> Sequence[str]: ...

    def look(self, name: str) -> Finding:
        """What is there now. Raises CallFailed where AWS does not say."""
        ...


def stranger(tags: Mapping[str, str], owner: Mapping[str, str]) -> str:
    """Why something with these tags is not the owner's, "" where it is."""
    for key, value in owner.items():
        if tags.get(key) != value:
            has = f"has the tag {key}={tags[key]}" if key in tags else f"has no tag {key}"
            needed = ", ".join(f"{name}={text}" for name, text in owner.items())
            return f"it is there but {has}; if it is this use case's, give it the tags {needed}"
    return ""


def tag_differences(
    tags: Mapping[str, str], wanted: Mapping[str, str], mend: Callable[[], object]
) -> tuple[Difference, ...]:
    """One difference for all tags that are missing or wrong; other people's further tags are theirs."""
    wrong = [f"{key}={value}" for key, value in wanted.items() if tags.get(key) != value]
    return (Difference(f"tags: {', '.join(wrong)}", mend),) if wrong else ()


NO_VALUE = "none"
TYPE = "String"


@dataclass(frozen=True)
class Parameters:
    """Looking needs ssm:GetParameter and ListTagsForResource; the rest PutParameter and AddTagsToResource."""

    client: Any
    wanted: Wanted
    title: str = "SSM parameters"

    @property
    def names(self) -> tuple[str, ...]:
        return self.wanted.parameters

    def look(self, name: str) -> Finding:
        """What is there under this name. Raises CallFailed."""
        try:
            found = ask(self.client, "get_parameter", "Parameter", Name=name)
        except CallFailed as failed:
            if failed.code != "ParameterNotFound":
                raise
            return Finding(create=partial(self._create, name))
        resource = {"ResourceType": "Parameter", "ResourceId": name}
        listed = ask(self.client, "list_tags_for_resource", **resource).get("TagList", [])
        tags = {tag["Key"]: tag["Value"] for tag in listed}
        if other := stranger(tags, self.wanted.owner):
            return Finding(stranger=other)
        mend = partial(ask, self.client, "add_tags_to_resource", **resource, Tags=self._tags)
        tagging = tag_differences(tags, self.wanted.tags(self.wanted.environment), mend)
        return Finding(differences=(*_typed(found["Type"]), *tagging))

    def _create(self, name: str) -> None:
        """Without Overwrite: a value that came in between stays ("PutParameter" in the API reference)."""
        ask(
            self.client,
            "put_parameter",
            Name=name,
            Value=NO_VALUE,
            Type=TYPE,
            Tier="Standard",
            Overwrite=False,
            Tags=self._tags,
        )

    @property
    def _tags(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.wanted.tags(self.wanted.environment).items()]


def _typed(found: str) -> Iterator[Difference]:
    if found != TYPE:
        yield Difference(f"of type {found}, not {TYPE}, which AWS never changes")


IMMUTABLE = "IMMUTABLE"
SCANNED = {"scanOnPush": True}
# "Lifecycle policy properties" in the ECR user guide. An image that was released keeps its tag, so no rule selects it.
UNTAGGED = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 30}
EXPIRE = {"type": "expire"}
RULE = {"rulePriority": 1, "description": "untagged images, after 30 days", "selection": UNTAGGED, "action": EXPIRE}
LIFECYCLE = {"rules": [RULE]}


@dataclass(frozen=True)
class Repositories:
    """Looking needs ecr:DescribeRepositories, ListTagsForResource and GetLifecyclePolicy.

    Creating needs ecr:CreateRepository, TagResource and PutLifecyclePolicy, with a KMS key also kms:CreateGrant and
    DescribeKey ("Encryption at rest" in the ECR user guide); changing needs TagResource and the Put… calls below.
    """

    client: Any
    wanted: Wanted
    title: str = "ECR repositories"

    @property
    def names(self) -> tuple[str, ...]:
        return self.wanted.repositories

    def look(self, name: str) -> Finding:
        """What is there under this name. Raises CallFailed."""
        try:
            [found] = ask(self.client, "describe_repositories", "repositories", repositoryNames=[name])
        except CallFailed as failed:
            if failed.code != "RepositoryNotFoundException":
                raise
            return Finding(create=partial(self._create, name))
        listed = ask(self.client, "list_tags_for_resource", resourceArn=found["repositoryArn"]).get("tags", [])
        tags = {tag["Key"]: tag["Value"] for tag in listed}
        if other := stranger(tags, self.wanted.owner):
            return Finding(stranger=other)
        return Finding(differences=tuple(self._differences(name, found, tags)))

    def _create(self, name: str) -> None:
        """Tags come with it, so it is never there without saying whose it is."""
        ask(
            self.client,
            "create_repository",
            repositoryName=name,
            imageTagMutability=IMMUTABLE,
            imageScanningConfiguration=SCANNED,
            encryptionConfiguration=self._encryption,
            tags=self._tags,
        )
        self._put_lifecycle(name)

    def _differences(self, name: str, found: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Difference]:
        if (mutability := found.get("imageTagMutability")) != IMMUTABLE:
            mend = self._change("put_image_tag_mutability", repositoryName=name, imageTagMutability=IMMUTABLE)
            yield Difference(f"tags are {mutability}, not {IMMUTABLE}", mend)
        if not found.get("imageScanningConfiguration", {}).get("scanOnPush"):
            settings = {"repositoryName": name, "imageScanningConfiguration": SCANNED}
            mend = self._change("put_image_scanning_configuration", **settings)
            yield Difference("images are not scanned on push", mend)
        if self._lifecycle(name) != LIFECYCLE:
            yield Difference("the lifecycle policy is missing or another", partial(self._put_lifecycle, name))
        mend = self._change("tag_resource", resourceArn=found["repositoryArn"], tags=self._tags)
        yield from tag_differences(tags, self.wanted.tags(SHARED), mend)
        yield from self._encrypted(found.get("encryptionConfiguration", {"encryptionType": "AES256"}))

    def _change(self, operation: str, **request: Any) -> Callable[[], object]:
        return partial(ask, self.client, operation, **request)

    def _encrypted(self, found: Mapping[str, str]) -> Iterator[Difference]:
        """ECR fixes it at creation ("EncryptionConfiguration" in the API reference)."""
        if any(found.get(key) != value for key, value in self._encryption.items()):
            has, wanted = (" ".join(texts.values()) for texts in (found, self._encryption))
            yield Difference(f"encrypted with {has}, not {wanted}, which AWS never changes")

    def _lifecycle(self, name: str) -> object:
        try:
            return json.loads(ask(self.client, "get_lifecycle_policy", "lifecyclePolicyText", repositoryName=name))
        except CallFailed as failed:
            if failed.code != "LifecyclePolicyNotFoundException":
                raise
            return None

    def _put_lifecycle(self, name: str) -> None:
        ask(self.client, "put_lifecycle_policy", repositoryName=name, lifecyclePolicyText=json.dumps(LIFECYCLE))

    @property
    def _tags(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.wanted.tags(SHARED).items()]

    @property
    def _encryption(self) -> dict[str, str]:
        key = self.wanted.kms_key
        return {"encryptionType": "KMS", "kmsKey": key} if key else {"encryptionType": "AES256"}


CREATE, CHANGE, LEAVE, NOT_OURS, UNKNOWN = "create", "change", "leave", "not ours", "unknown"


def plan(wanted: Wanted, kinds: Sequence[Kind]) -> int:
    """Print it. Raises Failure where `create` would not finish either."""
    words = [word for kind in kinds for word in _planned(kind)]
    onward = f" To carry it out: {wanted.command}" if {CREATE, CHANGE} & set(words) else ""
    print(f"nothing was created: this is the plan.{onward}", flush=True)
    if troubles := sum(word in (NOT_OURS, UNKNOWN) for word in words):
        raise Failure(f"{troubles} of {len(words)} can't be compared or are not ours: see above.")
    return 0


def _planned(kind: Kind) -> list[str]:
    """Print a line for each name; the first word of each. Asks no more once it is pointless."""
    print(f"  {len(kind.names)} {kind.title}")
    words: list[str] = []
    hopeless = False
    for name in kind.names:
        word, remark = UNKNOWN, ""
        if not hopeless:
            try:
                word, remark = described(kind.look(name))
            except CallFailed as failed:
                remark, hopeless = str(failed), failed.hopeless
        print(f"    {word:<8}  {name}" + (f": {remark}" if remark else ""), flush=True)
        words.append(word)
    return words


def described(finding: Finding) -> tuple[str, str]:
    """What `create` would do, in a word, and a remark."""
    if finding.create:
        return CREATE, ""
    if finding.stranger:
        return NOT_OURS, finding.stranger
    return CHANGE if finding.mendable else LEAVE, finding.told


EXISTS = {"RepositoryAlreadyExistsException", "ParameterAlreadyExists"}


class Resource(NamedTuple):
    """A name, and what knows about it."""

    kind: Kind
    name: str


def create(wanted: Wanted, kinds: Sequence[Kind], account: str) -> int:
    """Whatever fails for one resource, the others go on. Raises Failure with the command that finishes."""
    resources = [Resource(kind, name) for kind in kinds for name in kind.names]
    unfinished = [resource for resource, done in _settled(resources) if not done]
    if unfinished:
        _report(resources, unfinished)
        raise Failure(f"{len(unfinished)} of {len(resources)} were not finished. To finish: {wanted.command}")
    print("everything is there.")
    if not wanted.account_is_set:
        print(f'write account = "{account}" into {wanted.file}, so that nothing ends up in another account.')
    return 0


def _settled(resources: Sequence[Resource]) -> list[tuple[Resource, bool]]:
    """Settle and tell one after the other; where a service can't be reached, nothing more of its kind is tried."""
    done: list[tuple[Resource, bool]] = []
    given_up: set[str] = set()
    for resource in resources:
        try:
            word, remark = ("not tried", "") if resource.kind.title in given_up else settle(resource)
        except Failure as failure:
            word, remark = "failed", str(failure)
            given_up |= _pointless(resource, failure)
        print(f"  {word:<9}  {resource.name}" + (f": {remark}" if remark else ""), flush=True)
        done.append((resource, word not in ("failed", "not tried")))
    return done


def settle(resource: Resource) -> tuple[str, str]:
    """Created, changed or left, and a remark. Raises Failure where it is somebody else's or a call failed."""
    finding = resource.kind.look(resource.name)
    if finding.create:
        if _created(finding.create):
            return "created", ""
        finding = resource.kind.look(resource.name)
    if finding.create:
        raise Failure("AWS says both that it exists and that it does not; wait a minute")
    if finding.stranger:
        raise Failure(finding.stranger)
    finding.mend()
    return "changed" if finding.mendable else "left", finding.told


def _created(make: Callable[[], object]) -> bool:
    """False where it was made since we looked: by somebody else, or by a call of ours whose answer was lost."""
    try:
        make()
    except CallFailed as failed:
        if failed.code not in EXISTS:
            raise
        return False
    return True


def _report(resources: Sequence[Resource], unfinished: Sequence[Resource]) -> None:
    """What exists and what does not, looked at anew where something failed: a lost answer may have been a success."""
    states = dict.fromkeys((resource.name for resource in resources), "exist")
    given_up: set[str] = set()
    for resource in unfinished:
        try:
            known = resource.kind.title not in given_up
            states[resource.name] = _state(resource.kind.look(resource.name)) if known else "not known"
        except CallFailed as failed:
            states[resource.name] = "not known"
            given_up |= _pointless(resource, failed)
    for state in sorted(set(states.values())):
        names = [name for name, its in states.items() if its == state]
        print(f"{state}: {len(names)}", *names, sep="\n    ", flush=True)


def _state(finding: Finding) -> str:
    if finding.create:
        return "do not exist"
    if finding.stranger:
        return "exist, but are not ours"
    return "exist, but are not finished" if finding.mendable else "exist"


def _pointless(resource: Resource, failure: Failure) -> set[str]:
    """The kind of a resource, where no further call about it can succeed."""
    return {resource.kind.title} if isinstance(failure, CallFailed) and failure.hopeless else set()


def run(root: Path, choice: str, environment: str, connecting: Connect = connect) -> int:
    """Print what there should be and what is there; `create` makes the difference. Raises Failure with what to do."""
    wanted = read(root, environment)
    try:
        account = sign_in(wanted, connecting)
    except Failure as failure:
        if choice == "create":
            reason = f"nothing was created, and what exists is not known: {failure}."
            raise Failure(f"{reason}\nTo finish: {wanted.command}") from None
        _names(wanted)
        _cost(root, environment)
        print(f"nothing was created: this is the plan. It could not look at the account: {failure}.", flush=True)
        return 0 if isinstance(failure, NotSignedIn) else 1
    code = _act(wanted, account, choice)
    if choice == "plan":
        _cost(root, environment)
    return code


def _cost(root: Path, environment: str) -> None:
    """What the whole environment would cost once it is deployed; what is planned here costs next to nothing."""
    from batchloop import cost  # noqa: PLC0415 - reads files that bootstrap can do without
    from batchloop.repository import Repository  # noqa: PLC0415

    print(*cost.summary(Repository(root), environment), sep="\n", flush=True)


def _names(wanted: Wanted) -> None:
    """The plan of somebody who can't see the account."""
    print(wanted.title())
    for title, names in (("ECR repositories", wanted.repositories), ("SSM parameters", wanted.parameters)):
        print(f"  {len(names)} {title}", *names, sep="\n    ")


def _act(wanted: Wanted, account: Account, choice: str) -> int:

    kinds = (Repositories(account.ecr, wanted), Parameters(account.ssm, wanted))
    print(wanted.title(account.number), flush=True)
    return plan(wanted, kinds) if choice == "plan" else create(wanted, kinds, account.number)
