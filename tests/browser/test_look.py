"""Dark pages, telephones, and readers who cannot see colours or a screen at all."""

from __future__ import annotations

import re
import shutil

import pytest
from playwright.sync_api import expect

from lightreasoner.settings import Settings
from tests.support.browser import ENDLESS, Inspect, barriers_of, in_every_look
from tests.support.tiny_experiment import make_experiment
from tests.support.tiny_models import save_tiny

pytestmark = pytest.mark.browser
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LOOKS = {"light": {}, "dark": {"color_scheme": "dark"}, "phone": PHONE}


def barriers(inspect: Inspect) -> list[str]:
    return barriers_of(inspect.page)


def barriers_in_every_look(inspect: Inspect) -> list[str]:
    return [f"{look}: {barrier}" for look in in_every_look(inspect.page) for barrier in barriers(inspect)]


def overflow(inspect: Inspect) -> float:
    """How far anything reaches beyond the window, in pixels; what is cut off counts, too."""
    return inspect.page.evaluate(
        """() => {
            const inside = Array.from(document.querySelectorAll('#lr-top *, #lr-side *, .lr-root, .lr-root *'));
            const seen = inside.filter((node) => node.checkVisibility());
            const edges = seen.map((node) => node.getBoundingClientRect().right);
            return Math.max(document.documentElement.scrollWidth, ...edges) - innerWidth;
        }"""
    )


def test_nothing_stands_in_the_way_of_assistive_technology(visit, related_pair):
    inspect = visit()
    # all of it at once: text that the sticky Run covers would be measured against the button's colour
    inspect.page.set_viewport_size({"width": 1440, "height": 3000})
    expect(inspect.page.locator(".lr-intro")).to_be_visible()
    assert barriers_in_every_look(inspect) == []
    inspect.use_models(*related_pair)
    inspect.limit(20)
    inspect.run()
    inspect.select(3)
    inspect.step.locator(".lr-training summary").click()
    assert barriers_in_every_look(inspect) == []
    inspect.page.get_by_label("Score a text of mine").check()
    inspect.fill("Text to score", " ")
    inspect.run_button.click()
    expect(inspect.error).to_be_visible()
    assert barriers_in_every_look(inspect) == []


def tab_past_a_dropdown(page) -> None:
    """The list stayed open with only the current value in it, so the other choices could not be found by keyboard."""
    field = page.locator("#lr-ds-source input")
    for _ in range(2):
        field.focus()
        expect(page.get_by_role("option", name="GSM8K", exact=True)).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("option")).to_have_count(0)
    expect(field).to_have_value("Bundled, train")


def test_every_tab_is_free_of_barriers(app, visitors):
    """axe found headings out of order on every tab, and nobody ran it on Improve."""
    settings = Settings(workspace=app.workspace)
    models = [save_tiny(app.workspace / name, seed=seed) for seed, name in enumerate(("e", "a"))]
    before = set(settings.runs.glob("*"))
    run = make_experiment(settings.runs, *models).name
    page = visitors.context(app.url).new_page()
    page.goto(f"{app.url}?tab=improve&run={run}")
    found = []
    for tab in ("Improve", "Datasets", "Fine-tune", "Evaluate", "Jobs"):
        page.get_by_role("tab", name=tab, exact=True).click()
        expect(page.locator(".lr-card:visible").first).to_be_visible()
        if tab == "Improve":
            expect(page.locator(".lr-stage").first).to_be_visible()
        for width, colours in ((1440, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 1000})
            page.emulate_media(color_scheme=colours)
            expect(page.locator("body.dark")).to_have_count(int(colours == "dark"))
            if tab == "Improve":
                expect(page.locator(".lr-experiments .nsewdrag")).to_be_visible()
            found += [f"{tab}, {width}, {colours}: {barrier}" for barrier in barriers_of(page)]
            if tab == "Datasets":
                tab_past_a_dropdown(page)
        page.set_viewport_size({"width": 1440, "height": 1000})
        page.emulate_media(color_scheme="light")
    for folder in set(settings.runs.glob("*")) - before:
        shutil.rmtree(folder)
    assert found == []


