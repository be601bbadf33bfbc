"""Trunk and branches against cosine runs: loss, compute saved, and whether law and forecast agree.

Hägele et al. 2024 ("Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations"): one run at a constant
rate, with a short decay wherever a loss is wanted, replaces a cosine run for every length.
"""

import numpy as np

from fitting.errors import InputError
from fitting.inference import intervals
from fitting.loss_laws import loss_fit
from fitting.report.grid import Grid
from fitting.report.numbers import si
from fitting.report.style import INK, MUTED, SIZES, TARGET, few_ticks, new_figure
from fitting.studies import regression
from fitting.studies.ends import ends, groups, need
from fitting.studies.results import Claim, Statement, Study
from fitting.tables import loss_points
from fitting.tables.runs_table import Table

SOURCE = "Hägele et al. 2024"
MOST_PERCENT = 1.0  # the limit of a difference that we call none
LARGER, LENGTH = 4, 20  # the forecast: of a model so many times the largest, at so many tokens per parameter
RESAMPLES = 200
EQUAL_LOSS = Claim(
    "A decay from a trunk ends no higher than a cosine run of the same length", SOURCE, "0 % above", "{:+.2f} %"
)
EQUAL_FORECAST = Claim(
    f"The law of the branches forecasts no higher a loss than that of the cosine runs, at {LARGER} x the largest size",
    SOURCE,
    "0 % above",
    "{:+.2f} %",
)


def analyse(table: Table) -> Study:
    """Branches and full runs of the same size, tokens and seed. Raises InputError where there is no such pair."""
    need(table, "kind", "seed", "size", "parent")
    rows = ends(table)
    branch, full, unit = _pairs(rows)
    percent = 100 * np.log(rows["value"][branch] / rows["value"][full])
    laws: list[Grid] = []
    forecast = EQUAL_FORECAST.tried(lambda claim: _forecast(claim, table, rows, laws))
    return Study(
        title="Trunk and branches: is one decayed trunk as good as a cosine run for each length?",
        lead=(
            f"{len(branch)} branches of {len(set(unit.tolist()))} trunks, each beside a full run of the same size,"
            f" tokens and seed. {_saved(rows, branch, full)}"
        ),
        statements=(EQUAL_LOSS.tried(lambda claim: claim.at_most(MOST_PERCENT, *difference(rows))), forecast),
        tables=(*laws, _table(rows, branch, full, percent)),
        figures=((CAPTION, _figure(rows, branch, full, percent)),),
        limits=LIMITS,
        notes=_trend(rows["tokens"][branch], percent),
    )


CAPTION = (
    "Left: loss at the end of branches (filled) and of cosine runs (open). Right: how far each branch ends above its"
    " cosine run; the red line is their mean, the band 1 % to each side."
)
LIMITS = (
    "A difference of up to 1 % counts as none in the verdict.",
    "Rates and the share of the decay were not tuned for either schedule; with tuned ones the difference may change.",
    "The pairs share seed and data order, so their difference is less noisy than a loss; pairs of one trunk are not"
    " independent, and count as one.",
)


