"""`python -m processing train|serve`."""

from batchloop.container import job
from components.processing import serve, train

if __name__ == "__main__":
    raise SystemExit(job.run("processing", train.train, serve.serve, spread="serve"))
