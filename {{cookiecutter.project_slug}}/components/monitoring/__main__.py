"""`python -m monitoring train|serve`."""

from monitoring import serve, train
from runtime import job

if __name__ == "__main__":
    raise SystemExit(job.run("monitoring", train.train, serve.serve))
