"""Run directories as rows of a runs table."""

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.runs_table import Table, from_rows

# Columns taken from the "derived" part of a run directory's config.json.
DERIVED = (
    *("size", "multiple", "n_params", "n_non_embedding", "n_total", "seed", "kind", "parent"),
    *("schedule", "peak_lr", "batch_tokens", "lr_final_fraction", "corpus"),
    *("steps", "warmup_steps", "decay_steps", "parent_step"),
)


def read_runs(folder, unfinished: bool = False) -> Table:
    """Read the finished run directories in `folder` (or `folder` itself, if it is one); also the unfinished, if asked.

    Raises InputError if there is none, or a file in one is damaged.
    """
    folders = [folder] if (folder / "config.json").exists() else sorted(folder.iterdir(), key=str)
    runs = [path for path in folders if (path / "config.json").exists()]
    if not runs:
        raise InputError(f"{folder}: no run directories (folders with a config.json) in it")
    rows, left_out = [], []
    for run in runs:
        if unfinished or (run / "DONE.json").exists():
            rows += _run_rows(run)
        else:
            left_out.append(f"{run.name}: {_why_unfinished(run)}")
    if len(left_out) == len(runs):
        raise InputError(
            f"{folder}: no finished run among {len(runs)} run directories (none has a DONE.json); train them first"
        )
    if not rows:
        raise InputError(f"{folder}: the finished runs hold no metrics")
    return from_rows(rows, str(folder), tuple(left_out))


def _why_unfinished(run) -> str:
    stopped = run / "STOPPED.json"
    if not stopped.exists():
        return "not finished (no DONE.json)"
    reason = _json_file(stopped)
    return f"{reason.get('state', 'stopped')} at step {reason.get('step')}"


def _run_rows(run) -> list[dict]:
    """Rows of one run directory, without the evaluation before the first step."""
    config = _json_file(run / "config.json")
    done = run / "DONE.json"
    last_step = _json_file(done).get("step") if done.exists() else None
    try:
        derived = config["derived"]
        common = {"run": config["run_id"], "split": config["split"]}
        common |= {name: derived[name] for name in DERIVED if name in derived}
        flops_per_token = derived["flops_per_token"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{run / 'config.json'}: no {error} in it") from None
    rows = []
    for path in sorted((run / "metrics").glob("*.jsonl"), key=_first_step):
        rows += _segment_rows(path, flops_per_token, last_step)
    for path in sorted((run / "evaluations").glob("*.jsonl")):  # written after training, by `ladder eval`
        rows = _updated(rows, _segment_rows(path, flops_per_token, last_step))
    return [common | row for row in rows]


def _segment_rows(segment, flops_per_token: float, last_step: int | None) -> list[dict]:
    """Rows of a file of metrics. last_step: of a finished run, where its rows are final unless it is a trunk."""
    rows = []
    for number, row in reader.json_lines(reader.content(segment)[1], str(segment)):
        place = f"{segment}:{number}"
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


def _first_step(segment) -> tuple:
    """Sort key of a file of metrics: by its first step, a number."""
    first = segment.name.split("-")[0]
    return (int(first) if first.isdigit() else -1), segment.name


def _json_file(path) -> dict:
    return reader.json_object(reader.content(path)[1], str(path))
