"""Hostile texts on a public server: in every answer over HTTP they are data, on every surface of the page text.

Everything that can have a text has all of them (tests/support/hostile_workspace.py); the server's owner, who sees the
most, looks at all of it, and a stranger at what strangers see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.serving.test_public import (
    GOOD,
    PASSWORD,
    USER,
    PublicApp,
    ask,
    call,
    run_of,
    server_calls,
    serving_public,
    signed_in,
    trace,
    visitor,
)
from tests.support.browser import Inspect
from tests.support.browser_models import HOSTILE, PWN
from tests.support.hostile_workspace import TEXTS, Furnished, furnish

LONE = "a lone surrogate: \ud800."


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> Iterator[PublicApp]:
    with serving_public(tmp_path_factory.mktemp("public")) as app:
        yield app


@pytest.fixture(scope="module")
def there(public, hostile_pair) -> Furnished:
    return furnish(public, hostile_pair)


@pytest.fixture
def owner(public) -> Iterator[httpx.Client]:
    with signed_in(public) as client:
        yield client


@pytest.fixture
def stranger(public) -> Iterator[httpx.Client]:
    with visitor(public) as client:
        yield client


def strict(answer: httpx.Response) -> object:
    """An answer that no browser takes for a page, and its JSON without NaN."""
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(answer.content.decode(), parse_constant=refuse)


def texts_in(found: object) -> str:
    """All strings of an answer."""
    if isinstance(found, dict):
        return "\n".join((*map(str, found), *map(texts_in, found.values())))
    return "\n".join(map(texts_in, found)) if isinstance(found, list) else str(found)


class Elements(HTMLParser):
    """Names of the elements that a browser would make of a page, and whether any has an inline handler."""

    def __init__(self, page: str):
        super().__init__()
        self.names, self.handlers = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.handlers += [name for name, value in attrs if name.startswith("on") or PWN in (value or "")]


def test_there_are_more_than_eighteen_kinds():
    assert len(set(TEXTS)) >= 18


def test_every_answer_is_data(owner, there):
    """All that the tabs ask for, as the owner, who sees everything."""
    job = there.jobs[HOSTILE[0]]
    first = f"{TEXTS[0]}0"
    asked = {
        ("lr-viewer", "step"): (there.trace, 3),
        ("lr-viewer", "export"): (there.trace, "json", 0.2, 0.4),
        ("lr-jobs", "look"): (100, job, {}),
        ("lr-top", "header_status"): (None,),
        ("lr-datasets", "overview"): (there.dataset, 0.2, 0.4, "kl", None),
        ("lr-datasets", "rows"): (there.dataset, {}),
        ("lr-datasets", "trajectory"): (there.dataset, first, 0, 0),
        ("lr-datasets", "trace_file"): (there.dataset, first, 0, "json", 0.2, 0.4),
        ("lr-finetune", "overview"): (there.tuning, None, None),
        ("lr-evaluate", "look"): (there.evaluation, True, {}),
        ("lr-evaluate", "listed"): (there.evaluation, 1, "gained", 0),
        ("lr-evaluate", "flip"): (there.evaluation, 1, "p2"),
    }
    ids = {(name, function): id for name, id, function in server_calls(owner)}
    found = {}
    for (name, function), arguments in asked.items():
        found[name, function] = strict(call(owner, ids[name, function], function, list(arguments)))
        assert "error" not in found[name, function], (name, function, found[name, function])
    everything = {key: texts_in(value) for key, value in found.items()}
    plain = [text for text in TEXTS if text.isprintable()]
    for text in plain:
        assert text in everything["lr-jobs", "look"], text
        assert text in everything["lr-datasets", "trajectory"], text
        assert text in everything["lr-evaluate", "flip"], text
        assert text in json.loads(found["lr-viewer", "export"]["content"])["response"], text


@pytest.mark.parametrize("kind", ["html", "csv"])
def test_exports_hold_them_as_text(owner, stranger, there, kind):
    """Of a trace, also to a stranger who has its link, and of a dataset's response."""
    innocent = ask(stranger, "lr-viewer", "export", run_of(trace(stranger)), kind, 0.2, 0.4)["content"]
    for client, name, function, arguments in (
        (stranger, "lr-viewer", "export", (there.trace, kind, 0.2, 0.4)),
        (owner, "lr-datasets", "trace_file", (there.dataset, f"{TEXTS[0]}0", 0, kind, 0.2, 0.4)),
    ):
        content = ask(client, name, function, *arguments)["content"]
        if kind == "html":
            found = Elements(content)
            assert found.names == Elements(innocent).names and not found.handlers
        else:
            cells = [cell.strip('"') for line in content.splitlines() for cell in line.split(",")]
            assert not [cell for cell in cells if cell[:1] in "=@" and cell], "a spreadsheet would compute it"


