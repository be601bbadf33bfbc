"""What an analysis returns: statements of a paper with what these runs say of them, tables, figures and limits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from fitting.errors import InputError
from fitting.report.grid import Grid
from fitting.tables.runs_table import Table

Verdict = Literal["agrees", "does not agree", "cannot be told here"]
AGREES, DISAGREES, UNKNOWN = "agrees", "does not agree", "cannot be told here"
# An interval that is wider than this share of the published value says nothing about it.
WIDEST = 1.0


@dataclass(frozen=True)
class Statement:
    """A statement of a paper and what the runs say of it.

    says: the statement. source: paper and section. published: its figure, as text. value, ends: ours, with its 95 %
    interval; None where the runs do not give one. form: how numbers are shown. why: the reason of the verdict.
    """

    says: str
    source: str
    published: str
    value: float | None
    ends: tuple[float, float] | None
    form: str
    verdict: Verdict
    why: str

    @property
    def cells(self) -> list[str]:
        """As a row of `Study.table`."""
        ours = "" if self.value is None else self.form.format(self.value)
        ends = "" if self.ends is None else " to ".join(self.form.format(end) for end in self.ends)
        return [self.verdict, f"{self.says} ({self.source})", self.published, ours, ends, self.why]


@dataclass(frozen=True)
class Claim:
    """A published statement, before it is compared. shown: the published figure as text."""

    says: str
    source: str
    shown: str
    form: str = "{:.3g}"

    def equals(self, published: float, value: float, ends: Sequence[float]) -> Statement:
        """Whether the interval holds the published value, and is narrow enough to say so."""
        lo, hi = ends
        if not np.isfinite([lo, hi]).all():
            return self.unknown("the runs do not determine it")
        if not lo <= published <= hi:
            return self._of(value, (lo, hi), DISAGREES, "the published value lies outside the interval")
        if hi - lo > WIDEST * abs(published):
            return self._of(value, (lo, hi), UNKNOWN, "the interval holds the published value, but is too wide to tell")
        return self._of(value, (lo, hi), AGREES, "the interval holds the published value")

    def at_most(self, limit: float, value: float, ends: Sequence[float]) -> Statement:
        """Whether the whole interval lies below the limit, or above it."""
        lo, hi = ends
        if not np.isfinite([lo, hi]).all():
            return self.unknown("the runs do not determine it")
        if hi <= limit:
            return self._of(value, (lo, hi), AGREES, "the whole interval lies below the limit")
        if lo > limit:
            return self._of(value, (lo, hi), DISAGREES, "the whole interval lies above the limit")
        return self._of(value, (lo, hi), UNKNOWN, "the limit lies inside the interval; more runs would narrow it")

    def within(self, factor: float, value: float, ends: Sequence[float]) -> Statement:
        """Whether the whole interval of a ratio lies within a factor of 1, or outside."""
        lo, hi = ends
        if not np.isfinite([lo, hi]).all():
            return self.unknown("the runs do not determine it")
        if 1 / factor <= lo and hi <= factor:
            return self._of(value, (lo, hi), AGREES, f"the whole interval lies within a factor of {factor:g}")
        if hi < 1 / factor or lo > factor:
            return self._of(value, (lo, hi), DISAGREES, f"the whole interval differs by more than a factor {factor:g}")
        why = f"a factor of {factor:g} lies inside the interval; more runs would narrow it"
        return self._of(value, (lo, hi), UNKNOWN, why)

    def unknown(self, why: str) -> Statement:
        return self._of(None, None, UNKNOWN, why)

    def tried(self, compare: Callable[["Claim"], Statement]) -> Statement:
        """compare(self); or "cannot be told here" with the reason, where the runs that it needs are missing."""
        try:
            return compare(self)
        except InputError as error:
            return self.unknown(str(error))

    def _of(self, value, ends, verdict: Verdict, why: str) -> Statement:
        ends = None if ends is None else (float(ends[0]), float(ends[1]))
        value = None if value is None else float(value)
        return Statement(self.says, self.source, self.shown, value, ends, self.form, verdict, why)


@dataclass(frozen=True)
class Study:
    """The result of an analysis.

    lead: what was measured. figures: (caption, figure). limits: what cannot be concluded from runs of this scale.
    notes: reasons not to trust a number. measured: {name: what other studies and commands read of it, in study.json}.
    """

    title: str
    lead: str
    statements: tuple[Statement, ...]
    tables: tuple[Grid, ...] = ()
    figures: tuple[tuple[str, Figure], ...] = ()
    limits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measured: Mapping[str, dict] = field(default_factory=dict)

    @property
    def table(self) -> Grid:
        """The statements, one a row."""
        head = ["verdict", "statement", "published", "#these runs", "#95 % interval", "why"]
        return Grid("What the papers say, and these runs", head, [s.cells for s in self.statements])

    def json(self) -> dict:
        return {
            "title": self.title,
            "statements": [asdict(statement) for statement in self.statements],
            "limits": list(self.limits),
            "notes": list(self.notes),
            "measured": dict(self.measured),
        }


def corpora(table: Table) -> list[str]:
    """The corpora that the runs of a table read; [] where it does not say."""
    return sorted(filter(None, table.unique("corpus"))) if "corpus" in table else []
