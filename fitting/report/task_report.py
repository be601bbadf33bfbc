"""One self-contained HTML page that says what was trained, predicted, measured, and how far to trust it."""

from collections.abc import Iterable
from html import escape

import numpy as np

from fitting.errors import InputError
from fitting.report import style, task_figures
from fitting.report.style import si
from fitting.tables.runs_table import Table
from fitting.task_laws import diagnostics, two_step
from fitting.task_laws.two_step import Prediction

MAIN_TASK = "validation"


def report(table: Table, prediction: Prediction, path, meta: dict | None = None) -> None:
    """Write `page` to a file. Raises InputError where it cannot be written."""
    text = page(table, prediction, meta)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def hero(table: Table, prediction: Prediction, path, task: str | None = None) -> None:
    """Save the page's first figure as PNG: the ladder, the law, the prediction and the truth."""
    task = task or _main_task(prediction)
    with style.style():
        task_figures.step1(table, prediction, prediction.targets[0], task, large=True).savefig(path, dpi=160)


def page(table: Table, prediction: Prediction, meta: dict | None = None) -> str:
    """The report as one HTML string without links to anything outside it.

    table: the ladder's runs and, where they have been trained, the targets'. meta, all optional:
    "title", "commands" (list of shell lines that reproduce the page), "facts" ({name: value}).
    """
    meta = meta or {}
    rows = two_step.compare(prediction, table)
    title = meta.get("title") or "What the ladder predicts"
    task = _main_task(prediction)
    sections = [
        f"<h1>{escape(str(title))}</h1>",
        _summary(rows, prediction, task),
        _figure(
            task_figures.step1(table, prediction, prediction.targets[0], task, large=True), f"prediction of {task}"
        ),
        _caption(
            "Each dot is the end of a run that was decayed to its end; only dots enter the fit. Lines through"
            " them: the fitted law. Red: the law at the target's size, with the 80 % prediction interval."
            " Thin lines, where there are any: the same task measured during training."
        ),
        _section("Predicted and measured", _predictions(rows), _errors(rows)),
        _section("What was trained", _trained(table, prediction)),
        _section("Learning curves", _figure(task_figures.curves(table, prediction, task), "learning curves")),
        _section("Step 1: from parameters and tokens to bits per byte", _step1(table, prediction)),
        _section("Step 2: from bits per byte to accuracy", _step2(table, prediction)),
        _section("Backtests: the ladder's own large rungs, predicted from its small ones", _backtests(prediction)),
        _section("What to be careful about", _flags(rows, table)),
        _section("How it was fitted", _settings(prediction)),
        _section("How to reproduce it", _reproduce(table, prediction, meta)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(str(title))}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(s for s in sections if s)
        + "\n</main></body></html>\n"
    )


CSS = """
:root { --ink: #1f2933; --muted: #6b7785; --line: #e4e8ec; --red: #b83246; --green: #1f6b52; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 16px; }
h2 { font-size: 20px; margin: 48px 0 12px; padding-top: 20px; border-top: 1px solid var(--line); }
p { max-width: 74ch; }
.lead { font-size: 18px; }
.note, .caption { color: var(--muted); font-size: 14px; }
img { width: 100%; height: auto; display: block; margin: 12px 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 8px 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; margin: 12px 0; width: 100%; }
h3 { font-size: 16px; margin: 24px 0 4px; }
th { text-align: left; color: var(--muted); font-weight: 600; vertical-align: bottom; }
th { border-bottom: 1px solid #b8c0c8; }
th, td { padding: 5px 11px 5px 0; }
td { border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.yes { color: var(--green); font-weight: 600; } .no { color: var(--red); font-weight: 600; }
.target td { background: #fdf3f4; }
code, pre { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
pre { background: #f5f7f9; padding: 12px 16px; border-radius: 6px; overflow-x: auto; }
code { overflow-wrap: anywhere; }
ul { padding-left: 20px; } li { margin: 4px 0; }
"""


