"""Tables of loss laws: a fit, what to train, how exponents depend on choices, ends of learning curves."""

from collections.abc import Sequence
from functools import partial

from fitting.loss_laws.loss_fit import LossFit
from fitting.report.grid import Grid
from fitting.report.numbers import interval, optional, si

_si = partial(si, digits=4)
# Columns of a row for one budget: heading, and function from number to text.
BUDGET_COLUMNS = {
    "n_params": ("#parameters", _si),
    "tokens": ("#tokens", _si),
    "tokens_per_param": ("#tokens per parameter", "{:.3g}".format),
    "epochs": ("#epochs", "{:.3g}".format),
    "loss": ("#loss", "{:.4g}".format),
    "batch_tokens": ("#tokens of a batch", _si),
    "steps": ("#steps", _si),
}


def parameters(fitted: LossFit) -> Grid:
    """Parameters as printed, with standard errors and 95 % intervals."""
    result, body = fitted.json(), []
    for param in fitted.law.params:
        value, se, ends = (result[key][param.name] for key in ("params", "se", "ci95"))
        unit = param.unit_in(fitted.points.quantity)
        shown = interval(ends, ".5g") if ends else "not determined"
        body.append([param.name, f"{value:.7g}", optional(se, ".4g"), shown, unit])
    body += [[name, f"{value:.7g}", "", "fixed", ""] for name, value in fitted.fixed.items()]
    head = ["parameter", "#value", "#standard error", "#95 % interval", "unit"]
    source = f"   ({fitted.law.source})" if fitted.law.source else ""
    return Grid(f"{fitted.law.formula}{source}", head, body)


def summary(fitted: LossFit) -> list[str]:
    """What was fitted and how well, in a few lines."""
    result = fitted.json()
    settings, seconds = result["settings"], result["seconds"]
    lines = [
        f"{fitted.points.described};"
        f" objective {result['objective']:.8g} ({settings['objective']}, delta {settings['huber_delta']:g}); run noise"
        f" {settings['run_noise']:.2%}",
        f"{result['n_resamples']} resamples ({settings['resampling']}, seed {settings['seed']}),"
        f" {result['converged']:.2%} converged; compiling {seconds['compile']:.1f} s, solving {seconds['run']:.1f} s",
    ]
    lines += [f"left out: {reason}" for reason in settings["left_out"]]
    return lines + [f"not in the table: {formula}" for formula in settings["derived"]]


def against_published(result: dict) -> str:
    """result: of laws.published.Published.json."""
    median, low, high = (f"{value - 1:+.1%}" for value in (result["ratio"], *result["ratio_95"]))
    return (
        f"{result['n_points']} points lie {median} (median; 95 % of them {low} to {high}) from the {result['law']} of"
        f" {result['published']} ({result['where']}), which has its own tokenizer, text and count of N"
    )


def allocations(result: dict) -> Grid:
    """result: of allocation.Frontier.json."""
    a = result["exponents"]
    n, d = (_with_range(a, name, "{:.3f}".format) for name in ("N", "D"))
    title = f"what to train: N_opt ~ C^{n}, D_opt ~ C^{d}; approach {result['approach']}"
    grid = _by_budget(title, result["allocations"])
    body = [[*cells, "; ".join(row["flags"])] for cells, row in zip(grid.rows, result["allocations"], strict=True)]
    return Grid(grid.title, [*grid.head, "flags"], body)


def limited_data(result: dict) -> Grid:
    """result: {"unique_tokens", "allocations": rows of allocation.repeated}."""
    return _by_budget(f"what to train with {_si(result['unique_tokens'])} unique tokens", result["allocations"])


def _by_budget(title: str, rows: Sequence[dict]) -> Grid:
    columns = {name: column for name, column in BUDGET_COLUMNS.items() if name in rows[0]}
    body = [[f"{r['flops']:.4g}", *(_with_range(r, k, text) for k, (_, text) in columns.items())] for r in rows]
    return Grid(title, ["#FLOPs", *(heading for heading, _ in columns.values())], body)


def exponents(result: dict) -> Grid:
    """result: of decomposition.json."""
    body = []
    for cell in result["cells"]:
        sizes = [_with_range(row, "n_params", _si) for row in cell["allocations"]] or [""] * len(result["budgets"])
        flags = dict.fromkeys(flag for row in cell["allocations"] for flag in row["flags"])
        numbers = [optional(cell["exponent"]), interval(cell["exponent_ci95"]), *sizes]
        body.append([*cell["settings"].values(), *numbers, cell["why"] or "; ".join(flags)])
    names = list(result["cells"][0]["settings"])
    sizes = [f"#parameters for {c:.4g} FLOPs" for c in result["budgets"]]
    return Grid("exponent of N_opt in C, by setting", [*names, "#exponent", "#95 % interval", *sizes, "flags"], body)


def moves(result: dict) -> Grid | str:
    """result: of decomposition.json."""
    if not result["moves"]:
        return "the effect of each choice is unknown: settings between the first and the last have no exponent"
    body = [
        [m["factor"], m["from"], m["to"], f"{m['moves']:+.3f}", interval(m["moves_ci95"], "+.3f")]
        for m in result["moves"]
    ]
    head = ["choice", "from", "to", "#moves the exponent by", "#95 % interval"]
    return Grid(f"from the first settings to the last: {result['total']:+.3f}, of which", head, body)


def curve_ends(ends: Sequence, quantity: str) -> Grid:
    """ends: of learning_curves.ends."""
    body = []
    for end in ends:
        predicted = end.why or f"{end.y:.4g}"
        errors = [optional(e, "+.2%") for e in (end.error, end.error_of_last)]
        measured = optional(end.curve.end, ".4g")
        numbers = [f"{end.known:.0%}", str(end.sizes), predicted, interval(end.interval, ".4g"), measured]
        body.append([end.curve.run, *numbers, *errors])
    head = ["run", "#known", "#smaller sizes", "#predicted", "#80 %", "#measured", "#error", "#error of the last value"]
    return Grid(f"{quantity} at the end of each run", head, body)


def curve_score(score: dict) -> str:
    """score: of learning_curves.score."""
    if not score["n"]:
        return "no run with smaller sizes is done, so the error of these predictions is unknown"
    return (
        f"{score['n']} runs that are done and have smaller sizes: error {score['error']:.2%} (root mean square),"
        f" {score['error_of_last']:.2%} with the last known value as the prediction"
    )


def _with_range(row: dict, name: str, text) -> str:
    ends = row[f"{name}_ci95"]
    return text(row[name]) + (f" ({text(ends[0])} to {text(ends[1])})" if ends else "")
