"""What every chart can do, tried on the KL curve: hover, zoom, scales, pictures, its table, themes, a telephone."""

import csv
import io
import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import in_every_look

pytestmark = pytest.mark.browser


def choose(page: Page, name: str) -> None:
    chart = page.locator(".lr-curve")
    if chart.locator("details[open]").count() == 0:
        chart.locator("summary").click()
    chart.get_by_role("button", name=name).click()


def saved(page: Page, name: str) -> bytes:
    with page.expect_download() as download:
        choose(page, name)
    assert download.value.suggested_filename == f"kl-by-step.{name[-3:].lower()}"
    return download.value.path().read_bytes()


def ticks(chart: Locator, axis: str) -> list[str]:
    return chart.locator(f".{axis}tick text").all_text_contents()


def test_hover_zoom_and_reset(scored):
    chart, page = scored.page.locator(".lr-curve"), scored.page
    box = chart.locator(".nsewdrag").bounding_box()
    whole = ticks(chart, "x")
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
    expect(chart.locator(".hoverlayer")).to_contain_text(re.compile(r"KL \d+\.\d{3} nats"))
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 90, steps=6)
    page.mouse.up()
    expect(chart.locator(".xtick text").first).not_to_have_text(whole[0])
    choose(page, "Reset zoom")
    expect(chart.locator(".xtick text").first).to_have_text(whole[0])
    assert ticks(chart, "x") == whole


def test_the_scale_is_chosen_and_beta_moves_on_each(scored):
    chart, page = scored.page.locator(".lr-curve"), scored.page
    line = chart.locator(".shapelayer path").last
    seen = set()
    for scale in ("Square-root axis", "Linear axis", "Logarithmic axis"):
        choose(page, scale)
        expect(chart.locator("[aria-pressed=true]")).to_have_text(scale)
        scored.beta.fill("0.4")
        low = line.bounding_box()["y"]
        scored.beta.fill("1.1")
        expect(line).to_be_attached()
        assert line.bounding_box()["y"] < low - 1, scale
        page.wait_for_timeout(400)  # plotly.js has drawn the line itself
        assert line.bounding_box()["y"] < low - 1, scale
        seen.add(tuple(ticks(chart, "y")))
    assert len(seen) == 3


def test_the_line_that_moved_at_once_is_where_plotly_draws_it(scored):
    line = scored.page.locator(".lr-curve .shapelayer path").last
    for beta in ("0.9", "0.2"):
        scored.beta.fill(beta)
        moved = line.bounding_box() or line.bounding_box()  # none while plotly puts another line into its place
        scored.page.wait_for_timeout(400)
        drawn = line.bounding_box()
        assert abs(moved["y"] - drawn["y"]) < 1 and abs(moved["width"] - drawn["width"]) < 1


def test_pictures_and_the_table_are_taken_along(scored):
    assert saved(scored.page, "Save PNG").startswith(b"\x89PNG\r\n")
    picture = saved(scored.page, "Save SVG").decode()
    assert picture.startswith("<svg") and "KL by step" in picture and "var(--" not in picture
    rows = list(csv.DictReader(io.StringIO(saved(scored.page, "Save CSV").decode())))
    steps = scored.record()["steps"]
    for series, measure in (("expert ‖ amateur", "kl"), ("target ‖ expert", "teaching")):
        mine = [row for row in rows if row["series"] == series]
        assert [float(row["kl"]) for row in mine] == pytest.approx([step[measure] for step in steps], abs=1e-6)
        assert [row["step"] for row in mine] == [str(i) for i in range(len(steps))]


def test_it_follows_the_theme_and_the_width(scored):
    chart = scored.page.locator(".lr-curve")
    seen = {}
    for look in in_every_look(scored.page):
        scored.page.wait_for_timeout(400)
        colour = chart.locator(".ytick text").first.evaluate("node => getComputedStyle(node).fill")
        width = chart.locator(".main-svg").first.bounding_box()["width"]
        assert scored.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        seen[look] = colour, width
    assert seen["light"][0] != seen["dark"][0] and seen["phone"][1] < 390 < seen["light"][1]


def test_the_text_alternative_has_the_numbers(scored):
    steps = scored.record()["steps"]
    above = sum(step["kl"] > 0.4 for step in steps)
    named = scored.page.locator(".lr-curve .lr-plot")
    expect(named).to_have_attribute("aria-label", re.compile(f"^KL over {len(steps)} steps: {above} above β = 0.40"))
    scored.beta.fill("0")
    expect(named).to_have_attribute("aria-label", re.compile(f": {len(steps)} above β = 0.00"))


def test_plotly_is_not_loaded_before_the_first_token(visit):
    """The first token must not wait for five megabytes of a chart library."""
    inspect, asked = visit(), []
    inspect.page.on("request", lambda request: asked.append(request.url))
    expect(inspect.page.locator(".lr-intro")).to_be_visible()
    assert inspect.page.evaluate("typeof window.Plotly") == "undefined"
    inspect.limit(8)
    inspect.run()
    expect(inspect.page.locator(".lr-curve .nsewdrag")).to_be_visible()
    assert sum("plotly.min.js" in url for url in asked) == 1
