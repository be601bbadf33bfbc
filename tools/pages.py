"""Tables of README and docs that a command writes, each between its two markers."""

from collections.abc import Collection, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def markdown(table: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """A table whose first row is its heading. right: columns that are aligned to the right."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    rule = "|".join("--:" if i in right else "---" for i in range(len(table[0])))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]]) + "\n"


def markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->\n", f"<!-- /{name} -->\n"


def written(page: str, name: str, block: str) -> str:
    """The text of a page with the block of this name replaced. Raises SystemExit where the page has none."""
    begin, end = markers(name)
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"no {begin.strip()} ... {end.strip()} in the page")
    return f"{before}{begin}{block}{end}{after}"


def write(page: str, name: str, block: str) -> None:
    """page: its path from the root of the repository."""
    path = ROOT / page
    path.write_text(written(path.read_text(), name, block))
