"""Run directories as rows of a runs table."""

from functools import partial

from fitting.errors import InputError
from fitting.tables import reader
from fitting.tables.runs_table import Table, from_rows

# Taken from a run directory's config.json.
DERIVED = (
    *("size", "multiple", "n_params", "n_non_embedding", "n_total", "seed", "kind", "parent"),
    *("schedule", "peak_lr", "batch_tokens", "lr_final_fraction", "corpus"),
    *("steps", "warmup_steps", "decay_steps", "parent_step"),
)


def read_runs(folder, unfinished: bool = False) -> Table:
    """Read the run directories below `folder` (or `folder` itself, if it is one): the finished ones, or all."""
    if (folder / "config.json").exists():
        runs = [folder]
    else:
        runs = sorted((p for p in folder.iterdir() if (p / "config.json").exists()), key=str)
    if not runs:
        raise InputError(f"{folder}: no run directories (folders with a config.json) in it")
    rows, left_out = [], []
    for run in runs:
        if unfinished or (run / "DONE.json").exists():
            rows += _run_rows(run)
        else:
            left_out.append(f"{run.name}: {_unfinished(run)}")
    if len(left_out) == len(runs):
        raise InputError(
            f"{folder}: no finished run among {len(runs)} run directories (none has a DONE.json); train them first"
        )
    if not rows:
        raise InputError(f"{folder}: the finished runs hold no metrics")
    return from_rows(rows, str(folder), tuple(left_out))


def _unfinished(run) -> str:
    stopped = run / "STOPPED.json"
    if not stopped.exists():
        return "not finished (no DONE.json)"
    why = _json_file(stopped)
    return f"{why.get('state', 'stopped')} at step {why.get('step')}"


def _run_rows(run) -> list[dict]:
    """Rows of one finished run directory, without the evaluation before the first step."""
    config = _json_file(run / "config.json")
    done = run / "DONE.json"
    last = _json_file(done).get("step") if done.exists() else None
    try:
        derived = config["derived"]
        common = {"run": config["run_id"], "split": config["split"]}
        common |= {name: derived[name] for name in DERIVED if name in derived}
        flops_per_token = derived["flops_per_token"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{run / 'config.json'}: no {error} in it") from None
    read = partial(_segment_rows, flops_per_token=flops_per_token, last=last)
    rows = [row for path in sorted((run / "metrics").glob("*.jsonl"), key=_first_step) for row in read(path)]
    for path in sorted((run / "evaluations").glob("*.jsonl")):  # made afterwards, by `ladder eval`
        rows = _instead(rows, read(path))
    return [common | row for row in rows]


def _segment_rows(segment, flops_per_token: float, last: int) -> list[dict]:
    rows = []
    for number, line in enumerate(reader.content(segment)[1].split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{segment}:{number}"
        row = reader.json_object(line, place)
        if row.get("tokens") == 0:
            continue  # before training there is no D
        try:
            row["flops"] = flops_per_token * row["tokens"]
            row["final"] = row["step"] == last and row["kind"] != "trunk"
        except (KeyError, TypeError):
            raise InputError(f"{place}: no step, tokens or kind in it") from None
        rows.append(row | {"place": place})
    return rows


def _instead(rows: list[dict], later: list[dict]) -> list[dict]:
    """rows; where `later` has the same score from no fewer docs, that in its place."""

    def key(row):
        return row["step"], row.get("task"), row.get("metric")

    docs = {key(row): row.get("n_docs") or 0 for row in rows}
    later = {key(row): row for row in later if (row.get("n_docs") or 0) >= docs.get(key(row), 0)}
    return [row for row in rows if key(row) not in later] + list(later.values())


def _first_step(segment) -> tuple:
    first = segment.name.split("-")[0]
    return (int(first) if first.isdigit() else -1), segment.name


def _json_file(path) -> dict:
    return reader.json_object(reader.content(path)[1], str(path))
