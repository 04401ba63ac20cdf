"""`python -m explainability train|serve`."""

from batchloop.container import job
from components.explainability import serve, train

if __name__ == "__main__":
    raise SystemExit(job.run("explainability", train.train, serve.serve))
