"""What the unfinished runs of a ladder will cost: FLOPs, chip-hours, dollars; a range, because speed is not known."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fitting.report.numbers import si
from ladder.errors import InputError
from ladder.topologies import KINDS, Slice
from launch.backends.protocol import Job
from launch.scheduler.status import Status

# (low, high) share of a chip's bf16 peak that training reaches, evaluation and restarts included; low for small rungs.
UTILISATION = (0.2, 0.5)
# Dollars for a chip-hour, from three years' commitment to on demand: Google's list prices for the United States, 2025,
# from memory. Spot prices lie between them or below. [prices] in ladder.toml overrides them.
PRICES = {"v4": "1.45-3.22", "v5e": "0.54-1.20", "v5p": "1.89-4.20", "v6e": "1.22-2.70"}


@dataclass(frozen=True)
class Estimate:
    """Of the runs that are not done. hours: chip-hours (low, high). dollars: (low, high)."""

    runs: int
    flops: float
    hours: tuple[float, float]
    dollars: tuple[float, float]

    def above(self, limit: float) -> str:
        """Why these runs may not be submitted: their high end is above `limit` dollars; "" where they may.

        limit: 0 for none.
        """
        if not limit or self.dollars[1] <= limit:
            return ""
        return (
            f"limits.dollars = {limit:g}: the {self.runs} runs to go cost up to ${self.dollars[1]:,.0f} (the high end "
            "of the estimate, without what is spent already); raise it in ladder.toml, or train fewer runs"
        )

    def __str__(self) -> str:
        text = f"{self.runs} runs to go, {self.flops:.3e} FLOPs"
        if self.hours[1]:
            text += f", {si(self.hours[0], 4)} to {si(self.hours[1], 4)} chip-hours"
            text += f", ${self.dollars[0]:,.0f} to ${self.dollars[1]:,.0f}"
        return text


def estimate(
    jobs: Sequence[Job],
    runs: Mapping[str, Status],
    slice_of: Callable[[str], Slice] | None = None,
    prices: Mapping[str, str] | None = None,
) -> Estimate:
    """slice_of: size -> slice; None where no TPU is paid for. prices: from ladder.toml; they override PRICES."""
    price_of = {kind: _price(kind, text) for kind, text in (PRICES | dict(prices or {})).items()}
    remaining = [(job, job.flops * (1 - runs[job.run_id].share)) for job in jobs if runs[job.run_id].state != "done"]
    hours, dollars = [0.0, 0.0], [0.0, 0.0]
    for job, flops in remaining if slice_of else ():
        if job.is_fit:
            continue
        tpu = slice_of(job.size)
        price = _price_of(tpu, price_of)
        for i, utilisation in enumerate(reversed(UTILISATION)):
            chip_hours = flops / (KINDS[tpu.kind].peak * utilisation) / 3600
            hours[i] += chip_hours
            dollars[i] += chip_hours * price[i]
    return Estimate(len(remaining), sum(flops for _, flops in remaining), tuple(hours), tuple(dollars))


@dataclass(frozen=True)
class Spent:
    """What runs have cost so far. hours: chip-hours (low, high). dollars: (low, high)."""

    hours: tuple[float, float]
    dollars: tuple[float, float]

    def __str__(self) -> str:
        hours = " to ".join(si(n, 4) if n else "0" for n in self.hours)
        dollars = " to ".join(f"${n:,.0f}" for n in self.dollars)
        return f"spent so far: {hours} chip-hours, {dollars} (training, by the times of all attempts)"


def spent(
    runs: Iterable[Status], slice_of: Callable[[str], Slice], slices: int, prices: Mapping[str, str] | None = None
) -> Spent:
    """On `runs`. slices: of every run. The fit, and machines that start or wait to be deleted, are not counted."""
    price_of = {kind: _price(kind, text) for kind, text in (PRICES | dict(prices or {})).items()}
    hours, dollars = [0.0, 0.0], [0.0, 0.0]
    for run in runs:
        if not run.size:  # a fit
            continue
        tpu = slice_of(run.size)
        for i, seconds in enumerate(run.seconds):
            hours[i] += seconds / 3600 * tpu.chips * slices
            dollars[i] += seconds / 3600 * tpu.chips * slices * _price_of(tpu, price_of)[i]
    return Spent(tuple(hours), tuple(dollars))


def _price_of(tpu: Slice, prices: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    if tpu.kind not in prices:
        raise InputError(f'prices.{tpu.kind} is not set: in ladder.toml under [prices], {tpu.kind} = "LOW-HIGH"')
    return prices[tpu.kind]


def _price(kind: str, text: str) -> tuple[float, float]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if kind not in KINDS or not match or float(match[1]) > float(match[2]):
        raise InputError(
            f'prices.{kind} = {text!r}: write KIND = "LOW-HIGH" in dollars for a chip-hour; kinds: {", ".join(KINDS)}'
        )
    return float(match[1]), float(match[2])