@pytest.mark.parametrize("text", [*TEXTS, LONE])
def test_no_page_makes_anything_of_what_is_sent(stranger, text):
    """Names of pages, tabs, models, users, sessions: what comes back as HTML has no element of the sender's."""
    sent = quote(text, errors="surrogatepass")[:4000]
    said = [stranger.get(f"?tab={sent}&trace={sent}"), stranger.get(sent), stranger.get(f"gradio_api/file={sent}")]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    said.append(stranger.post("sign-in", content=f"user={sent}&password={sent}", headers=form))
    said.append(stranger.post("gradio_api/call/trace", content=json.dumps({"data": [text] * len(GOOD)})))
    for answer in said:
        assert answer.status_code < 500, answer
        assert answer.headers["x-content-type-options"] == "nosniff"
        if "html" in answer.headers.get("content-type", ""):
            assert not Elements(answer.text).handlers
            assert PWN not in answer.text or "window.__pwned" not in text
    for changes in ({"question": text}, {"question": "2 + 2?", "mode": "Score a text of mine", "response": text}):
        told = trace(stranger, tokens=4, **changes)
        assert "unexpected error" not in told and "Traceback" not in told, told[:500]
        assert "event: complete" in told, told[:500]


def test_the_log_cannot_be_written_on(public, owner, there, stranger):
    """No text gets into it that would move a terminal's cursor, hide a line or turn it round."""
    for text in TEXTS:
        trace(stranger, pair=text, expert=text, question=text)
        ask(owner, "lr-jobs", "look", 5, text, {})
    log = public.log.read_bytes()
    assert not [byte for byte in log if (byte < 32 and byte not in b"\n\t") or byte == 127]
    assert "\u202e".encode() not in log


@pytest.mark.browser
def test_every_surface_shows_them_as_text(public, there, visitors):
    context = visitors.context(public.url)
    page = context.new_page()
    page.goto(f"{public.url}sign-in")
    page.get_by_label("User").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    inspect = Inspect(page).open(f"{public.url}?trace={there.trace}")
    expect(inspect.tokens.first).to_be_visible()
    inspect.select(2)
    quiet(page)

    for text in (HOSTILE[0], HOSTILE[4]):  # a message in passing, a form that is filled from an address
        page.goto(f"{public.url}?tab={quote(text)}&trace={quote(text)}&run={quote(text)}&dataset={quote(text)}")
        expect(inspect.state).to_be_visible()
        quiet(page)

    page.goto(f"{public.url}?tab=jobs&job={there.jobs[HOSTILE[0]]}")
    opened = page.locator(".lr-job").filter(has=page.locator(".lr-job-log")).first
    expect(opened).to_contain_text(HOSTILE[0])
    titles = page.locator(".lr-job-title").all_text_contents()
    assert {text for text in HOSTILE if len(text) < 60} <= set(titles)
    quiet(page)

    page.goto(f"{public.url}?tab=datasets&dataset={there.dataset}")
    view = page.locator(".lr-run-view")
    expect(view.locator(".lr-steps tbody tr").first).to_be_visible()
    quiet(page)
    view.locator(".lr-steps tbody tr").first.click()
    expect(page.locator(".lr-token").filter(visible=True).first).to_be_visible()
    quiet(page)

    page.goto(f"{public.url}?tab=finetune&run={there.tuning}")
    expect(page.locator(".lr-model-card h3")).to_have_text(HOSTILE[0])
    quiet(page)

    page.goto(f"{public.url}?tab=evaluate&run={there.evaluation}")
    expect(page.get_by_role("region", name="Compared problem by problem")).to_be_visible()
    page.locator(".lr-flip-row").first.click()
    expect(page.locator("section.lr-flip")).to_be_visible()
    quiet(page)


def quiet(page: Page) -> None:
    """Nothing ran, nothing became an element or a link to elsewhere, nothing is wider than the window."""
    page.wait_for_timeout(300)
    assert page.evaluate("window.__pwned") is None
    assert page.locator(".lr-root :is(img, script, iframe, object), [onmouseover], [onerror]").count() == 0
    links = page.locator(".lr-root a[href]").evaluate_all("(links) => links.map((link) => link.href)")
    assert all(link.startswith(page.url.partition("?")[0]) for link in links), links
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
