"""Ranked-choice tasks of several kinds from documents. The same documents and settings give the same bytes."""

import hashlib
import itertools
import json
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random

from ladder.errors import InputError
from ladder.evaluation.held_out import pieces
from ladder.evaluation.held_out.kinds import KINDS, Place
from ladder.evaluation.requests import Doc, Request

OTHER_DOCUMENTS, OF_EACH = 8, 4  # from which pieces of other documents are taken, and how many
LATER = 40  # pieces behind a continuation that may stand in its place


@dataclass(frozen=True)
class Settings:
    """docs: questions of each kind. choices: of each question. context, longest: characters of a context and of a
    continuation, at most. seed: other questions from the same text."""

    kinds: tuple[str, ...] = tuple(KINDS)
    docs: int = 1000
    choices: int = 4
    context: int = 512
    longest: int = 80
    seed: int = 0

    def __post_init__(self):
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise InputError(f"no kind {', '.join(unknown) or 'at all'}; there are {', '.join(KINDS)}", "kinds")
        bounds = (("docs", 1, 10**6), ("choices", 2, 64), ("context", 1, 10**5), ("longest", 16, 10**4))
        for name, least, most in bounds:
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{getattr(self, name)}: must be {least} to {most:,}", name)


def make(texts: Sequence[str], settings: Settings) -> dict[str, list[Doc]]:
    """{kind: docs}, as many as the text has, at most settings.docs. texts: held-out documents.

    Every document is asked once before one is asked a second time.
    """
    documents = [_Document(text, settings) for text in texts]
    return {kind: list(itertools.islice(_docs(kind, documents, settings), settings.docs)) for kind in settings.kinds}


def to_lines(docs: Iterable[Doc]) -> Iterator[str]:
    """JSON lines of requests, as requests.read_requests reads them."""
    for doc in docs:
        for idx, choice in enumerate(doc.choices):
            request = {"doc_id": doc.id, "idx": idx, "label": doc.gold, "request": asdict(choice)}
            yield json.dumps(request, ensure_ascii=False) + "\n"


class _Document:
    def __init__(self, text: str, settings: Settings):
        self.text = text
        self.hash = hashlib.sha256(text.encode()).hexdigest()
        self.pieces = pieces.pieces(text, settings.longest)
        self.names, self.level = pieces.names_in(text), pieces.level(text)


def _docs(kind: str, documents: Sequence[_Document], settings: Settings) -> Iterator[Doc]:
    sources = [_of_document(kind, i, documents, settings) for i in range(len(documents))]
    asked: set[tuple[Request, ...]] = set()
    while sources:
        remaining = []
        for source in sources:
            doc = next((doc for doc in source if frozenset(doc.choices) not in asked), None)
            if doc is not None:
                asked.add(frozenset(doc.choices))
                yield doc
                remaining.append(source)
        sources = remaining


def _of_document(kind: str, number: int, documents: Sequence[_Document], settings: Settings) -> Iterator[Doc]:
    """The questions of one document, in an order that its hash and the seed decide."""
    document = documents[number]
    others = [documents[(number + i) % len(documents)] for i in range(1, min(OTHER_DOCUMENTS, len(documents)))]
    key = f"{settings.seed} {kind} {document.hash}"
    elsewhere = []
    if kind == "elsewhere":
        elsewhere = [p.text for o in others for p in _shuffled(o.pieces, key)[:OF_EACH]]
    for piece in _shuffled(document.pieces, key):
        behind = bisect(document.pieces, piece.start, key=lambda other: other.start)
        later = [other.text for other in document.pieces[behind : behind + LATER]]
        place = Place(piece.text, later, elsewhere, document.names, document.level)
        where = f"{key} {piece.start}"
        wrong = _shuffled(sorted({*KINDS[kind](place)} - {piece.text}), where)[: settings.choices - 1]
        if len(wrong) == settings.choices - 1:
            gold = int(Random(where).random() * settings.choices)
            continuations = [*wrong[:gold], piece.text, *wrong[gold:]]
            before = pieces.context(document.text, piece.start, settings.context)
            choices = tuple(Request(before, continuation) for continuation in continuations)
            yield Doc(f"{document.hash[:12]}-{piece.start}", choices, gold)


def _shuffled(items: Sequence, key: str) -> list:
    """The items in an order that the key decides; Python promises the same values of random() in every version."""
    random = Random(key).random
    return sorted(items, key=lambda _: random())
