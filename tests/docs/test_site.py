"""The pages of the documentation: each in the site's contents, no link to nothing, every public name explained."""

import re
from pathlib import Path

import pytest

import fitting

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[[^]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_every_page_is_in_the_contents():
    contents, docs = (ROOT / "mkdocs.yml").read_text(), ROOT / "docs"
    names = [path.relative_to(docs).as_posix() for path in [*PAGES, *docs.rglob("*.ipynb")]]
    missing = [name for name in names if f": {name}\n" not in contents]
    assert not missing


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.name)
def test_no_link_to_nothing(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_public_name_of_fitting_is_on_its_page():
    named = re.findall(r"^::: fitting\.(.+)\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    values = [getattr(fitting, name) for name in fitting.__all__]
    public = [f"{value.__module__}.{value.__name__}" for value in values if hasattr(value, "__name__")]
    assert {f"fitting.{module}.{name}" for module, name in named} >= set(public)
    assert len(named) == len(fitting.__all__)
