"""How a run or a command ends when it does not end well; the command turns each into its code."""


class InputError(ValueError):
    """The user's input is wrong: one line that says what, where and how to mend it. Exit code 2."""


class Preempted(Exception):
    """Told to stop, or another process has the run: try again. Exit code 75."""


class Diverged(Exception):
    """NaN or Inf in the loss or the gradients: the run never enters a fit. Exit code 78."""
