"""Whether to retrain, on which window, and why: values in, values out. And what is remembered between two events.

A window that drifted is an alarm, and so is one that the model is expected to score worse, or did by its labels;
[retraining] on says which count. A retraining needs `alarms` of the last `windows` judged by the same baseline, the
newest of them among these; no other retraining running; the cooldown over; budget left; and labels, which it waits for.

Labels come late. What they say of a window counts for more than what was estimated without them. The newest window with
labels can be a reason to retrain however many have been scored since, as long as the model that scored it is released.
"""

import json
from dataclasses import asdict, astuple, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from batchloop.control.names import DRIFT, NOTHING, PERFORMANCE, REALISED, Settings, order

SCHEMA = 1
STATES = IDLE, WAITING, RETRAINING = ("idle", "waiting for labels", "retraining")
MOST = 20  # windows or retrainings: more would not fit into one parameter beside each other


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
class Observation:
    """What one inference run saw: `drifted` is None without a verdict, `columns` the number of drifted ones.

    `run` is the execution's id and `time` its start (ISO 8601, UTC); `baseline` tells baselines apart. `importance` is
    the share of the model's reasons in drifted columns. `worse`: whether the model is expected to score worse than it
    should, `metric` being `expected` now and `reference` on validation; `realised`: whether it did, by labels that give
    `measured`. All of these are None where they are unknown.
    """

    window: str
    run: str
    time: str
    rows: int
    drifted: bool | None
    columns: int
    baseline: str = ""
    importance: float | None = None
    worse: bool | None = None
    metric: str = ""
    expected: float | None = None
    reference: float | None = None
    realised: bool | None = None
    measured: float | None = None

    @property
    def age(self) -> tuple[Any, ...]:
        """Sorts by window, and runs of one window by time."""
        return (order(self.window), self.time)


@dataclass(frozen=True)
class Labelled:
    """A window whose labels are known: whether it was scored worse than it should have been, in which run."""

    window: str
    run: str
    baseline: str
    worse: bool


@dataclass(frozen=True)
class Memory:
    """`window` is what the state is about, or the last retraining was; `started` the times of the last ones.

    `labelled` are the newest windows with labels, which may be older than `windows`. `estimated`: what is waited for
    rests on an estimate alone, which labels may refute.
    """

    windows: tuple[Observation, ...] = ()
    state: str = IDLE
    window: str = ""
    execution: str = ""
    started: tuple[str, ...] = ()
    reason: str = ""
    labelled: tuple[Labelled, ...] = ()
    estimated: bool = False

    def text(self) -> str:
        """As the parameter holds it: what there are many of without names, or it would not fit."""
        rows = {name: [astuple(entry) for entry in getattr(self, name)] for name in ("windows", "labelled")}
        return json.dumps({"schema": SCHEMA, **asdict(self), **rows}, separators=(",", ":"))


def parse(text: str) -> Memory:
    """The memory that a parameter holds. Raises ValueError for what nobody here wrote."""
    if text == NOTHING:
        return Memory()
    try:
        found = json.loads(text)
        if found.pop("schema") != SCHEMA or found["state"] not in STATES:
            raise KeyError
        rows = found.pop("windows")
        windows = tuple(Observation(*row) if isinstance(row, list) else Observation(**row) for row in rows)
        labelled = tuple(Labelled(*row) for row in found.pop("labelled", []))
        return Memory(windows=windows, labelled=labelled, started=tuple(found.pop("started")), **found)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("the parameter `retraining` is damaged; write `none` into it to begin anew.") from None


@dataclass(frozen=True)
class DecisionContext:
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


def decide(memory: Memory, observation: Observation | None, settings: Settings, given: DecisionContext) -> Decision:
    """What to do after an observation, or, without one, about what is still waited for."""
    if memory.state == WAITING and given.learned and order(given.learned) >= order(memory.window):
        memory = retraining_ended(memory, "is no longer needed: the release has learned from it or a newer one")
    arrival, known, alarm, reason = None, memory, False, "Nothing new was scored"
    if observation:
        arrival, known = _arrival(memory, observation), _remembered(memory, observation, settings)
        alarm, reason = _judged(known, observation, arrival, settings, given.baseline)
        known = _refuted(known, observation, settings)
    wanted = candidates(known, settings, observation.window if observation and alarm else "")
    labelled = [window for window in wanted if window in given.labelled]
    if not alarm and not labelled:
        reason += f"; labels of window {known.window} are still waited for." if wanted else "."
        same = (known.windows, known.labelled, known.state) == (memory.windows, memory.labelled, memory.state)
        return Decision(Action.NONE, known if same else replace(known, reason=reason), "", reason, arrival)
    target = labelled[0] if labelled else known.window if known.state == WAITING else wanted[0]
    action, answer = _answer(known, target, settings, given)
    decided = replace(known, reason=f"{reason}{answer}.")
    if action == Action.WAIT:
        decided = replace(decided, state=WAITING, window=target, estimated=_estimated(known, target, settings))
    elif action == Action.RETRAIN:
        started = (*known.started, given.now.isoformat(timespec="seconds"))[-MOST:]
        decided = replace(decided, state=RETRAINING, window=target, execution="", started=started)
    return Decision(action, decided, target, decided.reason, arrival)


