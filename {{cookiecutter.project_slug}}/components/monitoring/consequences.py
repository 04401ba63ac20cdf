"""What follows from a batch's alarms by [retraining], in the words of the report, the terminal and drift.json."""

from collections.abc import Sequence
from typing import Any

from runtime.usecase import UseCase

SAID = {"drift": "drift", "performance": "a worse model is expected", "realised": "the model is worse by its labels"}


def of(case: UseCase, alarms: Sequence[str]) -> dict[str, Any]:
    """What drift.json says of the alarms."""
    return {"alarms": list(alarms), "counts": counted(case, alarms), "consequence": in_words(case, alarms)}


def counted(case: UseCase, alarms: Sequence[str]) -> list[str]:
    """Those that [retraining] counts."""
    return [alarm for alarm in alarms if case.retraining.enabled and alarm in case.retraining.on]


def in_words(case: UseCase, alarms: Sequence[str]) -> str:
    """A sentence, or "" where there is no alarm."""
    if not alarms:
        return ""
    rules, counts = case.retraining, counted(case, alarms)
    one = f"This is an alarm ({' and '.join(SAID.get(alarm, alarm) for alarm in alarms)})"
    if not rules.enabled:
        return f"{one}; nothing follows from it, as [retraining] enabled = false."
    if not counts:
        return f"{one} that [retraining] on leaves out: nothing follows from it."
    if rules.windows == 1:
        return f"{one}, which starts a retraining wherever the loop is deployed."
    return f"{one}, which counts: {rules.alarms} in the last {rules.windows} windows start a retraining."
