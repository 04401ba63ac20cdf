"""`python -m batchloop [--verbose] <command>`: what the Makefile calls. What is wrong is said in a sentence."""

import importlib
import io
import os
import sys
import traceback

from batchloop import cli
from batchloop.container.job import InputError, plain
from batchloop.repository import full

INTERRUPTED = 130
VERBOSE = "--verbose"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal or a file that has no such sign ends no command
    words = [word for word in given if word != VERBOSE]
    try:
        if words[:1] == ["adopt"]:
            return int(importlib.import_module("batchloop.adopt.adopting").main(words[1:]))
        chosen = cli.parser().parse_args(words)
        code = int(chosen.run(chosen))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read what is said has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if VERBOSE in given:
            traceback.print_exc()
        unexpected = f"{type(error).__name__}: {error} (unexpected; VERBOSE=yes says where in the code)"
        print(plain(error if isinstance(error, InputError) else full(error) or unexpected), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; everything that was started has ended. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
