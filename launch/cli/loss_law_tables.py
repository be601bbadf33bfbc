"""How people see a fitted law."""

from pathlib import Path

from rich.table import Table

from ladder.errors import InputError
from launch import terminal


def table(result: dict) -> Table:
    """result: as in fit.json."""
    settings = result["settings"]
    grid = Table(title=f"{settings['form']}   ({settings['source']})", title_justify="left")
    grid.add_column("parameter", no_wrap=True)
    for name in ("value", "standard error", "95 % interval"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("unit")
    for name, value in result["params"].items():
        lo, hi = result["ci95"][name]
        unit = settings["units"][name].replace("y", result["quantity"])
        grid.add_row(name, f"{value:.7g}", f"{result['se'][name]:.4g}", f"{lo:.5g} to {hi:.5g}", unit)
    return grid


def summary(result: dict) -> str:
    """What was fitted and how well, in a few lines."""
    settings, seconds = result["settings"], result["seconds"]
    lines = [
        f"{result['n_points']} points of {result['quantity']}; objective {result['objective']:.8g}"
        f" ({settings['objective']}, delta {settings['huber_delta']:g}); run noise {settings['run_noise']:.2%}",
        f"{result['n_resamples']} resamples ({settings['resampling']}, seed {settings['seed']}),"
        f" {result['converged']:.2%} converged; compiling {seconds['compile']:.1f} s, solving {seconds['run']:.1f} s",
    ]
    lines += [f"left out: {reason}" for reason in settings["left_out"]]
    lines += [f"not in the table: {formula}" for formula in settings["derived"]]
    return "\n".join(lines + [f"[yellow]{flag}" for flag in result["flags"]])


def held_against(result: dict) -> str:
    """result: of published.Published.json."""
    middle, low, high = (f"{value - 1:+.1%}" for value in (result["ratio"], *result["ratio_95"]))
    return (
        f"{result['n_points']} points lie {middle} (median; 95 % of them {low} to {high}) from what"
        f" {result['published']} said of {result['law']} ({result['where']}): its tokens, its text and its count of N"
    )


def allocations(result: dict) -> Table:
    """result: of allocation.Frontier.json."""
    a = result["exponents"]
    title = f"what to train: N_opt ~ C^{a['N']:.3f}{_range(a['N_ci95'])}, D_opt ~ C^{a['D']:.3f}{_range(a['D_ci95'])}"
    grid = Table(title=f"{title}; approach {result['approach']}", title_justify="left")
    shown = {
        "n_params": terminal.count,
        "tokens": terminal.count,
        "tokens_per_param": "{:.3g}".format,
        "loss": "{:.4g}".format,
    }
    shown |= {"batch_tokens": terminal.count, "steps": terminal.count}
    shown = {name: how for name, how in shown.items() if name in result["allocations"][0]}
    grid.add_column("FLOPs", no_wrap=True)
    for name in shown:
        heading = {"n_params": "parameters", "batch_tokens": "tokens of a batch"}.get(name, name.replace("_", " "))
        grid.add_column(heading.replace("per param", "per parameter"), justify="right", no_wrap=True)
    grid.add_column("flags", overflow="fold")
    for row in result["allocations"]:
        cells = [_with_range(row, name, how) for name, how in shown.items()]
        grid.add_row(f"{row['flops']:.4g}", *cells, "; ".join(row["flags"]))
    return grid


def exponents(result: dict) -> Table:
    """result: of decomposition.json."""
    names = list(result["cells"][0]["settings"])
    grid = Table(title="exponent of N_opt in C, by setting", title_justify="left")
    for name in (*names, "exponent", "95 % interval", ""):
        grid.add_column(name, overflow="fold")
    for cell in result["cells"]:
        value, bounds = cell["exponent"], cell["exponent_ci95"]
        shown = ("", "") if value is None else (f"{value:.3f}", f"{bounds[0]:.3f} to {bounds[1]:.3f}")
        grid.add_row(*cell["settings"].values(), *shown, cell["why"])
    return grid


def moves(result: dict) -> Table | str:
    """result: of decomposition.json."""
    if not result["moves"]:
        return "what each choice moves cannot be told: settings on the way from the first to the last have no exponent"
    grid = Table(title=f"from the first settings to the last: {result['total']:+.3f}, of which", title_justify="left")
    for name in ("choice", "from", "to", "moves the exponent by", "95 % interval"):
        grid.add_column(name, overflow="fold")
    for move in result["moves"]:
        lo, hi = move["moves_ci95"]
        grid.add_row(move["factor"], move["from"], move["to"], f"{move['moves']:+.3f}", f"{lo:+.3f} to {hi:+.3f}")
    return grid


def ends(found: list, quantity: str) -> Table:
    """found: of curves.ends."""
    grid = Table(title=f"{quantity} at the end of each run", title_justify="left")
    for name in ("run", "known", "smaller sizes", "predicted", "80 %", "measured", "error", "error of the last value"):
        grid.add_column(name, justify="left" if name == "run" else "right", overflow="fold")
    for end in found:
        predicted = end.why or f"{end.y:.4g}"
        band = f"{end.interval[0]:.4g} to {end.interval[1]:.4g}" if end.interval else ""
        measured = "" if end.curve.end is None else f"{end.curve.end:.4g}"
        errors = ["" if e is None else f"{e:+.2%}" for e in (end.error, end.error_of_last)]
        grid.add_row(end.curve.run, f"{end.known:.0%}", str(end.sizes), predicted, band, measured, *errors)
    return grid


def extrapolated(score: dict) -> str:
    """score: of curves.score."""
    if not score["n"]:
        return "no run with smaller sizes is done: how well this goes is not known"
    return (
        f"{score['n']} runs that are done and have smaller sizes: error {score['error']:.2%} (root mean square),"
        f" {score['error_of_last']:.2%} if the last known value is carried on"
    )


def limited(result: dict) -> Table:
    """result: rows of allocation.repeated."""
    title = f"what to train with {terminal.count(result['unique_tokens'])} unique tokens"
    grid = Table(title=title, title_justify="left")
    shown = {"n_params": terminal.count, "tokens": terminal.count, "epochs": "{:.3g}".format, "loss": "{:.4g}".format}
    for name in ("FLOPs", "parameters", "tokens", "epochs", "loss"):
        grid.add_column(name, justify="right")
    for row in result["allocations"]:
        grid.add_row(f"{row['flops']:.4g}", *(_with_range(row, name, how) for name, how in shown.items()))
    return grid


def _with_range(row: dict, name: str, shown) -> str:
    bounds = row[f"{name}_ci95"]
    return shown(row[name]) + (f" ({shown(bounds[0])} to {shown(bounds[1])})" if bounds else "")


def _range(bounds: list[float] | None) -> str:
    return f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""


def save(figure, path: Path) -> None:
    """Write a figure as what its name says: .png, .svg, .pdf. Raises InputError."""
    from fitting.report.style import style

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with style():
            figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({' '.join(str(error).split())})") from None
