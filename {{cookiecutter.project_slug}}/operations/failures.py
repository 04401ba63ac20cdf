"""What ends a command: one sentence for the person who started it."""


class Failure(Exception):
    """Something went wrong; the message says what and, where possible, what to do. Exit code 1."""


class Stopped(Exception):
    """The run was interrupted by its user while this step was at work."""
