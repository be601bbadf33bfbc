"""Tables, figures and pages of `ladder bench`."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median

from matplotlib.figure import Figure

from fitting import files
from fitting.bench import summaries
from fitting.bench.rows import Row
from fitting.bench.summaries import Summary
from fitting.errors import InputError
from fitting.inference.calibration import FILE, LEVEL
from fitting.report import html
from fitting.report.grid import Grid
from fitting.report.style import INK, MUTED, SIZES, new_figure, style
from fitting.tables.runs_table import SCHEMA_VERSION

TITLES = {
    ("loss", False): "loss, decayed runs",
    ("loss", True): "loss, checkpoints of undecayed curves",
    ("accuracy", False): "accuracy, decayed runs",
    ("accuracy", True): "accuracy, checkpoints of undecayed curves",
}
UNITS = {"loss": "% of the loss", "accuracy": "points"}
NOTE = (
    "score: interval score, lower is better. constant: the default's forecast with one width for all, which holds 80 %"
    " of the other families' errors. The mean weighs families alike. seconds: of one target and task."
)
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def grids(rows: list[Row]) -> list[Grid]:
    """Two tables for each metric and kind of runs that there are, errors of the methods and the intervals; and the
    intervals by the distance of the target."""
    tables = {key: summaries.summaries(rows, *key) for key in TITLES}
    shown = [grid for key, table in tables.items() if table for grid in (_errors(key, table), _intervals(key, table))]
    distances = {metric: summaries.by_distance(rows, metric) for metric in UNITS}
    return shown + [by_distance(metric, ranges) for metric, ranges in distances.items() if ranges]


def by_distance(metric: str, ranges: dict[str, list[Row]]) -> Grid:
    """How many measured values of each family the default's 80 % intervals held, by the distance of the target. ranges:
    of summaries.by_distance."""
    scale = 100.0 if metric == "loss" else 1.0
    families = dict.fromkeys(row.case.family for part in ranges.values() for row in part)

    def held(part: list[Row]) -> str:
        return f"{sum(abs(row.error) <= row.half for row in part) / len(part):.0%} of {len(part)}" if part else ""

    body = [
        [family, *(held([row for row in part if row.case.family == family]) for part in ranges.values())]
        for family in families
    ]
    errors = [f"{scale * median(abs(row.error) for row in part):.2f}" for part in ranges.values()]
    widths = [f"{scale * 2 * mean(row.half for row in part):.1f}" for part in ranges.values()]
    body += [["median error", *errors], ["mean width", *widths]]
    title = f"{TITLES[metric, False]}, held by compute of the target over that of the largest run"
    return Grid(f"{title}; errors, widths: {UNITS[metric]}", ["family", *(f"#{name}" for name in ranges)], body)


def _errors(key: tuple[str, bool], table: list[Summary]) -> Grid:
    methods = list(dict.fromkeys(name for row in table for name in row.medians))
    head = ["family", "#targets", *(f"#{name}" for name in methods)]
    body = [[row.family, str(row.targets), *(_number(row.medians.get(name)) for name in methods)] for row in table]
    return Grid(f"{TITLES[key]}: median error, {UNITS[key[0]]}", head, body)


def _intervals(key: tuple[str, bool], table: list[Summary]) -> Grid:
    head = [
        "family",
        "#cases",
        "#targets",
        "#held",
        "#width",
        "#score",
        "#held, constant",
        "#width",
        "#score",
        *(["#seconds"] if key[0] == "loss" else []),
    ]
    body = [
        [row.family, str(row.cases), str(row.targets), f"{row.coverage:.0%}", f"{row.width:.1f}", f"{row.score:.1f}",
         *(["", "", ""] if math.isnan(row.constant[1]) else
           [f"{row.constant[0]:.0%}", *(f"{value:.1f}" for value in row.constant[1:])]),
         *([f"{row.seconds:.2f}"] if key[0] == "loss" else [])]
        for row in table
    ]  # fmt: skip
    return Grid(f"{TITLES[key]}: 80 % intervals, {UNITS[key[0]]}", head, body, (NOTE,))


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.3g}"


def reliability(rows: list[Row]) -> Figure:
    """Share of the hidden runs that lie in intervals of a level, against the level."""
    with new_figure(4.8, 4.4) as figure:
        axes = figure.add_subplot()
        axes.plot([45, 100], [45, 100], color=MUTED, lw=1, ls=":")
        shown = {"loss": "o-", "accuracy": "s--"}
        for i, (metric, marks) in enumerate(shown.items()):
            chosen = [row for row in rows if row.metric == metric and not row.case.in_run]
            if chosen:
                levels, held = zip(*summaries.reliability(chosen), strict=True)
                percent = [100 * value for value in levels], [100 * value for value in held]
                axes.plot(*percent, marks, color=SIZES(0.2 + 0.5 * i), mec=INK, mew=0.6, label=metric)
        axes.set_xlabel("level of the interval, %")
        axes.set_ylabel("hidden runs inside, %")
        axes.set_xlim(45, 100)
        axes.set_ylim(20, 102)
        axes.legend()
    return figure


def write(path: Path, folder: str, rows: list[Row]) -> None:
    """Write the page: tables and the reliability plot. Raises InputError where it cannot be written."""
    parts = ["<h1>How well forecasts did</h1>", f"<p class='lead'>Tables of {html.escape(folder)}.</p>"]
    for grid in grids(rows):
        parts.append(html.section(grid.title.capitalize(), grid.html(), f"<p class='note'>{html.escape(NOTE)}</p>"))
    caption = "Every family weighs the same. On the dotted line the intervals hold what they say."
    figure = html.figure(reliability(rows), "reliability of the intervals")
    parts.append(html.section("Reliability", figure, f"<p class='caption'>{caption}</p>"))
    with files.replaced(path) as part:
        part.write_text(html.page("How well forecasts did", parts), encoding="utf-8")


def into_markdown(path: Path, rows: list[Row]) -> None:
    """Write tables, the reliability plot (a PNG beside the file) and the source of the constants between the lines
    BEGIN and END of a file. Raises InputError where they are missing."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "markdown") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{path}: no lines {BEGIN} and {END}, between which the tables go", "markdown")
    image = path.with_name(f"{path.stem}-reliability.png")
    with files.replaced(image) as part, style():
        reliability(rows).savefig(part, dpi=110, format="png")
    parts = [f"**{grid.title.capitalize()}**\n\n{markdown(grid)}" for grid in grids(rows)]
    parts += [NOTE, f"![share of hidden runs inside intervals, against their level]({image.name})", provenance()]
    with files.replaced(path) as part:
        part.write_text(
            f"{before}{BEGIN}\n{chr(10).join(text + chr(10) for text in parts)}{END}{after}", encoding="utf-8"
        )


