"""Behind a reverse proxy that shows the app under a path prefix: everything the page needs is found there."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import expect

from lightreasoner.storage.atomic import new_id
from tests.support.browser import App, Inspect
from tests.support.prefix_proxy import prefix_proxy
from tests.support.tiny_dataset import make_dataset

pytestmark = pytest.mark.browser
PREFIX = "/lab/studio"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> tuple[Path, str]:
    workspace, made = tmp_path_factory.mktemp("prefixed"), new_id()
    make_dataset(workspace / "runs" / made)
    return workspace, made


@pytest.fixture(scope="module")
def home(dataset) -> Iterator[str]:
    """The app's address behind the proxy, without a slash at its end."""
    app = App(dataset[0], GRADIO_ROOT_PATH=PREFIX).start()
    with prefix_proxy(app.url, PREFIX) as address:
        yield address
    app.stop()
    assert not app.tracebacks()


@pytest.mark.parametrize("slash", ["/", ""])
def test_a_run_its_address_opens_again(home, visitors, slash):
    """Visitors are fenced in by the prefix: one request beside it fails the test."""
    inspect = Inspect(visitors.context(home).new_page()).open(home + slash)
    inspect.limit(12)
    inspect.run()
    inspect.select(2)
    address = urlsplit(inspect.page.url)
    assert address.path == PREFIX + "/" and parse_qs(address.query)["trace"] == [inspect.record()["id"]]
    text, bars = inspect.text(), inspect.bars()
    again = Inspect(visitors.context(home).new_page()).open(inspect.page.url)
    again.shows(2)
    assert again.text() == text and again.bars() == bars


@pytest.mark.parametrize("slash", ["/", ""])
def test_links_between_tabs_and_downloads(home, visitors, dataset, slash):
    page = visitors.context(home, accept_downloads=True).new_page()
    page.goto(f"{home}{slash}?tab=datasets&dataset={dataset[1]}")
    root = page.locator("#lr-datasets")
    expect(root.locator(".lr-steps tbody tr").first).to_be_visible()
    with page.expect_download() as waiting:
        root.locator('[data-format="raw"]').click()
    assert len(pq.read_table(waiting.value.path())) > 0
    page.locator("#lr-tab-jobs-button").click()
    expect(page.locator("#lr-jobs")).to_be_visible()
    address = urlsplit(page.url)
    assert address.path == PREFIX + "/" and parse_qs(address.query) == {"tab": ["jobs"]}


def test_an_upload(home, visitors, tmp_path):
    problems = tmp_path / "mine.jsonl"
    problems.write_text('{"question": "How much is 20 + 22?", "answer": "42"}\n')
    inspect = Inspect(visitors.context(home).new_page()).open(home + "/")
    inspect.page.get_by_label("Problem source").click()
    inspect.page.get_by_role("option", name="Upload a file").click()
    inspect.page.locator("input[type=file]").set_input_files(problems)
    expect(inspect.question).to_have_value("How much is 20 + 22?")


def test_the_health_route_lies_under_the_prefix_too(home):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert opener.open(f"{home}/healthz", timeout=10).read() == b"ok\n"
