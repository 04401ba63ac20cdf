"""Evidently's data drift preset with its defaults; runs in an environment of its own, see README.md.

Arguments: the baseline and the batches (Parquet). Writes JSON to standard output: for each batch the drifted columns,
whether it calls the whole batch drifted, and seconds from reading the file to the verdict; imports and reading the
baseline are not timed.
"""

import json
import re
import sys
import time
from typing import Any

import evidently
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

VALUE = re.compile(r"ValueDrift\(column=(\w+)")
THRESHOLD = 0.1  # the default of both distances that are taken for more than 1,000 rows: Wasserstein, Jensen–Shannon


def main(baseline: str, batches: list[str]) -> None:
    before = pd.read_parquet(baseline)
    texts = [name for name in before.columns if before[name].dtype == object]
    numbers = [name for name in before.columns if name not in texts]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    reference = Dataset.from_pandas(before, data_definition=definition)
    found = [judged(file, definition, reference) for file in batches]
    print(json.dumps({"version": evidently.__version__, "batches": found}))


def judged(file: str, definition: DataDefinition, reference: Dataset) -> dict[str, Any]:
    """Seconds first, then what was found; the report's own count of drifted columns has to agree with ours."""
    start = time.perf_counter()
    batch = Dataset.from_pandas(pd.read_parquet(file), data_definition=definition)
    metrics = Report([DataDriftPreset()]).run(batch, reference).dict()["metrics"]
    seconds = time.perf_counter() - start
    values = {VALUE.match(metric["metric_id"]): float(metric["value"]) for metric in metrics[1:]}
    drifted = [found[1] for found, value in values.items() if found and value >= THRESHOLD]
    if metrics[0]["value"]["count"] != len(drifted):
        raise SystemExit(f"evidently counts {metrics[0]['value']['count']} drifted columns, its values {len(drifted)}")
    return {"drifted": drifted, "dataset": metrics[0]["value"]["share"] >= 0.5, "seconds": seconds}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