def alarming(seen: Observation, settings: Settings) -> bool | None:
    """Whether a window is an alarm by what counts, None where unknown; labels refute an estimate, and count as well."""
    expected = False if seen.realised is False else seen.worse
    known = {DRIFT: seen.drifted, PERFORMANCE: expected, REALISED: seen.realised}
    counting = [alarm for name, alarm in known.items() if name in settings.on and alarm is not None]
    return any(counting) if counting else None


def candidates(memory: Memory, settings: Settings, now: str = "") -> list[str]:
    """Windows whose labels would do, newest first: one that alarms now, the one waited for, alarming ones after it."""
    found = {now} if now else set()
    if memory.state == WAITING:
        alarms = {seen.window for seen in memory.windows if alarming(seen, settings)}
        found |= {memory.window} | {window for window in alarms if order(window) > order(memory.window)}
    return sorted(found, key=order, reverse=True)


def retraining_ended(memory: Memory, ended: str) -> Memory:
    """The loop after its retraining has ended, however it did: it counts in the budget, and blocks nothing."""
    return replace(memory, state=IDLE, reason=f"The retraining on window {memory.window} {ended}.")


def retrainings_in_budget(memory: Memory, settings: Settings, now: datetime) -> int:
    since = now - timedelta(days=settings.budget_days)
    return sum(datetime.fromisoformat(time) > since for time in memory.started)


def _arrival(memory: Memory, observation: Observation) -> Arrival:
    if observation.run in {seen.run for seen in memory.windows} | {seen.run for seen in memory.labelled}:
        return Arrival.DUPLICATE
    if observation.realised is None:
        newer = any(seen.age > observation.age for seen in memory.windows)
    else:
        newer = any(order(seen.window) > order(observation.window) for seen in memory.labelled)
    return Arrival.LATE if newer else Arrival.NEW


def _remembered(memory: Memory, observation: Observation, settings: Settings) -> Memory:
    """With the observation in its place: a window counts once, by its latest run, and only with a verdict."""
    if observation.drifted is None or observation.rows < settings.minimum_rows:
        observation = replace(observation, drifted=None, worse=None, realised=None)
    latest = {seen.window: seen for seen in sorted((*memory.windows, observation), key=lambda seen: seen.age)}
    judged = [seen for seen in latest.values() if alarming(seen, settings) is not None][-settings.windows :]
    unjudged = [seen for seen in latest.values() if alarming(seen, settings) is None][-1:]
    labelled = {seen.window: seen for seen in memory.labelled}
    if observation.realised is not None:
        window, run, baseline = observation.window, observation.run, observation.baseline
        labelled[window] = Labelled(window, run, baseline, observation.realised)
    return replace(
        memory,
        windows=tuple(sorted((*judged, *unjudged), key=lambda seen: seen.age)),
        labelled=tuple(sorted(labelled.values(), key=lambda seen: order(seen.window))[-settings.windows :]),
    )


def _estimated(memory: Memory, window: str, settings: Settings) -> bool:
    """Whether a window alarms by its estimate alone."""
    if memory.state == WAITING and window == memory.window:
        return memory.estimated
    found = [seen for seen in memory.windows if seen.window == window and seen.realised is None]
    return bool(found) and not (found[0].drifted and DRIFT in settings.on)


def _refuted(memory: Memory, observation: Observation, settings: Settings) -> Memory:
    """No longer waiting for a window that is no alarm any more, now that its labels are known."""
    if memory.state != WAITING or memory.window != observation.window:
        return memory
    if observation.realised is not False or not memory.estimated or alarming(observation, settings):
        return memory
    later = [window for window in candidates(memory, settings) if window != memory.window]
    if later:
        return replace(memory, window=later[-1], estimated=_estimated(replace(memory, window=""), later[-1], settings))
    return replace(memory, state=IDLE, window="", estimated=False)


def _judged(
    memory: Memory, observation: Observation, arrival: Arrival, settings: Settings, baseline: str
) -> tuple[bool, str]:
    """Whether the observation is reason enough to retrain, and what it says, without a full stop."""
    name = f"Window {observation.window}"
    if arrival == Arrival.DUPLICATE:
        return False, f"{name} was already looked at in this run"
    if arrival == Arrival.LATE:
        return False, f"{name} came after newer ones: it is remembered, and decides nothing"
    if observation.drifted is None or observation.rows < settings.minimum_rows:
        few = f"{observation.rows:,} rows give no verdict (minimum_rows = {settings.minimum_rows:,})"
        return False, f"{name} counts neither as healthy nor as drifted: {few}"
    late = any(seen.age > observation.age for seen in memory.windows)  # only what its labels say is news
    drifted = observation.drifted and DRIFT in settings.on and not late
    if observation.realised and not drifted and baseline not in ("", observation.baseline):
        gone = "the model that scored it is not the released one any more"
        return False, f"{name} is no alarm: {by_labels(observation)}, but {gone}"
    return _counted(memory, observation, settings, late)


