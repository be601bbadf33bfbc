"""The HTML of the page: nothing from a name runs or changes its structure, and it stays small."""

import base64
import hashlib
import random
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitting.report.grid import Grid
from launch.goodput import PARTS
from launch.page import charts, document
from launch.page.content import Content
from launch.page.curves import Curve
from launch.page.forecasts import Forecast, Forecasts, Step
from launch.scheduler.status import COLOURS, Status

NASTY = (
    "<script>document.title='run'</script>",
    "\"><img src=x onerror=alert(1)>'",
    "</title></style></script><svg onload=alert(1)>",
    "</td></table><a href='javascript:alert(1)'>&lt;b&gt;",
    "' onmouseover=alert(1) x='",
    "]]><!--",
)


class Parsed(HTMLParser):
    """Every tag with its attributes' names, what `script` and `style` hold, the links, and all other text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.links, self.raw, self.text, self.values = [], [], {"script": [], "style": []}, [], []
        self._inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value for name, value in attrs if name in ("href", "src", "action", "data", "xlink:href")]
        self.values += [value for _, value in attrs if value]
        if tag in self.raw:
            self._inside = tag
            self.raw[tag].append("")

    def handle_endtag(self, tag):
        self.tags.append((f"/{tag}", ()))
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.raw[self._inside][-1] += data
        else:
            self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def page_of(name: str) -> Content:
    """A page on which this name stands wherever a name or a message may stand."""
    curve = Curve([(1e3, 6.0), (1e4, 4.0), (1e5, 3.0)], [(1e5, 3.1)])
    run = Status(name, "running", 5, 10, 3.0, name, durable=5, rate=1e3, batch_tokens=64, size=name, n_params=10.0)
    runs = [run, replace(run, run_id="b" + name, state="failed"), Status("c" + name, "damaged", detail=name)]
    runs.append(replace(run, run_id="d" + name, state=name, split="target"))
    grid = Grid(name, [f"text {name}", f"#{name}"], [[name, name]])  # "#" begins a heading of numbers
    history = (Step(4, 2.0, 2.5, 3.0), Step(5, 2.2, 2.5, 2.9))
    of_targets = (Forecast(name, name, name, history, (grid,), 2.4), Forecast(name, missing=name))
    forecasts = Forecasts(of_targets, missing=name, n_rungs=8)
    seconds = {name: dict.fromkeys(PARTS, 1.0)}
    return Content(
        name, tuple(runs), {name: curve}, name, forecasts, seconds, (name,), {name: "report.html"}, 0.0, 10.0
    )


@pytest.fixture(scope="module")
def harmless():
    """The page of a name that stands nowhere else."""
    return Parsed(document.html(page_of("\N{BULLET}")))


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_text_and_nothing_else(name, harmless):
    parsed = Parsed(document.html(page_of(name)))
    assert parsed.tags == harmless.tags
    assert parsed.raw == harmless.raw
    assert set(parsed.links) == {"report.html"}
    assert "".join(parsed.text) == "".join(harmless.text).replace("\N{BULLET}", name)


@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1))
def test_no_name_changes_the_structure(name):
    assert Parsed(document.html(page_of(name))).tags == Parsed(document.html(page_of("x"))).tags


def test_only_its_own_script_and_style_may_be_used(harmless):
    (script,), (style,) = harmless.raw["script"], harmless.raw["style"]
    (policy,) = [value for value in harmless.values if value.startswith("default-src")]
    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))

    def only(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    own = {"script-src": only(script), "style-src": only(style)}
    assert directives == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"} | own
    names = {name for _, attributes in harmless.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("style", "src")}
    assert "@import" not in style and "url(" not in style


def test_the_checker_sees_what_is_not_escaped():
    spoilt = document.html(page_of("x")).replace("<h1>x</h1>", f"<h1>{NASTY[1]}</h1>")
    assert "x" in Parsed(spoilt).links


def test_every_tag_is_closed():
    void = {"meta", "img", "i", "col", "br"}
    counts = Counter(tag for tag, _ in Parsed(document.html(page_of("x"))).tags)
    assert [tag for tag in counts if tag[0] != "/" and tag not in void and counts[tag] != counts[f"/{tag}"]] == []


@pytest.mark.parametrize("every", [None, 30.0])
def test_it_loads_itself_again_only_while_it_is_written(every):
    parsed = Parsed(document.html(replace(page_of("x"), every=every)))
    assert ("30" in parsed.values) == bool(every)
    assert any("written again every 30 s" in text for text in parsed.text) == bool(every)


def thousand() -> Content:
    """1,000 runs of ten sizes in all states, with long curves."""
    draw, runs, all_curves = random.Random(0), [], {}
    points = [(1e3 * k, 2 + 4 / k**0.3 + draw.gauss(0, 0.05)) for k in range(1, 500)]
    states = ["done"] * 12 + list(COLOURS)
    for i in range(1000):
        name = f"d{64 * (1 + i // 100)}-{i % 100 / 8:g}xC-s0-{draw.getrandbits(32):08x}"
        state = draw.choice(states)
        detail = "STOPPED.json: loss nan, gradient norm inf at step 120" if COLOURS[state] == "red" else "host:1234"
        size = f"d{64 * (1 + i // 100)}"
        runs.append(Status(name, state, 900, 1000, 2.5, detail, rate=1e4, batch_tokens=64, size=size, n_params=i + 1e4))
        all_curves[name] = Curve(points, points[99::100])
    seconds = {run.run_id: {part: draw.random() for part in PARTS} for run in runs}
    history = tuple(Step(n, 2 - 1 / n, 2.0, 2 + 1 / n) for n in range(4, 20))
    forecasts = Forecasts((Forecast("7B-4T", "validation", "bits per byte", history),), n_rungs=1000)
    return Content("ladder large", tuple(runs), all_curves, forecasts=forecasts, goodput=seconds, every=10.0)


def test_a_thousand_runs_fit_into_one_and_a_half_megabytes():
    content = thousand()
    text = document.html(content)
    assert len(text.encode()) < 1_500_000
    assert text.count("<table") == 20  # in pieces of 50 rows
    assert all(f">{run.run_id}</td>" in text for run in content.runs)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(1e-3, 1e15, allow_subnormal=False), st.floats(1.0001, 1e6), st.booleans(), st.floats(0.0, 1.0)
)  # fmt: skip
def test_axes_have_a_few_ticks_inside(low, ratio, log, share):
    axis = charts.Axis(low, low * ratio, log)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 9
    assert all(low * (1 - 1e-6) <= tick <= axis.high * (1 + 1e-6) for tick in ticks) and ticks == sorted(set(ticks))
    value = low * ratio**share if log else low + share * (axis.high - low)
    assert abs(axis.at(value) - share) < 1e-6


def test_a_line_goes_through_its_points():
    x, y = charts.Axis(0, 10), charts.Axis(1, 100, log=True)
    assert charts.line([(0, 1), (5, 10), (5, 10), (10, 100), (11, 1000)], x, y) == "M0 1000l500 -500 500 -500"
    assert charts.dots([(10, 1)], x, y) == "M1000 1000h0"


def test_a_bar_is_divided_by_shares():
    svg = charts.bar([("a", 1.0), ("absent", 0.0), ("b", 3.0)])
    assert 'class="a" d="M0 0H250V1H0"' in svg and 'class="b" d="M250 0H1000V1H250"' in svg and "absent" not in svg
