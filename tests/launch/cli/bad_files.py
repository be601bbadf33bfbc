"""A case of a bad input, and the files that cases read."""

import gzip
import json
from dataclasses import dataclass

MACHINE = 75  # exit code where the machine is at fault
USAGE = "<usage>"  # in place of a message: the box in which tyro says that a flag cannot be read


@dataclass(frozen=True)
class Case:
    words: tuple[str, ...]
    says: str = ""

    @property
    def verb(self) -> str:
        return self.words[0] if self.words else ""

    def __str__(self) -> str:
        return " ".join(word if word and " " not in word else repr(word)[:60] for word in self.words)


def case(command: str, says: str = "", **words: str) -> Case:
    """A case from one line; a word in capitals that is named in `words` becomes that text, blanks and all."""
    return Case(tuple(words.get(word, word) for word in command.split()), says)


TARGET = "7B=7e9,1e12"

LOSSES = "params,tokens,loss\n" + "".join(
    f"{n:.6g},{n * r:.6g},{1.8 + 480 / n**0.35 + 2000 / (n * r) ** 0.37:.6f}\n"
    for n in (1e7, 3e7, 1e8, 3e8, 1e9, 3e9)
    for r in (5, 20, 80)
)
RUNS_HEADER = "run,n_params,tokens,step,task,metric,value"
RUNS = RUNS_HEADER + "\n" + "".join(
    f"{n:.0e}-{r}xC,{n:.6g},{20 * n * r:.6g},100,{task},bpb,{0.5 + 90 / n**0.3 + 300 / (20 * n * r) ** 0.3:.6f}\n"
    for n in (1e7, 3e7, 1e8, 3e8, 1e9)
    for r in (1, 2, 5)
    for task in ("piqa", "arc")
)  # fmt: skip
DEEP = 200_000  # levels of JSON

# Files that are no table: their bytes, and what the message says.
NO_TABLES = {
    "empty.csv": (b"", "the file is empty"),
    "blanks.csv": (b" \n\t\n  \n", "the file is empty"),
    "random.csv": (bytes(range(256)) * 8, ""),
    "nul.csv": (LOSSES.encode()[:40] + b"\0\0\0" + LOSSES.encode()[40:], "holds zero bytes"),
    "utf16.csv": (LOSSES.encode("utf-16-le"), "holds zero bytes"),
    "utf16cut.csv": (b"\xff\xfe" + LOSSES.encode("utf-16-le")[:-1], "begins as UTF-16 but is not"),
    "latin1.csv": ("größe,loss\n1,2\n".encode("latin-1"), "is not UTF-8"),
    "cut.csv.gz": (gzip.compress(LOSSES.encode() * 9)[:-30], "the .gz is cut off"),
    "damaged.csv.gz": (gzip.compress(LOSSES.encode())[:20] + b"\xff" * 200, "damaged .gz"),
    "endless.csv.gz": (gzip.compress(b"1,2,3\n" * 2_000_000), "unpacks to more than"),
    "sheet.xlsx": (b"PK\x03\x04" + bytes(200), "Excel workbook"),
    "table.parquet": (b"PAR1" + bytes(200), "a Parquet file"),
    "table.csv.xz": (b"\xfd7zXZ\x00" + bytes(50), "compressed by xz"),
    "table.csv.zst": (b"\x28\xb5\x2f\xfd" + bytes(50), "compressed by Zstandard"),
    "page.csv": (b"<!DOCTYPE html><html></html>", "a web page"),
    "pointer.csv": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "deep.json": (b"[" * DEEP, "nested too deeply"),
    "deepobject.json": (b'{"a":' * DEEP, "nested too deeply"),
    "cut.json": (json.dumps([{"run": "a", "loss": 1.5}] * 9).encode()[:-9], "cut off"),
    "cut.jsonl": (b'{"run": "a"}\n{"run": "b', "not a JSON object"),
    "numbers.json": (b"[1, 2, 3]", "is not an object"),
    "results.json": (b'{"results": {"piqa": {"acc": 0.5}}}', "one JSON object"),
    "header.csv": (f"{RUNS_HEADER},params,loss\n".encode(), "has a header and no rows"),
    "ragged.csv": (b"run,n_params,tokens,step,task,metric,value,params,loss\n1,2\n", "fields, the header has"),
    "quote.csv": (b'run,loss\n"a,1\nb,2\n', "not CSV"),
    "twice.csv": (f"{RUNS_HEADER},params,loss,loss\n{'1,' * 9}1\n".encode(), "appears twice"),
    "unnamed.csv": (b"run,,,loss\n1,2,3,4\n", "have no name"),
    "other.csv": (b"colour,shape\nred,round\n", "no column"),
    "prose.csv": (b"Dear reader,\nthis is no table, is it?\n", ""),
}  # fmt: skip
UNREADABLE = {"no/such.csv": "no such file or folder", "afolder": "", "afile/table.csv": "", "x" * 300: ""}

LADDERS = {
    "syntax.py": ("def ladder(:\n", "invalid syntax"),
    "raises.py": ("def ladder():\n    return 1 / 0\n", "ZeroDivisionError"),
    "exits.py": ("import sys\nsys.exit(3)\n", "ends the program"),
    "nothing.py": ("", "has no function"),
    "number.py": ("def ladder():\n    return 7\n", "not a ladder.config.Ladder"),
    "argument.py": ("def ladder(size):\n    return size\n", "TypeError"),
    "missing_package.py": ("import no_such_package\n", "no_such_package"),
    "recursion.py": ("def ladder():\n    return ladder()\n", "RecursionError"),
    "nul.py": ("a\0b", ""),
    "latin.py": ("# gr\xf6\xdfe\n", ""),
}