def _counted(memory: Memory, observation: Observation, settings: Settings, late: bool) -> tuple[bool, str]:
    """The same, for a window with a verdict: is it an alarm, and are there as many alarms as it takes?"""
    worse = observation.worse if observation.realised is None else observation.realised
    alarm: bool | None
    if late:
        reason, kind = f"Labels of window {observation.window} have come late: {by_labels(observation)}", " with labels"
        bad, alarm = bool(worse), bool(worse) and REALISED in settings.on
        known = [seen.worse for seen in memory.labelled if seen.baseline == observation.baseline]
    else:
        reason, kind = f"Window {observation.window} {in_words(observation)}", ""
        bad, alarm = bool(observation.drifted or worse), alarming(observation, settings)
        alarms = [alarming(seen, settings) for seen in memory.windows if seen.baseline == observation.baseline]
        known = [alarm for alarm in alarms if alarm is not None]
    if alarm is None:
        unknown = "how well it was scored is not known without labels, and only that counts ([retraining] on)"
        return False, f"{reason}; {unknown}"
    if not alarm:
        return False, f"{reason}, which [retraining] on leaves out" if bad else reason
    if sum(known) < settings.alarms:
        few = f"{sum(known)} of the last {len(known)} windows{kind} alarmed, and {settings.alarms} are needed"
        return False, f"{reason}; {few}"
    return True, reason


def _answer(memory: Memory, target: str, settings: Settings, given: DecisionContext) -> tuple[Action, str]:
    """What to do about the window that matters, and the rest of the sentence."""
    last = "".join(memory.started[-1:])
    cooldown = bool(last) and given.now - datetime.fromisoformat(last) < timedelta(hours=settings.cooldown_hours)
    objections = {
        "[retraining] enabled = false": not settings.enabled,
        "another one is still running": memory.state == RETRAINING or given.running,
        "the release has learned from it already": target == given.learned,
        "it was tried before": target == memory.window and memory.state == IDLE,
        f"the last one began at {last} and cooldown_hours = {settings.cooldown_hours:g}": cooldown,
        f"the budget of {settings.budget} in {settings.budget_days:g} days is used up": (
            retrainings_in_budget(memory, settings, given.now) >= settings.budget
        ),
    }
    if against := next((why for why, holds in objections.items() if holds), ""):
        return Action.NONE, f", but there is no retraining on window {target}: {against}"
    if target not in given.labelled:
        return Action.WAIT, f"; the retraining waits for the labels of window {target}"
    if target in given.measuring and _estimated(memory, target, settings):
        return Action.WAIT, f"; labels of window {target} are there, and how well it was scored is measured first"
    return Action.RETRAIN, f"; labels are there, and the model is retrained on window {target}"


def in_words(observation: Observation) -> str:
    """As in: drifted in 3 columns, which carry 41 % of the model's reasons, and auc is expected to fall to 0.71 …"""
    text, one = "has not drifted", observation.columns == 1
    if observation.drifted:
        text = f"drifted in {observation.columns} column{'' if one else 's'}"
        if observation.importance is not None:
            share = f"{100 * observation.importance:.0f} % of the model's reasons"
            text += f", which {'carries' if one else 'carry'} {share}"
    if observation.realised is not None:
        joined = "but" if observation.realised and not observation.drifted else "and"
        return f"{text}, {joined} {by_labels(observation)}"
    if not observation.worse:
        return text
    expected, reference = observation.expected, observation.reference
    worse = f"the model is expected to score worse by {observation.metric or 'its metric'}"
    if expected is not None and reference is not None:  # metrics may be better the larger or the smaller they are
        course = "fall" if expected < reference else "rise"
        worse = f"{observation.metric} is expected to {course} to {short(expected)} from {short(reference)}"
    return f"{text}, {'and' if observation.drifted else 'but'} {worse}"


def by_labels(observation: Observation) -> str:
    """What labels say, and of an estimate that they refute."""
    value = "unknown" if observation.measured is None else short(observation.measured)
    reference = "" if observation.reference is None else f", {short(observation.reference)} on validation"
    text = f"by its labels {observation.metric} is {value}{reference}"
    refuted = observation.worse and observation.realised is False and observation.expected is not None
    return f"{text}, not {short(observation.expected or 0.0)} as was expected" if refuted else text


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
