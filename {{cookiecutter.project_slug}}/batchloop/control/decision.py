"""Whether to retrain, on which window, and why: values in, values out.

A window that drifted is an alarm, and so is one that the model is expected to score worse, or did by its labels;
[retraining] on says which count. A retraining needs `alarms` of the last `windows` judged by the same baseline, the
newest of them among these; no other retraining running; the cooldown over; budget left; and labels, which it waits for.

Labels come late. What they say of a window counts for more than what was estimated without them. The newest window with
labels can be a reason to retrain however many have been scored since, as long as the model that scored it is released.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from batchloop.control import memory as control_memory
from batchloop.control.memory import (
    DRIFT,
    IDLE,
    MOST,
    PERFORMANCE,
    REALISED,
    RETRAINING,
    WAITING,
    Labelled,
    Memory,
    Observation,
    Settings,
    order,
)


class Action(StrEnum):
    NONE = "none"
    WAIT = "wait"
    RETRAIN = "retrain"


class Arrival(StrEnum):
    """How an observation stands to those before: late is older than the newest one that is remembered."""

    NEW = "new"
    LATE = "late"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class Circumstances:
    """What else counts: which of `candidates` have labels, what the release learned from, whether a training runs.

    `measuring` are windows whose labels are just being held against what was predicted; `baseline` is the release's, as
    observations name it, "" where there is none.
    """

    now: datetime
    labelled: frozenset[str] = frozenset()
    learned: str = ""
    running: bool = False
    measuring: frozenset[str] = frozenset()
    baseline: str = ""


@dataclass(frozen=True)
class Decision:
    """`reason` is one sentence; `window` is the one to retrain on or to wait for; None arrived with a mere question."""

    action: Action
    memory: Memory
    window: str
    reason: str
    arrival: Arrival | None


def decide(memory: Memory, observation: Observation | None, settings: Settings, around: Circumstances) -> Decision:
    """What to do after an observation, or, without one, about what is still waited for."""
    if memory.state == WAITING and around.learned and order(around.learned) >= order(memory.window):
        memory = settled(memory, "is no longer needed: the release has learned from it or a newer one")
    arrival = _arrival(memory, observation) if observation else None
    seen = _remembered(memory, observation, settings) if observation else memory
    alarm, said = _judged(seen, observation, arrival, settings, around.baseline)
    seen = _refuted(seen, observation, settings)
    wanted = candidates(seen, settings, observation.window if observation and alarm else "")
    labelled = [window for window in wanted if window in around.labelled]
    if not alarm and not labelled:
        still = f"; labels of window {seen.window} are still waited for" if wanted else ""
        known = (seen.windows, seen.labelled, seen.state) == (memory.windows, memory.labelled, memory.state)
        kept = seen if known else replace(seen, reason=f"{said}{still}.")
        return Decision(Action.NONE, kept, "", f"{said}{still}.", arrival)
    target = labelled[0] if labelled else seen.window if seen.state == WAITING else wanted[0]
    action, answer = _answer(seen, target, settings, around)
    decided = replace(seen, reason=f"{said}{answer}.")
    if action == Action.WAIT:
        decided = replace(decided, state=WAITING, window=target, estimated=_estimated(seen, target, settings))
    elif action == Action.RETRAIN:
        started = (*seen.started, around.now.isoformat(timespec="seconds"))[-MOST:]
        decided = replace(decided, state=RETRAINING, window=target, execution="", started=started)
    return Decision(action, decided, target, decided.reason, arrival)


def alarming(seen: Observation, settings: Settings) -> bool | None:
    """Whether a window is an alarm by what counts; None where nothing of that is known of it.

    Labels that say otherwise refute an estimate; what they say themselves counts as "realised".
    """
    expected = False if seen.realised is False else seen.worse
    known = [(DRIFT, seen.drifted), (PERFORMANCE, expected), (REALISED, seen.realised)]
    counting = [found for name, found in known if name in settings.on and found is not None]
    return any(counting) if counting else None


def candidates(memory: Memory, settings: Settings, now: str = "") -> list[str]:
    """Windows whose labels would do, newest first: one that alarms now, the one waited for, alarming ones after it."""
    found = {now} if now else set()
    if memory.state == WAITING:
        alarms = {seen.window for seen in memory.windows if alarming(seen, settings)}
        found |= {memory.window} | {window for window in alarms if order(window) > order(memory.window)}
    return sorted(found, key=order, reverse=True)


def settled(memory: Memory, ended: str) -> Memory:
    """The loop after its retraining has ended, however it did: it counts in the budget, and blocks nothing."""
    return replace(memory, state=IDLE, reason=f"The retraining on window {memory.window} {ended}.")


def recent(memory: Memory, settings: Settings, now: datetime) -> int:
    """How many retrainings the budget's days hold."""
    since = now - timedelta(days=settings.budget_days)
    return sum(datetime.fromisoformat(time) > since for time in memory.started)


