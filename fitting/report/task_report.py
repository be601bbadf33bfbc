"""The page of a prediction: what was trained, predicted and measured, and how far to trust it."""

from collections.abc import Sequence
from html import escape

import numpy as np

from fitting import files
from fitting.forecasting import backtest, diagnostics, predict
from fitting.forecasting.predict import Prediction
from fitting.forecasting.results import TaskForecast
from fitting.laws.forms import FORMS
from fitting.report import html, style, task_figures, task_tables
from fitting.report.grid import Grid
from fitting.report.html import section
from fitting.report.numbers import si
from fitting.tables.runs_table import Table

MAIN_TASK = "validation"
# Columns of the table of runs that are shown where the runs table has them: heading of each.
OPTIONAL_COLUMNS = {"kind": "kind", "multiple": "#multiple", "flops": "#flops", "batch_tokens": "#batch tokens"}
OPTIONAL_COLUMNS |= {"peak_lr": "#peak lr", "seed": "#seed"}


def report(table: Table, prediction: Prediction, path, meta: dict | None = None) -> None:
    """Write `page` to a file. Raises InputError where it cannot be written."""
    text = page(table, prediction, meta)
    with files.replaced(path) as part:
        part.write_text(text, encoding="utf-8")


def hero(table: Table, prediction: Prediction, path) -> None:
    """Save the page's first figure as PNG: the ladder, the law, the prediction and the measurement."""
    with style.style():
        figure = task_figures.step1(table, prediction, prediction.targets[0], _main_task(prediction), large=True)
        with files.replaced(path) as part:
            figure.savefig(part, dpi=160)


def page(table: Table, prediction: Prediction, meta: dict | None = None) -> str:
    """The report as one HTML string without links to anything outside it.

    table: the ladder's runs and, where they have been trained, the targets'. meta, all optional: "title", "commands"
    (list of shell lines that reproduce the page), "facts" ({name: value}), "sealed" (a forecast made before, which is
    shown first: {"lines": what is known about it, "entries": TaskForecasts}), "sections" (HTML that follows it).
    """
    meta = meta or {}
    entries = predict.with_measured(prediction, table)
    title = meta.get("title") or "What the ladder predicts"
    task, target = _main_task(prediction), prediction.targets[0]
    hero_figure = task_figures.step1(table, prediction, target, task, large=True)
    caption = (
        "Each dot is the end of a fully decayed run; only dots enter the fit. Lines through them: the fitted law. Red:"
        " the law at the target's size, with the 80 % prediction interval. Runs near the target count most, so the law"
        " may pass beside small and early runs. Thin lines, if any: the same task measured during training."
    )
    parts = [
        f"<h1>{escape(str(title))}</h1>",
        _summary(entries, prediction, task),
        html.figure(hero_figure, f"prediction of {task}"),
        f'<p class="caption">{escape(caption)}</p>',
        _sealed(meta.get("sealed"), prediction.measurements.metric),
        *meta.get("sections", ()),
        _today(entries, meta.get("sealed"), prediction.measurements.metric),
        section("What was trained", _trained(table, prediction)),
        section("Learning curves", html.figure(task_figures.curves(table, prediction, task), "learning curves")),
        section(
            f"Step 1: from parameters and tokens to {prediction.measurements.loss_name}", _step1(table, prediction)
        ),
        section(f"Step 2: from {prediction.measurements.loss_name} to accuracy", _step2(table, prediction)),
        section("Backtests: the ladder's own large rungs, predicted from its small ones", _backtests(prediction)),
        section("What to be careful about", _flags(entries, table)),
        section("How it was fitted", _settings(prediction)),
        section("How to reproduce it", _reproduce(table, prediction, meta)),
    ]
    return html.page(str(title), parts)


