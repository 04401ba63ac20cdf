"""Serve mode: apply the learned preprocessor to new raw data, in files that fit into one transform request."""

import logging
from collections.abc import Mapping
from typing import Any

from batchloop.container import artifacts, datasets, job, known, raw, series, usecase

log = logging.getLogger(__name__)
MEGABYTE = 2**20
SPREAD = series.spread  # each of several hosts prepares its part of the files


def serve(settings: Mapping[str, str]) -> None:
    """Write features (Parquet only: every file there becomes a request) and summary.

    `max_payload_mb` is the transform job's limit for one request (default 6, as SageMaker's). Several hosts may each
    have a part of the raw files, or none; the names of what they write begin with the host's.
    """
    case = usecase.load()
    preprocessor = job.processing_input("preprocessor")
    artifacts.check_manifest(preprocessor, "processing", case.contract())
    learned: datasets.Schema = artifacts.read_json(preprocessor / "preprocessor.json")
    host = job.current()
    if host.several and not job.holds_files(job.processing_input("raw")):
        log.info("%s of %s hosts was given no file", host.name, len(host.names))
        return
    table, batches = series.stream(job.processing_input("raw"), case)
    limit, found = int(settings.get("max_payload_mb", "6")) * MEGABYTE, known.Known(learned)
    with artifacts.writing(job.processing_output("features")) as folder:
        files = datasets.write_batch(batches, found, folder / f"{host.prefix}features", limit)
        raw.check(table, case)
        warnings = raw.shared_ids(table, case) + found.check(case)
    with artifacts.writing(job.processing_output("summary")) as folder:
        summary: dict[str, Any] = {"rows": table.rows, "past": table.past, "broken": table.broken + table.refused}
        summary |= {"first_break": table.first or None, "files": len(files), "empty": table.empty, "warnings": warnings}
        artifacts.write_json(folder / f"{host.prefix}summary.json", summary)
    for warning in warnings:
        log.warning("%s", warning)
    empty_lines = f"; {table.empty:,} empty lines are no rows" if table.empty else ""
    log.info("%s rows in %s files; %s have an error%s", f"{table.rows:,}", len(files), summary["broken"], empty_lines)
