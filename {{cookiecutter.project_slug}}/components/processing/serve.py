"""Serve mode: apply the learned preprocessor to new raw data, in files that fit into one transform request."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from processing import checks, tables
from runtime import artifacts, hosts, paths, raw, usecase
from runtime.failures import InputError

log = logging.getLogger(__name__)
MEGABYTE = 2**20


def serve(settings: Mapping[str, str]) -> None:
    """Write features (Parquet only: every file there becomes a request) and summary.

    `max_payload_mb` is the transform job's limit for one request (default 6, as SageMaker's). Several hosts may each
    have a part of the raw files, or none; the names of what they write begin with the host's.
    """
    case = usecase.load()
    preprocessor = paths.processing_input("preprocessor")
    artifacts.check_manifest(preprocessor, "processing", case.contract())
    learned: tables.Schema = artifacts.read_json(preprocessor / "preprocessor.json")
    host = hosts.current()
    if host.several and not any(paths.processing_input("raw").rglob("*")):
        log.info("%s of %s hosts was given no file", host.name, len(host.names))
        return
    table = raw.read(paths.processing_input("raw"), case)
    counts = checks.count(table, case, labelled=False)
    checks.check(table, case, counts)
    limit = int(settings.get("max_payload_mb", "6")) * MEGABYTE
    with artifacts.writing(paths.processing_output("features")) as folder:
        rows = max(1, limit // 2 // tables.bytes_per_row(learned))
        files = tables.write_batch(table, learned, folder / f"{host.prefix}features", rows)
        _check_sizes(files, limit)
        warnings = checks.shared_ids(table, case) + checks.check_known(
            table, case, learned, tables.known(files, learned)
        )
    with artifacts.writing(paths.processing_output("summary")) as folder:
        first = checks.first_break(table) if counts.broken else None
        summary: dict[str, Any] = {
            "rows": counts.rows,
            "broken": counts.broken,
            "first_break": first,
            "files": len(files),
        }
        summary |= {"empty": table.empty, "warnings": warnings}
        artifacts.write_json(folder / f"{host.prefix}summary.json", summary)
    for warning in warnings:
        log.warning("%s", warning)
    said = f"; {table.empty:,} empty lines are no rows" if table.empty else ""
    log.info("%s rows in %s files; %s break the contract%s", f"{counts.rows:,}", len(files), counts.broken, said)


def _check_sizes(files: list[Path], limit: int) -> None:
    for file in files:
        if file.stat().st_size > limit:
            size = file.stat().st_size / MEGABYTE
            raise InputError(
                f"{file.name} has {size:.1f} MB, a request may have {limit // MEGABYTE}; raise MaxPayloadInMB."
            )
