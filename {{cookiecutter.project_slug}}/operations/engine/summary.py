"""What people want to know when a pipeline has ended: the numbers, the verdict, and where to read on."""

import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from operations.engine.scheduler import Progress
from operations.engine.storage import Storage
from operations.failures import Failure
from operations.repository import Repository
from runtime.failures import listed


class Summary:
    """Lines about one run, from what its steps stored."""

    def __init__(self, repository: Repository, storage: Storage, steps: Mapping[str, Progress]) -> None:
        self.repository, self.storage, self.steps = repository, storage, steps

    def metrics(self) -> dict[str, float]:
        """What the training jobs measured, by metric name."""
        lists = [step.properties.get("FinalMetricDataList", {}) for step in self.steps.values()]
        return {name: item["Value"] for found in lists for name, item in found.items()}

    def evaluation(self) -> Iterator[str]:
        """The metrics as a table: validation, test, and the champion on the same test rows."""
        report = self._evaluation()
        if report is None:
            return
        champion = report.get("champion") or {}
        columns = ["validation", "test", *(["champion"] if champion else [])]
        width = max(len(name) for name in report["test"])
        yield f"  {'':<{width}}" + "".join(f"{column:>12}" for column in columns)
        for name in report["test"]:
            values = [report[column].get(name) for column in columns]
            marked = " ← gate" if name == report.get("metric") else ""
            yield f"  {name:<{width}}" + "".join(f"{_number(value):>12}" for value in values) + marked
        if earlier := report.get("earlier"):
            yield f"  learned from earlier windows too: {', '.join(earlier)}"
        if doubt := leak(report):
            yield f"  not to be trusted on new rows: {doubt}"
        if reason := report.get("not_comparable"):
            yield f"  not compared with the released model: {reason} [gate] minimum alone decides."

    def untrusted(self) -> str:
        """Why what was measured says little of new rows; "" where it does."""
        return leak(self._evaluation() or {})

    def scoring(self) -> Iterator[str]:
        """How many rows were scored, and whether the data still is what the model knows."""
        counts = self._json("summary", "summary.json")
        if counts:
            broken = counts.get("broken", 0)
            first = f"; first: {counts['first_break']}" if counts.get("first_break") else ""
            yield f"{counts['rows']:,} rows; {broken:,} break the contract and have an error instead of a score{first}"
            if counts.get("empty"):
                yield f"{counts['empty']:,} empty lines are no rows"
            yield from counts.get("warnings", [])
        if drift := self.drift():
            yield f"drift: {drift['verdict']}. {drift['reason']}"
            if drift.get("consequence"):
                yield f"alarm: {drift['consequence']}"
            if drift.get("drifted"):
                yield f"strongest columns: {listed(drift['drifted'], 5)}"

    def drift(self) -> dict[str, Any]:
        """The drift report; {} where there is none."""
        return self._json("drift", "drift.json") or {}

    def labelled(self) -> Iterator[str]:
        """What predictions were worth by their labels, beside what was expected and what validation gave."""
        found = self.drift().get("realised")
        if not found:
            yield "the monitoring component says nothing of labels"
            return
        if found["value"] is None:
            yield f"how well these rows were scored is not known: {found['reason']}"
            return
        yield f"{'':<34}{'realised':>10}{'95 %':>20}{'expected':>10}{'validation':>12}"
        for name in sorted(found["metrics"], key=lambda name: name != found["metric"]):
            one = found["metrics"][name]
            numbers = f"{_number(one['value']):>10}{_number(one['low']) + ' to ' + _number(one['high']):>20}"
            marked = " ← gate" if name == found["metric"] else ""
            yield f"  {name:<32}{numbers}{_number(one['expected']):>10}{_number(one['reference']):>12}{marked}"
        share = f", {100 * found['share']:.0f} % of those scored" if found["share"] is not None else ""
        yield f"{found['rows']:,} rows have a prediction and a label{share}"
        if found["bias"]:
            yield f"they are no random share of them: {found['bias']}"
        out = [f"{name.replace('_', ' ')} {rows:,}" for name, rows in found["left_out"].items() if rows]
        if out:
            yield f"rows with labels left out: {', '.join(out)}"
        worse = "worse" if found["alarm"] else "not worse"
        yield f"{worse} than on the validation split by more than {found['limit']:g} and chance"

    def places(self) -> Iterator[str]:
        """Where reports and predictions lie."""
        for step, progress in self.steps.items():
            for uri in uris(progress):
                found = [path for name, path in self.storage.files(uri) if name.endswith("report.html")]
                yield from (f"report of {step}: {self.repository.shown(path)}" for path in found)
            if "TransformOutput" in progress.properties:
                path = self.storage.path(progress.properties["TransformOutput"]["S3OutputPath"])
                yield f"predictions: {self.repository.shown(path)}"

    def _json(self, output: str, name: str) -> dict[str, Any] | None:
        for progress in self.steps.values():
            outputs = progress.properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
            if output in outputs:
                try:
                    return dict(self.storage.read_json(f"{outputs[output]['S3Output']['S3Uri']}/{name}"))
                except Failure:
                    return None
        return None

    def _evaluation(self) -> dict[str, Any] | None:
        """evaluation.json out of a training job's output.tar.gz."""
        for progress in self.steps.values():
            artifacts = progress.properties.get("ModelArtifacts")
            path = artifacts and self.storage.path(artifacts["S3ModelArtifacts"]).with_name("output.tar.gz")
            if path and path.is_file():
                with tarfile.open(path) as archive:
                    if "evaluation.json" in archive.getnames() and (file := archive.extractfile("evaluation.json")):
                        return dict(json.load(file))
        return None


def uris(progress: Progress) -> list[str]:
    """Where a processing step's outputs are stored."""
    outputs = progress.properties.get("ProcessingOutputConfig", {}).get("Outputs", {})
    return [item["S3Output"]["S3Uri"] for item in outputs.values()]


def leak(evaluation: Mapping[str, Any]) -> str:
    """Why rows of validation or test are no new rows to the model; "" where they are."""
    found = evaluation.get("leak") or {}
    return str(found.get("reason") or "") if found.get("trusted") is False else ""


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}"
