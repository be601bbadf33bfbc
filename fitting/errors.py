"""What this room says to a user: errors about his input, and warnings about a result."""

MOST_RESAMPLES = 1_000_000  # more would not fit into memory


class InputError(ValueError):
    """A table, argument or law given by the user is wrong. One line: what, where, how to mend it.

    argument: the name of the argument that is wrong, for commands that call it by another name.
    """

    def __init__(self, message: str, argument: str | None = None):
        super().__init__(message)
        self.argument = argument


def check_positive(argument: str, *values: float) -> None:
    """Raises InputError for an argument with a number that is not positive and finite."""
    for value in values:
        if not 0 < value < float("inf"):
            raise InputError(f"{value:g}: must be a positive number", argument)


def check_seed(seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed {seed}: must not be negative", "seed")
    if seed >= 2**63:
        raise InputError(f"seed {seed}: must be less than 2^63", "seed")


def check_resamples(n: int, least: int = 2) -> None:
    if not least <= n <= MOST_RESAMPLES:
        raise InputError(f"{n} resamples: must be 2 to {MOST_RESAMPLES:,}", "resamples")


class FitWarning(UserWarning):
    """A result is not to be trusted in some respect: not converged, a parameter on its bound, few runs."""
