"""The card of a release: JSON in the registry's schema, and a page for people."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchloop.container import report
from batchloop.container.metrics import SMALLER_IS_BETTER
from batchloop.container.usecase import UseCase
from batchloop.pipelines import card

LARGEST = 100_000  # characters that the registry takes
ASKED = {
    "owner": "who owns it",
    "intended_use": "what it is for",
    "limitations": "what it can't do",
    "ethics": "ethics",
}
NOBODY = "nobody by name: a machine of one's own releases what passes the gate"
ENDS = {"low": "95 % from", "high": "95 % to"}


@dataclass(frozen=True)
class Known:
    """A release, and what its training has stored: `learned` is baseline.json, `reasons` explainer.json.

    `data` lists the raw files; the gate's parameters are `usual` as compiled, and what the run has `asked`.
    """

    case: UseCase
    manifest: Mapping[str, Any]
    package: Mapping[str, Any]
    usual: Mapping[str, float]
    asked: Mapping[str, float]
    evaluation: Mapping[str, Any]
    learned: Mapping[str, Any]
    reasons: Mapping[str, Any]
    data: Mapping[str, Any]

    @property
    def approval(self) -> dict[str, str]:
        """Who, when and why."""
        if "by" not in self.manifest:
            return {"approved_by": NOBODY, "approved_at": self.manifest["created"], "reason": ""}
        why, when = (str(self.package.get(name, "")) for name in ("ApprovalDescription", "LastModifiedTime"))
        from batchloop.control.release import approver  # noqa: PLC0415 - loads botocore

        return {"approved_by": approver(self.package), "approved_at": when, "reason": why}

    @property
    def gate(self) -> tuple[bool, str]:
        """Whether the model is what the gate of its run has asked for; and what that was, in words."""
        measured, (limit, least) = self.evaluation, (self.asked[name] for name in ("QualityLimit", "MinimumLead"))
        metric = measured.get("metric", self.case.gate.metric)
        smaller, value = metric in SMALLER_IS_BETTER, measured["test"][metric]
        passed, said = value <= limit if smaller else value >= limit, f"at {'most' if smaller else 'least'} {limit:g}"
        if measured.get("champion"):
            passed = passed and measured["lead"] >= least
            said += f" and a lead over the champion of {least:g}, which was {measured['lead']:g}"
        given = [(name, one, self.usual[name]) for name, one in self.asked.items()]
        own = (f" ({name} was {one:g} in this run, instead of {usual:g})" for name, one, usual in given if one != usual)
        return passed, f"the gate asked for {said}{''.join(own)}"

    @property
    def split(self) -> str:
        """How the rows were parted, in a sentence."""
        split = self.case.split
        how = {"random": "by chance", "time": f"the last rows by {self.case.data.time}", "given": "files of their own"}
        share = "" if split.method == "given" else f", {split.validation:.0%} and {split.test:.0%} of the rows"
        return f"Validation and test: {how.get(split.method, f'whole groups of {split.group}')}{share}."


def write(known: Known, folder: Path) -> None:
    """card.json and card.html; where the JSON is more than the registry takes, it goes without slices."""
    texts = (json.dumps(content(known, slices), indent=1) for slices in (True, False))
    text = next((text for text in texts if len(text) <= LARGEST), "{}")
    (folder / "card.json").write_text(f"{text}\n", encoding="utf-8")
    missing = [what for name, what in ASKED.items() if not getattr(known.case.card, name)]
    page = report.render("card.html", Path(__file__).parent, known=known, missing=missing)
    (folder / "card.html").write_text(page, encoding="utf-8")


def content(known: Known, slices: bool) -> dict[str, Any]:
    """The card in the registry's schema, with everything that is measured."""
    measured, manifest = known.evaluation, known.manifest
    groups = {name: measured.get(name) or {} for name in ("test", "validation", "champion")}
    for end, words in ENDS.items():
        groups[f"test, {words}"] = {name: ends[end] for name, ends in measured.get("intervals", {}).items()}
    lines = measured["slices"]["lines"] if slices and measured.get("slices") else []
    groups["slices"] = {f"{line['column']}: {line['slice']}"[:255]: line["value"] for line in lines}
    finite = {name: {key: one for key, one in found.items() if one is not None} for name, found in groups.items()}
    facts = card.Facts(
        observations=f"{known.split} Tuned and judged by {known.case.gate.metric}; {known.gate[1]}.",
        model=str(manifest["artifacts"]["model"]),
        data=[part["uri"] for part in known.data.values()],
        image=str(manifest["images"]["algorithm"]),
        metrics=[(name, found) for name, found in finite.items() if found],
        hyperparameters=measured.get("hyperparameters", {}),  # also those that a search has found
        custom={
            "release": str(manifest["version"]),
            **known.approval,
            **{f"image_{name}": image for name, image in manifest["images"].items()},
            **{name: manifest[name] for name in ("git_commit", "contract")},
            "features": ", ".join(line["feature"] for line in known.reasons.get("importance", [])[:10]),
        },
    )
    return card.content(known.case, facts)
