"""The files of a run directory, each compared with the hashes that were kept when it was written.

DONE.json lists the segments of the metrics of a finished run; of an unfinished one the manifest of its newest
checkpoint does. Runs made before these lists were kept are read unchecked; `ladder verify` names them.
"""

import hashlib
import json
import re
from collections.abc import Iterator

from fitting.errors import InputError
from fitting.tables import reader

INDEX = "INDEX.json"
_SEGMENT = re.compile(r"(\d{9})-(\d{9})\.jsonl")


def sealed(path, run_id: str) -> dict:
    """A JSON object that holds its own hash. Raises InputError if it was changed since, or belongs to another run."""
    value = reader.json_object(reader.content(path)[1], str(path))
    stated = value.pop("sha256", None)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    own = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    if stated != own and not (stated is None and value.get("schema_version") == 1):
        raise InputError(f"{path}: damaged, or edited by hand: its content does not match the hash in it")
    if value.get("run_id", run_id) != run_id:
        raise InputError(f"{path}: belongs to run {value['run_id']}, not to {run_id}")
    return value


def segments(run, done: dict | None, first: int) -> list:
    """The segments of the metrics, in order. done: DONE.json, None of an unfinished run. first: step of the run.

    Raises InputError if one is missing or was changed, or the steps from `first` to the last are not covered.
    """
    folder = run / "metrics"
    names = sorted(path.name for path in folder.iterdir() if _SEGMENT.fullmatch(path.name)) if folder.exists() else []
    listing = done.get("metrics") if done else _listing_of_newest_checkpoint(run)
    for name, expected in (listing or {}).items():
        if name not in names:
            raise InputError(f"{folder / name}: missing; train the run again")
        raw = reader.content(folder / name)[0]
        if {"sha256": hashlib.sha256(raw).hexdigest(), "rows": raw.count(b"\n")} != expected:
            raise InputError(f"{folder / name}: not as it was written (its hash differs); train the run again")
    names = names if listing is None else sorted(listing)
    _check_coverage(folder, names, first, done and done["step"])
    return [folder / name for name in names]


def _check_coverage(folder, names: list[str], first: int, last: int | None) -> None:
    covered = first - 1
    for name in names:
        begin, end = (int(part) for part in _SEGMENT.fullmatch(name).groups())
        if begin != covered + 1:
            raise InputError(f"{folder / name}: begins at step {begin}, not at step {covered + 1}; train the run again")
        covered = end
    if last is not None and covered != last:
        raise InputError(f"{folder}: ends at step {covered}, but the run is done at step {last}; train the run again")


def _listing_of_newest_checkpoint(run) -> dict | None:
    """From its manifest: {} where there is no checkpoint, None where the manifest was made before it had a listing."""
    folder = run / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    for step in sorted((int(name) for name in names if name.isdigit()), reverse=True):
        manifest = folder / str(step) / "MANIFEST.json"
        if manifest.exists() and len(manifest.read_bytes()) > len("closed\n"):  # otherwise it was never published
            return sealed(manifest, run.name).get("metrics")
    return {}


def evaluations(run) -> Iterator[list[tuple[str, dict]]]:
    """The rows of every evaluation that `ladder eval` recorded, each with its place, in the order of the files' names.

    Raises InputError if a file was changed, or one that INDEX.json lists is missing.
    """
    folder = run / "evaluations"
    paths = sorted(folder.iterdir(), key=str) if folder.exists() else []
    names = {path.name for path in paths}
    listed = sealed(folder / INDEX, run.name)["files"] if INDEX in names else []
    missing = sorted(set(listed) - names)
    if missing:
        raise InputError(f"{folder / missing[0]}: missing; evaluate again: ladder eval --missing, and the same --tasks")
    for path in paths:
        if path.name.endswith(".jsonl"):  # made before evaluations held a hash
            yield [(f"{path}:{n}", row) for n, row in reader.json_lines(reader.content(path)[1], str(path))]
        elif path.name.endswith(".json") and path.name != INDEX:
            yield [(f"{path}: row {n}", row) for n, row in enumerate(sealed(path, run.name)["rows"], start=1)]
