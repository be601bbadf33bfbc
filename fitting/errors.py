"""The one exception of this room that a user may see."""


class InputError(ValueError):
    """A table, flag or law given by the user is wrong. One line: what, where, how to mend it."""
