"""`python -m processing train|serve`."""

from processing import serve, train
from runtime import job

if __name__ == "__main__":
    raise SystemExit(job.run("processing", train.train, serve.serve, spread="serve"))
