"""The jobs of both pipelines, and for how many minutes each of them works."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from operations.failures import Failure
from operations.repository import Repository

GIVEN, ASSUMED = "as given", "assumed"


@dataclass(frozen=True)
class Step:
    """A step that starts instances: its name, its job in environments/*.toml, and what SageMaker calls such a job."""

    pipeline: str
    name: str
    job: str
    kind: str = "processing"


# tests/test_pipelines.py holds this against the compiled definitions, which take the SDK and seconds to make
STEPS = (
    Step("training", "PrepareTrainingData", "processing"),
    Step("training", "TrainModel", "algorithm", "training"),
    Step("training", "LearnBaseline", "monitoring"),
    Step("training", "LearnExplainer", "explainability"),
    Step("inference", "PrepareFeatures", "processing"),
    Step("inference", "ScoreFeatures", "transform", "transform"),
    Step("inference", "DetectDrift", "monitoring"),
    Step("inference", "ExplainPredictions", "explainability"),
)


@dataclass(frozen=True)
class Work:
    """How long a job works, without its start, and where the number comes from."""

    minutes: float
    origin: str


def work(repository: Repository, words: str, assumed: float) -> dict[str, Work]:
    """Each step's minutes: those given ("processing=4 TrainModel=12"), else the newest run's here, else assumed."""
    given, seen = _given(words), _measured(repository)
    found = {}
    for step in STEPS:
        named = given.get(step.name, given.get(step.job))
        found[step.name] = Work(named, GIVEN) if named is not None else seen.get(step.name, Work(assumed, ASSUMED))
    return found


def _given(words: str) -> dict[str, float]:
    known = {name for step in STEPS for name in (step.job, step.name)}
    found: dict[str, float] = {}
    for word in words.split():
        name, _, number = word.partition("=")
        if name not in known:
            raise Failure(f"MINUTES: there is no job {name!r}; there are {', '.join(sorted(known))}.")
        found[name] = amount(number, f"MINUTES: {name}")
    return found


def amount(text: Any, what: str) -> float:
    """A number from 0. Raises Failure."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise Failure(f"{what} needs a number from 0.")
    return number


def _measured(repository: Repository) -> dict[str, Work]:
    """From each step's newest local run in which it had to work; a reused step took no time, and tells nothing."""
    found: dict[str, Work] = {}
    for file in sorted((repository.local / "runs").glob("*/run.json"), reverse=True):
        for name, seconds, day in _times(file.read_text(encoding="utf-8")):
            found.setdefault(name, Work(seconds / 60, f"as here, {day}"))
    return found


def _times(text: str) -> Iterator[tuple[str, float, str]]:
    try:
        run: Mapping[str, Any] = json.loads(text)
    except ValueError:  # a run that is just being written
        return
    for name, step in run.get("steps", {}).items():
        if step.get("state") == "done" and step.get("seconds", 0) > 0:
            yield name, step["seconds"], str(run.get("started", ""))[:10]