def brightness(inspect: Inspect, selector: str) -> float:
    """0 (black) to 255 (white) of an element's background."""
    colour = inspect.page.locator(selector).first.evaluate("node => getComputedStyle(node).backgroundColor")
    red, green, blue = (float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_dark_system_gets_a_dark_page_and_a_dark_export(visit, visitors, tmp_path):
    light, dark = visit(), visit(color_scheme="dark")
    expect(dark.page.locator("body.dark")).to_be_visible()
    for place in ("body", ".lr-card"):
        assert brightness(light, place) > 200
        assert brightness(dark, place) < 60
    dark.run()
    file = tmp_path / "trace.html"
    dark.download("html").save_as(file)
    alone = Inspect(visitors.context(file.as_uri(), color_scheme="dark").new_page()).open(file.as_uri())
    assert brightness(alone, "body") < 60
    alone.select(0)
    assert barriers(alone) == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_stop_is_in_reach_on_a_phone_and_covers_nothing(visit, endless_pair, colours):
    """After Run the page goes to the viewer; Stop stayed behind, at the end of the form."""
    inspect = visit(**PHONE, color_scheme=colours)
    inspect.use_models(*endless_pair)
    inspect.limit(ENDLESS)
    with inspect.new_run():
        inspect.run_button.tap()
        expect(inspect.tokens.first).to_be_in_viewport()
        expect(inspect.stop_button).to_be_in_viewport(ratio=1)
        end, bar = inspect.page.evaluate(  # in one go: the page grows while the expert writes
            """() => {
                scrollTo(0, document.documentElement.scrollHeight);
                return ['.lr-step', '#lr-go'].map((p) => document.querySelector(p).getBoundingClientRect().toJSON());
            }"""
        )
        expect(inspect.stop_button).to_be_in_viewport(ratio=1)
        assert end["bottom"] <= bar["top"], "the end of the page can be read"
        assert (bar["left"], bar["right"]) == (0, 390) and overflow(inspect) <= 0
        inspect.stop_button.tap()
    expect(inspect.state).to_have_text(re.compile("^Stopped"))
    expect(inspect.stop_button).to_be_hidden()


def test_the_form_folds_to_a_line_and_the_trace_comes_first(visit):
    """The problem's answer was below the edge of a usual screen, the form took a third of it after Run, the step view
    stood below the text at 1024 pixels, and on a phone the trace came after the whole form."""
    inspect = visit(viewport={"width": 1440, "height": 900})
    page, fold = inspect.page, inspect.page.locator("#lr-fold")
    for seen in (page.locator("#lr-answer"), inspect.question, page.locator(".lr-question"), page.locator(".lr-grade")):
        expect(seen).to_be_in_viewport(ratio=0.9)
    with inspect.new_run():
        inspect.run_button.click()
    expect(fold).to_have_text("Bundled: 4 M against 1 M · problem 1 · greedy")
    expect(inspect.question).to_be_hidden()
    expect(page.locator(".lr-step h3")).to_contain_text("Step ")
    fold.press("Enter")
    expect(inspect.question).to_be_visible()
    expect(fold).to_have_attribute("aria-expanded", "true")

    page.set_viewport_size({"width": 1024, "height": 900})
    page.reload()
    expect(inspect.tokens.first).to_be_visible()
    text, step = (page.locator(f".lr-{part}").bounding_box() for part in ("response", "step"))
    assert step["x"] >= text["x"] + text["width"] and abs(step["y"] - text["y"]) < 1
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    expect(inspect.tokens.first).to_be_in_viewport()
    expect(inspect.run_button).to_be_in_viewport()
    expect(inspect.question).to_be_hidden()
    assert overflow(inspect) <= 0 and barriers(inspect) == []


def test_a_phone_shows_all_of_it_without_sideways_scrolling(visit, related_pair):
    inspect = visit(**PHONE)
    assert overflow(inspect) <= 0
    expect(inspect.run_button).to_be_in_viewport()  # without scrolling past the whole form
    inspect.use_models(*related_pair)
    inspect.limit(20)
    with inspect.new_run():
        inspect.run_button.tap()
    expect(inspect.state).to_be_in_viewport()  # the page goes to where something happens
    inspect.tokens.nth(3).tap()
    inspect.shows(3)
    assert overflow(inspect) <= 0
    wide = inspect.page.locator(".lr-curve .main-svg").first.get_attribute("width")
    inspect.page.set_viewport_size({"width": 320, "height": 568})
    expect(inspect.page.locator(".lr-curve .main-svg").first).not_to_have_attribute("width", str(wide))
    assert overflow(inspect) <= 0
