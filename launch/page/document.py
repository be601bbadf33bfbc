"""The HTML of a page. All that comes from names, files and messages is escaped."""

import time
from collections.abc import Mapping, Sequence
from html import escape

from fitting.report.html import section
from launch import goodput, terminal
from launch.page import charts, curves, look, rungs
from launch.page.charts import path
from launch.page.content import Content
from launch.page.curves import Curve
from launch.page.forecasts import Forecast, Step
from launch.scheduler.status import Status

WIDEST = 8.0  # the forecast's chart shows at most so many half widths of the latest interval around it


def html(content: Content) -> str:
    """The page as one string."""
    parts = [
        f"<h1>{escape(content.title)}</h1>",
        f'<p class="lead">{_summary(content)}</p>',
        _written(content),
        "".join(f'<p class="note">{escape(note)}</p>' for note in content.notes),
        rungs.counts(content.runs),
        rungs.squares(content.runs),
        section("The forecast so far", _forecasts(content)),
        section("Learning curves", _curves(content)),
        section("Where the time went", _goodput(content)),
        section("Runs", rungs.tables(content.runs, content.goodput)),
        _links(content.links),
    ]
    every = max(1, round(content.every)) if content.every else None
    refresh = f'<noscript><meta http-equiv="refresh" content="{every}"></noscript>' if every else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(look.POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{escape(content.title)}</title><style>{look.CSS}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n</main><script>{look.SCRIPT}</script></body></html>\n"
    )


def _summary(content: Content) -> str:
    runs = [run for run in content.runs if run.size]
    done, running = (sum(run.state == state for run in runs) for state in ("done", "running"))
    total = sum(run.flops for run in runs)
    share = sum(run.flops * run.share for run in runs) / total if total else 0.0
    text = f"{done:,} of {_runs(len(runs))} are done"
    text += f", {running:,} {'is' if running == 1 else 'are'} running" if running else ""
    text += f"; {share:.0%} of the training compute is done. " if total else ". "
    for forecast in content.forecasts.of_targets:
        if forecast.history:
            last = forecast.history[-1]
            text += (
                f"Forecast for <b>{escape(forecast.target)}</b>: {escape(forecast.task)} <b>{last.value:.3f}</b>"
                f" {escape(forecast.unit)} (80 % interval {last.low:.3f} to {last.high:.3f}), from"
                f" {_runs(last.n_runs)}. "
            )
    return text


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n:,} runs"


def _written(content: Content) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(content.written))
    often = f"; written again every {terminal.duration(content.every)}" if content.every else ""
    every = f"{content.every:g}" if content.every else "0"
    return (
        f'<p class="note" id="written" data-written="{content.written:.0f}" data-every="{every}">'
        f"Written {when}{often}.</p>"
    )


def _forecasts(content: Content) -> str:
    so_far = content.forecasts
    parts = [f"<p>{escape(so_far.missing)}</p>" if so_far.missing else ""]
    for forecast in so_far.of_targets:
        name = f"<h3>{escape(forecast.target)}</h3>" if len(so_far.of_targets) > 1 else ""
        missing = f"<p>{escape(forecast.missing)}</p>" if forecast.missing else ""
        chart = _history(forecast, so_far.n_rungs) if forecast.history else ""
        grids = "".join(f"<h3>{escape(grid.title.capitalize())}</h3>{grid.html()}" for grid in forecast.grids)
        more = f"<details><summary>All tasks</summary>{grids}</details>" if grids else ""
        parts.append(name + missing + chart + more)
    return "".join(parts)


def _history(forecast: Forecast, n_rungs: int) -> str:
    """The interval after each finished run: a band that narrows."""
    history, last = forecast.history, forecast.history[-1]
    half = max((last.high - last.low) / 2, 1e-6)
    ends = [step.low for step in history] + [step.high for step in history]
    least, most = last.value - WIDEST * half, last.value + WIDEST * half
    shown = [min(max(value, least), most) for value in ends] + ([forecast.measured] if forecast.measured else [])
    first = history[0].n_runs
    x, y = charts.Axis(first - 0.5, max(n_rungs, last.n_runs, first + 1) + 0.5), charts.around(shown)
    upper = [(step.n_runs, step.high) for step in history]
    lower = [(step.n_runs, step.low) for step in reversed(history)]
    middle = [(step.n_runs, step.value) for step in history]
    if len(history) == 1:  # an interval of one run is drawn as wide as a dot
        upper, lower = ([(n + side * 0.06, value) for side in sides] for (n, value), sides in (
            (upper[0], (-1, 1)), (lower[0], (1, -1))))  # fmt: skip
    paths = [path(charts.line([*upper, *lower], x, y) + "z", "band"), path(charts.line(middle, x, y), "mean")]
    paths += [
        path(charts.dots([(step.n_runs, step.value)], x, y), "forecast", _says(step, forecast)) for step in history
    ]
    measured = ""
    if forecast.measured:
        paths.append(path(charts.line([(x.low, forecast.measured), (x.high, forecast.measured)], x, y), "measured"))
        measured = f" The target measures {forecast.measured:.4f} (dashed)."
    says = _says(last, forecast)
    note = f"{says}.{measured} The band is the 80 % interval that the runs finished by then gave."
    unit = f"{forecast.task} of {forecast.target}, {forecast.unit}"
    chart = charts.chart(x, y, paths, f"finished runs, of {n_rungs:,}", unit, says, lambda n: f"{n:g}")
    return chart + f'<p class="caption">{escape(note)}</p>'


