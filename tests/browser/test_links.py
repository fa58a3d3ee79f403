"""Taking a run along: its address, also after a restart, and the files that it can be exported to."""

from __future__ import annotations

import csv
import io
import struct
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.support.browser import Inspect

pytestmark = pytest.mark.browser
TEXT = "She sold 12 of the 20 cakes, so 8 cakes are left."


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


def test_a_link_opens_the_run_again_after_a_restart_without_any_model(own_app, visitors):
    app = own_app.start()
    first = Inspect(visitors.context(app.url).new_page()).open(app.url)
    first.run()
    last = first.tokens.count() - 1
    first.select(last)
    first.beta.fill("0.15")
    first.alpha.fill("0.5")
    address, text, bars = first.page.url, first.text(), first.bars()
    question, record = first.question.input_value(), first.record()
    first.page.close()

    app.stop()
    app.start("--no-preload")

    again = Inspect(visitors.context(app.url).new_page()).open(address)
    again.shows(last)
    assert again.text() == text
    assert again.bars() == bars
    expect(again.beta).to_have_value("0.15")
    expect(again.alpha).to_have_value("0.5")
    expect(again.question).to_have_value(question)
    assert again.record() == record
    assert query(again.page.url) == query(address)
    expect(again.card).to_contain_text("Loads when you press Run")


def test_the_address_is_always_that_of_the_run_on_the_page(visit):
    inspect = visit()
    inspect.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    addresses = []
    for _ in range(2):
        inspect.run()  # nothing is selected: the address must not wait for that
        addresses.append(inspect.page.url)
        assert query(inspect.page.url) == {"trace": [inspect.record()["id"]]}
        inspect.select(0)
    assert addresses[0] != addresses[1]
    assert query(inspect.page.url)["step"] == ["0"]
    inspect.page.get_by_role("button", name="Copy link").click()
    expect(inspect.page.locator(".lr-action-status")).to_have_text("Link copied")
    assert inspect.page.evaluate("navigator.clipboard.readText()") == inspect.page.url

    other = visit("?" + inspect.page.url.partition("?")[2])
    other.shows(0)
    assert other.text() == inspect.text()


@pytest.mark.parametrize("link", ["?trace=doesnotexist00000", "?trace=..%2F..%2Fetc%2Fpasswd", "?trace=<img src=x>"])
def test_a_broken_link_says_so_and_leaves_the_page_usable(visit, link):
    inspect = visit(link)
    expect(inspect.error).to_contain_text("trace")
    expect(inspect.run_button).to_be_visible()
    assert inspect.tokens.count() == 0


def test_a_link_with_odd_numbers_opens_all_the_same(visit):
    inspect = visit()
    inspect.run()
    trace = inspect.record()["id"]
    odd = visit(f"?trace={trace}&step=99999&alpha=7&beta=nan")
    expect(odd.tokens.first).to_be_visible()
    assert odd.text() == inspect.text()
    expect(odd.beta).to_have_value("0.4")
    odd.select(0)
    expect(odd.alpha).to_have_value("1")
    assert max(target for _, _, target in odd.bars().values()) > 0
    assert odd.record()["alpha"] == 1


def test_exports_hold_the_run_at_the_sliders_positions(visit, related_pair):
    inspect = visit()
    inspect.use_models(*related_pair)
    inspect.score(TEXT)
    inspect.beta.fill("0.9")
    record = inspect.record()
    steps = record["steps"]
    assert record["format"] == "lightreasoner-trace"
    assert record["beta"] == 0.9
    assert record["response"] == TEXT
    assert [step["selected"] for step in steps] == [step["kl"] > 0.9 for step in steps]

    rows = list(csv.DictReader(io.StringIO(inspect.export("csv"))))
    assert [int(row["token_id"]) for row in rows] == [step["token_id"] for step in steps]
    assert [float(row["kl"]) for row in rows] == [step["kl"] for step in steps]
    assert [row["selected"] == "True" for row in rows] == [step["selected"] for step in steps]

    picture = inspect.download("png")
    assert picture.suggested_filename == f"lightreasoner-{record['id'][:8]}.png"
    data = picture.path().read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    assert width == 2400 and height > 400
    assert len(data) > 10_000, "text and bars do not compress to nothing"


def test_the_exported_page_works_from_a_file_with_nothing_to_reach(visit, visitors, related_pair, tmp_path):
    inspect = visit()
    inspect.use_models(*related_pair)
    inspect.score(TEXT)
    inspect.beta.fill("0.7")
    inspect.select(4)
    file = tmp_path / "trace.html"
    inspect.download("html").save_as(file)

    alone = Inspect(visitors.context(file.as_uri()).new_page()).open(file.as_uri())
    assert alone.text() == inspect.text()
    expect(alone.beta).to_have_value("0.7")
    alone.select(4)
    assert alone.bars() == inspect.bars()
    assert alone.training_row() == inspect.training_row()
    alone.page.keyboard.press("End")
    alone.shows(alone.tokens.count() - 1)
    steps = alone.record()["steps"]  # the file can be turned into JSON again
    assert [step["token_id"] for step in steps] == [step["token_id"] for step in inspect.record()["steps"]]
    alone.beta.fill("1.5")
    high = sum(step["kl"] > 1.5 for step in steps)
    expect(alone.counts).to_contain_text(f"{high} of {len(steps)} steps above β")
    expect(alone.above).to_have_count(high)
    assert alone.download("png").path().read_bytes().startswith(b"\x89PNG")
    assert alone.page.locator(".lr-branch:enabled").count() == 0, "without models there is nothing to branch with"
