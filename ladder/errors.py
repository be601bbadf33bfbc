"""How a run or a command ends when it does not end well; launch/cli.py turns each into its exit code."""


class InputError(ValueError):
    """The user's input is wrong: one line that says what, where and how to mend it. Exit code 2."""


class Preempted(Exception):
    """Told to stop, everything saved: try again. Exit code 75."""


class Diverged(Exception):
    """NaN or Inf in the loss or the gradients. Exit code 78."""
