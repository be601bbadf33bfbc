"""Run directories as rows of a runs table."""

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.directories import run_files
from fitting.tables.runs_table import Table, from_rows

# Columns taken from the "derived" part of a run directory's config.json.
DERIVED = (
    *("size", "multiple", "n_params", "n_non_embedding", "n_total", "seed", "kind", "parent"),
    *("schedule", "peak_lr", "batch_tokens", "lr_final_fraction", "corpus"),
    *("steps", "warmup_steps", "decay_steps", "parent_step"),
)
SHAPE = ("d_model", "n_layers", "n_heads", "d_ff")  # of its "rung", where it is there


def read_runs(folder, unfinished: bool = False) -> Table:
    """Read the finished run directories in `folder` (or `folder` itself, if it is one); also the unfinished, if asked,
    but for those that diverged.

    A run that is damaged is left out, and Table.left_out says why. Raises InputError if no run can be read.
    """
    folders = [folder] if _is_run(folder) else sorted(folder.iterdir(), key=str)
    runs = [path for path in folders if _is_run(path)]
    if not runs:
        raise InputError(f"{folder}: no run directories (folders with a config.json) in it")
    rows, left_out, damaged = [], [], False
    for run in runs:
        try:
            if (run / "DONE.json").exists() or (unfinished and _stopped(run).get("state") != "diverged"):
                rows += rows_of_run(run)
            else:
                left_out.append(f"{run.name}: {_why_unfinished(run)}")
        except InputError as error:
            left_out.append(f"{run.name}: {error}")
            damaged = True
    if len(left_out) == len(runs) and damaged:
        raise InputError(f"{folder}: no run can be read: {left_out[0]}")
    if len(left_out) == len(runs):
        raise InputError(
            f"{folder}: no finished run among {len(runs)} run directories (none has a DONE.json); train them first"
        )
    if not rows:
        raise InputError(f"{folder}: the finished runs hold no metrics")
    return from_rows(rows, str(folder), tuple(left_out))


def _is_run(path) -> bool:
    return any((path / name).exists() for name in ("config.json", "DONE.json", "metrics"))


def _why_unfinished(run) -> str:
    reason = _stopped(run)
    return f"{reason.get('state', 'stopped')} at step {reason.get('step')}" if reason else "not finished (no DONE.json)"


def _stopped(run) -> dict:
    """STOPPED.json, {} where there is none."""
    return run_files.sealed(run / "STOPPED.json", run.name) if (run / "STOPPED.json").exists() else {}


def rows_of_run(run) -> list[dict]:
    """Rows {column: cell} of one run directory, without the evaluation before the first step; `runs_table.from_rows`
    makes a table of those of several. Raises InputError where the run is damaged."""
    config = run_files.sealed(run / "config.json", run.name)
    done = run_files.sealed(run / "DONE.json", run.name) if (run / "DONE.json").exists() else None
    last_step = done and done.get("step")
    if done and not isinstance(last_step, int):
        raise InputError(f"{run / 'DONE.json'}: damaged: step is {last_step!r}")
    try:
        derived = config["derived"]
        common = {"run": config["run_id"], "split": config["split"]}
        common |= {name: derived[name] for name in DERIVED if name in derived}
        rung = config.get("rung", {})
        common |= {name: rung["model"][name] for name in SHAPE if name in rung.get("model", {})}
        if rung.get("unique_tokens"):
            common["unique_tokens"] = rung["unique_tokens"]
        flops_per_token = derived["flops_per_token"]
        first = (derived.get("parent_step") or -1) + 1
    except (KeyError, TypeError) as error:
        raise InputError(f"{run / 'config.json'}: no {error} in it") from None
    rows = []
    for path in run_files.segments(run, done, first):
        lines = reader.json_lines(reader.content(path)[1], str(path))
        rows += _rows([(f"{path}:{number}", row) for number, row in lines], flops_per_token, last_step)
    if done and not any(row["step"] == last_step for row in rows):
        raise InputError(f"{run / 'metrics'}: no row of its last step, {last_step}; train the run again")
    common |= _skipped_share(rows)
    for evaluation in run_files.evaluations(run):  # after training
        rows = _updated(rows, _rows(evaluation, flops_per_token, last_step))
    return [common | row for row in rows]


def _skipped_share(rows: list[dict]) -> dict:
    """{"skipped_share": of all steps up to the last count}, of a run that skips steps (its optimizer's
    skip_step_sigma); a branch counts what its trunk skipped. Raises InputError where a count is not a number."""
    counts = [row for row in rows if (row.get("task"), row.get("metric")) == ("train", "skipped")]
    if not counts:
        return {}
    last = max(counts, key=lambda row: row["step"])
    try:
        return {"skipped_share": last["value"] / max(1, last["step"])}
    except (KeyError, TypeError):
        raise InputError(f"{last['place']}: a count of skipped steps that is not a number") from None


def _rows(placed: list[tuple[str, dict]], flops_per_token: float, last_step: int | None) -> list[dict]:
    """The rows after the first step. last_step: of a finished run, where its rows are final unless it is a trunk."""
    rows = []
    for place, row in placed:
        if row.get("tokens") == 0:
            continue  # an evaluation before training: laws need D > 0
        try:
            row["flops"] = flops_per_token * row["tokens"]
            row["final"] = row["step"] == last_step and row["kind"] != "trunk"
        except (KeyError, TypeError):
            raise InputError(f"{place}: no step, tokens or kind in it") from None
        rows.append(row | {"place": place})
    return rows


def _updated(rows: list[dict], later: list[dict]) -> list[dict]:
    """Rows with those of a later evaluation, which replace scores of the same key from as many or fewer documents."""

    def key(row):
        return row["step"], row.get("task"), row.get("metric")

    n_docs = {key(row): row.get("n_docs") or 0 for row in rows}
    accepted = {key(row): row for row in later if (row.get("n_docs") or 0) >= n_docs.get(key(row), 0)}
    return [row for row in rows if key(row) not in accepted] + list(accepted.values())
