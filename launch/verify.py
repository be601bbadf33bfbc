"""Check that the files of run directories and their corpora are as they were written, and complete."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.text import Text

from ladder.errors import InputError
from ladder.rundir import config_file, evaluations, lease, segments
from ladder.rundir.files import MANIFEST, is_local
from ladder.rundir.record import Record
from launch import terminal


@dataclass(frozen=True)
class Checked:
    """checkpoints, rows (of metrics): how many were read. problems: one line each. unchecked: what was written before
    ladder kept hashes of it, so that only its form can be checked."""

    name: str
    checkpoints: int = 0
    rows: int = 0
    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def check(directory) -> Checked:
    """Compare every file of a run directory or fit directory with its hash, and config.json with its run_id."""
    from ladder.rundir.checkpoint import Checkpoints

    record, problems, unchecked = Record(directory), [], []
    config = _attempt(problems, record.read_config) or {}
    done = _attempt(problems, record.done)
    _attempt(problems, record.stopped)
    unchecked += [f"{name}.json" for name, value in (("config", config), ("DONE", done)) if _is_old(value)]
    if "rung" in config:
        _attempt(problems, lambda: config_file.read(record))
    if done and done["step"] < config.get("derived", {}).get("steps", 0):
        done = None  # a trunk that is made longer
    problems += filter(None, [lease.damage(record.directory)])
    problems += [f"attempts.jsonl:{line}: damaged; delete the line" for line in record.damaged_attempts()]
    problems += evaluations.problems(record.directory)
    unchecked += ["evaluations"] * any(name.endswith(".jsonl") for name in evaluations.names(record.directory))
    checkpoints = Checkpoints(record.directory / "checkpoints")
    steps = checkpoints.steps()
    problems += [f"checkpoint {step}: {problem}" for step in steps for problem in checkpoints.verify(step)]
    problems += [f"checkpoint {step}: {MANIFEST} was cut; the step is ignored" for step in checkpoints.cut_steps()]
    if done and "rung" in config and done["step"] not in steps:
        problems.append("the run is done, but the checkpoint of its last step is missing")
    listing = _attempt(problems, lambda: _listing(done, checkpoints, steps))
    first = (config.get("derived", {}).get("parent_step") or -1) + 1
    rows = _check_metrics(record, listing, first, done, problems) if "rung" in config else 0
    if listing is None and segments.names(record.metrics):
        unchecked.append("metrics")
    problems += [f"{name}: not as it was written" for name in _changed_outputs(record.directory, done)]
    return Checked(record.directory.name, len(steps), rows, tuple(problems), tuple(unchecked))


def check_corpora(
    directories: Iterable[Path], start_bar: Callable[[int], Callable[[int], None]] = lambda total: lambda n: None
) -> list[Checked]:
    """Check every file of the corpora and every block of the token files that these runs name, each once."""
    from ladder.data import seal

    corpora, token_files, checked = {}, {}, []
    for directory in directories:
        config = _attempt([], Record(directory).read_config) or {}
        named = config_file.token_indexes(config)
        token_files |= dict.fromkeys(named)
        folders = {index for index, _ in named}
        corpora |= dict.fromkeys(folder for folder in config_file.corpus_dirs(config) if folder not in folders)
    for folder, needed_hash in token_files:
        checked.append(check_tokens(folder, start_bar, needed_hash))
    for corpus in corpora:
        unsealed = () if seal.is_sealed(corpus) else ("all files",)
        checked.append(Checked(f"corpus {Path(corpus).name}", 0, 0, tuple(seal.verify(corpus)), unsealed))
    return checked


def token_index(name: str):
    """The folder of the index of token files, where `name` is that folder, or a file or folder beside which it lies."""
    from ladder.data.tokens import formats, index

    if not is_local(name):
        return index.beside(name)
    is_named = Path(name).is_dir() or (Path(name).is_file() and name.endswith(formats.SUFFIXES))
    return index.locate([name]) if is_named else None


def check_tokens(folder, start_bar: Callable[[int], Callable[[int], None]], needed_hash: str | None = None) -> Checked:
    """Check every block of the token files of an index, and the index. needed_hash: of the index that a run names."""
    from ladder.data.tokens import index
    from ladder.data.tokens import verify as verify_blocks

    problems: list[str] = []
    contents = _attempt(problems, lambda: index.read(folder))
    if contents is not None:
        if needed_hash not in (None, contents.hash):
            problems.append(f"{folder}: indexes other tokens ({contents.hash}) than a run needs ({needed_hash})")
        problems += verify_blocks.verify(contents, start_bar(sum(entry.size for entry in contents.entries)))
    return Checked(f"tokens {folder}", problems=tuple(problems))


def _attempt(problems: list[str], read: Callable):
    """What read() returns; None where it raises InputError, whose message is then added to the problems."""
    try:
        return read()
    except InputError as error:
        problems.append(str(error))
        return None


def _is_old(value: dict | None) -> bool:
    return bool(value) and value.get("schema_version") == 1


def _listing(done: dict | None, checkpoints, steps: Sequence[int]) -> dict | None:
    """Of the segments; None where it was not kept."""
    if done:
        return done.get("metrics")
    return checkpoints.metrics(steps[-1]) if steps else {}


def _check_metrics(record: Record, listing, first: int, done: dict | None, problems: list[str]) -> int:
    """Add what is wrong with the metrics to the problems; returns the number of rows."""
    names, rows = segments.names(record.metrics), []
    problems += segments.problems(record.metrics, listing or {})
    known = names if listing is None else sorted(listing)
    if known or done:
        last = done["step"] if done else segments.steps(known[-1])[1]
        gap = segments.gap(known, first, last)
        problems += [f"{record.metrics}: {gap}"] * bool(gap)
    if done and listing is not None:
        problems += [f"{record.metrics / name}: does not belong to this run" for name in set(names) - set(listing)]
    for name in names:
        rows += _attempt(problems, lambda name=name: list(segments.rows(record.metrics / name))) or []
    if done and not any(row["step"] == done["step"] for row in rows):
        problems.append(f"{record.metrics}: the run is done, but there is no row of its last step")
    return len(rows)


def _changed_outputs(directory, done: dict | None) -> list[str]:
    """Of a fit directory: the files that DONE.json lists and that have changed."""
    changed = []
    for name, sha256 in ((done or {}).get("outputs") or {}).items():
        path = directory / name
        if not path.exists() or segments.entry(path.read_bytes())["sha256"] != sha256:
            changed.append(str(path))
    return changed


def table(checked: Sequence[Checked]) -> terminal.Table:
    bad = sum(bool(c.problems) for c in checked)
    grid = terminal.Table(title=f"{len(checked) - bad} of {len(checked)} undamaged")
    for name in ("run", "checkpoints", "rows", "problems"):
        justify = "right" if name in ("checkpoints", "rows") else "left"
        grid.add_column(name, justify=justify, overflow="fold", no_wrap=name != "problems")
    for c in checked:
        lines = [Text(problem, "red") for problem in c.problems] or [Text("none", "green")]
        if c.unchecked:
            lines.append(Text(f"unchecked, made before ladder kept hashes: {', '.join(c.unchecked)}", "yellow"))
        grid.add_row(c.name, str(c.checkpoints), f"{c.rows:,}", Text("\n").join(lines))
    return grid


def to_json(checked: Sequence[Checked]) -> dict:
    return {"runs": [asdict(c) for c in checked]}
