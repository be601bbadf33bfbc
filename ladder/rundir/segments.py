"""Metrics segments: metrics/<first>-<last>.jsonl holds the rows of the steps first to last, one JSON object a line.

A listing {name: {"sha256", "rows"}} of all segments up to a step is kept in that step's MANIFEST.json and in DONE.json.
"""

import hashlib
import json
import math
import re

from ladder.errors import InputError
from ladder.rundir.files import read_bytes, read_many

ROW_KEYS = frozenset(("step", "tokens", "kind", "task", "metric", "value", "stderr", "n_docs"))
_NAME = re.compile(r"(\d{9})-(\d{9})\.jsonl")


def name(first: int, last: int) -> str:
    return f"{first:09d}-{last:09d}.jsonl"


def steps(segment: str) -> tuple[int, int]:
    """(first, last) of a segment's name."""
    match = _NAME.fullmatch(segment)
    return int(match[1]), int(match[2])


def names(folder) -> list[str]:
    """The segments in a folder, in order of their steps."""
    try:
        return sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


def entry(content: bytes) -> dict:
    """What a listing holds of a segment."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "rows": content.count(b"\n")}


def gap(listing, first: int, last: int) -> str:
    """What is wrong with the steps that segments cover, which must be first to last without a gap; "" if nothing is."""
    covered = first - 1
    for begin, end in map(steps, sorted(listing)):
        if begin != covered + 1:
            return f"steps {covered + 1} to {begin - 1} are missing" if begin > covered else "segments overlap"
        covered = end
    if covered < last:
        return f"steps {covered + 1} to {last} are missing"
    return "" if covered == last else f"the rows end at step {covered}, not at step {last}"


def problems(folder, listing) -> list[str]:
    """What is wrong with the files of a listing, one line each: missing, or not as they were written."""
    lines = []
    try:
        contents = read_many(folder / segment for segment in listing)
    except OSError as error:
        return [f"{folder}: cannot be read ({error})"]
    for segment, expected in sorted(listing.items()):
        path = folder / segment
        if path not in contents:
            lines.append(f"{path}: missing")
        elif entry(contents[path]) != expected:
            lines.append(f"{path}: not as it was written (its hash differs)")
    return lines


def rows(path):
    """The rows of a segment, in order. Raises InputError with file and line if one is damaged."""
    lines = read_bytes(path).decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        yield _parsed(line, f"{path}:{number}")
    if lines[-1]:
        raise InputError(f"{path}:{len(lines)}: truncated in the middle of a line")


def _parsed(line, where):
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict) or not row.keys() >= ROW_KEYS:
        raise InputError(f"{where}: not a metrics row: it needs {', '.join(sorted(ROW_KEYS))}")
    value, step = row["value"], row["step"]
    if type(step) is not int or type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{where}: step must be a whole number and value a finite number")
    return row
