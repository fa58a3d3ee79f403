"""The Fine-tune tab in a browser, with real jobs: from a dataset to an adapter, in all looks and by keyboard."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from tests.browser.test_look import barriers
from tests.support.browser import Inspect, Visitors, in_every_look
from tests.support.browser_jobs import JobsApp, serving
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_tuning import make_run

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="window.__pwned=1"> {{constructor}} ${window.__pwned=1}'


class TuningApp(JobsApp):
    """A server with a dataset of random logits, whose expert is tiny, and some runs that have ended."""

    def seed(self) -> TuningApp:
        self.runs = Settings(workspace=self.workspace).runs
        self.dataset = new_id()
        make_dataset(self.runs / self.dataset, problems=12, per_shard=4, tokens=True)
        return self

    def tuned(self, **config) -> str:
        run_id = new_id()
        make_run(self.runs / run_id, self.runs / self.dataset, **config)
        return run_id


@pytest.fixture(scope="module")
def tuning_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TuningApp]:
    with serving(TuningApp(tmp_path_factory.mktemp("tuning")).seed()) as app:
        yield app


class Tuning:
    """The Fine-tune tab as a user sees it."""

    def __init__(self, page: Page, url: str):
        self.page = page
        self.runs = page.locator(".lr-tuning .lr-run-entry")
        self.opened = page.locator('.lr-run-view[aria-label="The run"]')
        self.state = self.opened.locator(".lr-badge")
        self.error = page.locator("#lr-ft-notice .lr-error")
        self.amount = page.locator("#lr-ft-amount")
        self.start = page.get_by_role("button", name="Start fine-tuning")
        page.goto(url)

    def field(self, name: str):
        return self.page.locator(f"#lr-ft-{name} input")

    def fill(self, name: str, text: str) -> None:
        field = self.field(name)
        field.fill(text)
        field.blur()
        expect(field).to_have_value(text)

    def chart(self, key: str):
        return self.opened.locator(f'[data-chart="{key}"]')

    def do(self, name: str) -> None:
        self.opened.get_by_role("button", name=name).click()

    def address(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query)


@pytest.fixture
def tuning(tuning_app: TuningApp, visitors: Visitors):
    """tuning(query, **options) opens the tab in a browser of its own."""

    def open_tab(query: str = "", **options) -> Tuning:
        page = visitors.context(tuning_app.url, **options).new_page()
        return Tuning(page, f"{tuning_app.url}?tab=finetune{query}")

    return open_tab


def test_from_a_dataset_to_an_adapter(tuning_app, tuning):
    tab = tuning("&run=")  # an address cut short
    page = tab.page
    expect(page.get_by_role("heading", name="No fine-tuning run yet")).to_be_visible()
    page.get_by_role("link", name="Go to Datasets").click()
    page.locator(f'.lr-run-entry[data-id="{tuning_app.dataset}"]').click()
    expect(page.locator(".lr-run-view .lr-steps tbody tr").first).to_be_visible()
    beta = page.locator('.lr-run-view input[aria-label="Beta, the KL threshold in nats"]').first
    for _ in range(10):
        beta.press("ArrowLeft")  # 0.4 → 0.3
    expect(page.get_by_role("link", name="Fine-tune on it")).to_have_attribute("href", re.compile("beta=0.3"))
    page.get_by_role("link", name="Fine-tune on it").click()
    expect(tab.amount).to_contain_text("samples. 1,000 training steps of about 16 samples")
    expect(page.get_by_label("β", exact=True)).to_have_value("0.3")  # what was chosen with the dataset comes along
    assert tab.address() == {"tab": ["finetune"]}

    # bad input: one sentence in place, and no job
    tab.page.get_by_role("button", name="LoRA").click()
    expect(page.locator("#lr-ft-layers")).to_contain_text("gate_proj")
    tab.fill("rank", "64")
    expect(tab.amount).to_contain_text("Rank 64 is beyond v_proj, whose matrix has rank 16 at most")
    tab.start.click()
    expect(tab.error).to_contain_text("Rank 64 is beyond v_proj")
    tab.fill("rank", "4")
    expect(tab.error).to_have_count(0)
    tab.fill("max-steps", "20000")
    page.locator("#lr-ft-side").get_by_role("button", name="The same on the command line").click()
    expect(page.locator("#lr-ft-command textarea")).to_have_value(
        re.compile("--max-steps 20000 --rank 4 --beta 0.3 --run-dir")
    )
    page.get_by_role("button", name="Estimate time and memory").click()
    expect(page.locator("#lr-ft-notice .lr-note")).to_contain_text("Measured just now on the CPU, with")
    assert tuning_app.jobs().store.jobs() == []

    # it runs, and what it has so far is kept
    tab.start.click()
    expect(tab.state).to_have_text(re.compile("Waiting|Training"))
    expect(tab.chart("loss").locator(".lr-line-value")).to_have_text(re.compile(r"\d"))
    expect(tab.chart("held_out_loss")).to_be_visible()
    expect(tab.opened.locator(".lr-progress-numbers")).to_contain_text("of 20,000 training steps")
    run_id = tab.address()["run"][0]
    tab.do("Stop and keep")
    expect(tab.state).to_have_text("Stopped early")
    card = page.locator(".lr-model-card")
    card.locator("summary").click()
    expect(card).to_contain_text("It was trained on the expert’s own responses".replace("’", "'"))
    expect(card.locator("h4").first).to_have_text("Data")
    with page.expect_download() as waiting:
        tab.do("Download adapter")
    with zipfile.ZipFile(waiting.value.path()) as zipped:
        assert {Path(name).name for name in zipped.namelist()} == {
            p.name for p in (tuning_app.runs / run_id / "adapter").iterdir()
        }
    expect(page.get_by_role("link", name="Inspect with this model")).to_have_attribute("href", f"?lens={run_id}")
    expect(page.get_by_role("link", name="Evaluate")).to_have_attribute("href", f"?tab=evaluate&run={run_id}")

    # resumed where it was, after a reload, by anybody
    made = int(tab.opened.locator(".lr-numbers dd").first.text_content().split(" of ")[0].replace(",", ""))
    page.reload()
    tab.do("Resume")
    expect(tab.state).to_have_text("Training")
    page.wait_for_function(
        """(before) => Number(document.querySelector('.lr-tuning .lr-numbers dd').textContent.split(' of ')[0]
            .replaceAll(',', '')) > before""",
        arg=made,
    )
    tab.do("Cancel")
    expect(tab.state).to_have_text("Cancelled")

    # merged by a job, then deleted with everything
    tab.do("Merge into a model")
    expect(tab.opened.locator(".lr-merged code")).to_contain_text("merged-")
    expect(tab.opened.get_by_role("button", name="Download merged model")).to_be_visible()
    tab.do("Delete …")
    page.keyboard.press("Escape")
    expect(page.locator(":focus")).to_have_text("Delete …")
    page.keyboard.press("Enter")
    tab.do("Delete it")
    expect(tab.opened).to_be_hidden()
    assert not (tuning_app.runs / run_id).exists()
    assert tab.address() == {"tab": ["finetune"]}


def test_it_is_accessible(tuning_app, tuning):
    about = {"expert": HOSTILE, "dataset": {"problems": HOSTILE}}
    card = f"---\nbase_model: x\n---\n# {HOSTILE}\n\n{HOSTILE}\n\n| | |\n|---|---|\n| {HOSTILE} | {HOSTILE} |\n"
    ids = [
        tuning_app.tuned(updates=30, rank=4, about=about, card=card),
        tuning_app.tuned(updates=60, method="no-contrast", learning_rate=0.001),
        tuning_app.tuned(updates=20, state="failed"),
    ]
    tab = tuning(f"&run={ids[0]}&compare={','.join(ids)}")
    page = tab.page
    expect(page.locator(".lr-comparison .lr-legend-list li")).to_have_count(3)
    expect(page.locator(".lr-compared tbody")).to_contain_text("Learning rate")
    expect(tab.chart("loss")).to_be_visible()
    page.locator(".lr-settings summary").click()
    page.locator(".lr-model-card summary").click()
    expect(page.locator(".lr-model-card h3")).to_have_text(HOSTILE)
    page.set_viewport_size({"width": page.viewport_size["width"], "height": 6000})
    for look in in_every_look(page):
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, look
        assert barriers(Inspect(page)) == [], look
    assert page.evaluate("window.__pwned") is None
    # lines are told apart by more than colour
    legend = page.locator('.lr-comparison [data-chart="drift"] .legend')  # losses with other targets stand apart
    dashes = legend.locator("path.js-line").evaluate_all(
        "lines => lines.map((line) => getComputedStyle(line).strokeDasharray)"
    )
    assert len(dashes) == len(set(dashes)) == 3
    marks = legend.locator(".legendpoints path").evaluate_all("all => all.map((mark) => mark.getAttribute('d'))")
    assert len(marks) == len(set(marks)) == 3


def test_by_keyboard_and_by_address(tuning_app, tuning):
    ids = [tuning_app.tuned(updates=40), tuning_app.tuned(updates=40, rank=2)]
    tab = tuning(f"&run={ids[0]}")
    page = tab.page
    # arrows read the curves: all of them at the same update
    expect(tab.chart("drift")).to_be_visible()
    expect(tab.chart("drift").locator(".nsewdrag")).to_be_visible()
    tools = tab.opened.get_by_role("group", name="How all curves are drawn")
    tools.get_by_role("button", name="Steps").focus()
    reached = []
    for _ in range(7):
        reached.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent"))
        page.keyboard.press("Tab")
    assert reached[:5] == ["Steps", "Samples", "Time", "Linear", "Log"]
    assert reached[5].startswith("Smoothing") and reached[6] == "Training step to read the curves at"
    handle = tab.opened.get_by_label("Training step to read the curves at")
    handle.focus()
    page.keyboard.press("Home")
    expect(handle).to_have_attribute("aria-valuetext", "training step 1, Loss 1 nats")
    page.keyboard.press("ArrowRight")
    expect(tab.chart("loss").locator(".lr-line-value")).to_contain_text("at 2")
    expect(tab.chart("drift").locator(".lr-line-value")).to_contain_text("at 0")  # its nearest
    # ticked runs are in the address, and come back from it
    for run_id in ids:
        box = page.locator(f'.lr-tuning input[data-id="{run_id}"]')
        box.focus()
        page.keyboard.press("Space")
    expect(page.locator(".lr-comparison")).to_be_visible()
    assert tab.address() == {"tab": ["finetune"], "run": [ids[0]], "compare": [",".join(ids)]}
    page.reload()
    expect(page.locator(".lr-comparison .lr-compared tbody tr")).to_have_count(1)
    expect(page.locator(".lr-comparison .lr-compared tbody")).to_contain_text("Rank")
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".lr-comparison")).to_be_hidden()
    assert tab.address() == {"tab": ["finetune"], "run": [ids[0]]}
    # a name of its own, and its settings as a preset that the form takes
    tab.do("Rename …")
    page.keyboard.type("The one with rank 8")
    page.keyboard.press("Enter")
    expect(tab.opened.locator("h2")).to_have_text("The one with rank 8")
    expect(tab.runs.locator(".lr-run-name", has_text="The one with rank 8")).to_have_count(1)
    expect(page.locator(":focus")).to_have_text("Rename …")
    tab.do("Save settings …")
    page.keyboard.type("my preset")
    page.keyboard.press("Enter")
    expect(tab.opened.get_by_label("Name of the preset")).to_be_hidden()
    page.locator("#lr-ft-preset input").click()
    page.get_by_role("option", name="my preset").click()
    expect(page.locator("#lr-ft-notice")).to_contain_text("those of the preset my preset now")
    expect(tab.field("max-steps")).to_have_value("40")
    # what is not there is said
    gone = tuning("&run=AAAAAAAAAAAAAAAAAAAA")
    expect(gone.page.locator(".lr-tuning > .lr-error")).to_contain_text("There is no fine-tuning run")
    wrong = tuning("&dataset=AAAAAAAAAAAAAAAAAAAA")
    expect(wrong.error).to_contain_text("There is no dataset")


def test_without_a_dataset_it_leads_to_datasets(own_app, visitors):
    own_app.start("--no-preload")
    page = visitors.context(own_app.url).new_page()
    page.goto(own_app.url + "?tab=finetune")
    expect(page.get_by_role("heading", name="No fine-tuning run yet")).to_be_visible()
    expect(page.get_by_role("button", name="Start fine-tuning")).to_be_hidden()
    assert barriers(Inspect(page)) == []
    page.get_by_role("link", name="Go to Datasets").click()
    expect(page.locator("#lr-ds-build")).to_be_visible()


# ---- the curves


def drag(page: Page, box: dict, start: tuple[float, float], end: tuple[float, float]) -> None:
    (x0, y0), (x1, y1) = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1, steps=6)
    page.mouse.up()


def xs(chart: Locator) -> str:
    """The labels of a chart's x axis, its title last."""
    return " ".join([*chart.locator(".xtick text").all_text_contents(), *chart.locator(".xtitle").all_text_contents()])