# Sections ---------------------------------------------------------------------------------------


def _summary(rows: list[dict], prediction: Prediction, task: str) -> str:
    target = prediction.targets[0]
    row = next(r for r in rows if (r["target"], r["task"]) == (target.name, task))
    points = prediction.points
    largest = points.features["N"].max()
    text = (
        f"{len(points.runs)} runs of {len(set(points.sizes))} sizes, the largest with {si(largest)} parameters,"
        f" predict <b>{escape(target.name)}</b>: {si(target.n_params)} parameters"
        f" ({target.n_params / largest:.1f} times the largest), {si(target.tokens)} tokens. "
    )
    if row["bpb"] is None:
        return f'<p class="lead">{text}No prediction for {escape(task)}: {escape("; ".join(row["flags"]))}.</p>'
    lo, hi = row["bpb_pi80"]
    text += f"Bits per byte on {escape(task)}: predicted <b>{row['bpb']:.3f}</b> (80 % interval {lo:.3f} to {hi:.3f})"
    if row["actual_bpb"] is None:
        return f'<p class="lead">{text}. The target has not been trained.</p>'
    verdict = (
        '<span class="yes">inside the interval</span>'
        if row["inside"]
        else '<span class="no">outside the interval</span>'
    )
    return (
        f'<p class="lead">{text}; trained afterwards, it measures <b>{row["actual_bpb"]:.3f}</b>, {verdict}.'
        f" The prediction is {abs(row['error']):.1%} too {'high' if row['error'] > 0 else 'low'}.</p>"
    )


def _predictions(rows: list[dict]) -> str:
    several = len({r["target"] for r in rows}) > 1
    measured = any(r["actual_bpb"] is not None for r in rows)
    name = ["target", "task"] if several else ["task"]
    head = [*name, "#predicted", "#80 % interval", *(["#measured", "#error", "inside"] if measured else [])]
    bpb, acc = [], []
    for r in rows:
        named = [r[k] for k in name]
        error = "" if r["error"] is None else f"{r['error']:+.1%}"
        truth = [_number(r["actual_bpb"]), error, _verdict(r["inside"])] if measured else []
        bpb.append([*named, _number(r["bpb"]), _interval(r["bpb_pi80"]), *truth])
        if r["acc"] is not None:
            interval = _interval(r["acc_pi80"]) or "at chance: not predicted"
            error = "" if r["acc_error"] is None else f"{r['acc_error']:+.1f} points"
            truth = [_number(r["actual_acc"]), error, _verdict(r["acc_inside"])] if measured else []
            acc.append([*named, _number(r["acc"]), interval, *truth])
    text = "<h3>Bits per byte</h3>" + _html_table(head, bpb)
    if acc:
        text += "<h3>Accuracy</h3>" + _html_table(head, acc)
    note = "An 80 % interval is meant to miss one time in five."
    if any(r["acc"] is not None and r["acc_pi80"] is None for r in rows):
        note += (
            " Where the ladder's runs are not above chance (binomial test), accuracy is not predicted;"
            " the chance level stands in its place."
        )
    return text + f'<p class="note">{note}</p>'


def _errors(rows: list[dict]) -> str:
    if not any(r["bpb"] is not None for r in rows):
        return ""
    return _figure(task_figures.errors(rows), "intervals and measurements, task by task")


