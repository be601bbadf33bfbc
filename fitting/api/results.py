"""Parts of all results: estimates with intervals, printed tables, data frames, axes to draw on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.report.grid import Grid


@dataclass(frozen=True)
class Estimate:
    """An estimate (mean), the ends of its interval (lower, upper) and its standard error (sd), all in the same unit.

    All four are numbers, or arrays of one shape.
    """

    mean: float | np.ndarray
    lower: float | np.ndarray
    upper: float | np.ndarray
    sd: float | np.ndarray

    @classmethod
    def of(cls, shape: tuple, *values: np.ndarray) -> "Estimate":
        """From (mean, lower, upper, sd), each of this shape when reshaped; numbers where it is ()."""
        return cls(*(np.reshape(value, shape) if shape else float(np.squeeze(value)) for value in values))

    def __float__(self) -> float:
        return float(self.mean)

    def __repr__(self) -> str:
        if np.ndim(self.mean):
            return f"Estimate({np.size(self.mean)} values from {np.min(self.mean):.6g} to {np.max(self.mean):.6g})"
        return f"{self.mean:.6g} ({self.lower:.6g} to {self.upper:.6g})"


class Shown:
    """A result that prints as tables, in a terminal and in a notebook."""

    def grids(self) -> list[Grid]:
        raise NotImplementedError

    def lines(self) -> list[str]:
        """What is printed below the tables."""
        return []

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.grids()), *filter(None, ["\n".join(self.lines())])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(grid._repr_html_() for grid in self.grids()) + "".join(f"<p>{line}</p>" for line in self.lines())


def to_frame(rows: Sequence[dict]):
    """Rows as a pandas.DataFrame. Raises InputError where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise InputError("to_frame makes a pandas.DataFrame: pip install pandas") from None
    return pandas.DataFrame(list(rows))


def drawn(ax, draw: Callable, *arguments, **options):
    """`draw(ax, ...)` in the style of the reports, on the axes of a new figure if `ax` is None; returns the axes."""
    from fitting.report.style import style  # imports matplotlib, which a forecast without a figure does not need

    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")[1]
    with style():
        draw(ax, *arguments, **options)
    return ax
