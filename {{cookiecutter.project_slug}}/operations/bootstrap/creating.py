"""`bootstrap create`: make and change what differs, resource by resource, and say where things stand."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from operations.bootstrap.calls import CallFailed
from operations.bootstrap.findings import Finding, Kind
from operations.bootstrap.wanted import Wanted
from operations.failures import Failure

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
