"""Documents cut into pieces that can be continuations: a line, or some words of a long one."""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from ladder.evaluation.held_out.kinds import INDENTATION, NAME

LEAST = 12  # characters other than white space, so that there is something to know


@dataclass(frozen=True)
class Piece:
    """Characters start to end of a document."""

    start: int
    end: int
    text: str


def pieces(text: str, longest: int) -> list[Piece]:
    """All pieces of a document, in order, but the first, which has no context."""
    found, start = [], 0
    for line in text.splitlines(keepends=True):
        content = line.rstrip()
        spans = [(0, len(content))] if len(content) <= longest else _runs_of_words(content, longest)
        found += [Piece(start + a, start + b, content[a:b]) for a, b in spans]
        start += len(line)
    return [piece for piece in found[1:] if len("".join(piece.text.split())) >= LEAST]


def _runs_of_words(line: str, longest: int) -> list[tuple[int, int]]:
    """Spans of a long line: whole words with the space before each, of at most `longest` characters."""
    spans: list[tuple[int, int]] = []
    for match in re.finditer(r"\s*\S+", line):
        if match.end() - match.start() > longest:
            continue
        joined = spans and spans[-1][1] == match.start() and match.end() - spans[-1][0] <= longest
        spans[-1:] = [(spans[-1][0], match.end())] if joined else [*spans[-1:], match.span()]
    return spans


def context(text: str, start: int, longest: int) -> str:
    """The last characters before `start`, at most `longest`, from the beginning of a line or else of a word."""
    begin = max(0, start - longest)
    before = text[begin:start]
    if begin == 0 or text[begin - 1] == "\n":
        return before
    line = before.find("\n") + 1
    if 0 < line < len(before):
        return before[line:]
    space = re.search(r"\s", before)
    return before[space.end() :] if space else before


def names_in(text: str) -> Counter:
    return Counter(NAME.findall(text))


def level(text: str) -> str:
    """The unit of indentation: a tab, or the spaces by which a line is most often deeper than the one before; "" for
    none."""
    margins = [INDENTATION.match(line)[0] for line in text.splitlines() if line.strip()]
    deeper = Counter(len(b) - len(a) for a, b in pairwise(margins) if len(b) > len(a))
    if not deeper:
        return ""
    tabs = sum(margin.startswith("\t") for margin in margins)
    return "\t" if tabs > len(margins) / 4 else " " * deeper.most_common(1)[0][0]
