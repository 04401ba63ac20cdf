"""Ends a run's processes when the run itself was killed and could not.

Started as a file with the run's process groups on standard input, `+id` and `-id` a line; acts when that closes while
some are left. Its arguments are a command to run after that.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

GRACE = 2.0  # seconds between asking and killing


def main() -> None:
    """Keep count until the input closes, then end what is left."""
    alive: set[int] = set()
    for line in sys.stdin:
        (alive.add if line[0] == "+" else alive.discard)(int(line[1:]))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        if alive and number == signal.SIGTERM:
            time.sleep(GRACE)
    if alive and sys.argv[1:]:
        subprocess.run(sys.argv[1:], check=False, capture_output=True)  # noqa: S603 - the run's own command


if __name__ == "__main__":
    main()
