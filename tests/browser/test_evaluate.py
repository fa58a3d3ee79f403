"""The Evaluate tab in a browser: from the form to an opened flip, by mouse, keyboard and link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from lightreasoner.decoding.contrast import Contrast
from tests.browser.test_jobs import query
from tests.browser.test_look import barriers
from tests.support.browser import Inspect, Visitors, in_every_look
from tests.support.browser_jobs import JobsApp, serving
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_evaluation import make_base, make_evaluation, make_tuned, write_events
from tests.support.tiny_experiment import make_experiment

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="window.__pwned=1"> {{constructor}} ${window.__pwned=1} and {n} and {n} more?'
BEFORE, AFTER = "1100x01010" * 3, "1111x01011" * 3


class Bench:
    """The contents of the server's workspace."""

    def __init__(self, workspace: Path):
        runs = workspace / "runs"
        self.base = make_base(workspace)
        dataset = runs / "a-dataset-of-six-00"
        make_dataset(dataset, problems=6)
        write_events(dataset, [(0.0, "start"), (20.0, "end")])
        self.tuned = make_tuned(runs, self.base, dataset)
        self.orphan = make_tuned(runs, self.base, method="sft")
        self.paper = make_evaluation(runs, "Qwen/Qwen2.5-Math-1.5B", [], [BEFORE], problems="gsm8k")
        three, both = [BEFORE, AFTER, BEFORE[::-1]], [self.tuned, self.orphan]
        self.hostile = make_evaluation(runs, self.base, both, three, problems="svamp", question=HOSTILE)
        self.run = make_evaluation(runs, self.base, [self.tuned], [BEFORE, AFTER])
        cells = tuple(Contrast(alpha, beta) for alpha in (0.2, 0.5) for beta in (0.1, 1.0))
        grid = ["0" * 20, "1" * 15 + "0" * 5, "0" * 20, "1" * 10 + "0" * 10, "0" * 20]
        self.preview = make_evaluation(runs, self.base, [], grid, problems="mathqa", contrasts=cells)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsApp]:
    """Its workspace is empty until a test uses `bench`."""
    with serving(JobsApp(tmp_path_factory.mktemp("evaluate"))) as app:
        yield app


@pytest.fixture(scope="module")
def bench(server: JobsApp) -> Bench:
    return Bench(server.workspace)


@pytest.fixture
def tab(server: JobsApp, visitors: Visitors):
    """tab(query, **options) opens the Evaluate tab in a browser of its own."""

    def open_tab(address: str = "?tab=evaluate", **options) -> Page:
        page = visitors.context(server.url, **options).new_page()
        page.goto(server.url + address)
        expect(page.locator(".lr-evaluate")).to_be_visible()
        return page

    return open_tab


def overflow(page: Page) -> float:
    """The overflow beyond the window, in pixels."""
    return page.evaluate(
        """() => Math.max(document.documentElement.scrollWidth, ...Array.from(
            document.querySelectorAll('#lr-ev-side *, .lr-evaluate, .lr-evaluate *:not(svg *)'))
            .filter((node) => node.checkVisibility() && !node.closest('.lr-unseen, thead'))
            .map((node) => node.getBoundingClientRect().right)) - innerWidth"""
    )


def test_an_empty_page_and_a_dead_link(tab):
    page = tab("?tab=evaluate&run=" + "x" * 22)
    expect(page.locator(".lr-evaluate > .lr-error")).to_contain_text("There is no evaluation")
    page = tab()
    expect(page.locator("#lr-ev-adapters")).to_contain_text("No fine-tuned models for this base yet")
    expect(page.locator(".lr-empty:visible p")).to_have_count(2)
    expect(page.get_by_role("heading", name="No evaluation yet")).to_be_visible()
    assert barriers(Inspect(page)) == []


