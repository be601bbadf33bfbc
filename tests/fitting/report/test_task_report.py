"""The report: complete, self-contained, and safe whatever the table says."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from fitting.errors import InputError
from fitting.forecasting import predict
from fitting.report import numbers, task_figures, task_report
from tests.fitting.conftest import scored_on

EVIL = '<script>alert("x")</script>&\''


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text, self.open = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "action", "data")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def table(simulate):
    return scored_on(200, simulate(n_docs=300), "d10000-1xC")


@pytest.fixture(scope="module")
def predicted(table):
    return predict.predict(table, n_resamples=60)


@pytest.fixture(scope="module")
def text(table, predicted):
    return task_report.page(table, predicted)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_needs_nothing_but_itself(page):
    assert page.links and all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "a"} & set(page.tags)
    assert page.open == []


def test_the_page_says_what_a_stranger_asks(page, predicted, table):
    for heading in ("Predicted and measured", "What was trained", "Learning curves", "Step 1", "Step 2"):
        assert heading in page.text
    for entry in predict.with_measured(predicted, table):
        assert f"{entry.bpb:.3f}" in page.text and f"{entry.measured_bpb:.3f}" in page.text
        assert f"{entry.bpb_interval[0]:.3f} to {entry.bpb_interval[1]:.3f}" in page.text
        for flag in entry.flags:
            assert flag in page.text
    for run in table.unique("run"):
        assert run in page.text
    for said in ("side the interval", "priors", "Levenberg", "n_params", "ladder predict", "0" * 64):
        assert said in page.text, said


def test_the_page_and_json_name_runs_that_are_scored_on_other_docs(page, predicted):
    """12 others enter: 11 of the ladder, and the target's own run as the measurement."""
    line = "12 runs are scored on 300 docs, d10000-1xC on 200: scores on other docs have other noise and another mean"
    flags = {entry["task"]: entry["flags"] for entry in predicted.json()["predictions"]}
    assert [flag.split("; ")[0] for flag in flags["quiz"] if "docs, " in flag] == [line] and line in page.text
    assert not any("docs, " in flag for flag in flags["validation"])


def test_the_weights_of_the_forms_stand_under_their_names(page, predicted):
    for name, weight in predicted.laws["target-2xC", "validation"].form_weights.items():
        assert name in page.text and f"{weight:.0%}" in page.text


def test_names_from_the_table_are_text(table):
    columns = {k: v.copy() for k, v in table.columns.items()}
    for name in ("run", "size", "parent"):
        columns[name] = columns[name] + EVIL
    columns["task"][columns["task"] == "quiz"] = EVIL
    columns["corpus"] = columns["task"]
    evil = replace(table, columns=columns, source=EVIL, left_out=(EVIL,))
    text = task_report.page(
        evil, predict.predict(evil, n_resamples=20), {"title": EVIL, "commands": [EVIL], "facts": {EVIL: EVIL}}
    )
    assert "script" not in Page(text).tags and EVIL in Page(text).text
    assert "different corpora" in text


def test_before_the_target_is_trained(table, predicted):
    text = Page(task_report.page(table.select(split="train"), predicted)).text
    assert "The target has not been trained." in text and "inside the interval" not in text


def test_at_chance_no_accuracy_is_predicted_and_the_page_says_so(simulate):
    table = simulate(sizes=(10_000, 20_000), skilled=False)
    text = Page(task_report.page(table, predict.predict(table, n_resamples=20))).text
    assert "No task's accuracy is above chance" in text and "few runs: 6 for a law of 5 parameters" in text


def test_files_are_written_or_refused_in_one_line(table, predicted, text, tmp_path):
    task_report.report(table, predicted, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == text  # and the same table gives the same page
    task_report.hero(table, predicted, tmp_path / "hero.png")
    assert (tmp_path / "hero.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"hero.png/report.html: cannot be written \((Not a directory|File exists)"):
        task_report.report(table, predicted, tmp_path / "hero.png" / "report.html")
    assert (tmp_path / "hero.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "value,text",
    [(0.0135, "0.0135"), (999, "999"), (10332, "10.3k"), (999_999, "1M"), (6887575552, "6.89B"), (3.945e12, "3.94T")],
)
def test_numbers_are_short(value, text):
    assert numbers.si(value) == text


@pytest.mark.parametrize("value,text", [(190354176, "190.4M"), (3945065873408, "3.945T"), (12, "12"), (0.5, "0.5")])
def test_numbers_have_as_many_digits_as_asked_for(value, text):
    assert numbers.si(value, 4) == text


def test_colors_of_sizes_differ(predicted):
    colors = task_figures._colors(predicted)
    assert len(set(colors.values())) == len(colors) == 4
    assert not re.search("[^a-z0-9]", "".join(colors))
