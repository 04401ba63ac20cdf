"""What the loop remembers between events: the newest windows, its state, and when it last retrained."""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

SCHEMA = 1
STATES = IDLE, WAITING, RETRAINING = ("idle", "waiting for labels", "retraining")
NOTHING = "none"  # the text of a parameter that has no value yet
MOST = 20  # windows or retrainings: more would not fit into one parameter beside each other
LEARN = re.compile(r"window|all|last ([1-9][0-9]{0,5})")
REASONS = DRIFT, PERFORMANCE, REALISED = ("drift", "performance", "realised")  # what a window can alarm for


@dataclass(frozen=True)
class Settings:
    """[retraining] of usecase.toml, and [drift] minimum_rows."""

    enabled: bool = True
    on: tuple[str, ...] = REASONS
    learn: str = "window"
    alarms: int = 1
    windows: int = 1
    cooldown_hours: float = 24
    budget: int = 4
    budget_days: float = 30
    minimum_rows: int = 200

    @property
    def earlier(self) -> int:
        """How many windows before the drifted one a retraining learns from too."""
        last = LEARN.fullmatch(self.learn)
        return int(last[1]) - 1 if last and last[1] else sys.maxsize if self.learn == "all" else 0

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> "Settings":
        """From the tables of usecase.toml, which batchloop.container.usecase has checked."""
        table: Mapping[str, Any] = tables.get("retraining", {})
        given: dict[str, Any] = {name: tuple(value) if name == "on" else value for name, value in table.items()}
        return cls(**given, minimum_rows=tables.get("drift", {}).get("minimum_rows", cls.minimum_rows))


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
    """The other way round. Raises ValueError for what nobody here wrote."""
    if text == NOTHING:
        return Memory()
    try:
        found = json.loads(text)
        if found.pop("schema") != SCHEMA or found["state"] not in STATES:
            raise KeyError
        windows = tuple(
            Observation(*entry) if isinstance(entry, list) else Observation(**entry) for entry in found.pop("windows")
        )
        labelled = tuple(Labelled(*entry) for entry in found.pop("labelled", []))
        return Memory(windows=windows, labelled=labelled, started=tuple(found.pop("started")), **found)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("the parameter `retraining` is damaged; write `none` into it to begin anew.") from None


def order(window: str) -> tuple[Any, ...]:
    """Sorts windows from old to new: by name, numbers by value; names that begin with a letter (sample) come first."""
    parts = re.split(r"(\d+)", window)
    return (window[:1].isdigit(), [int(part) if place % 2 else part for place, part in enumerate(parts)], window)


def before(windows: Iterable[str], window: str) -> list[str]:
    """The windows older than one, the newest first; only those that are named alike, but for their numbers.

    So another table's window, or the sample, is never taken for an earlier one of these.
    """
    kind = re.sub(r"\d+", "0", window)
    alike = [name for name in windows if re.sub(r"\d+", "0", name) == kind and order(name) < order(window)]
    return sorted(alike, key=order, reverse=True)


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
