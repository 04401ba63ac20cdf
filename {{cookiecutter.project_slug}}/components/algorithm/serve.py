"""Serve mode: the HTTP server of batch transform. One process; each request is scored on one thread."""

import os
from collections.abc import Mapping

from batchloop.container import artifacts, job, models, server, usecase

THREADS = 2  # at least: /ping must answer while a request is being scored


def serve(settings: Mapping[str, str]) -> None:
    """Load the model, then listen until SIGTERM; requests in flight are answered before the end.

    Raises InputError for a model of another contract, or an address that can't be had.
    """
    del settings  # a transform job has none
    case = usecase.load()
    artifacts.check_manifest(job.model(), "algorithm", case.contract())
    loaded, workers = models.load(job.model()), max(THREADS, os.cpu_count() or 1)
    server.run(server.Application(loaded, case.data.missing, workers, case.prediction.escape_formulas))
