"""The Jobs tab with real jobs: seen by everybody, on every tab, through reloads and the server's death."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from lightreasoner.jobs.store import Job
from tests.browser.test_look import PHONE, barriers
from tests.support.browser import Inspect, Visitors, in_every_look
from tests.support.browser_jobs import JobsApp, serving

pytestmark = pytest.mark.browser
LONG = ["--problems", "bundled-train", "--samples-per-problem", "50", "--temperature", "1", "--batch-size", "1"]
HOSTILE = '<img src=x onerror="window.__pwned=1"> {{constructor}} ${window.__pwned=1}'
#: In place of the browser's notifications, which a browser without windows does not show; nobody looks at the page.
NOTIFICATIONS = """() => {
    window.__told = [];
    window.Notification = class {
        static permission = 'granted';
        static requestPermission = async () => 'granted';
        constructor(title, { body }) { window.__told.push([title, body]); }
    };
    document.hasFocus = () => false;
}"""


@pytest.fixture(scope="module")
def jobs_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsApp]:
    with serving(JobsApp(tmp_path_factory.mktemp("jobs"))) as app:
        yield app


class Board:
    """The Jobs tab as a person sees it."""

    def __init__(self, page: Page, url: str):
        self.page, self.rows = page, page.locator(".lr-job")
        self.pill, self.live = page.locator(".lr-pill"), page.locator(".lr-unseen")
        self.error = page.locator(".lr-jobs > .lr-card > .lr-error:visible")
        page.goto(url)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def row(self, job: Job):
        return self.page.locator(f'.lr-job[data-id="{job.id}"]')

    def open(self, job: Job):
        self.row(job).locator(".lr-job-open").click()
        expect(self.row(job).locator(".lr-job-command")).to_contain_text("python -m lightreasoner")
        return self.row(job)

    def do(self, job: Job, action: str) -> None:
        self.row(job).get_by_role("button", name=action, exact=True).click()

    def in_state(self, job: Job, state: str) -> None:
        expect(self.row(job).locator(".lr-job-state")).to_have_text(state)

    def done(self, job: Job, more_than: int) -> int:
        """Wait until more than so many are done; how many."""
        self.page.wait_for_function(
            """([id, least]) => {
                const text = document.querySelector(`.lr-job[data-id="${id}"] .lr-job-counted span`).textContent;
                return / of /.test(text) && Number(text.split(' of ')[0].replaceAll(',', '')) > least;
            }""",
            arg=[job.id, more_than],
        )
        return int(self.row(job).locator(".lr-job-counted span").first.text_content().split(" of ")[0].replace(",", ""))

    def titles(self) -> list[str]:
        return self.page.locator(".lr-job-title").all_text_contents()


@pytest.fixture
def board(jobs_app: JobsApp, visitors: Visitors):
    """board(query, **options) opens the Jobs tab in a browser of its own."""

    def open_board(query: str = "?tab=jobs", **options) -> Board:
        return Board(visitors.context(jobs_app.url, **options).new_page(), jobs_app.url + query)

    return open_board


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_a_job_is_the_same_for_everybody_and_outlives_the_server(jobs_app, visitors, board):
    first = board()
    expect(first.page.get_by_role("heading", name="No jobs yet")).to_be_visible()
    expect(first.pill).to_be_hidden()
    long, b, c = (jobs_app.submit(title, *LONG) for title in ("The long one", "Second", "Third"))
    first.in_state(long, "Running")
    first.done(long, 0)

    # seen on every tab; from there to the job itself
    first.tab("Inspect")
    expect(first.pill).to_contain_text(re.compile("1 job running.* 2 queued"))
    expect(first.pill).to_have_attribute("title", re.compile("The long one.*On the accelerator: the job"))
    first.pill.click()
    opened = first.row(long)
    expect(opened.locator(".lr-job-log")).to_contain_text("Sampling")
    expect(opened.locator(".lr-job-facts")).to_contain_text("Tokens per second")
    expect(opened.get_by_role("progressbar", name="Progress of The long one")).to_be_visible()
    assert query(first.page) == {"tab": ["jobs"], "job": [long.id]}
    first.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first.do(long, "Copy the command")
    expect(opened.get_by_text("Copied")).to_be_visible()
    assert first.page.evaluate("navigator.clipboard.readText()").endswith(f"--run-dir {long.run_dir}")

    assert barriers(Inspect(first.page)) == []

    # a second visitor sees what the first one does
    second = board(first.page.url.partition("/?")[2].join(["?", ""]), **PHONE)
    expect(second.row(long).locator(".lr-job-log")).to_contain_text("Sampling")
    assert overflow_of(second) <= 0
    first.do(c, "To the front")  # in its line: it had to be opened first
    expect(second.rows.nth(1)).to_contain_text("Third")
    for job in (b, c):
        first.do(job, "Cancel")
        first.in_state(job, "Cancelled")
    second.in_state(c, "Cancelled")

    # the server dies and comes back: the page that was open goes on, a new one is right at once
    pid = jobs_app.jobs().store.get(long.id).pid
    before = first.done(long, 0)
    jobs_app.stop()
    expect(first.error).to_contain_text("The server does not answer")
    jobs_app.start("--no-preload")
    assert first.done(long, before) > before
    expect(first.error).to_have_count(0)
    third = board(f"?tab=jobs&job={long.id}")
    third.in_state(long, "Running")
    now = jobs_app.jobs().store.get(long.id)
    assert (now.pid, now.attempt) == (pid, 1)
    visitors.wrong[:] = [what for what in visitors.wrong if "Failed to load resource: net::ERR_" not in what]

    # cancelled in one window, seen in all; then resumed, and stopped with what it has
    third.do(long, "Cancel")
    expect(third.row(long).locator(".lr-job-under")).to_contain_text("Stopping")
    for page in (first, second, third):
        page.in_state(long, "Cancelled")
    expect(third.live).to_have_text("The long one: cancelled")
    expect(third.page.locator(":focus")).to_have_text("The long one")
    expect(first.pill).to_be_hidden()
    third.do(long, "Resume")
    third.in_state(long, "Running")
    third.done(long, before)  # it went on where it was
    third.do(long, "Stop and keep")
    third.in_state(long, "Succeeded")
    expect(third.row(long).locator(".lr-job-under")).to_contain_text("Stopped early")
    assert jobs_app.jobs().store.get(long.id).attempt == 2


def overflow_of(board: Board) -> float:
    """How far anything reaches beyond the window, in pixels."""
    return board.page.evaluate(
        """() => Math.max(document.documentElement.scrollWidth, ...Array.from(
            document.querySelectorAll('#lr-top *, #lr-tabs [role="tab"], .lr-jobs, .lr-jobs *:not(svg *)'))
            .filter((node) => node.checkVisibility() && !node.closest('.lr-unseen'))
            .map((node) => node.getBoundingClientRect().right)) - innerWidth"""
    )


def test_a_mistake_is_shown_and_the_job_can_be_run_again_or_deleted(jobs_app, board):
    job = jobs_app.submit("No such file", "--problems", "/nowhere/problems.jsonl")
    page = board(f"?tab=jobs&job={job.id}")
    page.in_state(job, "Failed")
    row = page.row(job)
    expect(row.locator(".lr-job-body .lr-error").first).to_contain_text("/nowhere/problems.jsonl")
    page.do(job, "Run again")
    expect(page.page.locator(".lr-opened")).not_to_have_attribute("data-id", job.id)
    again = jobs_app.jobs().store.get(query(page.page)["job"][0])
    assert again.retry_of == job.id and again.run_dir != job.run_dir
    page.do(again, "Cancel")  # wherever it is by now, it ends
    expect(page.row(again).locator(".lr-job-state")).to_have_text(re.compile("Cancelled|Failed"))

    page.open(job)
    page.do(job, "Delete …")
    page.page.keyboard.press("Escape")
    expect(page.page.locator(":focus")).to_have_text("Delete …")
    page.page.keyboard.press("Enter")
    expect(page.page.locator(":focus")).to_have_text("Keep it")  # the harmless one
    page.do(job, "Delete")
    expect(row).to_have_count(0)
    assert query(page.page) == {"tab": ["jobs"]}
    gone = board(f"?tab=jobs&job={job.id}")
    expect(gone.error).to_contain_text("There is no job")
    expect(gone.row(again)).to_be_visible()


def test_the_history_reads_well_for_everybody(jobs_app, board):
    long_word = "a-very-long-file-name-that-does-not-break-anywhere" * 3
    jobs_app.past(HOSTILE, "succeeded")
    jobs_app.past(f"Sample {long_word}.jsonl", "failed", f"{HOSTILE} {long_word} " * 3)
    jobs_app.past("Interrupted", "interrupted", "Its process is gone.")
    last = jobs_app.past("Cancelled", "cancelled", "Cancelled.")
    page = board()
    expect(page.row(last)).to_be_visible()
    assert HOSTILE in page.titles()
    for title in (HOSTILE, f"Sample {long_word}.jsonl"):
        page.page.get_by_role("button", name=title, exact=True).first.click()
        expect(page.page.locator(".lr-opened .lr-job-command")).to_contain_text("python -m lightreasoner")
        for look in in_every_look(page.page):
            assert overflow_of(page) <= 0, look
            assert barriers(Inspect(page.page)) == [], look
    assert page.page.evaluate("window.__pwned") is None

    # a notification when a job ends, if the user switches it on, and only of what ends from then on
    page.page.evaluate(NOTIFICATIONS)
    jobs_app.past("Nobody is told", "succeeded")
    page.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the page looks again when it is seen
    expect(page.page.get_by_text("Nobody is told")).to_be_visible()
    page.page.get_by_role("button", name="Notify me when a job ends").click()
    jobs_app.past("The last", "failed", "The moon is full.")
    page.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.page.wait_for_function("window.__told.length > 0")
    assert page.page.evaluate("window.__told") == [["Failed: The last", "The moon is full."]]


def test_jobs_can_be_read_with_the_keyboard_alone(jobs_app, board):
    job = jobs_app.past("By keyboard", "succeeded")
    page = board()
    expect(page.row(job)).to_be_visible()
    page.page.get_by_role("tab", name="Inspect").focus()
    page.page.keyboard.press("ArrowLeft")  # round to the last tab, and on to the first job of the list
    expect(page.page.locator(":focus")).to_have_text("Jobs")
    assert query(page.page)["tab"] == ["jobs"]
    page.row(job).locator(".lr-job-open").focus()
    page.page.keyboard.press("Enter")
    expect(page.row(job).locator(".lr-job-open")).to_have_attribute("aria-expanded", "true")
    expect(page.row(job).get_by_role("button", name="Run again")).to_be_visible()
    page.page.keyboard.press("Enter")
    expect(page.row(job).locator(".lr-job-body")).to_be_hidden()
    assert query(page.page) == {"tab": ["jobs"]}


def test_each_tab_has_its_own_address(visit):
    inspect = visit("?__theme=light")
    page = inspect.page
    inspect.run()
    inspect.select(2)
    address = query(page)
    assert address.keys() == {"trace", "step", "__theme"}
    page.get_by_role("tab", name="Jobs").click()
    expect(page.locator(".lr-jobs")).to_be_visible()
    assert query(page) == {"tab": ["jobs"], "__theme": ["light"]}
    page.reload()
    expect(page.locator(".lr-jobs")).to_be_visible()
    assert query(page) == {"tab": ["jobs"], "__theme": ["light"]}
    # a link of the page to a trace needs no reload
    page.evaluate(
        """(trace) => {
            window.__same = true;
            const link = document.createElement('a');
            link.href = '?trace=' + trace + '&step=2';
            link.textContent = 'the trace';
            document.querySelector('.lr-jobs').append(link);
        }""",
        address["trace"][0],
    )
    page.get_by_text("the trace").click()
    inspect.shows(2)
    assert query(page) == address and page.evaluate("window.__same")


COUNT_FRAMES = """window.__frames = 0;
    const frame = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (callback) => { window.__frames += 1; return frame(callback); };"""


def test_a_tab_that_does_not_exist_opens_the_first_and_the_page_comes_to_rest(app, visitors):
    """Gradio asked for sixty frames a second for as long as a page was open."""
    page = visitors.context(app.url).new_page()
    page.add_init_script(COUNT_FRAMES)
    inspect = Inspect(page).open(app.url + "?tab=<img src=x>")
    expect(inspect.run_button).to_be_visible()
    page.wait_for_function(
        """async () => {
            const before = window.__frames;
            await new Promise((done) => setTimeout(done, 300));
            return window.__frames - before < 3;
        }""",
        polling=100,
    )
    page.get_by_role("tab", name="Jobs").click()
    page.get_by_role("tab", name="Inspect").click()
    assert "tab" not in query(page)
