"""The page in a headless Chromium (`make browser`): no script of a name runs, and it stays where the reader is."""

from dataclasses import replace

import pytest

from launch.page import document, look
from tests.launch.page.browser import chromium
from tests.launch.page.test_document import NASTY, page_of, thousand

pytestmark = pytest.mark.slow
WIDTHS = (400, 1200)


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser, tmp_path):
    """(HTML, width) -> a tab that shows it from a file; tab.complaints: what the browser said, tab.requests: what it
    asked for."""
    contexts = []

    def show(html, width=1200, **more):
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **more))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(20_000)
        tab.complaints, tab.requests = [], []
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (tab.complaints.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.goto((tmp_path / "page.html").as_uri())
        return tab

    yield show
    for context in contexts:
        context.close()


def test_no_script_of_a_name_runs(opened):
    for name in NASTY:
        tab = opened(document.html(replace(page_of(name), every=None)))
        tab.hover("summary")
        tab.wait_for_timeout(50)
        assert tab.complaints == [] and tab.title() == name
        assert tab.requests == [tab.url]
        assert tab.evaluate("document.querySelectorAll('main script, img, [onload], [onerror]').length") == 0


def test_the_policy_stops_what_is_not_escaped(opened):
    """Were a name ever not escaped, it still could not run a script, load a file or set a style."""
    spoilt = (
        "<script>document.title='run'</script><img src=x.png onerror=\"document.title='run'\"><p style='color:red'>"
    )
    html = document.html(replace(page_of("x"), every=None)).replace("<h1>x</h1>", f"<h1>x</h1>{spoilt}")
    tab = opened(html)
    tab.wait_for_timeout(100)
    assert tab.title() == "x" and len(tab.complaints) >= 3
    assert all("Content Security Policy" in complaint for complaint in tab.complaints)
    assert tab.evaluate("getComputedStyle(document.querySelector('p[style]')).color") != "rgb(255, 0, 0)"
    without = opened(html.replace(look.POLICY.replace("'", "&#x27;"), ""))
    without.wait_for_timeout(100)
    assert without.title() == "run"  # so the policy is what stopped it


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("content", [page_of("a-name-of-a-run-0.5xC-s0-0123abcd" * 3), thousand()])
def test_nothing_is_wider_than_the_window(opened, width, content):
    tab = opened(document.html(content), width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.complaints == []


@pytest.mark.parametrize("width", WIDTHS)
def test_it_stays_where_the_reader_is(opened, tmp_path, width):
    """When it is loaded again, the same row is at the same place, and the same parts are open."""
    content = thousand()
    tab = opened(document.html(replace(content, every=None)), width)
    for part in (3, 5):
        tab.locator("summary").nth(part).click()
    row = tab.locator("td.c1", has_text=content.runs[620].run_id)
    row.scroll_into_view_if_needed()
    tab.evaluate("scrollBy(0, 130)")
    tab.wait_for_timeout(200)

    def seen():
        return row.bounding_box()["y"], tab.evaluate("[...document.querySelectorAll('details')].map(d => d.open)")

    before = seen()
    tab.reload()
    after = seen()
    assert abs(after[0] - before[0]) < 3 and after[1] == before[1] and not all(after[1])
    assert 0 < after[0] < 900 and tab.complaints == []


@pytest.mark.parametrize("scripts", [True, False])
def test_it_loads_itself_again(opened, tmp_path, scripts):
    content = replace(page_of("x"), every=1.0)
    tab = opened(document.html(content), java_script_enabled=scripts)
    (tmp_path / "page.html").write_text(document.html(replace(content, title="after", every=None)), encoding="utf-8")
    for _ in range(100):
        tab.wait_for_timeout(100)
        if tab.title() == "after":
            return
    raise AssertionError("not loaded again within 10 seconds")


def test_it_says_when_nothing_writes_it(opened):
    tab = opened(document.html(replace(page_of("x"), every=600.0)))
    assert "Nothing has written it" in tab.inner_text("#written")


def test_it_is_dark_where_the_reader_wants_it(opened):
    backgrounds = [
        opened(document.html(page_of("x")), color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(18, 22, 27)"]
