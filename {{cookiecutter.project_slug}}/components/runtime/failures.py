"""The one way a component says that its input is wrong."""


class InputError(Exception):
    """Something a person can mend: the message names the file, the column, the row, and what to do."""
