"""Gather text of one kind from this machine for `ladder demo --forecast --text FILE` (docs/forecast.md).

    python tools/forecast_text.py prose prose.jsonl      # English: manual pages and the documentation of packages
    python tools/forecast_text.py headers headers.jsonl  # C and C++ headers
    python tools/forecast_text.py perl perl.jsonl        # Perl: modules, their documentation, scripts

Writes one JSON object a line, {"text": ...}, and prints the files and bytes. Nothing is fetched.
"""

import argparse
import gzip
import json
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])
LEAST = 500  # bytes; shorter files say little
# Of the files of a folder whose names share their first word: some packages have thousands of pages from one template.
MOST = 200
FONTS = {"B", "I", "BR", "IR", "RB", "RI", "IB", "BI", "SH", "SS", "SM"}
CHARACTERS = {
    r"\-": "-",
    r"\e": "\\",
    r"\(em": "-",
    r"\(bu": "*",
    r"\(aq": "'",
    r"\(dq": '"',
    r"\(lq": '"',
    r"\(rq": '"',
}


def prose() -> Iterator[str]:
    manual = Path("/usr/share/man")
    for path in _few(p for section in range(1, 9) for p in sorted((manual / f"man{section}").glob("*"))):
        yield without_roff(_read(path))
    places = [Path("/usr/share/doc"), SITE, *Path(sysconfig.get_paths()["stdlib"]).glob("pydoc_data")]
    for suffix in ("md", "rst", "txt"):
        for path in _few(p for place in places for p in sorted(place.rglob(f"*.{suffix}*"))):
            if path.name.removesuffix(".gz").endswith(f".{suffix}") and "entry_points" not in path.name:
                yield _read(path)


def headers() -> Iterator[str]:
    yield from map(_read, _files(("h", "hpp", "hh"), (Path("/usr/include"), SITE)))


def perl() -> Iterator[str]:
    for path in _files(("pm", "pl", "pod", "t"), (Path("/usr/share"), Path("/usr/lib"))):
        if "unicore" not in path.parts:  # Unicode tables, not Perl
            yield _read(path)
    for place in (Path("/usr/bin"), Path("/usr/lib/git-core")):
        for path in sorted(place.glob("*")):
            text = _read(path) if path.is_file() else ""
            if text.startswith("#!") and "perl" in text.partition("\n")[0]:
                yield text


def without_roff(page: str) -> str:
    """The words of a manual page: without macros that lay it out, with the words of those that choose a font."""
    lines = []
    for line in page.splitlines():
        if line.startswith((".", "'")):
            macro, _, words = line[1:].lstrip().partition(" ")
            line = words.replace('"', "") if macro in FONTS else ""
            if not line:
                continue
        for escape, character in CHARACTERS.items():
            line = line.replace(escape, character)
        lines.append(re.sub(r"\\f(\[\w*\]|\(\w\w|\w)|\\\*\(..|\\[&/,:|^%]|\\\(\w\w|\\\[\w+\]|\\s[-+]?\d", "", line))
    return "\n".join(lines) + "\n"


def _files(suffixes: Sequence[str], places: Sequence[Path]) -> Iterator[Path]:
    for suffix in suffixes:
        for place in places:
            yield from sorted(place.rglob(f"*.{suffix}"))


def _few(paths) -> Iterator[Path]:
    """At most MOST files of a folder whose names share their first word."""
    counts = Counter()
    for path in paths:
        word = path.parent, re.split(r"[-_.:]", path.name)[0]
        counts[word] += 1
        if counts[word] <= MOST:
            yield path


def _read(path: Path) -> str:
    """The text of a file, unpacked; "" where it is no UTF-8 text."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return content.decode()
    except (OSError, UnicodeDecodeError, EOFError):
        return ""


KINDS = {"prose": prose, "headers": headers, "perl": perl}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("out", type=Path)
    chosen, seen, total = parser.parse_args(), set(), 0
    with chosen.out.open("w", encoding="utf-8") as out:
        for text in KINDS[chosen.kind]():
            if len(text) >= LEAST and hash(text) not in seen:
                seen.add(hash(text))
                total += len(text.encode())
                out.write(json.dumps({"text": text}) + "\n")
    print(f"{chosen.out}: {len(seen):,} documents, {total / 1e6:.0f} MB of text")
    return 0


if __name__ == "__main__":
    sys.exit(main())
