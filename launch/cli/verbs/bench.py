"""`ladder bench`: how well forecasts did on families of runs whose truth is known."""

from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from launch import display, terminal
from launch.cli.options import Json

Folder = Annotated[Positional[str], arg(metavar="FOLDER", help="tables with splits train and target")]


def bench(
    folder: Folder,
    /,
    *,
    calibrate: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    out: Annotated[Path | None, arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None,
    markdown: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = None,
) -> None:
    """Forecast the hidden runs of many families, beside simpler methods: errors, coverage, interval scores.

    Example: ladder bench families -o bench.html

    Args:
        calibrate: estimate the constants of the intervals from these families and write them here
        out: a page with the tables and a reliability plot
        markdown: write tables, plot and the constants' sources between its lines <!-- bench --> and <!-- /bench -->
    """
    from fitting.bench import calibrate as calibration
    from fitting.bench import cases as folders
    from fitting.bench import rows as forecasts
    from fitting.report import bench_report

    cases, rows = folders.cases(folder), []
    with terminal.progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        for case in progress.track(cases, description="tables"):
            rows += forecasts.rows(case)
    grids = bench_report.grids(rows)
    display.tables(grids, terminal.console())
    if calibrate:
        constants = calibration.calibrate(rows)
        calibration.write(calibrate, constants)
        print(bench_report.calibrated(constants))
    if markdown:
        bench_report.into_markdown(markdown, rows)
    if out:
        bench_report.write(out, folder, rows)
        print(out)
    if json:
        terminal.write_json(json, bench_report.in_json(rows))
