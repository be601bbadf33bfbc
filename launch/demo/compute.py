"""The forecast of a demo beside a law of compute alone, which is fitted to the same rungs."""

from pathlib import Path

from rich.console import Console

from ladder.errors import InputError
from launch import display
from launch.prepare import Built
from launch.sealed import Sealed

TASK = "validation"
TITLE = "Against compute"
CAPTION = (
    "The forecast uses the parameters and the tokens of every rung. The law of compute uses 6 N D only. It is a power"
    " law with a floor, fitted to the rungs that have the lowest loss for their compute."
)


def check_text(built: Built) -> None:
    """Raises InputError where a target would read its text more than once: no rung does, so none measures the cost."""
    for target in built.ladder.targets:
        windows = built.windows.get(target.data.corpus)
        tokens, needed = windows and windows * target.model.seq_len, target.steps * target.batch_tokens
        if tokens is not None and tokens < needed:
            raise InputError(
                f"the text has {tokens:,} tokens to train on, but {target.label} reads {needed:,}, so it would read"
                " some twice; add text (--text)"
            )


def compare(sealed: Sealed, entries: list, forecast, folder: Path, console: Console) -> str:
    """Print the forecast beside the law of compute, save their figure as compute.png, return a section for the page.

    entries: the sealed TaskForecasts with what was measured. forecast: fitting.Forecast of the rungs. Returns "" if the
    rungs do not determine the law of compute.
    """
    from fitting import files
    from fitting.loss_laws import compute_law
    from fitting.report import compute_figure, html

    points = forecast.prediction.points
    C_n, loss_n = 6 * points.features["N"] * points.features["D"], points.bpb_Tn[points.tasks.index(TASK)]
    law = compute_law.fit(C_n, loss_n)
    if law is None:
        console.print("no law of compute beside the forecast: fewer than four rungs are the best of their compute")
        return ""
    entry, target = next(e for e in entries if e.task == TASK), sealed.targets[0]
    C = 6 * target.N * target.D
    grid = compute_figure.grid(C_n, C, entry, law)
    display.tables([grid], console)
    drawn = compute_figure.figure(C_n, loss_n, C, entry, law)
    with files.replaced(folder / "compute.png") as part:
        drawn.savefig(part, dpi=160)
    image = html.figure(drawn, f"{TASK} against compute")
    notes = "".join(f'<p class="note">{note}.</p>' for note in grid.notes)
    return html.section(TITLE, f"<p>{CAPTION}</p>", image, grid.html(), notes)
