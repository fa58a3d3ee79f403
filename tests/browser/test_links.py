"""Taking a run along: its address, also after a restart, and the files that it can be exported to."""

from __future__ import annotations

import csv
import io
import struct
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from lightreasoner.tracing.compare import align
from tests.support.browser import Inspect, barriers_of
from ui.scripts import address as script

pytestmark = pytest.mark.browser
TEXT = "She sold 12 of the 20 cakes, so 8 cakes are left."


#: A text and the formulas in it; amounts of money are none.
FORMULAS = {
    "$x^2$ and \\(y\\) and \\[z\\] and $$w$$": ["x^2", "y", "z", "w"],
    "It costs $5 and then $6, or $7.": [],
    "from $5 or 6$ on": [],
    "so \\boxed{\\frac{1}{2}}.": ["\\boxed{\\frac{1}{2}}"],
    "\\begin{cases} a \\\\ b \\end{cases}": ["\\begin{cases} a \\\\ b \\end{cases}"],
    "$ open, \\( open, \\boxed{ open": [],
}


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


def open_with_late_script(page: Page, url: str) -> None:
    """Open the page; the tab's script begins when the server's answer is there, as it can on a slow connection."""
    late = """export async function mount(gradio) {
        const script = await import('./mount.js?late');
        while (!gradio.props.value) await new Promise((done) => setTimeout(done, 50));
        return script.mount(gradio);
    }"""
    page.route("**/inspect/mount.js", lambda route: route.fulfill(body=late, content_type="text/javascript"))
    with page.expect_response("**/inspect/mount.js?late"):
        page.goto(url)
    page.unroute("**/inspect/mount.js")


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


def test_a_branch_stands_beside_its_parent_in_a_view_with_a_link(visit):
    """Two traces could only be looked at one after the other. Back left the page."""
    inspect = visit()
    page, apart = inspect.page, inspect.page.locator(".lr-compare-list .lr-apart")
    home = page.url
    inspect.limit(30)
    inspect.run()
    parent, parent_url = inspect.record(), page.url
    page.get_by_label("Colour the tokens by").select_option(label="Jensen–Shannon")
    inspect.select(6)
    assert query(page.url)["colour"] == ["js"], "the link forgot the colour"
    with inspect.new_run():
        inspect.step.locator(".lr-branch:enabled").first.click()
    child, forced = inspect.record(), page.locator(".lr-tokens .lr-forced")
    assert forced.get_attribute("data-index") == "6" and "forced by you" in forced.get_attribute("aria-label")
    expect(page.locator(".lr-parent")).to_contain_text("in place of")
    expect(page.locator(".lr-parent")).to_contain_text("The answer ")

    page.get_by_role("button", name="Compare side by side").click()
    sides = page.locator(".lr-compare-list")
    expect(page.locator(".lr-compare-changes")).to_contain_text("Forced token, step 6")
    assert query(page.url) == {"trace": [parent["id"]], "with": [child["id"]], "as": ["branch"], "step": ["6"]}
    aligned = align(*([step["text"] for step in record["steps"]] for record in (parent, child)))
    assert aligned.first[1] == 6 and apart.count() == sum(not same for side in aligned.same for same in side)
    expect(sides.last.locator(".lr-first")).to_have_attribute("data-index", "6")
    expect(sides.locator('[aria-selected="true"]')).to_have_count(2)
    for side in range(2):
        expect(page.locator(".lr-compare-steps h3").nth(side)).to_contain_text("Step 6 ")
    sides.first.locator(".lr-token").nth(2).click()  # one cursor through both
    expect(sides.last.locator(".lr-token").nth(2)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")  # to the other one
    page.keyboard.press("n")
    expect(sides.last.locator(".lr-token").nth(6)).to_have_attribute("aria-selected", "true")
    for part in (page.get_by_role("button", name="First difference"), page.locator(".lr-compare-view .lr-legend")):
        expect(part).to_be_visible()  # a rule for empty viewers hid the buttons, the legend and the keys
    expect(page.locator(".lr-compare-card > [role=status]")).to_contain_text("of the parent and")
    assert barriers_of(page) == []

    address = page.url
    page.go_back()
    inspect.shows(6)
    assert query(page.url)["trace"] == [child["id"]] and apart.count() == 0
    page.go_back()
    expect(page.locator(".lr-parent")).to_be_hidden()
    assert query(page.url)["trace"] == [parent["id"]] and query(page.url)["colour"] == ["js"]
    page.go_back()
    expect(page.locator(".lr-example")).to_be_visible()
    assert page.url == home
    page.goto(address)  # a permalink
    expect(apart.first).to_be_visible()
    open_with_late_script(page, address)  # where the trace was there before the scripts, the page showed it alone
    expect(apart.first).to_be_visible()
    assert page.url == address
    page.get_by_role("button", name="Back to one trace").click()
    expect(page.get_by_label("Colour the tokens by")).to_be_visible()
    page.goto(parent_url)

    page.locator(".lr-history summary").click()
    page.get_by_label("Search the traces").fill("game night")
    page.locator(".lr-history").get_by_role("link", name="Compare").first.click()
    expect(apart.first).to_be_visible()
    assert query(page.url)["with"] == [child["id"]]


def test_formulas_whole_characters_and_a_typed_problem_that_survives_a_reload(visit):
    """LaTeX and characters that several tokens share could only be read in pieces; a reload dropped what was typed."""
    inspect = visit()
    page = inspect.page
    asked = "What is $\\frac{1}{2}$ of 5? It costs $5 and then $6."
    inspect.question.fill(asked)
    page.reload()
    expect(inspect.question).to_have_value(asked)
    expect(page.locator("#lr-answer")).to_contain_text("your own")
    page.locator("#lr-pair input").wait_for()
    inspect.score("It is €5 or 漢. \\boxed{\\frac{5}{2}}")
    texts = [step["text"] for step in inspect.record()["steps"]]
    assert "".join(texts).count("\\xe6") == 1, "the tokenizer cuts it"
    whole = page.locator(".lr-tokens .lr-whole")
    assert "漢" in whole.evaluate_all("nodes => nodes.map((node) => node.dataset.text)")
    piece = page.locator('.lr-tokens [aria-label*="part of 漢"]')
    assert piece.count() > 1
    assert page.locator("math").count() == 0
    found = page.evaluate(
        """async ([url, texts]) => {
            const { splitFormulas } = await import(new URL(url, document.baseURI).href);
            return texts.map((text) => splitFormulas(text).filter(({ tex }) => tex).map((piece) => piece.text));
        }""",
        [script("inspect/formulas.js"), list(FORMULAS)],
    )
    assert found == list(FORMULAS.values())
    page.get_by_label("Read as formulas").check()
    expect(page.locator(".lr-question mfrac")).to_have_count(1)
    expect(page.locator(".lr-question")).to_contain_text("It costs $5 and then $6.")
    expect(page.locator(".lr-reading mfrac")).to_have_count(1)
    expect(page.locator(".lr-reading")).to_contain_text("It is €5 or 漢.")
    assert [step["text"] for step in inspect.record()["steps"]] == texts
    assert inspect.download("png").path().stat().st_size > 20_000


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
