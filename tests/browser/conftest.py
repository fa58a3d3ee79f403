"""What several files of browser tests look at."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser import Inspect

TEXT = "She sold 12 of the 20 cakes, so 20 - 12 = 8 cakes are left.\nThe answer is 8."


@pytest.fixture
def scored(visit, related_pair) -> Inspect:
    """A text that the related pair has scored, with its curve drawn."""
    inspect = visit()
    inspect.use_models(*related_pair)
    inspect.score(TEXT)
    expect(inspect.page.locator(".lr-curve .nsewdrag")).to_be_visible()
    steps = re.compile(f"^KL over {inspect.tokens.count()} steps")  # not that of the example, whose curve was there
    expect(inspect.page.locator(".lr-curve .lr-plot")).to_have_attribute("aria-label", steps)
    return inspect
