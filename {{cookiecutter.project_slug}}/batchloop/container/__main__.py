"""`python -m batchloop.container <component> train|serve [--key value ...]`: what starts in every container.

It calls the function `train` or `serve` of the module of that name in components/<component>/. A module whose work
several hosts may share has a function SPREAD, which names the inputs of which each host may have a part.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from batchloop.container import job


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2 or arguments[1] not in ("train", "serve"):
        print("usage: python -m batchloop.container <component> train|serve [--key value ...]", file=sys.stderr)
        return 2
    component, mode, *settings = arguments
    module = import_module(f"components.{component}.{mode}")
    return job.run(f"{component} {mode}", getattr(module, mode), settings, getattr(module, "SPREAD", tuple))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
