"""What several files of browser tests look at."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import App, Inspect, Visitor, Visitors

TEXT = "She sold 12 of the 20 cakes, so 20 - 12 = 8 cakes are left.\nThe answer is 8."
#: Shows a stored trace with the usual thresholds, and the curve as it was before anybody touched it.
AS_NEW = """(trace) => {
    for (const open of document.querySelectorAll('.lr-curve details[open]')) open.open = false;
    document.querySelector('.lr-curve .lr-chart-scales button').click();
    document.querySelector('.lr-chart-options > button').click();
    const link = document.createElement('a');
    link.href = `?trace=${trace}&alpha=0.2&beta=0.4`;
    document.querySelector('.lr-root').append(link);
    link.click();
    link.remove();
}"""
#: A promise of a curve that has not moved for a moment: plotly.js makes room for the ticks once it has drawn.
AT_REST = """() => new Promise((done) => {
    let seen = '', since = 0;
    const look = () => {
        const area = document.querySelector('.lr-curve .nsewdrag'), now = JSON.stringify(area?.getBoundingClientRect());
        if (now !== seen) { seen = now; since = performance.now(); }
        if (area && performance.now() - since > 200) done(); else requestAnimationFrame(look);
    };
    look();
})"""


@pytest.fixture(scope="module")
def scored_text(
    app: App, chromium: Browser, profiles: list[Visitor], related_pair: tuple[Path, Path]
) -> Iterator[Inspect]:
    """One page for all tests of a file, on which the related pair has scored a text."""
    visitors = Visitors(chromium, profiles)
    inspect = Inspect(visitors.context(app.url).new_page()).open(app.url)
    inspect.use_models(*related_pair)
    inspect.score(TEXT)
    yield inspect
    visitors.close()
    assert not visitors.wrong


@pytest.fixture
def scored(scored_text: Inspect) -> Inspect:
    """The text on the page that a file's tests share, with its curve drawn, as if nobody had touched it yet: no test
    leaves anything behind that opening the trace again does not undo."""
    inspect, page = scored_text, scored_text.page
    page.mouse.move(0, 0)
    expect(page.locator(".lr-curve .nsewdrag")).to_be_visible()
    page.get_by_label("Colour the tokens by").select_option("0")
    [trace] = parse_qs(urlsplit(page.url).query)["trace"]
    with inspect.new_run():
        page.evaluate(AS_NEW, trace)
    page.evaluate("scrollTo(0, 0)")
    steps = re.compile(f"^KL over {inspect.tokens.count()} steps")  # not that of the example, whose curve was there
    expect(page.locator(".lr-curve .lr-plot")).to_have_attribute("aria-label", steps)
    page.evaluate(AT_REST)
    return inspect
