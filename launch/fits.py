"""How people see a fitted law."""

from pathlib import Path

from rich.table import Table

from ladder.errors import InputError


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


def save(figure, path: Path) -> None:
    """Write a figure as what its name says: .png, .svg, .pdf. Raises InputError."""
    from fitting.plots import style

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with style():
            figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({' '.join(str(error).split())})") from None
