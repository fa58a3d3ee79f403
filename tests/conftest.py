"""The browser tests' fixtures: one server and one Chromium for all of them, fresh visitors for each."""

from __future__ import annotations

import gc
import os
import secrets

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the models are tiny, and several tests run side by side

os.environ.setdefault("RAY_AUTH_MODE", "token")  # before Ray: it reads its token once a process
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.browser import SHORT_LIVED, App, Inspect, Visitor, Visitors, launch_chromium
from tests.support.browser_models import save_endless_pair, save_hostile_pair, save_related_pair

os.fsync = lambda handle: None  # nothing that a test writes has to outlive a power cut; it waited 12,000 times


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser tests go last: Playwright keeps an event loop in this thread, which asyncio.run cannot stand. Large
    files go first among them, so that no process is left alone with one while the others have nothing to do."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        in_browser = item.get_closest_marker("browser") is not None
        return in_browser, -item.path.stat().st_size if in_browser else 0

    items.sort(key=place)


def pytest_sessionstart() -> None:
    gc.disable()  # until all is imported


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later collection of garbage: walking through it took a quarter of a test."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After each file, the same with what its tests have imported and kept."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright, SHORT_LIVED)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The server that the tests share. No run may have logged a traceback when all is over."""
    app = App(tmp_path_factory.mktemp("workspace")).start()
    yield app
    app.stop()
    assert not app.tracebacks()


@pytest.fixture
def own_app(tmp_path: Path) -> Iterator[App]:
    """A server for a test to start and stop. Ask for it before `visitors`, who notice when it goes."""
    app = App(tmp_path)
    yield app
    app.stop()
    assert not app.tracebacks()


@pytest.fixture(scope="session")
def profiles() -> list[Visitor]:
    return []


@pytest.fixture
def visitors(chromium: Browser, profiles: list[Visitor]) -> Iterator[Visitors]:
    """Nothing may have gone wrong in any visitor's browser: no request outside, no error on the console."""
    visitors = Visitors(chromium, profiles)
    yield visitors
    visitors.close()
    assert not visitors.wrong


@pytest.fixture
def visit(app: App, visitors: Visitors) -> Callable[..., Inspect]:
    """visit(query, **options) opens the page in a browser of its own."""

    def visit(query: str = "", **options) -> Inspect:
        return Inspect(visitors.context(app.url, **options).new_page()).open(app.url + query)

    return visit


@pytest.fixture(scope="session")
def related_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_related_pair(tmp_path_factory.mktemp("related"))


@pytest.fixture(scope="session")
def endless_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_endless_pair(tmp_path_factory.mktemp("endless"))


@pytest.fixture(scope="session")
def hostile_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_hostile_pair(tmp_path_factory.mktemp("hostile"))
