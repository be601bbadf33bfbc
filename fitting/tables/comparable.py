"""Whether the points of a task compare: scored on the same docs, and all at the ends of runs. A line says why not."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fitting.tables.runs_table import Table

NAMED = 3  # so many runs are named, more are counted
# Attention and embeddings add less than this factor to 6 N D; more is another unit, or N without most of the model.
FAR = 10.0
FAR_FLOPS = f"flops are not within a factor {FAR:g} of 6 N D: are they those of the whole training, in FLOPs?"
MOST_SKIPPED = 0.01  # of the steps of a run, without a word about it
FEW = 1000  # parameters or tokens; no model that is measured has fewer


def lines(*parts: Table, trunks: bool = True) -> tuple[str, ...]:
    """One line for each reason why points of one task do not compare; none where they do or nothing is known.

    parts: the rows that the points are made of. Scores are on other docs where n_docs differs; where no row has n_docs
    (the validation text has none), where the hash of the evaluation differs. A run whose own rows differ is named too.
    trunks: whether a trunk counts as a run without an end.
    """
    decayed = parts if trunks else [p.select(p["kind"] != "trunk") if "kind" in p else p for p in parts]
    counts = (np.concatenate([rows[name] for rows in parts]) for name in ("n_params", "tokens"))
    of_runs = (*other_docs(scored(*parts)), *before_the_end(*decayed), *skipped_steps(*parts), *other_flops(*parts))
    return (*of_runs, *other_units(*counts))


def scored(*parts: Table) -> dict[str, tuple]:
    """{run: sorted n_docs of its rows, or hashes of their evaluations where no row has n_docs}; without those that have
    neither."""
    for name in ("n_docs", "evaluation"):
        by_run = {}
        for rows in parts:
            values = rows[name] if name in rows else np.full(len(rows), "")
            known = ~np.isnan(values) if values.dtype.kind == "f" else values != ""
            for run, value in zip(rows["run"][known], values[known].tolist(), strict=True):
                by_run.setdefault(run, set()).add(value)
        if by_run:
            return {run: tuple(sorted(values)) for run, values in by_run.items()}
    return {}


def other_docs(by_run: Mapping[str, tuple]) -> list[str]:
    """One line if not all runs were scored on the same docs. by_run: as from `scored`; a key may also name a table."""
    groups = {}
    for run, values in by_run.items():
        groups.setdefault(values, []).append(run)
    if len({value for values in groups for value in values}) < 2:
        return []
    (usual, most), *others = sorted(groups.items(), key=lambda group: -len(group[1]))
    if isinstance(usual[0], str):
        text = f"{_runs_are(most)} scored by evaluation {' and '.join(usual)}"
        text += "".join(f", {_names(runs)} by {' and '.join(values)}" for values, runs in others)
        return [f"{text}: another evaluation can mean another text; evaluate again with ladder eval --missing"]
    text = f"{_runs_are(most)} scored on {_numbers(usual)} docs"
    text += "".join(f", {_names(runs)} on {_numbers(values)}" for values, runs in others)
    again = f"evaluate again with ladder eval --max-docs {max(map(max, groups)):.0f} --missing"
    return [f"{text}: scores on other docs have other noise and another mean; {again}"]


def before_the_end(*parts: Table) -> list[str]:
    """A line where some runs have a final row, and others only rows of earlier checkpoints."""
    has_end = {}
    for rows in parts:
        for run, final in zip(rows["run"], rows["final"].tolist(), strict=True):
            has_end[run] = has_end.get(run, False) or final
    ends, before = ([run for run, end in has_end.items() if end is wanted] for wanted in (True, False))
    if not ends or not before:
        return []
    return [
        f"{_runs_are(ends)} scored at the end of training, {_names(before)} only at checkpoints before it: scores"
        " change until the end; finish or leave out these runs, or evaluate their ends with ladder eval --missing"
    ]


def skipped_steps(*parts: Table) -> list[str]:
    """A line where runs skipped more than MOST_SKIPPED of their steps."""
    shares = {}
    for rows in parts:
        if "skipped_share" in rows:
            many = rows["skipped_share"] > MOST_SKIPPED
            shares |= dict(zip(rows["run"][many], rows["skipped_share"][many].tolist(), strict=True))
    if not shares:
        return []
    text = f"{_names(list(shares))} skipped up to {max(shares.values()):.1%} of the steps, for spikes or NaN"
    return [f"{text}: such a run learnt from fewer tokens than it counts; leave it out, or train it again"]


def other_flops(*parts: Table) -> list[str]:
    """A line where runs have FLOPs far from 6 N D."""
    runs = []
    for rows in parts:
        if {"n_params", "tokens", "flops"} <= set(rows.columns):
            runs += rows["run"][far_from_6nd(rows["n_params"], rows["tokens"], rows["flops"])].tolist()
    runs = list(dict.fromkeys(runs))
    return [f"{_names(runs)}: {FAR_FLOPS}"] if runs else []


def far_from_6nd(n, d, c) -> np.ndarray:
    """Which FLOPs differ from 6 N D by more than a factor FAR; not those that are nan."""
    ratio = np.asarray(c, float) / (6 * np.asarray(n, float) * np.asarray(d, float))
    return (ratio > FAR) | (ratio < 1 / FAR)


def other_units(n: np.ndarray, d: np.ndarray) -> list[str]:
    """Lines about parameters N and tokens D that seem to be in millions or billions, or exchanged."""
    lines = []
    for name, values in (("parameters", n), ("tokens", d)):
        if few := int((values < FEW).sum()):
            lines.append(
                f"{few} of {len(values)} points have fewer than {FEW:,} {name}: are they counted in millions or"
                " billions? the law then is in that unit; write the numbers out"
            )
    if not lines and len(n) and (d < n).all():
        lines.append("every point has fewer tokens than parameters: are the two columns exchanged?")
    return lines


def in_json(flags: Iterable[str]) -> dict:
    """{"flags": [...]} to add to a result; nothing where there are none."""
    return {"flags": list(flags)} if flags else {}


def _runs_are(names: Sequence[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{len(names)} runs are"


def _names(names: Sequence[str]) -> str:
    """The first NAMED names, and the number of the others."""
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    *front, last = [*names[:NAMED], *more]
    return f"{', '.join(front)} and {last}" if front else last


def _numbers(values: Iterable[float]) -> str:
    return " and ".join(f"{value:,.0f}" for value in values)
