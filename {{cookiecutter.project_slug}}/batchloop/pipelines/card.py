"""The model card of a model package, in the registry's own schema.

Source: "Model package model card schema" in the SageMaker developer guide; the content has at most 100,000 characters
("ModelPackageModelCard" in its API reference).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchloop.container.usecase import UseCase

Group = tuple[str, Mapping[str, Any]]  # of metrics: its name, and name → value
MARK = re.compile(r'"\\u0001(.+?)\\u0001"')  # stands in JSON for what only the run knows


@dataclass(frozen=True)
class Facts:
    """What is known of a model beside usecase.toml."""

    observations: str
    model: str
    data: Sequence[str]
    image: str
    metrics: Sequence[Group]
    custom: Mapping[str, str]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


def content(case: UseCase, facts: Facts) -> dict[str, Any]:
    """The card; what nobody has said is left out."""
    said, purpose = case.card, case.description or f"Batch predictions of {case.data.label} ({case.data.task})."
    groups = [
        {"name": name, "metric_data": [{"name": key, "type": "number", "value": one} for key, one in values.items()]}
        for name, values in facts.metrics
    ]
    settings = {name: str(one) for name, one in facts.hyperparameters.items() if str(one)}
    job = {
        "training_datasets": [uri[:1024] for uri in facts.data[:15]],
        "training_environment": {"container_image": [facts.image]},
        "hyper_parameters": [{"name": name, "value": text} for name, text in settings.items()],
    }
    about = "Measured on test rows that training has not seen; evaluation.json has every metric."
    evaluation = {"name": "test", "evaluation_observation": about, "metric_groups": groups}
    notes = {"ethical_considerations": said.ethics, "caveats_and_recommendations": said.limitations}
    return {
        "model_overview": {"model_artifact": [facts.model], **({"model_creator": said.owner} if said.owner else {})},
        "intended_uses": {
            "purpose_of_model": purpose[:2048],
            **({"intended_uses": said.intended_use} if said.intended_use else {}),
            "risk_rating": said.risk,
        },
        "training_details": {"training_observations": facts.observations[:1024], "training_job_details": job},
        "evaluation_details": [evaluation],
        "additional_information": {
            **{name: text for name, text in notes.items() if text},
            "custom_details": {name: text[:1024] for name, text in facts.custom.items() if text},
        },
    }


def registered(case: UseCase, known: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[Any]:
    """The parts of the card that a run registers, a text: `known` and `metrics` are expressions, the latter numbers."""
    marks = {name: f"\1{name}\1" for name in (*known, *metrics)}
    details = {"training_job": "Job", "git_commit": "GitCommit", "data_fingerprint": "DataFingerprint"}
    facts = Facts(
        observations=f"Tuned and judged by {case.gate.metric}.",
        model=marks["Model"],
        data=[marks["TrainingData"]],
        image=marks["AlgorithmImage"],
        metrics=[("quality gate", {name: marks[name] for name in metrics})],
        custom={name: marks[key] for name, key in details.items()},
    )
    parts = list[Any]()
    for place, text in enumerate(MARK.split(json.dumps(content(case, facts)))):
        quoted = ['"', known[text], '"'] if place % 2 and text in known else [metrics[text] if place % 2 else text]
        parts += quoted
    return parts
