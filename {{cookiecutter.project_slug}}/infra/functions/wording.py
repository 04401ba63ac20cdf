"""What a window looked like, as a part of the sentence that gives a decision's reason."""

from functions.memory import Observation


def seen(observation: Observation) -> str:
    """As in: drifted in 3 columns, which carry 41 % of the model's reasons, and auc is expected to fall to 0.71 …"""
    drifted = _drifted(observation) if observation.drifted else "has not drifted"
    if observation.realised is not None:
        joined = "but" if observation.realised and not observation.drifted else "and"
        return f"{drifted}, {joined} {labelled(observation)}"
    if not observation.worse:
        return drifted
    return f"{drifted}, {'and' if observation.drifted else 'but'} {_worse(observation)}"


def labelled(observation: Observation) -> str:
    """What labels say, and of an estimate that they refute."""
    value = "unknown" if observation.measured is None else short(observation.measured)
    before = "" if observation.reference is None else f", {short(observation.reference)} on validation"
    said = f"by its labels {observation.metric} is {value}{before}"
    refuted = observation.worse and observation.realised is False and observation.expected is not None
    return f"{said}, not {short(observation.expected or 0.0)} as was expected" if refuted else said


def left_out(observation: Observation) -> str:
    """Of a window that would be an alarm, and is none."""
    worse = observation.worse if observation.realised is None else observation.realised
    return ", which [retraining] on leaves out" if observation.drifted or worse else ""


def short(value: float) -> str:
    """A number as people read it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _drifted(observation: Observation) -> str:
    one = observation.columns == 1
    drifted = f"drifted in {observation.columns} column{'' if one else 's'}"
    if observation.importance is None:
        return drifted
    return (
        f"{drifted}, which {'carries' if one else 'carry'} {100 * observation.importance:.0f} % of the model's reasons"
    )


def _worse(observation: Observation) -> str:
    """Metrics may be better the larger or the smaller they are."""
    expected, reference = observation.expected, observation.reference
    if expected is None or reference is None:
        return f"the model is expected to score worse by {observation.metric or 'its metric'}"
    course = "fall" if expected < reference else "rise"
    return f"{observation.metric} is expected to {course} to {short(expected)} from {short(reference)}"


def besides(windows: list[str]) -> str:
    """Earlier windows in words: all of a few, of more the first, the last and their number."""
    if len(windows) > 5:
        return f"{len(windows)} earlier windows ({windows[0]} to {windows[-1]})"
    return f"{len(windows)} earlier window{'s' * (len(windows) > 1)} ({', '.join(windows)})" if windows else ""