def test_from_the_form_to_the_results(bench, tab):
    page = tab(f"?tab=evaluate&run={bench.tuned.name}")  # the link of a fine-tuned model fills the form in
    ticks = page.locator("#lr-ev-adapters")
    expect(page.get_by_label("Model name")).to_have_value(str(bench.base))
    expect(ticks.get_by_role("checkbox", checked=True)).to_have_count(1)
    expect(ticks.get_by_role("checkbox")).to_have_count(2)
    limit = page.locator("#lr-ev-limit input")
    limit.fill("-1")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.locator("#lr-ev-notice [role=alert]")).to_contain_text("The number of problems is -1")
    limit.fill("6")
    page.get_by_role("button", name="More").click()
    page.get_by_label("Max new tokens").fill("24")
    page.get_by_role("button", name="The same on the command line").click()
    command = page.locator("#lr-ev-command textarea")
    page.get_by_role("spinbutton", name="Responses").fill("2")
    expect(command).to_have_value(re.compile("2 at temperature 0, where every response to a problem is the same"))
    page.get_by_label("Temperature").fill("0.6")
    expect(command).to_have_value(re.compile("--samples 2 --temperature 0.6"))
    page.get_by_role("spinbutton", name="Responses").fill("1")
    page.get_by_label("Temperature").fill("0")
    expect(command).to_have_value(re.compile(rf"--adapter \S+{bench.tuned.name} .*--limit 6 --max-new-tokens 24"))
    page.get_by_role("button", name="Evaluate", exact=True).click()

    run = page.get_by_role("region", name="The evaluation")
    expect(run.get_by_role("heading", level=2)).to_contain_text("Bundled, test · 6")
    expect(run.locator(".lr-badge")).to_have_text("Done")
    rows = run.get_by_role("region", name="pass@1 of each model").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("tiny-base, base model")
    expect(rows.first).to_contain_text("0 of 6")
    expect(run.get_by_role("region", name="Compared problem by problem")).to_contain_text("no problem changed sides")
    expect(page.locator("#lr-ev-notice .lr-error")).to_have_count(0)
    made = query(page)["run"][0]
    assert made not in (bench.tuned.name, bench.run.name)
    page.reload()
    expect(run.get_by_role("heading", level=2)).to_contain_text("Bundled, test · 6")
    # its job leads here
    page.get_by_role("tab", name="Jobs").click()
    page.locator(".lr-job-open").first.click()
    page.get_by_role("link", name="Open the evaluation").click()
    assert query(page) == {"tab": ["evaluate"], "run": [made]}

    page.get_by_role("button", name="Delete …").click()
    page.keyboard.press("Escape")
    expect(page.locator(":focus")).to_have_text("Delete …")
    page.keyboard.press("Enter")
    expect(page.locator(":focus")).to_have_text("Keep it")  # the harmless one
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", name="All results")).to_be_visible()
    expect(page.locator(f'[data-key="{made}"]')).to_have_count(0)
    assert query(page) == {"tab": ["evaluate"]}


def test_a_flip_is_opened_side_by_side_and_found_again(bench, tab):
    page = tab(f"?tab=evaluate&run={bench.run.name}")
    lists = page.get_by_role("region", name="Problems that changed sides")
    expect(lists.get_by_role("heading", level=4)).to_have_text(
        ["Gained 9 · wrong before, right after", "Lost 0 · right before, wrong after"]
    )
    page.get_by_role("button", name=re.compile("^9 gained by")).click()
    page.locator(".lr-flip-row").first.focus()
    page.keyboard.press("Enter")
    flip = page.get_by_role("region", name="A problem that changed sides")
    expect(flip).to_contain_text("Known answer: 4")
    expect(flip.get_by_label("The response before")).to_contain_text("The answer is 2.")
    expect(flip.get_by_label("The response after")).to_contain_text("The answer is 4.")
    expect(flip).to_contain_text(re.compile("the same for \\d+ tokens and diverge there"))
    address = query(page)
    assert address.keys() == {"tab", "run", "model", "problem"}
    before = flip.get_by_role("group", name="Verdict by hand").first
    before.get_by_role("button", name="Right").click()
    expect(flip.locator(".lr-judged").first).to_contain_text("✓ right by hand (graded wrong), answer 2")
    before.get_by_role("button", name="As graded").click()
    expect(flip.locator(".lr-judged").first).to_contain_text("✕ wrong, answer 2")

    flip.get_by_role("button", name="Show what tuning changed").click()
    for side in (0, 1):
        tokens = flip.locator(".lr-tokens").nth(side)
        expect(tokens.locator(".lr-token").first).to_be_visible()
        expect(tokens.locator('[aria-selected="true"]')).to_have_count(1)  # where the two responses part
    expect(flip.locator(".lr-step h3").first).to_contain_text("Step ")
    expect(flip.locator(".lr-flip-head")).to_contain_text("the step where the responses diverge is selected")
    assert barriers(Inspect(page)) == []

    page.reload()  # what was computed is there again without a click, and without a model
    expect(flip.locator(".lr-token").first).to_be_visible()
    assert query(page) == address
    link = flip.get_by_role("link", name="Open in Inspect").first
    trace = link.get_attribute("href").partition("trace=")[2].partition("&")[0]
    link.click()
    expect(page.locator("#lr-viewer .lr-token").first).to_be_visible()
    assert query(page)["trace"] == [trace]
    page.get_by_role("tab", name="Evaluate").click()
    flip.get_by_role("button", name="Back to the evaluation").click()
    expect(page.locator(":focus")).to_have_class(re.compile("lr-flip-row"))
    assert query(page) == {"tab": ["evaluate"], "run": [bench.run.name]}


