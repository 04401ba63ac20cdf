"""What ends a command: one sentence for the person who started it."""


class Failure(Exception):
    """Something went wrong; the message says what and, where possible, what to do. Exit code 1."""


FULL = "No space left on device"  # in the system's words, which every library passes on


def full(error: Exception) -> Failure | None:
    """The sentence for a disk that is full, where that is what an error means."""
    if FULL not in str(error):
        return None
    return Failure("the disk is full: nothing is half written; make room (local/ may be removed) and say it again.")


class Stopped(Exception):
    """The run was interrupted by its user while this step was at work."""