def _arrival(memory: Memory, observation: Observation) -> Arrival:
    if observation.run in {seen.run for seen in memory.windows} | {seen.run for seen in memory.labelled}:
        return Arrival.DUPLICATE
    if observation.realised is not None:
        newer = any(order(seen.window) > order(observation.window) for seen in memory.labelled)
        return Arrival.LATE if newer else Arrival.NEW
    return Arrival.LATE if any(seen.age > observation.age for seen in memory.windows) else Arrival.NEW


def _remembered(memory: Memory, observation: Observation, settings: Settings) -> Memory:
    """With the observation in its place: a window counts once, by its latest run, and only with a verdict."""
    if observation.drifted is None or observation.rows < settings.minimum_rows:
        observation = replace(observation, drifted=None, worse=None, realised=None)
    latest: dict[str, Observation] = {}
    for seen in sorted((*memory.windows, observation), key=lambda seen: seen.age):
        latest[seen.window] = seen
    judged = [seen for seen in latest.values() if alarming(seen, settings) is not None][-settings.windows :]
    unjudged = [seen for seen in latest.values() if alarming(seen, settings) is None][-1:]
    windows = tuple(sorted((*judged, *unjudged), key=lambda seen: seen.age))
    return replace(memory, windows=windows, labelled=_labelled(memory, observation, settings))


def _labelled(memory: Memory, observation: Observation, settings: Settings) -> tuple[Labelled, ...]:
    """The newest windows with labels, each by the run that measured it last."""
    if observation.realised is None:
        return memory.labelled
    now = Labelled(observation.window, observation.run, observation.baseline, observation.realised)
    known = {seen.window: seen for seen in (*memory.labelled, now)}
    return tuple(sorted(known.values(), key=lambda seen: order(seen.window))[-settings.windows :])


def _estimated(memory: Memory, window: str, settings: Settings) -> bool:
    """Whether a window alarms by its estimate alone."""
    if memory.state == WAITING and window == memory.window:
        return memory.estimated
    found = [seen for seen in memory.windows if seen.window == window and seen.realised is None]
    return bool(found) and not (found[0].drifted and DRIFT in settings.on)


def _refuted(memory: Memory, observation: Observation | None, settings: Settings) -> Memory:
    """No longer waiting for a window that is no alarm any more, now that its labels are known."""
    if observation is None or memory.state != WAITING or memory.window != observation.window:
        return memory
    if observation.realised is not False or not memory.estimated or alarming(observation, settings):
        return memory
    later = [window for window in candidates(memory, settings) if window != memory.window]
    if later:
        return replace(memory, window=later[-1], estimated=_estimated(replace(memory, window=""), later[-1], settings))
    return replace(memory, state=IDLE, window="", estimated=False)


def _judged(
    memory: Memory, observation: Observation | None, arrival: Arrival | None, settings: Settings, baseline: str
) -> tuple[bool, str]:
    """Whether the observation is reason enough to retrain, and what it says, without a full stop."""
    if observation is None:
        return False, "Nothing new was scored"
    name = f"Window {observation.window}"
    if arrival == Arrival.DUPLICATE:
        return False, f"{name} was already looked at in this run"
    if arrival == Arrival.LATE:
        return False, f"{name} came after newer ones: it is remembered, and decides nothing"
    if observation.drifted is None or observation.rows < settings.minimum_rows:
        few = f"{observation.rows:,} rows give no verdict (minimum_rows = {settings.minimum_rows:,})"
        return False, f"{name} counts neither as healthy nor as drifted: {few}"
    return _weighed(memory, observation, settings, baseline)


