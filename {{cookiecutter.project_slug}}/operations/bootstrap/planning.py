"""`bootstrap plan`: for each resource whether it would be created, changed or left. Only reads."""

from collections.abc import Sequence

from operations.bootstrap.calls import CallFailed
from operations.bootstrap.findings import Finding, Kind
from operations.bootstrap.wanted import Wanted
from operations.failures import Failure

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
