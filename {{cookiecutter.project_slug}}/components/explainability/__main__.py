"""`python -m explainability train|serve`."""

from explainability import serve, train
from runtime import job

if __name__ == "__main__":
    raise SystemExit(job.run("explainability", train.train, serve.serve))