def _summary(entries: Sequence[TaskForecast], prediction: Prediction, task: str) -> str:
    target = prediction.targets[0]
    entry = next(e for e in entries if (e.target, e.task) == (target.name, task))
    points = prediction.points
    largest = points.features["N"].max()
    text = (
        f"{len(points.runs)} runs of {len(set(points.sizes))} sizes, the largest with {si(largest)} parameters,"
        f" predict <b>{escape(target.name)}</b>: {si(target.N)} parameters"
        f" ({target.N / largest:.1f} times the largest), {si(target.D)} tokens. "
    )
    if entry.bpb is None:
        return f'<p class="lead">{text}No prediction for {escape(task)}: {escape("; ".join(entry.flags))}.</p>'
    lo, hi = entry.bpb_interval
    text += f"{prediction.measurements.loss_name.capitalize()} on {escape(task)}: predicted <b>{entry.bpb:.3f}</b>"
    text += f" (80 % interval {lo:.3f} to {hi:.3f})"
    if entry.measured_bpb is None:
        return f'<p class="lead">{text}. The target has not been trained.</p>'
    css, word = ("yes", "inside") if entry.inside else ("no", "outside")
    return (
        f'<p class="lead">{text}; trained afterwards, it measures <b>{entry.measured_bpb:.3f}</b>,'
        f' <span class="{css}">{word} the interval</span>.'
        f" The prediction is {abs(entry.error):.1%} too {'high' if entry.error > 0 else 'low'}.</p>"
    )


def _today(entries: Sequence[TaskForecast], sealed: dict | None, loss: str) -> str:
    """The forecasts of these runs; "" where they are the sealed ones, which the page shows already."""

    def numbers(forecasts):
        return [(e.target, e.task, e.bpb, e.accuracy, e.measured_bpb, e.measured_accuracy) for e in forecasts]

    if sealed and numbers(sealed["entries"]) == numbers(entries):
        return ""
    return section("Predicted and measured", _predictions(entries, loss))


def _sealed(sealed: dict | None, loss: str) -> str:
    if not sealed:
        return ""
    lines = "".join(f"<p>{escape(line[:1].upper() + line[1:])}.</p>" for line in sealed["lines"])
    return section("The sealed forecast, and what was measured", lines + _predictions(sealed["entries"], loss))


def _predictions(entries: Sequence[TaskForecast], loss: str) -> str:
    text = "".join(
        f"<h3>{grid.title.capitalize()}</h3>{grid.html()}" + "".join(f"<p>{note}</p>" for note in grid.notes)
        for grid in task_tables.predictions(entries, (), loss)
    )
    text += f'<p class="note">{task_tables.INTERVAL_NOTE}</p>'
    if any(e.bpb is not None for e in entries):
        text += html.figure(task_figures.errors(entries), "intervals and measurements, task by task")
    return text


def _trained(table: Table, prediction: Prediction) -> str:
    convention = prediction.settings["n_convention"]
    shown = {column: heading for column, heading in OPTIONAL_COLUMNS.items() if column in table}
    head = ["run", "size", f"#{convention}", "#tokens", "#tokens/N", *shown.values()]
    last_rows = [_last_row(table.select(run=run)) for run in table.unique("run")]
    order = {"train": 0, "extra": 1, "target": 2}
    last_rows.sort(key=lambda r: (order[r["split"]], r[convention], r.get("kind") != "trunk", r["tokens"], r["run"]))
    classes = ["target" if row["split"] == "target" else "" for row in last_rows]
    body = [
        [row["run"], row.get("size", ""), si(row[convention]), si(row["tokens"]),
         f"{row['tokens'] / row[convention]:.1f}", *(_cell(row[c]) for c in shown)]
        for row in last_rows
    ]  # fmt: skip
    corpora = [c for c in table.unique("corpus") if c] if "corpus" in table else []
    text = "".join(
        f"<p>Corpus <code>{escape(c)}</code>. Bits per byte compare only within one corpus.</p>" for c in corpora
    )
    if len(corpora) > 1:
        text += '<p class="no">The runs were trained on different corpora: their figures do not compare.</p>'
    if "kind" in table and "trunk" in table["kind"]:
        text += (
            "<p>A trunk keeps a constant learning rate; a branch decays from one of its checkpoints to its end."
            " Only decayed runs enter the fits, and never the target's.</p>"
        )
    return text + Grid("", head, body, classes=classes).html()