def _weighed(memory: Memory, observation: Observation, settings: Settings, baseline: str) -> tuple[bool, str]:
    """The same, for a window with a verdict."""
    name = f"Window {observation.window}"
    late = any(seen.age > observation.age for seen in memory.windows)
    drifted = observation.drifted and DRIFT in settings.on and not late
    if observation.realised and not drifted and baseline not in ("", observation.baseline):
        gone = "the model that scored it is not the released one any more"
        return False, f"{name} is no alarm: {control_memory.labelled(observation)}, but {gone}"
    if late:
        return _by_labels(memory, observation, settings, f"Labels of window {observation.window} have come late: ")
    return _counted(memory, observation, settings, f"{name} {control_memory.seen(observation)}")


def _by_labels(memory: Memory, observation: Observation, settings: Settings, said: str) -> tuple[bool, str]:
    """Of a window that is older than the newest that was scored: only what its labels say is news."""
    said += control_memory.labelled(observation)
    if not observation.realised:
        return False, said
    if REALISED not in settings.on:
        return False, f"{said}, which [retraining] on leaves out"
    known = [seen.worse for seen in memory.labelled if seen.baseline == observation.baseline]
    if sum(known) < settings.alarms:
        few = f"{sum(known)} of the last {len(known)} windows with labels alarmed, and {settings.alarms} are needed"
        return False, f"{said}; {few}"
    return True, said


def _counted(memory: Memory, observation: Observation, settings: Settings, said: str) -> tuple[bool, str]:
    """The same, for a window with a verdict: is it an alarm, and are there as many alarms as it takes?"""
    alarm = alarming(observation, settings)
    if alarm is None:
        return (
            False,
            f"{said}; how well it was scored is not known without labels, and only that counts ([retraining] on)",
        )
    if not alarm:
        return False, said + control_memory.left_out(observation)
    known = [alarming(seen, settings) for seen in memory.windows if seen.baseline == observation.baseline]
    judged = [alarm for alarm in known if alarm is not None]
    if sum(judged) < settings.alarms:
        return (
            False,
            f"{said}; {sum(judged)} of the last {len(judged)} windows alarmed, and {settings.alarms} are needed",
        )
    return True, said


def _answer(memory: Memory, target: str, settings: Settings, around: Circumstances) -> tuple[Action, str]:
    """What to do about the window that matters, and the rest of the sentence."""
    if against := next(_objections(memory, target, settings, around), ""):
        return Action.NONE, f", but there is no retraining on window {target}: {against}"
    if target not in around.labelled:
        return Action.WAIT, f"; the retraining waits for the labels of window {target}"
    if target in around.measuring and _estimated(memory, target, settings):
        return Action.WAIT, f"; labels of window {target} are there, and how well it was scored is measured first"
    return Action.RETRAIN, f"; labels are there, and the model is retrained on window {target}"


def _objections(memory: Memory, target: str, settings: Settings, around: Circumstances) -> Iterator[str]:
    if not settings.enabled:
        yield "[retraining] enabled = false"
    if memory.state == RETRAINING or around.running:
        yield "another one is still running"
    if target == around.learned:
        yield "the release has learned from it already"
    if target == memory.window and memory.state == IDLE:
        yield "it was tried before"
    if memory.started:
        last = datetime.fromisoformat(memory.started[-1])
        if around.now - last < timedelta(hours=settings.cooldown_hours):
            yield f"the last one began at {memory.started[-1]} and cooldown_hours = {settings.cooldown_hours:g}"
    if recent(memory, settings, around.now) >= settings.budget:
        yield f"the budget of {settings.budget} in {settings.budget_days:g} days is used up"
