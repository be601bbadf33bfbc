"""Ways to corrupt a continuation, from easy to hard to notice. Each gives all the wrong continuations that it can."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

WORD = re.compile(r"\w+")
NAME = re.compile(r"[^\W\d]\w{2,}")  # an identifier, or a word of prose, of three letters and more
INDENTATION = re.compile(r"[ \t]*")
OPENING, CLOSING, QUOTES = "([{", ")]}", "'\""
LEVELS = (-3, -2, -1, 1, 2, 3)  # of indentation


@dataclass(frozen=True)
class Place:
    """A continuation in its document. piece: its text. later: the pieces behind it. elsewhere: pieces of other
    documents. names: how often each name occurs in the document. level: the unit of indentation, "" for none."""

    piece: str
    later: Sequence[str]
    elsewhere: Sequence[str]
    names: Counter
    level: str


def letters(place: Place) -> Iterable[str]:
    """Two adjacent letters of a word swapped."""
    piece = place.piece
    for i, (a, b) in enumerate(pairwise(piece)):
        if a.isalpha() and b.isalpha() and a != b:
            yield piece[:i] + b + a + piece[i + 2 :]


def words(place: Place) -> Iterable[str]:
    """Two adjacent words swapped."""
    found = list(WORD.finditer(place.piece))
    for a, b in pairwise(found):
        piece = place.piece
        yield piece[: a.start()] + b[0] + piece[a.end() : b.start()] + a[0] + piece[b.end() :]


def brackets(place: Place) -> Iterable[str]:
    """A bracket or a quotation mark replaced by one of another kind."""
    for i, character in enumerate(place.piece):
        for alike in (OPENING, CLOSING, QUOTES):
            if character in alike:
                for other in alike.replace(character, ""):
                    yield place.piece[:i] + other + place.piece[i + 1 :]


def indentation(place: Place) -> Iterable[str]:
    """The line moved by one to three levels of indentation, or to the margin."""
    margin = INDENTATION.match(place.piece)[0]
    rest = place.piece[len(margin) :]
    if place.level and len(margin) % len(place.level) == 0:
        depth = len(margin) // len(place.level)
        yield from (place.level * (depth + by) + rest for by in LEVELS if depth + by >= 0)


def names(place: Place) -> Iterable[str]:
    """A name replaced by another that occurs in the same document at least twice."""
    inside = {match[0] for match in NAME.finditer(place.piece)}
    others = [name for name, count in place.names.items() if count > 1 and name not in inside]
    for match in NAME.finditer(place.piece):
        for other in others:
            yield place.piece[: match.start()] + other + place.piece[match.end() :]


def later(place: Place) -> Iterable[str]:
    """What stands later in the same document."""
    return place.later


def elsewhere(place: Place) -> Iterable[str]:
    """What stands in another document."""
    return place.elsewhere


KINDS: dict[str, Callable[[Place], Iterable[str]]] = {
    function.__name__: function for function in (letters, words, brackets, indentation, names, later, elsewhere)
}
