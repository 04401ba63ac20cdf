"""`python -m algorithm train|serve`."""

from algorithm import serve, train
from runtime import job

if __name__ == "__main__":
    raise SystemExit(job.run("algorithm", train.train, serve.serve))
