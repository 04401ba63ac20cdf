"""The states of a stack, and what to do about each that can't be deployed to."""

REVIEW = "REVIEW_IN_PROGRESS"  # there is a change set that would make it, and nothing else
GONE = "DELETE_COMPLETE"
GOOD = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")
# an update that was rolled back leaves a stack that works as it did before
READY = (*GOOD, "UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE")

DELETE = "aws cloudformation delete-stack --stack-name {name} --region {region}"
GO_ON = "aws cloudformation continue-update-rollback --stack-name {name} --region {region}"
ROLL_BACK = "aws cloudformation rollback-stack --stack-name {name} --region {region}"
NOT_MADE = f"mend the cause, delete what is left of it with `{DELETE}`, and deploy again"
HALFWAY = f"mend the cause, then `{GO_ON}`, and deploy again"
TO_DO = {
    "CREATE_FAILED": f"could not be made; {NOT_MADE}",
    "ROLLBACK_COMPLETE": f"could not be made and was rolled back; {NOT_MADE}",
    "ROLLBACK_FAILED": f"could be neither made nor rolled back; {NOT_MADE}",
    "DELETE_FAILED": "could not be deleted whole; mend the cause, and `make teardown ENV={environment}` goes on",
    "UPDATE_FAILED": f"stopped amid an update; undo it with `{ROLL_BACK}`, mend the cause, and deploy again",
    "UPDATE_ROLLBACK_COMPLETE": "could not be changed and works as it did before; mend the cause, and deploy again",
    "UPDATE_ROLLBACK_FAILED": f"could be neither changed nor changed back; {HALFWAY}",
    "IMPORT_ROLLBACK_COMPLETE": "could not take over what is there; mend the cause, and deploy again",
    "IMPORT_ROLLBACK_FAILED": f"could not give back what it took over; {HALFWAY}",
}


def moving(status: str) -> bool:
    """Whether CloudFormation is at work on it."""
    return status.endswith("_IN_PROGRESS") and status != REVIEW


def sentence(status: str, **places: str) -> str:
    """What a stack in this state needs; `places` are name, region and environment."""
    todo = TO_DO.get(status, "is in a state that a deployment does not know; look at it in the CloudFormation console")
    return f"the stack {places['name']} is {status}: it {todo.format(**places)}."