def _trained(table: Table, prediction: Prediction) -> str:
    convention = prediction.settings["n_convention"]
    shown = [c for c in ("kind", "multiple", "flops", "batch_tokens", "peak_lr", "seed") if c in table]
    head = ["run", "size", f"#{convention}", "#tokens", "#tokens/N", *(_heading(c) for c in shown)]
    body, kinds = [], []
    last_rows = [_last_row(table.select(run=run)) for run in table.unique("run")]
    order = {"train": 0, "extra": 1, "target": 2}
    last_rows.sort(key=lambda r: (order[r["split"]], r[convention], r.get("kind") != "trunk", r["tokens"], r["run"]))
    for row in last_rows:
        kinds.append("target" if row["split"] == "target" else "")
        body.append(
            [row["run"], row.get("size", ""), si(row[convention]), si(row["tokens"]),
             f"{row['tokens'] / row[convention]:.1f}", *(_cell(row[c]) for c in shown)]
        )  # fmt: skip
    corpora = [c for c in table.unique("corpus") if c] if "corpus" in table else []
    text = "".join(
        f"<p>Corpus <code>{escape(c)}</code>. Bits per byte compare only within one corpus.</p>" for c in corpora
    )
    if len(corpora) > 1:
        text += '<p class="no">The runs were trained on different corpora: their figures do not compare.</p>'
    text += (
        "<p>A trunk keeps a constant learning rate; a branch decays from one of its checkpoints to its end."
        " Only decayed runs enter the fits, and never the target's.</p>"
        if "kind" in table and "trunk" in table["kind"]
        else ""
    )
    return text + _html_table(head, body, kinds)


def _step1(table: Table, prediction: Prediction) -> str:
    settings, target = prediction.settings, prediction.targets[0]
    images = [
        _figure(task_figures.step1(table, prediction, target, task), f"step 1 of {task}")
        for task in prediction.points.tasks
    ]
    step1 = prediction.step1
    if step1 is None:
        return "<p>No task has enough runs for a law.</p>" + "".join(images)
    head, body = ["task", "#run noise", "#runs", "heaviest forms (weight)"], []
    for t, task in enumerate(prediction.fitted):
        order = np.argsort(-step1.weights_FT[:, t])[:3]
        heaviest = ", ".join(f"{step1.forms[f].name} ({step1.weights_FT[f, t]:.0%})" for f in order)
        body.append([task, f"{step1.noise_T[t]:.2%}", str(step1.points_T[t]), heaviest])
    forms = [[f.name, f.formula, f"{w:.1%}"] for f, w in zip(step1.forms, step1.weights_FT.mean(axis=1), strict=True)]
    return (
        f"<p>Law: <code>{escape(settings['law'])}</code>, with N = {escape(settings['n_convention'])}, D = tokens."
        " Each task has its own fits and its own weights, from how well a form predicted held-out rungs.</p>"
        f"{_html_table(head, body)}<h3>The forms and their mean weights</h3>"
        f"{_html_table(['form', 'formula', '#weight'], forms)}<div class='grid'>{''.join(images)}</div>"
    )


def _step2(table: Table, prediction: Prediction) -> str:
    if not prediction.step2:
        return "<p>No task in the table has an accuracy.</p>"
    target = prediction.targets[0]
    images = [_figure(task_figures.step2(table, prediction, target, t), f"step 2 of {t}") for t in prediction.step2]
    reasons = [f"<li><b>{escape(t)}</b>: {escape(a.chance.why)}</li>" for t, a in prediction.step2.items()]
    fits = any(a.fit for a in prediction.step2.values())
    text = (
        f"<p>Where accuracy is above chance: <code>{escape(prediction.settings['step2'])}</code>.</p>"
        if fits
        else "<p>No task's accuracy is above chance on this ladder, so no sigmoid is fitted; a line through noise"
        " would predict nothing. The bits per byte of the same tasks are predicted all the same.</p>"
    )
    return f"{text}<ul>{''.join(reasons)}</ul><div class='grid'>{''.join(images)}</div>"