def _pairs(rows: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows of branches, rows of the full runs beside them, index of each pair's trunk)."""
    full = {key: indices[0] for key, indices in groups(rows, "kind", "n_params", "tokens", "seed").items()}
    branch = np.flatnonzero(rows["kind"] == "branch")
    keys = [("full", *(rows[name][i] for name in ("n_params", "tokens", "seed"))) for i in branch]
    paired = np.array([key in full for key in keys], bool)
    if not paired.any():
        raise InputError(f"{rows.source}: no branch and full run of the same size, tokens and seed are both finished")
    branch = branch[paired]
    others = np.array([full[key] for key in keys if key in full])
    return branch, others, np.unique(rows["parent"][branch].astype(str), return_inverse=True)[1]


def difference(rows: Table) -> tuple[float, tuple[float, float]]:
    """By how many percent branches end above their cosine runs, on average over trunks, with its 95 % interval. rows:
    the ends of runs. Raises InputError for fewer than two trunks."""
    branch, full, unit = _pairs(rows)
    percent = 100 * np.log(rows["value"][branch] / rows["value"][full])
    return regression.mean(np.array([percent[unit == i].mean() for i in np.unique(unit)]))


def _trend(tokens: np.ndarray, percent: np.ndarray) -> tuple[str, ...]:
    """A sentence that says so if the difference changes with the length of the runs; the mean would hide that."""
    doublings = np.log2(tokens / tokens.max())
    try:
        line = regression.line(np.column_stack([np.ones(len(tokens)), doublings]), percent)
    except InputError:
        return ()
    (at_longest, of_longest), (slope, ends_) = line.of(np.array([1.0, 0.0])), line.of(np.array([0.0, 1.0]))
    if ends_[0] <= 0 <= ends_[1]:
        return ()
    return (
        f"The difference changes with the length of a run, by {slope:+.2f} % for each doubling of the tokens"
        f" ({ends_[0]:+.2f} to {ends_[1]:+.2f} %): a line through all pairs gives {at_longest:+.2f} %"
        f" ({of_longest[0]:+.2f} to {of_longest[1]:+.2f} %) for the longest run, and the mean over lengths hides that.",
    )


def _saved(rows: Table, branch: np.ndarray, full: np.ndarray) -> str:
    """How much compute the trunks and branches needed, next to the full runs."""
    if "flops" not in rows or "parent_step" not in rows:
        return ""
    flops, share = rows["flops"][branch], rows["parent_step"][branch] / rows["step"][branch]
    trunks = {p: (flops * share)[rows["parent"][branch] == p].max() for p in set(rows["parent"][branch])}
    cost, whole = sum(trunks.values()) + np.sum(flops * (1 - share)), np.sum(rows["flops"][full])
    return f"They took {cost / whole:.0%} of the compute of the full runs."


def _forecast(claim: Claim, table: Table, rows: Table, laws: list[Grid]) -> Statement:
    """Compare the forecasts of the two laws; adds a table of them to laws."""
    fits = {}
    for kind in ("branch", "full"):
        of_kind = table.select(np.isin(table["run"], rows.select(kind=kind)["run"]))
        points = loss_points.of_runs(of_kind)
        fits[kind] = loss_fit.fit(points, "chinchilla", n_resamples=RESAMPLES)
    n = LARGER * rows["n_params"].max()
    target = {"N": np.array([n]), "D": np.array([LENGTH * n])}
    logs, sds, body = [], [], []
    for kind, fitted in fits.items():
        loss_R = fitted.values(target)[:, 0]
        interval = intervals.student(fitted.bootstrap, 0, fitted.units, fitted.delta)
        lo, hi = interval(loss_R, True)
        logs.append(np.log(loss_R[0]))
        sds.append(np.log(hi / lo) / 2)
        params = fitted.bootstrap.params(0)
        of_params = [f"{params[name]:.3f}" for name in ("E", "alpha", "beta")]
        body.append(
            [{"branch": "branches", "full": "cosine"}[kind], f"{loss_R[0]:.4g}", f"{lo:.4g} to {hi:.4g}", *of_params]
        )
    head = ["law of the", f"#loss at {si(n)}, {si(LENGTH * n)} tokens", "#95 % interval", "#E", "#alpha", "#beta"]
    laws.append(Grid("Forecasts of L = E + A/N^alpha + B/D^beta", head, body))
    difference, half = 100 * (logs[0] - logs[1]), 100 * float(np.hypot(*sds))
    return claim.at_most(MOST_PERCENT, difference, (difference - half, difference + half))


def _table(rows: Table, branch: np.ndarray, full: np.ndarray, percent: np.ndarray) -> Grid:
    body = [
        [rows["size"][b], si(rows["tokens"][b]), f"{rows['seed'][b]:.0f}", f"{rows['value'][b]:.4f}",
         f"{rows['value'][f]:.4f}", f"{p:+.2f}"]
        for b, f, p in zip(branch, full, percent, strict=True)
    ]  # fmt: skip
    head = ["size", "#tokens", "#seed", "#branch", "#cosine", "#branch above cosine, %"]
    return Grid("Every pair", head, body)


def _figure(rows: Table, branch: np.ndarray, full: np.ndarray, percent: np.ndarray):
    sizes = sorted(set(rows["n_params"][branch]))
    colour = {n: SIZES(i / max(len(sizes) - 1, 1)) for i, n in enumerate(sizes)}
    with new_figure(9.6, 4.0) as figure:
        left, right = figure.subplots(1, 2)
        for n in sizes:
            of_size = rows["n_params"][branch] == n
            for indices, filled in ((branch, True), (full, False)):
                tokens, loss = rows["tokens"][indices][of_size], rows["value"][indices][of_size]
                face = colour[n] if filled else "white"
                left.plot(
                    tokens, loss, "o" if filled else "s", color=colour[n], mfc=face, ms=5, label=si(n) if filled else ""
                )
            right.plot(rows["tokens"][branch][of_size], percent[of_size], "o", color=colour[n], ms=5)
        left.set(xscale="log", yscale="log", xlabel="training tokens D", ylabel="validation loss, bits per byte")
        left.legend(title="parameters")
        left.yaxis.set_major_formatter("{x:.3g}")
        left.yaxis.set_minor_formatter("{x:.3g}")
        right.axhline(0, color=INK, lw=0.8)
        right.axhspan(-MOST_PERCENT, MOST_PERCENT, color=MUTED, alpha=0.12, lw=0)
        right.axhline(percent.mean(), color=TARGET, lw=1.2)
        right.set(xscale="log", xlabel="training tokens D", ylabel="branch above cosine run, %")
        for axes in (left, right):
            few_ticks(axes.xaxis)
    return figure