def _says(step: Step, forecast: Forecast) -> str:
    return f"After {_runs(step.n_runs)}: {step.value:.4f}, 80 % interval {step.low:.4f} to {step.high:.4f}"


def _curves(content: Content) -> str:
    known = {run.run_id: content.curves[run.run_id] for run in content.runs if run.run_id in content.curves}
    drawn = {run_id: curve for run_id, curve in known.items() if curve.train or curve.validation}
    if not drawn:
        return "<p>No run has published a loss yet. A run publishes its losses when it saves a checkpoint.</p>"
    sizes = [size for size, group in rungs.by_size(content.runs).items() if any(run.run_id in drawn for run in group)]
    shade_of = {size: round(i * (look.SHADES - 1) / max(1, len(sizes) - 1)) for i, size in enumerate(sizes)}
    each = curves.points_of_each(len(drawn))
    thin = {run_id: curves.thinned(curve.train, each) for run_id, curve in drawn.items()}
    points = [point for run_id, curve in drawn.items() for point in (*thin[run_id], *curve.validation)]
    x, y = (charts.around([point[i] for point in points], log=True, margin=0.02) for i in (0, 1))
    paths = []
    for size in sizes:
        group = [run for run in rungs.by_size(content.runs)[size] if run.run_id in drawn]
        paths += [_curve(run, drawn[run.run_id], thin[run.run_id], shade_of[size], x, y) for run in group]
    says = f"Losses of {_runs(len(drawn))} over training tokens"
    chart = charts.chart(x, y, paths, "training tokens", content.unit, says)
    if len(drawn) > rungs.MANY:
        chart = f'<div class="many">{chart}</div>'
    legend = "".join(f'<li><i class="k{shade_of[size]}"></i>{escape(size)}</li>' for size in sizes)
    note = (
        "Lines: training loss (means of neighbouring steps), of running runs up to now. Dots: validation text; of runs"
        " that have saved nothing yet, the training loss now."
    )
    return f'{chart}<ul class="legend">{legend}</ul><p class="caption">{note}</p>'


def _curve(run: Status, curve: Curve, train: list, shade: int, x: charts.Axis, y: charts.Axis) -> str:
    title = f"{run.run_id}: {run.state}"
    if len(train) == 1:
        line = path(charts.dots(train, x, y), f"dot k{shade}", title)
    else:
        line = path(charts.line(train, x, y), f"curve k{shade}", title) if train else ""
    scores = curve.validation[-1:] if len(curve.validation) > 40 else curve.validation
    return line + (path(charts.dots(scores, x, y), f"dot k{shade}", title) if scores else "")


def _goodput(content: Content) -> str:
    """The parts of the time of all runs together; those of each run are in the table of runs."""
    seconds = {part: sum(of_run[part] for of_run in content.goodput.values()) for part in goodput.PARTS}
    total = sum(seconds.values())
    if not total:
        return "<p>No run has recorded where its time went yet.</p>"
    legend = "".join(
        f'<li><i class="p{i}"></i>{part.replace("_", " ")} {seconds[part] / total:.1%}'
        f' <span class="dim">{terminal.duration(seconds[part])}</span></li>'
        for i, part in enumerate(goodput.PARTS)
        if seconds[part]
    )
    text = f"{terminal.duration(total)} of all runs together, {seconds['productive'] / total:.0%} of it productive"
    text += ": training steps whose result was kept."
    bar = charts.bar([(f"p{i}", seconds[part]) for i, part in enumerate(goodput.PARTS)])
    return f'<p>{text}</p>{bar}<ul class="legend">{legend}</ul>'


def _links(links: Mapping[str, str]) -> str:
    items: Sequence[str] = [f'<a href="{escape(href)}">{escape(text)}</a>' for text, href in links.items()]
    return f"<p>{' · '.join(items)}</p>" if items else ""