def _backtests(prediction: Prediction) -> str:
    """Errors and coverage of every holdout; weights and factor come from the other holdouts."""
    tested = prediction.tested
    if tested is None:
        return "<p>The ladder is too short to hold anything out: forms weigh the same, intervals are as computed.</p>"
    text = ""
    for name, rows, scale, unit in (
        ("Bits per byte", tested.bpb.table(), 100, " %"),
        ("Accuracy, through both steps", tested.acc_rows, 1, " points"),
    ):
        body = [
            [r["holdout"], str(r["fitted"]), str(r["tested"]), f"{np.exp(r['distance']):.1f}x",
             f"{scale * r['error']:.2f}{unit}", f"{scale * r['bias']:+.2f}", f"{r['coverage_raw']:.0%}",
             f"{r['coverage']:.0%}", f"{scale * r['width']:.2f}", f"{scale * r['score']:.2f}",
             f"{scale * r['constant_score']:.2f}"]
            for r in rows
        ]  # fmt: skip
        head = ["held out", "#fitted", "#tested", "#compute", "#mean error", "#bias", "#raw coverage", "#stretched"]
        head += ["#width", "#score", "#score, constant width"]
        text += f"<h3>{name}</h3>" + _html_table(head, body) if rows else ""
    return text + (
        f'<p class="note">The 80 % intervals are stretched by {tested.factor_bpb:.2f} (bpb) and {tested.factor_acc:.2f}'
        " (accuracy), so that they hold 80 % of the held-out rungs. Score: interval score, lower is better.</p>"
    )


def _flags(rows: list[dict], table: Table) -> str:
    items = [f"<li><b>{escape(whose)}</b>: {escape(flag)}</li>" for whose, flag in diagnostics.lines(rows)]
    items += [f"<li>left out: {escape(run)}</li>" for run in table.left_out]
    return f"<ul>{''.join(items)}</ul>" if items else "<p>Nothing is flagged.</p>"


def _settings(prediction: Prediction) -> str:
    body = [[k.replace("_", " "), _setting(v)] for k, v in prediction.settings.items()]
    text = (
        "<p>The interval has three sources: the form (a draw is one form, with the probability of its weight), the"
        " form's parameters (resampled), and the noise of a run (scatter around the law, with the degrees of freedom"
        " that are left); backtests stretch it.</p>"
    )
    return text + _html_table(["setting", "value"], body)


def _reproduce(table: Table, prediction: Prediction, meta: dict) -> str:
    source = table.source
    targets = " ".join(f"--target {t.name}={t.n_params:.0f},{t.tokens:.0f}" for t in prediction.targets)
    commands = meta.get("commands") or [f"ladder predict {source} {targets}", f"ladder report {source} -o report.html"]
    facts = {"runs table, sha256": prediction.table_sha256} | dict(meta.get("facts") or {})
    return f"<pre>{escape(chr(10).join(commands))}</pre>" + _html_table(
        ["", ""], [[str(k), str(v)] for k, v in facts.items()]
    )


# Pieces -----------------------------------------------------------------------------------------


def _main_task(prediction: Prediction) -> str:
    tasks = prediction.points.tasks
    if MAIN_TASK in tasks:
        return MAIN_TASK
    return prediction.fitted[0] if prediction.fitted else tasks[0]


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _figure(figure, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="{style.svg(figure)}">'


def _caption(text: str) -> str:
    return f'<p class="caption">{escape(text)}</p>'


def _html_table(head: Iterable[str], body: list[list[str]], classes: list[str] | None = None) -> str:
    """Cells are text and escaped here; a heading that begins with # is a column of numbers."""
    head = list(head)
    number = ['class="n"' if h.startswith("#") else "" for h in head]
    top = "".join(f"<th {n}>{escape(h.lstrip('#'))}</th>" for h, n in zip(head, number, strict=True))
    lines = []
    for i, cells in enumerate(body):
        tds = "".join(f"<td {n}>{_text(c)}</td>" for c, n in zip(cells, number, strict=True))
        lines.append(f'<tr class="{classes[i] if classes else ""}">{tds}</tr>')
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _text(cell: str) -> str:
    return {"yes": '<span class="yes">yes</span>', "no": '<span class="no">no</span>'}.get(cell) or escape(str(cell))


def _verdict(inside: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[inside]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(bounds: list | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _heading(column: str) -> str:
    return column.replace("_", " ") if column == "kind" else "#" + column.replace("_", " ")


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