def test_responses_are_read_judged_again_and_their_verdicts_set_by_hand(bench, tab):
    page = tab(f"?tab=evaluate&run={bench.run.name}")
    page.get_by_role("button", name="Judge again").click()
    judged = page.get_by_role("region", name="Judged again")
    # an unfinished sum is read as an answer today, and is as wrong as before
    expect(judged).to_contain_text("60 responses judged again: 0 verdicts changed, 6 answers are read")
    expect(judged.get_by_role("listitem").first).to_contain_text("problem p4Known 8Before no answer extracted ✕Now 4 ✕")
    responses = page.get_by_role("region", name="Responses", exact=True)
    responses.get_by_label("Which responses").select_option("wrong")
    expect(responses).to_contain_text("18 responses.")
    row = responses.locator("details").first
    row.locator("summary").click()
    expect(row.get_by_label("The response", exact=True)).to_contain_text("2 + 2 = 2")
    row.get_by_role("button", name="Right").click()
    expect(row.locator("summary")).to_contain_text("✓ right by hand")
    base = page.get_by_role("region", name="pass@1 of each model").locator("tbody tr").first
    expect(base).to_contain_text("13 of 301 by hand")
    assert barriers(Inspect(page)) == []
    row.get_by_role("button", name="As graded").click()
    expect(base).to_contain_text("12 of 30")
    expect(row.locator("summary")).to_contain_text("✕ wrong")


def saved(page: Page, chart: Locator, button: str) -> bytes:
    chart.locator("summary").click()
    with page.expect_download() as waiting:
        chart.get_by_role("button", name=button).click()
    page.keyboard.press("Escape")
    return Path(waiting.value.path()).read_bytes()


def test_the_charts_show_hide_and_save_the_results(bench, tab):
    page = tab(f"?tab=evaluate&run={bench.run.name}")
    models, differences = (
        page.locator("#lr-evaluate .lr-chart:visible", has=page.get_by_text(title, exact=True))
        for title in ("pass@1", "Difference in pass@1")
    )
    plot = models.locator(".lr-plot")
    expect(plot).to_have_attribute(
        "aria-label", re.compile(r"pass@1 40\.0 %, 95 % interval 24\.6 to 57\.7 %, 12 of 30")
    )
    expect(plot).to_have_attribute(
        "aria-label", re.compile(r"pass@1 70\.0 %, 95 % interval 52\.1 to 83\.3 %, 21 of 30")
    )
    drag = models.locator(".nsewdrag")
    drag.scroll_into_view_if_needed()
    box = drag.bounding_box()
    drag.hover(position={"x": box["width"] / 3, "y": box["height"] * 0.75})  # anywhere in its row
    for words in ("LightReasoner", "pass@1 70.0 %", "95 % interval 52.1 to 83.3 %", "21 of 30 right"):
        expect(models.locator(".hoverlayer")).to_contain_text(words)
    expect(models.locator(".errorbar")).to_have_count(2)
    models.locator(".legendtoggle").nth(1).click()  # the fine-tuned ones
    expect(models.locator(".errorbar")).to_have_count(1)

    drag = differences.locator(".nsewdrag")
    drag.scroll_into_view_if_needed()
    drag.hover()
    expect(differences.locator(".hoverlayer")).to_contain_text("better: +30.0 points")
    expect(differences.locator(".infolayer .legendtext")).to_have_text("better")

    head, base, tuned = saved(page, models, "Save CSV").decode().splitlines()
    assert head == "series,model,pass@1 in %,low,high,right,problems"
    assert base.startswith('base,"tiny-base, base model",40,24.59') and base.endswith(",12,30")
    assert tuned.startswith('fine-tuned,"LightReasoner,') and tuned.endswith(",21,30")
    assert b"gained,lost,McNemar p" in saved(page, differences, "Save CSV")
    assert saved(page, models, "Save PNG").startswith(b"\x89PNG")
    picture = saved(page, differences, "Save SVG").decode()
    assert "Difference in pass@1</text>" in picture and ">better</text>" in picture


