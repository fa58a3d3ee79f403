"""A public server's page: as a stranger finds it, and after the owner has signed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.test_look import barriers, overflow
from tests.serving.test_public import PASSWORD, SECRET, USER, PublicApp
from tests.support.browser import Inspect, in_every_look

pytestmark = pytest.mark.browser
TABS = ("Datasets", "Fine-tune", "Evaluate", "Improve", "Jobs")


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> Iterator[PublicApp]:
    app = PublicApp(tmp_path_factory.mktemp("public")).furnish()
    app.start()
    yield app
    app.stop()
    assert not app.tracebacks()


@pytest.fixture
def visit(public, visitors) -> Callable[..., Inspect]:
    def visit(query: str = "", **options) -> Inspect:
        return Inspect(visitors.context(public.url, **options).new_page()).open(public.url + query)

    return visit


def test_a_stranger_inspects_and_is_told_what_belongs_to_the_owner(visit):
    inspect = visit()
    page = inspect.page
    expect(page.get_by_text("You are a visitor")).to_be_visible()
    expect(page.get_by_role("link", name="Sign in as the owner")).to_be_visible()
    for hidden in ("#lr-lens", "#lr-pair-try", "#lr-owning"):
        expect(page.locator(hidden).first).to_be_hidden()
    page.locator("#lr-pair input").click()
    expect(page.get_by_role("option", name="Bundled: 4 M against 1 M")).to_be_visible()
    expect(page.get_by_role("option", name="Two models of my own")).to_have_count(0)
    page.keyboard.press("Escape")
    inspect.limit(20)
    for look in in_every_look(page):
        assert barriers(inspect) == [] and overflow(inspect) <= 0, look
    inspect.run()
    inspect.select(2)
    expect(inspect.error).to_be_hidden()
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        panel = page.get_by_role("tabpanel").filter(visible=True)
        expect(panel.get_by_text("This tab belongs to the owner of this server")).to_be_visible()
        expect(panel.get_by_role("button")).to_have_count(0)
        for look in in_every_look(page):
            assert barriers(inspect) == [], look
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, look
    assert SECRET not in page.content()


def test_a_strangers_link_to_a_trace_and_to_what_is_not_theirs(visit, public):
    inspect = visit()
    inspect.limit(8)
    inspect.run()
    link = inspect.page.url.rpartition("/")[2]
    other = visit(link)
    expect(other.tokens.first).to_be_visible()
    lens = visit(f"?lens={public.dataset}")
    expect(lens.error).to_contain_text("belongs to the owner")
    jobs = visit()
    jobs.page.goto(f"{public.url}?tab=jobs&job={public.job.id}")
    expect(jobs.page.get_by_text("This tab belongs to the owner of this server").filter(visible=True)).to_be_visible()


def test_the_owner_signs_in_and_finds_everything(visit, public):
    inspect = visit()
    page = inspect.page
    page.get_by_role("link", name="Sign in as the owner").click()
    assert barriers(inspect) == []
    page.get_by_label("User").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("You are signed in as the owner")).to_be_visible()
    expect(page.locator("#lr-pair-try")).to_be_visible()
    assert barriers(inspect) == []
    inspect.pick_pair("Two models of my own")
    expect(page.get_by_label("Expert (the stronger model)").filter(visible=True)).to_be_visible()
    page.get_by_role("tab", name="Jobs").click()
    expect(page.get_by_text(SECRET).first).to_be_visible()
    page.get_by_role("tab", name="Datasets").click()
    expect(page.locator("#lr-datasets").get_by_text(re.compile("7")).first).to_be_visible()
    page.get_by_role("tab", name="Fine-tune").click()
    expect(page.locator("#lr-ft-dataset")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are a visitor")).to_be_visible()
    page.get_by_role("tab", name="Jobs").click()
    expect(page.get_by_text(SECRET)).to_have_count(0)