def saved(page: Page, chart: Locator, name: str) -> bytes:
    chart.locator("summary").click()
    with page.expect_download() as download:
        chart.get_by_role("button", name=name).click()
    assert download.value.suggested_filename == f"loss.{name[-3:].lower()}"
    return download.value.path().read_bytes()


def test_the_curves_of_a_run(tuning_app, tuning):
    tab = tuning(f"&run={tuning_app.tuned(updates=100)}")
    page, loss, held_out = tab.page, tab.chart("loss"), tab.chart("held_out_loss")
    tools = tab.opened.get_by_role("group", name="How all curves are drawn")
    expect(tab.chart("tokens_per_second").locator(".nsewdrag")).to_be_visible()
    expect(loss.locator(".lr-plot")).to_have_attribute("aria-label", "Loss: 0.01 nats at training step 100, from 1")
    # smoothing: a mean, with what was measured pale behind it
    smooth = tab.opened.get_by_label("Smoothing: how many points a trailing mean is over")
    lines = loss.locator(".scatterlayer .trace")
    expect(lines).to_have_count(2)
    assert lines.evaluate_all("all => all.map((one) => Number(getComputedStyle(one).opacity))") == [0.3, 1]
    expect(held_out.locator(".scatterlayer .trace")).to_have_count(1)
    expect(loss.locator(".lr-line-value")).to_have_text("0.0105")  # the mean of 1/91 … 1/100
    smooth.fill("0")
    expect(lines).to_have_count(1)
    expect(loss.locator(".lr-line-value")).to_have_text("0.01")
    smooth.fill("2")
    expect(lines).to_have_count(2)

    # the values under the pointer, in every chart
    box = loss.locator(".nsewdrag").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    expect(loss.locator(".hoverlayer")).to_contain_text("training step 50")
    expect(loss.locator(".hoverlayer")).to_contain_text("0.0202, raw 0.02")
    expect(loss.locator(".lr-line-value")).to_have_text("0.0202 at 50")
    expect(held_out.locator(".lr-line-value")).to_have_text("0.75 at 50")
    page.mouse.move(5, 5)
    expect(held_out.locator(".lr-line-value")).to_have_text("0.5")

    # what x is
    tools.get_by_role("button", name="Samples").click()
    expect(held_out.locator(".xtitle")).to_have_text("samples seen")
    expect(held_out.locator(".xtick text").last).to_have_text("1,500")
    tools.get_by_role("button", name="Time").click()
    expect(loss.locator(".xtitle")).to_have_text("time in seconds")
    tools.get_by_role("button", name="Steps").click()
    expect(loss.locator(".xtitle")).to_have_text("training step")

    # the scale of y, of all and of one
    whole = loss.locator(".ytick text").all_text_contents()
    tools.get_by_role("button", name="Log").click()
    expect(loss.locator(".ytick text").first).not_to_have_text(whole[0])
    expect(tab.opened.locator('.lr-chart-scales [aria-pressed="true"]')).to_have_text(["Logarithmic axis"] * 7)
    tools.get_by_role("button", name="Linear").click()
    expect(loss.locator(".ytick text").first).to_have_text(whole[0])

    # zoomed together, and what was chosen stays while the run goes on
    before = xs(loss)
    drag(page, loss.locator(".nsewdrag").bounding_box(), (0.2, 0.2), (0.4, 0.8))
    for chart in (loss, held_out):
        expect(chart.locator(".xtick text").first).to_have_text("20")
    log = EventLog(tuning_app.runs / tab.address()["run"][0] / EVENTS_FILE)
    log.append("metrics", update=101, loss=0.5, samples_seen=1616)
    log.close()
    page.evaluate("window.dispatchEvent(new CustomEvent('lr-tab', { detail: 'finetune' }))")
    expect(loss.locator(".lr-line-value")).to_have_text("0.255")
    assert xs(loss) == xs(held_out) and xs(loss).startswith("20 25 30 35 ")
    expect(lines).to_have_count(2)
    tools.get_by_role("button", name="Reset zoom").click()
    expect(loss.locator(".xtick text").first).to_have_text("0")
    assert xs(loss) == xs(held_out) == before
    expect(tools.get_by_role("button", name="Reset zoom")).to_be_hidden()

    # pictures and the table
    assert saved(page, loss, "Save PNG").startswith(b"\x89PNG\r\n")
    picture = saved(page, loss, "Save SVG").decode()
    assert picture.startswith("<svg") and "training step" in picture and "var(--" not in picture
    rows = list(csv.DictReader(io.StringIO(saved(page, loss, "Save CSV").decode())))
    assert list(rows[0]) == ["training step", "loss", "samples", "seconds"]
    assert [float(row["loss"]) for row in rows] == pytest.approx([1 / n for n in range(1, 101)] + [0.5], rel=1e-5)
    assert [row["samples"] for row in rows[:2]] == ["16", "32"]