def provenance() -> str:
    """The constants of the intervals and where they come from, as Markdown."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    lines = [f"- {name}: {_facts(group)}" for name, group in stored.items()]
    return "Constants in `fitting/inference/calibration.json`:\n\n" + "\n".join(lines)


def _facts(group: dict) -> str:
    return "; ".join(
        f"{name.replace('_', ' ')} " + (", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else
                                        ", ".join(value) if isinstance(value, list) else str(value))
        for name, value in group.items()
    )  # fmt: skip


def markdown(grid: Grid) -> str:
    """A table in Markdown."""
    names, kinds = zip(*grid.columns, strict=True)
    lines = [names, ["--:" if is_number else "---" for is_number in kinds], *grid.rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def calibrated(constants: dict) -> str:
    """What `ladder bench --calibrate` found, as sentences."""
    held = ", ".join(f"{family} {value:.0%}" for family, value in constants["leave_family_out_coverage"].items())
    return (
        f"constants from {constants['targets']} targets of {len(constants['families'])} families:"
        f" {constants['noise']} x run noise, {constants['improvement']} x predicted improvement."
        f" Held of a family left out ({LEVEL:.0%} intervals): {held}."
    )


def in_json(rows: list[Row]) -> dict:
    """All rows and the summaries."""
    tables = [asdict(row) for key in TITLES for row in summaries.summaries(rows, *key)]
    fields = ("task", "run", "metric", "error", "half", "others", "noise", "improvement", "distance")
    listed = [{"case": row.case.name, "family": row.case.family} | {n: getattr(row, n) for n in fields} for row in rows]
    return {"schema_version": SCHEMA_VERSION, "summaries": tables, "rows": listed}
