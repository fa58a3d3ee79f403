"""Text from models, files and visitors is text: nothing in it runs, fetches, hides or pushes the page apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Inspect, as_shown
from tests.support.browser_models import HOSTILE, ODD, PWN

pytestmark = pytest.mark.browser
#: One that fetches where Markdown or HTML is made of it, for what is not a model's text.
BEACON = "![x](http://example.com/x.png) <img src='http://example.com/y.png'>"
EVIL = " ".join((*HOSTILE, BEACON))


def assert_inert(page: Page) -> None:
    """Nothing was executed, nothing became an element, and the page is as wide as the window."""
    assert page.evaluate("window.__pwned") is None
    assert page.locator(".lr-root :is(img:not(.lr-curve-picture), script, a), #lr-side img").count() == 0
    assert page.locator("[onmouseover], [onerror]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def walk(inspect: Inspect, record: dict) -> None:
    """Open every odd token's step; its text stands in the heading and in its own row."""
    for step in record["steps"]:
        if step["text"] in (*HOSTILE, *ODD):
            inspect.select(step["index"])
            start = as_shown(step["text"])[:8]
            expect(inspect.step.locator("h3 code")).to_contain_text(start)
            expect(inspect.step.locator(".lr-taken .lr-label")).to_contain_text(start)


def test_tokens_that_look_like_code_stay_text_on_the_page_and_in_every_export(visit, visitors, hostile_pair, tmp_path):
    inspect = visit()
    inspect.use_models(*hostile_pair)
    inspect.question.fill("How many pens?")
    inspect.score(" ".join((*HOSTILE, *ODD)))
    record = inspect.record()
    texts = [step["text"] for step in record["steps"]]
    assert set(texts) >= {*HOSTILE, *ODD}, "the tokenizer keeps each of them whole"
    assert inspect.text() == "".join(map(as_shown, texts))
    walk(inspect, record)
    assert_inert(inspect.page)

    assert record["response"] == " ".join((*HOSTILE, *ODD))
    assert inspect.download("png").path().read_bytes().startswith(b"\x89PNG")
    assert "\n=HYPERLINK" not in inspect.export("csv") and ",=HYPERLINK" not in inspect.export("csv")
    file = tmp_path / "hostile.html"
    inspect.download("html").save_as(file)
    alone = Inspect(visitors.context(file.as_uri()).new_page()).open(file.as_uri())
    assert alone.text() == inspect.text()
    walk(alone, record)
    assert_inert(alone.page)
    assert alone.record()["steps"][0]["text"] == HOSTILE[0]


def test_a_hostile_problem_is_quoted_as_it_is(visit, visitors, tmp_path):
    inspect = visit()
    question = EVIL + " \u202e \u200b Z\u0351\u036b 👩‍👩‍👧"
    inspect.question.fill(question)
    inspect.limit(3)
    inspect.run()
    assert inspect.page.locator(".lr-question").text_content() == question
    assert inspect.record()["request"]["question"] == question
    assert_inert(inspect.page)
    file = tmp_path / "hostile.html"
    inspect.download("html").save_as(file)
    alone = Inspect(visitors.context(file.as_uri()).new_page()).open(file.as_uri())
    assert alone.page.locator(".lr-question").text_content() == question
    assert_inert(alone.page)


@pytest.mark.parametrize("text", ["a word: " + "x" * 5000, "a null: \x00."])
def test_text_that_no_model_was_made_for_gets_a_run_or_a_sentence(visit, text):
    inspect = visit()
    inspect.page.get_by_label("Score a text of mine").check()
    field = inspect.page.get_by_label("Text to score")
    expect(field).to_be_visible()
    field.fill(text)
    inspect.run_button.click()
    expect(inspect.error.and_(inspect.page.locator(":visible")).or_(inspect.tokens.first)).to_be_visible()
    assert "unexpected error" not in inspect.error.inner_text()
    assert_inert(inspect.page)


def test_hostile_model_names_are_shown_as_they_are(visit):
    inspect = visit()
    for name in (f"<img src=x onerror={PWN}>", f"${{{PWN}}}", f"{{{{{PWN}}}}}", "/no/such/<b>folder</b>"):
        inspect.use_models(name, name)
        expect(inspect.card).to_contain_text(name)
        inspect.run_button.click()
        expect(inspect.error).to_contain_text(name)
        assert_inert(inspect.page)


def test_a_hostile_file_of_problems_neither_runs_nor_fetches(visit, tmp_path: Path):
    file = tmp_path / "problems.jsonl"
    rows = [{"question": EVIL, "answer": EVIL}, {"question": "2 + 2?", "answer": "4"}, {"question": ""}]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    inspect = visit()
    inspect.page.get_by_label("Problem source").click()
    inspect.page.get_by_role("option", name="Upload a file").click()
    inspect.page.locator("input[type=file]").set_input_files(file)
    said = "1 row of problems.jsonl cannot be read without guessing: line 3: its question is blank"
    expect(inspect.page.locator("#lr-answer")).to_contain_text(said)
    assert_inert(inspect.page)
    inspect.page.get_by_label("Use the rows that can be read").check()
    expect(inspect.question).to_have_value(EVIL)
    expect(inspect.page.locator("#lr-answer")).to_contain_text(BEACON)
    expect(inspect.page.locator("#lr-answer")).to_contain_text(said)
    assert_inert(inspect.page)
    inspect.page.locator("#lr-pick input").click()
    assert_inert(inspect.page)
    inspect.page.get_by_role("option", name="2 · 2 + 2?").click()
    expect(inspect.page.locator("#lr-answer")).to_have_text("Known answer: 4")

    # no question at all: the sentence on it names the columns
    column = "<img src=//example.com/z>"
    file.write_text(json.dumps({column: 1}))
    inspect.page.get_by_label("Remove this file").or_(inspect.page.get_by_label("Clear")).first.click()
    inspect.page.locator("input[type=file]").set_input_files(file)
    expect(inspect.page.locator("#lr-answer")).to_contain_text(column)
    assert_inert(inspect.page)
