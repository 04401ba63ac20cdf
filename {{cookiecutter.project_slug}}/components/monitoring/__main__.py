"""`python -m monitoring train|serve`."""

from batchloop.container import job
from components.monitoring import serve, train

if __name__ == "__main__":
    raise SystemExit(job.run("monitoring", train.train, serve.serve))