def test_it_is_accessible(bench, tab):
    page = tab()
    expect(page.get_by_role("heading", name="Costs")).to_be_visible()
    costs = page.get_by_role("region", name="Costs")
    expect(costs.locator("tr", has_text="tiny-base: SFT")).to_contain_text("its dataset was deleted")
    expect(costs.locator("tr", has_text="tiny-base: LightReasoner")).to_contain_text("1 min")
    assert costs.locator(".lr-is-paper").count() == costs.locator(".lr-paper-mark").count() == 8
    theirs = page.get_by_role("region", name="GSM8K, Qwen2.5-Math-1.5B").locator(".lr-is-paper")
    expect(theirs).to_have_count(3)
    charts = page.locator(".lr-overview .lr-chart")
    expect(charts).to_have_count(4)
    of_paper = charts.filter(has=page.get_by_role("heading", name="Qwen2.5-Math-1.5B on GSM8K"))
    expect(of_paper.locator(".lr-plot")).to_have_attribute(
        "aria-label", re.compile("paper: SFT, pass@1 69.2 %, the paper gives no")
    )
    of_paper.scroll_into_view_if_needed()
    page.get_by_text("The paper’s results", exact=True).click()
    for look in in_every_look(page):
        of_paper.scroll_into_view_if_needed()
        expect(of_paper.locator(".point")).to_have_count(4)
        name = of_paper.locator(
            ".annotation-text" if look == "phone" else ".ytick text"
        ).first  # a phone has no room beside
        expect(name).to_have_text(re.compile("Qwen2.5-Math-1.5B, base ?model"))
        inside = of_paper.locator(".lr-plot").bounding_box()
        box = name.bounding_box()
        assert inside["x"] <= box["x"] and box["x"] + box["width"] <= inside["x"] + inside["width"]
        marker = of_paper.locator(".point").first
        expect(marker).to_have_css("fill", "rgb(165, 175, 186)" if look == "dark" else "rgb(89, 97, 107)")
        assert overflow(page) <= 0, look
        assert barriers(Inspect(page)) == [], look

    page.locator(f'[data-key="{bench.hostile.name}"]').click()
    expect(page.locator(":focus")).to_contain_text("tiny-base · SVAMP")
    expect(page.locator(".lr-flip-row").first).to_contain_text('<img src=x onerror="window.__pwned=1">')
    page.get_by_label("Flips of which model").select_option("2")
    expect(page.get_by_role("region", name="Problems that changed sides")).to_contain_text("After: SFT")
    for look in in_every_look(page):
        assert overflow(page) <= 0, look
        assert barriers(Inspect(page)) == [], look
    page.locator(".lr-flip-row").first.click()
    expect(page.locator(".lr-flip-head .lr-question")).to_contain_text("${window.__pwned=1}")
    for look in in_every_look(page):
        assert overflow(page) <= 0, look
        assert barriers(Inspect(page)) == [], look
    assert page.evaluate("window.__pwned") is None


def test_a_preview_shows_its_grid_and_leads_to_fine_tuning(bench, tab):
    page = tab(f"?tab=evaluate&run={bench.preview.name}")
    chart = page.locator(".lr-results .lr-chart", has_text="Preview of training")
    expect(chart.locator(".lr-plot")).to_have_attribute("aria-label", re.compile(r"α = 0.2, β = 0.1: [+]75.0 points"))
    expect(chart.locator(".heatmap-label").first).to_have_text(re.compile("75"))
    for look in in_every_look(page):
        assert overflow(page) <= 0, look
        assert barriers(Inspect(page)) == [], look
    page.get_by_role("link", name="Fine-tune with α 0.2 and β 0.1").click()
    expect(page.locator("#lr-ft-side").get_by_label("β", exact=True)).to_have_value("0.1")


def test_a_finished_experiment_on_the_improve_tab(bench, server, visitors):
    run = make_experiment(server.workspace / "runs", bench.base, bench.base)
    page = visitors.context(server.url).new_page()
    page.goto(f"{server.url}?tab=improve&run={run.name}")
    view = page.get_by_role("region", name="The experiment", exact=True)
    expect(view.locator(".lr-verdict")).to_contain_text("LightReasoner: pass@1 from 41.7 to 83.3 %")
    expect(view.locator(".lr-stage")).to_have_count(6)
    arms = view.get_by_role("region", name="Arms", exact=True)
    expect(arms.locator("tbody tr")).to_have_count(2)
    expect(arms.get_by_role("img", name=re.compile(r"better: [+]41.7 points"))).to_be_visible()
    expect(view.locator(".lr-changed")).to_have_count(3)
    expect(page.locator("#lr-ex-size").get_by_label("Quick")).to_be_checked()
    expect(page.locator("#lr-ex-steps input")).to_have_value("80")
    page.locator("#lr-ex-size").get_by_label("Full").check()
    expect(page.locator("#lr-ex-minutes input")).to_have_value("5")
    expect(page.locator("#lr-ex-steps input")).to_have_value("300")
    for look in in_every_look(page):
        expect(arms.locator(".point")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, look
        assert barriers(Inspect(page)) == [], look

    with page.expect_download() as download:
        view.get_by_role("button", name="Download Report").click()
    assert "83.3" in download.value.path().read_text()
    view.get_by_role("link", name="Evaluate").first.click()
    expect(page.locator(".lr-evaluate .lr-run-title h2")).to_contain_text("LightReasoner")
    [opened] = query(page)["run"]
    assert re.fullmatch(re.escape(run.name) + "-1-lightr[a-z]*-test", opened)
