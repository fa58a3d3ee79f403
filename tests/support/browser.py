"""What the browser tests drive: the real app in a process of its own, fenced visitors, and the Inspect tab."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright._impl.assertions import LocatorAssertions
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Download, Page, Playwright, expect

from tests.support import warm_app

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60_000  # ms; a busy two-core machine is several times slower than an idle one
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # all pages of a visitor in one process, which has the page's scripts compiled: a fifth less work to open the page
    "--process-per-site",
    # nobody's browser reaches anything but this machine; there is one name of somebody else's that leads to it
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
#: For pages that live for seconds: V8's last compiler takes more time than it gains.
SHORT_LIVED = "--js-flags=--no-turbofan"
#: More tokens than any model writes within PATIENCE: a run with this limit goes on until somebody stops it.
ENDLESS = 20_000
#: Offline and on the CPU, whatever this machine has, with a Hub cache that is empty. One
#: thread: two meet after every small operation, and where other programs hold the cores a token then takes a second.
ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HOME": "/nonexistent",
    "HF_HUB_OFFLINE": "1",
    "LIGHTREASONER_DEVICE": "cpu",
    "LIGHTREASONER_MAX_NEW_TOKENS": str(ENDLESS),
    "LIGHTREASONER_WARM_JOBS": "0",  # jobs are forks anyway: tests/support/warm_jobs.py
    "NO_PROXY": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}
GLYPHS = {"\n": "↵\n", "\x00": "␀", "\x1b": "␛"} | {c: f"‹U+{ord(c):04X}›" for c in "\u200b\u200d\u2028\u202e\ufeff"}
TOKEN_LIMIT = "Max new tokens"
#: Whether something is to be seen and something else is there. As a function that is waited for it is asked at each
#: frame, where `expect` looks twice a second.
OPEN = "([seen, there]) => document.querySelector(seen)?.checkVisibility() && document.querySelector(there)"

expect.set_options(timeout=PATIENCE)
#: ms; with less than 2.5 s to wait for, `expect` looks ten times a second, and else twice, which was a quarter of a
#: second lost each time that something took a while.
OFTEN = 2_400
_ask = LocatorAssertions._call_expect


async def _ask_often(self: LocatorAssertions, expression: str, options: dict, title: str | None) -> dict:
    end = time.monotonic() + options["timeout"] / 1000
    while True:
        left = (end - time.monotonic()) * 1000
        answer = await _ask(self, expression, options | {"timeout": max(1, min(left, OFTEN))}, title)
        if not answer.get("timedOut") or left <= OFTEN:
            return answer


LocatorAssertions._call_expect = _ask_often


def launch_chromium(playwright: Playwright, *flags: str) -> Browser:
    """The system's browser, with these flags as well: Playwright's own would have to be downloaded."""
    # the shell is the same engine without a browser's own windows, and opens the page in two thirds of the time
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"The browser tests need one of {', '.join(names)} on the PATH."
    return playwright.chromium.launch(executable_path=found, args=[*FLAGS, *flags])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class App:
    """app.py on a port and a workspace of its own; both stay the same when it is started again."""

    def __init__(self, workspace: Path, **settings: object):
        """settings: those that differ from the tests' usual ones, by their names in Settings; or, in capitals, any
        variable of the environment."""
        self._own = {n if n.isupper() else f"LIGHTREASONER_{n.upper()}": str(value) for n, value in settings.items()}
        self.workspace, self.port = workspace, free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.log = workspace / "server.log"
        self._process = None

    def start(self, *options: str, **env: str) -> App:
        """Start it, with these variables, and wait until it answers."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GRADIO_", "LIGHTREASONER_", "HF_"))}
        inherited.pop("PYTEST_CURRENT_TEST", None)
        own = {"LIGHTREASONER_WORKSPACE": str(self.workspace)} | self._own | env
        words = ["--port", str(self.port), *options]
        warm = all(name.startswith(warm_app.FORKED) for name in own)
        self._process = (warm_app.fork if warm else warm_app.Cold)(inherited | ENVIRONMENT | own, words, self.log)
        deadline = time.monotonic() + 300
        while not self._answers():
            assert self._process.is_alive(), f"app.py ended before it answered:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"app.py does not answer:\n{self.log.read_text()}"
            time.sleep(0.2)
        return self

    def _answers(self) -> bool:
        try:  # an opener without proxies: this is the machine itself
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(self.url, timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        if self._process and self._process.is_alive():
            self._process.terminate()  # SIGINT is ignored by what was started in a shell's background
            self._process.join(30)
            self._process.kill()
            self._process.join()

    def tracebacks(self) -> str:
        """The tracebacks in the log: each was a bug, whatever the page made of it."""
        return "\n".join(self.log.read_text(errors="replace").split("Traceback (most recent call last)")[1:])


class Visitor:
    """A browser profile, lent to one test after another: a new one would read the page's scripts anew, for seconds."""

    def __init__(self, chromium: Browser, options: dict):
        self.options, self.home, self.wrong, self.free = options, "", [], True
        self.context = chromium.new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        # an empty page that stays: its process has the scripts compiled for the pages of all tests, which share it
        self._kept = self.context.new_page()
        self._kept.route("**", lambda route: route.fulfill(body=""))
        self._kept.goto("http://127.0.0.1/")
        self.context.on("request", lambda r: self._is_home(r.url) or self.wrong.append(f"request to {r.url}"))
        self.context.on("console", self._heard)
        self.context.on("weberror", lambda e: self.wrong.append(f"page error: {e.error}"))

    def _heard(self, message: ConsoleMessage) -> None:
        # browsers ask for an icon at the root by themselves, where behind a prefix somebody else's server answers
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            self.wrong.append(f"console error: {message.text}")

    def _is_home(self, url: str) -> bool:
        return url.startswith((self.home, "data:", "blob:"))

    def forget(self) -> None:
        """Close the pages, and leave nothing that the next test could see but cached files."""
        for page in self.context.pages:
            if page != self._kept:
                page.close()
        if self.home.startswith("http"):
            of_pages = {"origin": self.home.rstrip("/"), "storageTypes": "local_storage,indexeddb,service_workers"}
            session = self.context.new_cdp_session(self._kept)
            session.send("Storage.clearDataForOrigin", of_pages)
            session.detach()
        self.context.clear_cookies()
        self.context.clear_permissions()
        self.free = True


class Visitors:
    """Browsers that know nothing, of which each may reach one place. `wrong`: what must not happen in any of them."""

    def __init__(self, chromium: Browser, profiles: list[Visitor]):
        """profiles: those that earlier tests had; new ones are added to it."""
        self._chromium, self._profiles, self._mine, self.wrong = chromium, profiles, [], []

    def context(self, home: str, **options) -> BrowserContext:
        """A visitor who loads what starts with `home`; a request to anywhere else is remembered."""
        options = {"viewport": {"width": 1440, "height": 1000}} | options
        found = next((p for p in self._profiles if p.free and p.options == options), None)
        if found is None:
            self._profiles.append(found := Visitor(self._chromium, options))
        found.home, found.wrong, found.free = home, self.wrong, False
        self._mine.append(found)
        return found.context

    def close(self) -> None:
        for profile in self._mine:
            profile.forget()


def in_every_look(page: Page) -> Iterator[str]:
    """Show a page in light, in dark and as wide as a telephone, by turns, and leave it as it was."""
    wide = page.viewport_size
    yield "light"
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body.dark")).to_be_attached()
    yield "dark"
    page.emulate_media(color_scheme="light")
    expect(page.locator("body.dark")).not_to_be_attached()
    page.set_viewport_size({"width": 390, "height": wide["height"]})
    yield "phone"
    page.set_viewport_size(wide)


#: A promise of the page: every transition and animation that ends has ended.
ARRIVED = """() => Promise.allSettled(document.getAnimations()
    .filter((one) => Number.isFinite(one.effect.getComputedTiming().endTime)).map((one) => one.finished))"""


#: axe as published, but for its weak maps, in which it keeps each private field: here they are properties of their
#: keys, which takes a quarter less time. Each colour's text is read once, not for every element that has the colour.
#: No HTML of what is in order is written down either; the barriers' places are.
AXE = (
    """(() => {
    class Keyed {
        constructor() { this.key = Symbol(); }
        has(owner) { return owner !== null && owner !== undefined && this.key in Object(owner); }
        get(owner) { return owner?.[this.key]; }
        set(owner, value) { owner[this.key] = value; return this; }
        add(owner) { return this.set(owner, true); }
        delete(owner) { return this.has(owner) && delete owner[this.key]; }
    }
    ((WeakMap, WeakSet) => {"""
    + AXE_SCRIPT
    + """})(Keyed, Keyed);
    const colour = axe.commons.color.Color.prototype, read = colour.parseString, known = new Map();
    colour.parseString = function (text) {
        if (known.has(text)) {
            [this.r, this.g, this.b, this.alpha] = known.get(text);
            return this;
        }
        read.call(this, text);
        known.set(text, [this.r, this.g, this.b, this.alpha]);
        return this;
    };
    axe.configure({ noHtml: true });
})()"""
)


#: A promise of what axe finds. Where nothing but the colours has changed since it last looked (text and elements are
#: the same, but for those of drawings), only its rules on colours can find something else, and only they run.
LOOK = """async (options) => {
    const elements = Array.from(document.querySelectorAll('body *:not(svg *)'));
    const dark = document.body.classList.contains('dark'), bare = (node) => node.cloneNode(false).outerHTML;
    const shown = [innerWidth, innerHeight, document.body.textContent, ...elements.map(bare)].join('\\n');
    if (window.axeSaw?.shown === shown && window.axeSaw.dark !== dark) {
        options = { ...options, runOnly: ['color-contrast', 'link-in-text-block'] };
    }
    window.axeSaw = { shown, dark };
    return (await axe.run(options)).violations;
}"""


def barriers_of(page: Page) -> list[str]:
    """All that axe finds, a line each."""
    page.evaluate(ARRIVED)  # colours that fade in are measured when they have arrived
    if not page.evaluate("!!window.axe"):
        page.evaluate(AXE)
    # what is in order is not listed node by node, which takes as long as finding it
    options = {"resultTypes": ["violations"], "rules": {"label-content-name-mismatch": {"enabled": True}}}
    found = page.evaluate(LOOK, options)
    return [f"{v['id']}: {n['target']} {n['failureSummary']}" for v in found for n in v["nodes"]]


def as_shown(token: str) -> str:
    """A token's text as the heatmap writes it: nothing invisible, nothing endless, no blank that cannot be seen."""
    if not token.strip(" "):
        return "␣" * len(token)
    token = token if len(token) <= 120 else token[:120] + "…"
    shown = "".join(GLYPHS.get(character, character) for character in token)
    return re.sub("(?<=[👩👧])‹U\\+200D›(?=[👩👧])", "\u200d", shown)  # a joiner between two emoji makes one of them


class Inspect:
    """The Inspect tab as a person uses it, on the page or in an exported file."""

    def __init__(self, page: Page):
        self.page = page
        self.tokens = page.locator(".lr-token")
        self.selected = page.locator('.lr-token[aria-selected="true"]')
        self.above = page.locator(".lr-token.lr-above")
        self.state, self.counts = page.locator(".lr-state"), page.locator(".lr-counts")
        self.error, self.step = page.locator(".lr-error"), page.locator(".lr-step")
        self.run_button, self.stop_button = page.locator("#lr-run"), page.locator("#lr-stop")
        self.card = page.locator("#lr-card")
        self.question = page.get_by_label("Text (edit it, or write your own)")
        self.beta = page.get_by_label("Beta, the KL threshold in nats")
        self.alpha = page.get_by_label("Alpha, the plausibility threshold")

    def open(self, url: str) -> Inspect:
        self.page.goto(url)
        opens_on_example = not {"trace", "lens"} & parse_qs(urlsplit(url).query).keys()
        self.page.wait_for_function(OPEN, arg=[".lr-state", ".lr-token" if opens_on_example else "body"])
        expect(self.state).to_be_visible()
        if opens_on_example:
            expect(self.tokens.first).to_be_attached()
        return self

    def unfold(self) -> None:
        """Show the form, which folds to a line when a run begins, and where the window is narrow."""
        folded = self.page.locator('#lr-fold[aria-expanded="false"]')
        if folded.count():
            folded.click()

    def pick_pair(self, title: str) -> None:
        self.unfold()
        self.page.locator("#lr-pair input").click()
        self.page.get_by_role("option", name=title).click()

    def use_models(self, expert: str | Path, amateur: str | Path) -> None:
        self.pick_pair("Two models of my own")
        self.fill("Expert (the stronger model)", str(expert))
        self.fill("Amateur (the weaker model)", str(amateur))

    def limit(self, tokens: int) -> None:
        self.unfold()
        if not self.page.get_by_label(TOKEN_LIMIT).is_visible():
            self.page.get_by_role("button", name="Decoding").click()
        self.fill(TOKEN_LIMIT, str(tokens))

    def fill(self, label: str, text: str) -> None:
        """Write into a field, but not before Gradio has given one that has only just appeared its first value."""
        field = self.page.get_by_label(label)
        expect(field).to_be_visible()
        self.settle()
        field.fill(text)
        self.settle()
        expect(field).to_have_value(text)

    def settle(self) -> None:
        """Until the page has drawn twice and done what was due then."""
        self.page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
        )

    @contextmanager
    def new_run(self) -> Iterator[None]:
        """Whatever is done inside shows another run; afterwards that run has ended."""
        self.page.evaluate("window.__before = document.querySelector('.lr-token')")
        yield
        self.page.wait_for_function(
            """() => {
                const token = document.querySelector('.lr-token'), busy = document.querySelector('[aria-busy="true"]');
                return token && token !== window.__before && !busy && !document.body.classList.contains('lr-running');
            }"""
        )

    def run(self) -> None:
        with self.new_run():
            self.run_button.click()
        self.unfold()  # for what is changed before the next run

    def score(self, text: str) -> None:
        self.unfold()
        self.page.get_by_label("Score a text of mine").check()
        self.fill("Text to score", text)
        self.run()

    def select(self, index: int) -> None:
        self.tokens.nth(index).click()
        self.shows(index)

    def shows(self, index: int) -> None:
        """The step view has arrived at this step, and so has the selection."""
        expect(self.selected).to_have_attribute("data-index", str(index))
        expect(self.step.locator("h3")).to_contain_text(f"Step {index} ")
        expect(self.step).not_to_have_attribute("aria-busy", "true")

    def bars(self) -> dict[int, list[float]]:
        """Token id → [expert, amateur, target] in percent, as wide as they are drawn."""
        rows = self.page.evaluate(
            """() => Array.from(document.querySelectorAll('.lr-row:not(.lr-head)'), (row) => [
                Number(row.querySelector('.lr-label').title.replace('token ', '')),
                Array.from(row.querySelectorAll('.lr-track i'), (bar) => parseFloat(bar.style.width))])"""
        )
        return dict(rows)

    def bars_in_order(self) -> list[list[float]]:
        """The same, as the rows stand."""
        return list(self.bars().values())

    def training_row(self) -> dict:
        """The training row's fields, as the step view prints them."""
        lines = self.step.locator(".lr-training pre").text_content().splitlines()
        return {name: json.loads(value) for name, value in (line.split(": ", 1) for line in lines)}

    def text(self) -> str:
        """The response as the tokens show it."""
        return "".join(self.tokens.all_text_contents())

    def download(self, kind: str) -> Download:
        with self.page.expect_download() as waiting:
            self.page.locator(f'.lr-menu [data-kind="{kind}"]').click()
        return waiting.value

    def export(self, kind: str) -> str:
        """The exported file's text."""
        return self.download(kind).path().read_text(encoding="utf-8")

    def record(self) -> dict:
        """The run as exported JSON: what everything on the page is held against."""
        return json.loads(self.export("json"))
