"""The rows of the studies in README and docs."""

import json

import pytest

from tools import pages, study_tables

TOLD = {"says": "L falls", "source": "a paper", "published": "0.1", "value": 0.12, "ends": [0.11, 0.13],
        "form": "{:.3g}", "verdict": "does not agree", "why": "it lies outside"}  # fmt: skip
UNKNOWN = TOLD | {"value": None, "ends": None, "verdict": "cannot be told here", "why": "two runs | too few"}


@pytest.fixture
def roots(tmp_path):
    for root, value in (("old", 0.5), ("new", 0.12)):
        folder = tmp_path / root / "study-noise"
        folder.mkdir(parents=True)
        statements = [TOLD | {"value": value}, UNKNOWN]
        (folder / "study.json").write_text(json.dumps({"statements": statements, "missing": ["d8: not begun"]}))
    return [tmp_path / "old", tmp_path / "new"]


def test_the_last_folder_counts_and_rows_say_what_was_measured(roots):
    having = study_tables.folders(roots)
    assert having == {"noise": roots[1] / "study-noise"}
    found = study_tables.rows({"noise": study_tables.read("noise", having["noise"], as_is=True)})
    readme = study_tables.of_readme(found).splitlines()
    assert readme[2] == "| L falls (a paper) | 0.1 | 0.12 (0.11 to 0.13) | does not agree |"
    missing = "(1 runs of the study are missing)"
    assert readme[3] == rf"| L falls (a paper) | 0.1 |  | cannot be told here: two runs \| too few {missing} |"
    assert study_tables.of_docs(found).splitlines()[2].startswith("| noise | L falls (a paper) | 0.1 | 0.12")


def test_the_pages_have_the_block_and_only_it_is_replaced():
    begin, end = pages.markers(study_tables.BLOCK)
    for name in study_tables.PAGES:
        page = (pages.ROOT / name).read_text()
        before, after = page.split(begin)[0], page.split(end)[1]
        assert pages.written(page, study_tables.BLOCK, "| new |\n") == f"{before}{begin}| new |\n{end}{after}"
    with pytest.raises(SystemExit, match="studies"):
        pages.written("no block", study_tables.BLOCK, "| new |\n")
