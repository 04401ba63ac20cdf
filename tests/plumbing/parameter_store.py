"""What the Parameter Store refuses, and moto takes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from batchloop.simulate.account import refusal

SIZES = {"Standard": 4096, "Advanced": 8192}  # of a parameter, in bytes
# what goes before a name counts: "arn:aws-us-gov:ssm:ap-southeast-1:111122223333:parameter" is as long as one gets
DEEPEST, LONGEST_NAME, LONGEST_ARN = 15, 1011, 58


def parameter_tier(request: Mapping[str, Any], before: Sequence[str] = ()) -> str:
    """The tier of a parameter after PutParameter; `before` are its values until then, none of a new one.

    Raises what the Systems Manager API reference says of "PutParameter"; a larger parameter stays in its tier.
    """
    name, value, tier = request["Name"], request["Value"], request.get("Tier", "Standard")
    size = max(len(text.encode()) for text in (value, *before))
    if not re.fullmatch(r"/?[\w.-]+|(/[\w.-]+)+", name, re.ASCII) or len(name) + LONGEST_ARN > LONGEST_NAME:
        raise refusal("ValidationException", f"{name} is no name of a parameter")
    if re.match("/?(aws|ssm)", name, re.IGNORECASE):
        raise refusal("ValidationException", f"{name}: names that begin with aws or ssm are reserved")
    if name.count("/") > DEEPEST:
        raise refusal("HierarchyLevelLimitExceededException", f"{name} has more than {DEEPEST} levels")
    if not value or "{{" in value:
        raise refusal("ValidationException", f"the value of {name} is empty, or refers to a parameter with {{{{")
    if not before and "Type" not in request:
        raise refusal("ValidationException", f"{name} is new and has no type")
    if size > SIZES["Standard" if tier == "Standard" else "Advanced"]:
        raise refusal("ValidationException", f"{name}: {size:,} bytes are more than the tier {tier} holds")
    return "Advanced" if tier == "Advanced" or size > SIZES["Standard"] else "Standard"