def test_the_curves_of_several_runs(tuning_app, tuning):
    ids = [tuning_app.tuned(updates=60), tuning_app.tuned(updates=40, rank=2)]
    path = tuning_app.runs / ids[1] / EVENTS_FILE
    events = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(event | {"elapsed": None}) + "\n" for event in events))
    tab = tuning(f"&compare={','.join(ids)}")
    page, compared = tab.page, tab.page.locator(".lr-comparison")
    charts = {key: compared.locator(f'[data-chart="{key}"]') for key in ("loss", "drift", "grad_norm")}
    for chart in charts.values():
        expect(chart.locator(".nsewdrag")).to_be_visible()
        expect(chart.locator(".legendtext")).to_have_text(["A", "B"])
    expect(charts["drift"].locator(".lr-plot")).to_have_attribute(
        "aria-label", "Drift: A 0.006 nats at training step 60, from 0; B 0.004 nats at training step 40, from 0"
    )
    time = compared.get_by_role("button", name="Time")
    expect(time).to_be_disabled()
    expect(time).to_have_attribute("title", "The time was not recorded")
    # an entry of one legend hides its run everywhere
    charts["loss"].locator(".legendtoggle").nth(1).click()
    for chart in charts.values():
        expect(chart.locator(".lr-line-value")).to_have_text(re.compile("^A [^B]+$"))
    expect(charts["drift"].locator(".scatterlayer .trace")).to_have_count(1)
    box = charts["drift"].locator(".nsewdrag").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 30)
    expect(charts["drift"].locator(".hoverlayer")).to_contain_text("A : 0.003")
    charts["grad_norm"].locator(".legendtoggle").nth(1).click()
    expect(charts["loss"].locator(".lr-line-value")).to_have_text(re.compile("^A .+B "))
    # in light and dark, and as wide as a telephone
    seen = {}
    for look in in_every_look(page):
        page.wait_for_timeout(400)
        line = charts["drift"].locator(".scatterlayer .js-line").first
        width = charts["drift"].locator(".main-svg").first.bounding_box()["width"]
        seen[look] = line.evaluate("line => getComputedStyle(line).stroke"), width
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert seen["light"][0] != seen["dark"][0] and seen["phone"][1] < 390
