"""A person's runs: the first one, one that is watched, stopped, scored, branched, waited for, or refused."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from lightreasoner.tracing.example import EXAMPLE, FOLDER
from lightreasoner.tracing.records import load_record
from tests.support.browser import ENDLESS, Inspect, as_shown

pytestmark = pytest.mark.browser
SHORT = "Ann has 2 pens and buys 3 more. How many pens does she have?"
WRITING = re.compile(r"^Writing · \d+ tokens$")


def test_the_first_run_takes_one_click(visit):
    inspect = visit()
    page = inspect.page
    expect(page.locator("#lr-pair input")).to_have_value(re.compile("^Bundled"))
    expect(page.locator("#lr-pick input")).to_have_value(re.compile(r"^1 · \w"))
    expect(inspect.question).to_have_value(re.compile(r"\w+ .*\?", re.DOTALL))
    expect(page.locator(".lr-intro li")).to_have_count(3)
    expect(page.locator("button.primary:visible")).to_have_count(1)
    expect(page.locator("button.primary:visible")).to_have_text("Run")
    expect(inspect.error).to_be_hidden()

    inspect.run()

    record = inspect.record()
    above = sum(step["kl"] > record["beta"] for step in record["steps"])
    assert inspect.tokens.count() == len(record["steps"]) > 0
    expect(inspect.counts).to_contain_text(f"{above} of {len(record['steps'])} steps above β")
    ended = {"stop": "The expert ended its turn", "length": "Cut off at the token limit"}
    expect(inspect.state).to_contain_text(ended[record["finish_reason"]])
    expect(page.locator(".lr-intro")).to_be_hidden()
    expect(inspect.card).to_contain_text("Both are loaded")
    expect(inspect.run_button).to_be_visible()


def test_the_page_opens_on_a_finished_trace_until_a_run_replaces_it(visit):
    """A new visitor saw an empty page, and had to press Run to learn what this is about."""
    inspect = visit()
    page, summary = inspect.page, inspect.page.locator(".lr-summary")
    stored = load_record(EXAMPLE, FOLDER)
    assert inspect.text() == "".join(as_shown(step["text"]) for step in stored["steps"])
    strongest = max((step for step in stored["steps"] if step["selected"]), key=lambda step: step["teaching"])
    inspect.shows(strongest["index"])
    above = sum(step["selected"] for step in stored["steps"])
    expect(summary).to_contain_text("Example")
    expect(summary).to_contain_text("23 ✓ known 23")
    expect(summary).to_contain_text(f"{above} of {len(stored['steps'])} steps diverge")
    assert page.url.endswith("/"), "nobody asked for it, so it is not in the address"
    expect(inspect.question).to_have_value(stored["request"]["question"])
    assert inspect.record()["id"] == EXAMPLE

    inspect.select(4)
    again = visit("?" + page.url.partition("?")[2])
    again.shows(4)
    expect(again.page.locator(".lr-example")).to_be_visible()
    assert again.bars() == inspect.bars()

    inspect.limit(5)
    with inspect.new_run():
        inspect.step.locator(".lr-branch:enabled").first.click()
    assert inspect.record()["parent"] == {"id": EXAMPLE, "step": 4}, "it can be branched, as any other"
    expect(page.locator(".lr-example")).to_be_hidden()


def test_another_problem_is_the_one_that_runs(visit):
    inspect = visit()
    before = inspect.question.input_value()
    inspect.page.get_by_role("button", name="Another problem").click()
    expect(inspect.question).not_to_have_value(before)
    inspect.run()
    record = inspect.record()
    assert record["request"]["question"] == inspect.question.input_value()
    assert record["problem_id"]
    inspect.question.fill(SHORT)
    inspect.run()
    assert inspect.record()["problem_id"] is None, "a text of one's own is no longer that problem"


def test_a_run_streams_and_stops_and_keeps_what_was_written(visit, endless_pair):
    inspect = visit()
    inspect.use_models(*endless_pair)
    inspect.question.fill(SHORT)
    inspect.limit(ENDLESS)
    inspect.page.evaluate(
        """() => {
            const grid = document.querySelector('.lr-tokens');
            window.__seen = {updates: 0, busy: []};
            new MutationObserver((changes) => {
                if (changes.some((c) => c.addedNodes.length)) window.__seen.updates += 1;
                const busy = grid.getAttribute('aria-busy');
                if (busy !== window.__seen.busy.at(-1)) window.__seen.busy.push(busy);
            }).observe(grid, {childList: true, attributeFilter: ['aria-busy']});
        }"""
    )
    with inspect.new_run():
        inspect.run_button.click()
        expect(inspect.state).to_have_text(WRITING)
        expect(inspect.run_button).to_be_hidden()
        inspect.page.wait_for_function("window.__seen.updates > 3")
        inspect.select(0)  # while it is being written
        inspect.stop_button.click()

    seen = inspect.page.evaluate("window.__seen")
    assert seen["busy"] == ["true", "false"]
    expect(inspect.state).to_have_text(re.compile("^Stopped"))
    expect(inspect.run_button).to_be_visible()
    expect(inspect.stop_button).to_be_hidden()
    record = inspect.record()
    assert record["finish_reason"] == "stopped"
    assert inspect.tokens.count() == len(record["steps"]) < ENDLESS
    inspect.select(len(record["steps"]) - 1)
    inspect.limit(5)
    inspect.run()  # the accelerator is free again
    expect(inspect.state).to_contain_text("Cut off at the token limit")
    assert inspect.tokens.count() == 5


def test_a_second_visitor_waits_in_view_and_sees_nothing_of_the_first(visit, endless_pair):
    first, second = visit(), visit()
    first.use_models(*endless_pair)
    first.question.fill("How many zebras has Zacharias?")
    first.limit(ENDLESS)
    first.run_button.click()
    expect(first.state).to_have_text(WRITING)

    with second.new_run():
        second.run_button.click()
        expect(second.state).to_have_text("Waiting: 1 run before this one")
        assert second.tokens.count() == 0
        address = first.page.url
        first.page.close()  # nobody watches any more, so the accelerator is given back

    record = second.record()
    assert record["request"]["question"] == second.question.input_value()
    assert second.text() == "".join(as_shown(step["text"]) for step in record["steps"])
    assert "Zacharias" not in second.page.content()
    left = visit("?" + address.partition("?")[2])
    expect(left.state).to_have_text(re.compile("^Stopped"))
    assert left.tokens.count() < ENDLESS


def test_a_text_of_ones_own_is_scored_whole(visit, related_pair):
    inspect = visit()
    inspect.use_models(*related_pair)
    text = "She sold 12 of the 20 cakes,\nso 20 - 12 = 8 cakes are left. Größe: 5 €."
    inspect.score(text)
    expect(inspect.state).to_contain_text("Your text, scored")
    record = inspect.record()
    assert record["finish_reason"] == "given"
    assert record["response"] == text
    assert inspect.text() == "".join(as_shown(step["text"]) for step in record["steps"])
    assert "\\xe2" in inspect.text(), "a token that is part of a character is shown as its bytes"


def test_a_branch_keeps_the_prefix_and_its_parent_is_one_click_away(visit, related_pair):
    inspect = visit()
    inspect.use_models(*related_pair)
    inspect.limit(12)
    inspect.run()
    parent, parent_text = inspect.record(), inspect.text()
    at = 4
    inspect.select(at)
    row = inspect.page.locator(".lr-row", has=inspect.page.locator(".lr-branch:enabled")).first
    forced = int(row.locator(".lr-label").get_attribute("title").removeprefix("token "))
    with inspect.new_run():
        row.get_by_role("button").click()

    inspect.shows(at)
    child = inspect.record()
    assert child["parent"] == {"id": parent["id"], "step": at}
    ids = [step["token_id"] for step in child["steps"]]
    assert ids[: at + 1] == [*(step["token_id"] for step in parent["steps"][:at]), forced]
    assert forced != parent["steps"][at]["token_id"]
    assert child["request"]["question"] == parent["request"]["question"]
    expect(inspect.page.locator(".lr-parent")).to_contain_text(f"Branched at step {at}")

    with inspect.new_run():
        inspect.page.get_by_role("button", name="Back to the parent").click()
    inspect.shows(at)
    assert inspect.text() == parent_text
    assert inspect.record()["id"] == parent["id"]


def test_what_cannot_work_is_said_in_a_sentence_and_the_page_goes_on(visit):
    inspect = visit()
    for action in ("empty", "unknown model", "not downloaded"):
        if action == "empty":
            inspect.question.fill("   ")
            expected = "The problem is empty"
        elif action == "unknown model":
            inspect.use_models("no/such-model-here", "no/such-amateur")
            expected = "no/such-model-here"
        else:
            inspect.pick_pair("Qwen2.5-Math-1.5B against")
            expect(inspect.card.locator(".lr-warn")).to_contain_text("Qwen/Qwen2.5-Math-1.5B")
            expected = "Qwen/Qwen2.5-Math-1.5B"
        inspect.run_button.click()
        expect(inspect.error).to_contain_text(expected)
        expect(inspect.error).to_have_attribute("role", "alert")
        assert "unexpected error" not in inspect.error.inner_text()
        assert "Traceback" not in inspect.error.inner_text()
        expect(inspect.page.locator(".lr-curve-box")).to_be_hidden()
        goes_on(inspect)


def goes_on(inspect: Inspect) -> None:
    """After an error: everything can still be used, and the error is gone."""
    inspect.pick_pair("Bundled")
    inspect.question.fill(SHORT)
    inspect.run()
    expect(inspect.error).to_be_hidden()
    inspect.select(0)
