"""`python -m algorithm train|serve`."""

from batchloop.container import job
from components.algorithm import serve, train

if __name__ == "__main__":
    raise SystemExit(job.run("algorithm", train.train, serve.serve))
