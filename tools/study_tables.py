"""Report the studies again and write their rows into README.md and docs/studies.md: `make studies-table`.

    python -m tools.study_tables runs                    # of runs/study-shape, runs/study-batch, ...
    python -m tools.study_tables old/runs runs           # where both have a study, the last is taken
    python -m tools.study_tables --as-is runs            # reads study.json as it stands

A study that is in no folder has no rows, and is named.
"""

import argparse
import json
import sys
from pathlib import Path

from fitting.studies.results import Statement
from launch import study
from tools import pages

PAGES, BLOCK = ("README.md", "docs/studies.md"), "studies"
ORDER = ("batch", "shape", "scaling", "branches", "noise")  # scaling reads study.json of batch
TOLD = ("agrees", "does not agree")


def folders(roots: list[Path]) -> dict[str, Path]:
    """{study: its folder}, of the last of the roots that has one."""
    found = {}
    for name in ORDER:
        having = [root / f"study-{name}" for root in roots if (root / f"study-{name}").is_dir()]
        if having:
            found[name] = having[-1]
    return found


def read(name: str, folder: Path, as_is: bool) -> dict:
    """study.json of a folder. Raises SystemExit where there is nothing to report."""
    if not as_is:
        reported = study.report(name, folder, ["ladder", "study", name])
        if reported.page is None:
            raise SystemExit(f"{folder}: {' '.join(reported.lines)}")
    if not (folder / study.FILE).exists():
        raise SystemExit(f"{folder}: no {study.FILE}; leave out --as-is")
    return json.loads((folder / study.FILE).read_text())


def rows(studies: dict[str, dict]) -> list[list[str]]:
    """A row for every statement: study, statement, published figure, our figure with its interval, verdict, reason."""
    found = []
    for name in study.NAMES:
        for fields in studies.get(name, {}).get("statements", []):
            verdict, statement, published, value, ends, why = Statement(**fields).cells
            ours = f"{value} ({ends})" if ends else value
            missing = len(studies[name]["missing"])
            why += f" ({missing} runs of the study are missing)" if missing else ""
            found.append([name, statement, published, ours, verdict, why])
    return found


def of_readme(found: list[list[str]]) -> str:
    """The reason only where there is no verdict."""
    head = ["statement", "published", "ours, 95 % interval", "verdict"]
    body = [
        [says, published, ours, verdict if verdict in TOLD else f"{verdict}: {why}"]
        for _, says, published, ours, verdict, why in found
    ]
    return pages.markdown([head, *body], right={1, 2})


def of_docs(found: list[list[str]]) -> str:
    head = ["study", "statement", "published", "ours, 95 % interval", "verdict", "why"]
    return pages.markdown([head, *found], right={2, 3})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("roots", type=Path, nargs="*", default=[Path("runs")], help="folders with study-NAME")
    parser.add_argument("--as-is", action="store_true", help="do not report again")
    arguments = parser.parse_args()
    having = folders(arguments.roots)
    if not having:
        raise SystemExit(f"no study-NAME in {', '.join(map(str, arguments.roots))}; run make studies")
    found = rows({name: read(name, folder, arguments.as_is) for name, folder in having.items()})
    for name, block in zip(PAGES, (of_readme(found), of_docs(found)), strict=True):
        pages.write(name, BLOCK, block)
        print(f"{name}: {len(found)} rows")
    for name in study.NAMES:
        if name not in having:
            print(f"no rows of {name}: it is in none of the folders")
    return 0


if __name__ == "__main__":
    sys.exit(main())