def _step1(table: Table, prediction: Prediction) -> str:
    settings, target = prediction.settings, prediction.targets[0]
    images = [
        html.figure(task_figures.step1(table, prediction, target, task), f"step 1 of {task}")
        for task in prediction.points.tasks
    ]
    if not prediction.fitted:
        return "<p>No task has enough runs for a law.</p>" + "".join(images)
    head = ["task", "#run noise", "#runs that count", *(f"#{form.name}" for form in FORMS), "#alpha", "#beta", "#E"]
    body = []
    for task in prediction.fitted:
        law = prediction.laws[target.name, task]
        weights = [f"{law.form_weights[form.name]:.0%}" for form in FORMS]
        means = [f"{value:.3g}" for value in law.summary().values()]
        body.append([task, f"{law.noise:.2%}", str(law.n_runs), *weights, *means])
    forms = "".join(f"<li><b>{form.name}</b>: <code>{escape(form.formula)}</code></li>" for form in FORMS)
    return (
        f"<p>Three forms, with N = {escape(settings['n_convention'])}, D = tokens:</p><ul>{forms}</ul>"
        "<p>Each task has its own posterior near the target. The forecast is its mean over forms, exponents and floors;"
        " alpha, beta and E are posterior means.</p>"
        f"{Grid('', head, body).html()}<div class='grid'>{''.join(images)}</div>"
    )


def _step2(table: Table, prediction: Prediction) -> str:
    if not prediction.step2:
        return "<p>No task in the table has an accuracy.</p>"
    target = prediction.targets[0]
    images = [html.figure(task_figures.step2(table, prediction, target, t), f"step 2 of {t}") for t in prediction.step2]
    reasons = [f"<li><b>{escape(t)}</b>: {escape(a.chance.why)}</li>" for t, a in prediction.step2.items()]
    text = (
        f"<p>Where accuracy is above chance: {escape(prediction.settings['step2'])}.</p>"
        if any(a.chance.above for a in prediction.step2.values())
        else "<p>No task's accuracy is above chance on this ladder, so no sigmoid is fitted: accuracies at chance do"
        " not determine it. The loss of the same tasks is still predicted.</p>"
    )
    return f"{text}<ul>{''.join(reasons)}</ul><div class='grid'>{''.join(images)}</div>"


def _backtests(prediction: Prediction) -> str:
    """Errors and coverage of every holdout."""
    tested = backtest.report(prediction.measurements)
    if tested is None:
        return "<p>The ladder is too short for backtests.</p>"
    grids = [task_tables.backtests(tested.loss, prediction.measurements.loss_name.capitalize(), 100, " %")]
    if tested.accuracy:
        grids.append(task_tables.backtests(tested.accuracy, "Accuracy, through both steps", 1, " points"))
    text = "".join(f"<h3>{grid.title}</h3>{grid.html()}" for grid in grids)
    return text + f'<p class="note">{task_tables.BACKTEST_NOTE}</p>'


def _flags(entries: Sequence[TaskForecast], table: Table) -> str:
    items = [f"<li><b>{escape(whose)}</b>: {escape(flag)}</li>" for whose, flag in diagnostics.lines(entries)]
    items += [f"<li>left out: {escape(run)}</li>" for run in table.left_out]
    return f"<ul>{''.join(items)}</ul>" if items else "<p>Nothing is flagged.</p>"


def _settings(prediction: Prediction) -> str:
    body = [[k.replace("_", " "), _setting(v)] for k, v in prediction.settings.items()]
    text = (
        "<p>The interval has two sources: the noise of a run (scatter around the law) and the error of the form, which"
        " in public families of runs is proportional to the predicted improvement over the largest run.</p>"
    )
    return text + Grid("", ["setting", "value"], body).html()


def _reproduce(table: Table, prediction: Prediction, meta: dict) -> str:
    source = table.source
    targets = " ".join(f"--target {t.name}={t.N:.0f},{t.D:.0f}" for t in prediction.targets)
    commands = meta.get("commands") or [f"ladder predict {source} {targets}", f"ladder report {source} -o report.html"]
    facts = {"runs table, sha256": prediction.table_sha256} | (meta.get("facts") or {})
    body = [[name, str(value)] for name, value in facts.items()]
    return f"<pre>{escape(chr(10).join(commands))}</pre>{Grid('', ['', ''], body).html()}"


def _main_task(prediction: Prediction) -> str:
    tasks = prediction.points.tasks
    if MAIN_TASK in tasks:
        return MAIN_TASK
    return prediction.fitted[0] if prediction.fitted else tasks[0]


def _cell(value) -> str:
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else si(value) if value >= 1000 else f"{value:.3g}"


def _setting(value) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_setting(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join("∞" if v is None else str(v) for v in value) or "none"
    return "" if value is None else str(value)


def _last_row(rows: Table) -> dict:
    i = int(np.argmax(rows["step"]))
    return {name: column[i] for name, column in rows.columns.items()}
