"""The Datasets tab in a browser: build with one click, watch the progress, explore, mark, export, import."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Locator, Page, expect

from lightreasoner.datasets.amateurs import further_folder
from lightreasoner.datasets.annotations import load_annotations
from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import KL_EDGES, rows
from lightreasoner.decoding.contrast import Contrast
from lightreasoner.storage.atomic import new_id
from tests.support.browser import OPEN, PATIENCE, App, barriers_of, in_every_look
from tests.support.tiny_dataset import make_dataset, selection_report
from tests.support.tiny_evaluation import make_evaluation

pytestmark = pytest.mark.browser
JOB = 4 * PATIENCE  # ms until a job's process has started, which is several seconds of work, and done its part
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
BETA, ALPHA = "Beta, the KL threshold in nats", "Alpha, the plausibility threshold"


class Datasets:
    """The tab as a user sees it."""

    def __init__(self, page: Page):
        self.page, self.root = page, page.locator("#lr-datasets")
        self.entries, self.view = self.root.locator(".lr-run-entry"), self.root.locator(".lr-run-view")
        self.badge, self.progress = self.view.locator(".lr-badge"), self.view.locator(".lr-run-progress")
        self.lines, self.found = self.root.locator(".lr-steps tbody tr"), self.root.locator(".lr-found")
        self.reader, self.step = self.root.locator(".lr-reader"), self.root.locator(".lr-step")
        self.error = self.view.locator(".lr-run-head > .lr-error")
        self.notice, self.build = page.locator("#lr-ds-notice"), page.locator("#lr-ds-build")

    def open(self, url: str) -> Datasets:
        self.page.goto(url)
        self.page.wait_for_function(OPEN, arg=["#lr-ds-build", "body"])
        expect(self.build).to_be_visible()
        return self

    def slider(self, name: str) -> Locator:
        """A slider below a chart; the step view has sliders of the same names."""
        return self.view.get_by_label(name)

    def set_beta(self, value: float) -> None:
        """With the keyboard: a hundredth a press, and what a browser goes with Page Up."""
        slider = self.slider(BETA)
        slider.press("Home")
        expect(slider).to_have_value("0")
        while float(slider.input_value()) < value - 1e-9:
            left = value - float(slider.input_value())
            slider.press("PageUp" if left > 0.3 else "ArrowRight")
        expect(slider).to_have_value(f"{value:g}")

    def chart(self, title: str) -> Locator:
        return self.view.locator("figure.lr-chart").filter(has=self.page.get_by_text(title, exact=True))

    def plotted(self, title: str) -> dict:
        """What plotly.js has drawn: its traces, and the shapes by their names."""
        plot = self.chart(title).locator(".lr-plot")
        expect(plot.locator(".main-svg").first).to_be_visible()
        return plot.evaluate(
            """({ data, layout }) => JSON.parse(JSON.stringify({ data, x: layout.xaxis.range, y: layout.yaxis.range,
                type: layout.yaxis.type, shapes: Object.fromEntries(layout.shapes.map((s) => [s.name, s])) }))"""
        )

    def point(self, title: str, x: float, y: float = 0.5) -> tuple[float, float]:
        """A place in the window: these fractions of the area that a chart draws in."""
        area = self.chart(title).locator(".nsewdrag").first
        area.scroll_into_view_if_needed()
        box = area.bounding_box()
        return box["x"] + box["width"] * x, box["y"] + box["height"] * y

    def drag(self, title: str, begin: float, end: float, heights: tuple[float, float] = (0.5, 0.5)) -> None:
        (left, top), (right, bottom) = (self.point(title, *at) for at in zip((begin, end), heights, strict=True))
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        self.page.mouse.move(right, bottom, steps=5)
        self.page.mouse.up()

    def option(self, title: str, name: str) -> Locator:
        """An entry of a chart's menu, opened."""
        menu = self.chart(title).locator(".lr-chart-menu")
        if menu.get_attribute("open") is None:
            menu.locator("summary").click()
        return menu.get_by_role("button", name=name)

    def facts(self) -> dict[str, str]:
        names, values = (self.view.locator(f".lr-numbers {tag}").all_text_contents() for tag in ("dt", "dd"))
        return dict(zip(names, values, strict=True))

    def shows(self, count: int) -> None:
        expect(self.found).to_have_text(f"{count:,} step{'' if count == 1 else 's'}")
        expect(self.root.locator(".lr-steps")).to_have_attribute("aria-busy", "false")

    def take(self, kind: str) -> Path:
        with self.page.expect_download() as waiting:
            self.view.locator(f'[data-format="{kind}"]').click()
        return waiting.value.path()

    def barriers(self) -> list[str]:
        return barriers_of(self.page)

    def overflow(self) -> float:
        """How far anything reaches beyond the window, in pixels; what scrolls in a box of its own does not count."""
        return self.page.evaluate(
            """() => {
                const own = '#lr-datasets .lr-root > *, #lr-datasets .lr-card > *, #lr-data-side *';
                const parts = document.querySelectorAll(own);
                const edges = [...parts].filter((n) => n.checkVisibility()).map((n) => n.getBoundingClientRect().right);
                return Math.max(document.documentElement.scrollWidth, ...edges) - innerWidth;
            }"""
        )


@pytest.fixture
def tab(app: App, visitors) -> Callable[..., Datasets]:
    """tab(query, **options) opens it in a browser of its own."""

    def tab(query: str = "", **options) -> Datasets:
        return Datasets(visitors.context(app.url, **options).new_page()).open(f"{app.url}?tab=datasets{query}")

    return tab


@pytest.fixture(scope="module")
def folder(app: App) -> Path:
    """A dataset of random logits, as sampling would have written it."""
    place = app.workspace / "runs" / new_id()
    make_dataset(place, problems=20, per_shard=6, tokens=True, vocabulary=300)
    return place


def kls(folder: Path) -> np.ndarray:
    return np.concatenate([np.array(row["kl"], np.float64) for row in rows(folder, ["kl"])])


def test_one_click_builds_a_dataset_and_the_page_watches_it_grow(app, tab):
    here = tab()
    here.page.get_by_label("Number of problems").fill("40")
    here.page.get_by_role("button", name="Estimate").click()
    expect(here.page.locator("#lr-ds-estimate")).to_contain_text("samples at β = 0.4")
    expect(here.page.locator("#lr-ds-estimate")).to_contain_text("kB on disk")
    here.page.get_by_role("button", name="The same on the command line").click()
    command = here.page.locator("#lr-ds-command textarea")
    expect(command).to_have_value(
        "python -m lightreasoner sample --pair bundled --problems bundled-train --limit 40 --run-dir my-dataset"
    )
    here.build.click()
    expect(here.badge).to_have_text("In progress")  # at once, before there is anything
    expect(here.progress.get_by_role("button", name="Cancel")).to_be_visible()
    expect(here.view.get_by_role("button", name="Delete …")).to_be_hidden()
    expect(here.badge).to_have_text("Done", timeout=JOB)
    expect(here.progress).to_be_hidden()

    [dataset] = parse_qs(urlsplit(here.page.url).query)["dataset"]
    built = app.workspace / "runs" / dataset
    kl = kls(built)
    expect(here.entries.first).to_contain_text(f"{selection_report(built).usable:,} samples")
    facts = here.facts()
    assert (facts["Problems"], facts["Steps"]) == ("40", f"{len(kl):,}")
    assert facts["Above β"] == f"{int((kl > 0.4).sum()):,}"
    here.shows(len(kl))
    expect(here.lines).to_have_count(25)
    assert float(here.lines.first.locator("td").nth(2).text_content()) == pytest.approx(kl.max(), abs=5e-4)
    here.view.get_by_text("The command that does the same").click()
    expect(here.view.locator(".lr-command pre")).to_contain_text(f"--limit 40 --run-dir {built}")
    here.page.reload()
    expect(here.badge).to_have_text("Done")
    here.shows(len(kl))


def test_a_build_can_be_explored_stopped_resumed_and_cancelled(app, tab):
    here = tab()
    here.page.get_by_label("Number of problems").fill("1000")
    here.build.click()
    expect(here.lines.first).to_be_visible(timeout=JOB)  # while it grows
    expect(here.badge).to_have_text("In progress")
    expect(here.progress).to_contain_text("of 1,000 problems")
    here.progress.get_by_role("button", name="Stop and keep").click()
    expect(here.badge).to_have_text("Stopped early", timeout=JOB)
    built = app.workspace / "runs" / parse_qs(urlsplit(here.page.url).query)["dataset"][0]
    there = sum(1 for _ in rows(built, ["problem_id"]))
    expect(here.progress).to_contain_text(f"{there} of 1,000 problems")
    expect(here.view.locator(".lr-numbers dd").first).to_have_text(str(there))
    here.progress.get_by_role("button", name="Resume").click()
    expect(here.badge).to_have_text("In progress")
    here.progress.get_by_role("button", name="Cancel").click()
    expect(here.badge).to_have_text("Cancelled", timeout=JOB)
    here.view.get_by_role("button", name="Delete …").click()
    here.view.get_by_role("button", name="Delete it").click()
    expect(here.view).to_be_hidden()
    assert not built.exists()


def test_a_build_that_fails_says_why_and_can_be_deleted(tab, tmp_path):
    here = tab()
    here.page.get_by_label("Number of problems").fill("0")
    here.build.click()
    expect(here.notice.get_by_role("alert")).to_contain_text("The number of problems is 0")
    here.page.get_by_label("Number of problems").fill("5")
    here.page.locator("#lr-ds-pair input").click()
    here.page.get_by_role("option", name="Two models of my own").click()
    for label in ("Expert (the stronger model)", "Amateur (the weaker model)"):
        here.page.get_by_label(label).fill(str(tmp_path / "gone"))
    here.build.click()
    expect(here.badge).to_have_text("Failed", timeout=JOB)
    expect(here.progress).to_contain_text("gone")
    expect(here.progress.get_by_role("button", name="Resume")).to_be_visible()
    before = here.entries.count()
    here.view.get_by_role("button", name="Delete …").click()
    here.view.get_by_role("button", name="Keep it").click()
    here.view.get_by_role("button", name="Delete …").click()
    here.view.get_by_role("button", name="Delete it").click()
    expect(here.entries).to_have_count(before - 1)
    assert "dataset=" not in here.page.url


def test_a_dataset_can_be_explored(tab, folder):
    here = tab(f"&dataset={folder.name}")
    kl = kls(folder)
    here.shows(len(kl))

    here.set_beta(0.7)  # β: at once in the curve, a moment later in what the server counts
    above = int((kl > 0.7).sum())
    expect(here.view.locator(".lr-chart-now").first).to_contain_text(f"{above} of {len(kl)} steps")
    expect(here.view.locator(".lr-chosen b")).to_have_text(
        f"{selection_report(folder, Selection(beta=0.7)).usable} samples"
    )
    expect(here.root.locator(".lr-selected-step")).to_have_count(min(25, above))
    assert parse_qs(urlsplit(here.page.url).query)["beta"] == ["0.7"]
    here.slider(ALPHA).press("End")
    expect(here.view.locator(".lr-chart-now").last).to_contain_text("100 % hold a single one")

    here.view.get_by_label("Selector").select_option("random")
    expect(here.view.locator(".lr-chosen")).to_contain_text("As many steps as have KL above β = 0.7")
    made = selection_report(folder, Selection("random", 1, 0.7))
    expect(here.view.locator(".lr-chosen b")).to_have_text(f"{made.usable} samples")

    here.slider(ALPHA).press("Home")  # the teaching signal moves with α
    explorer = _explorer(folder)
    title, known = "Steps by teaching signal", explorer.histogram(KL_EDGES, 0.01)
    here.page.wait_for_function(
        "([title, counts]) => [...document.querySelectorAll('figure')].some((f) => f.querySelector('figcaption')"
        "?.textContent.startsWith(title) && String(f.querySelector('.lr-plot').data?.[0].customdata.map((c) => c[2]))"
        " === String(counts))",
        arg=[title, known],
    )
    here.page.get_by_label("Sort the steps by").select_option("teaching")
    signal = explorer.table(0.01)["teaching"]
    expect(here.lines.first.locator("td").nth(3)).to_have_text(f"{signal.max():.3f}")
    here.page.get_by_label("Sort the steps by").select_option("kl")
    here.view.get_by_role("slider", name="Lowest teaching signal shown").press("ArrowRight")
    here.shows(sum(known[1:]))
    here.chart(title).get_by_role("button", name="Show all").click()
    here.shows(len(kl))

    here.drag("Steps by KL", 0.45, 0.7)  # with the mouse
    expect(here.view.get_by_role("button", name="Show all")).to_be_visible()
    said = here.chart("Steps by KL").locator(".lr-brush-said").text_content()
    low, high = (float(word) for word in said.split("from ")[1].removesuffix(" nats").split(" to "))
    brushed = int(said.split()[0].replace(",", ""))
    here.shows(brushed)
    assert 0 < brushed < len(kl) and brushed == pytest.approx(
        ((kl >= low) & (kl < high)).sum(), abs=2
    )  # low is rounded
    handle = here.view.get_by_role("slider", name="Lowest KL shown")  # and with the keyboard
    handle.press("ArrowRight")
    expect(here.chart("Steps by KL").locator(".lr-brush-said")).not_to_have_text(said)
    handle.press("Escape")
    here.shows(len(kl))

    title = "Entropy and KL"  # a box: what it lists is what training on it takes
    expect(here.chart(title).locator(".lr-plot")).to_have_attribute("aria-label", re.compile(f"All {len(kl)} steps"))
    here.view.get_by_label("KL from, in nats").fill("0.5")
    boxed = explorer.report(Selection("all", 0.01, 0.7, box="0:inf:0.5:inf"))
    assert 0 < boxed.selected < len(kl)
    here.shows(boxed.selected)
    here.view.get_by_role("button", name="Train on the steps of this box").click()
    expect(here.view.locator(".lr-chosen b")).to_have_text(f"{boxed.usable} samples")
    assert parse_qs(urlsplit(here.page.url).query)["box"] == ["0:inf:0.5:inf"]
    assert "box=0%3Ainf" in here.view.get_by_role("link", name="Fine-tune on it").get_attribute("href")
    here.drag(title, 0.1, 0.8, (0.9, 0.1))
    ends = [here.view.get_by_label(f"{end}, in nats") for end in ("Entropy from", "Entropy to", "KL from", "KL to")]
    expect(ends[1]).not_to_have_value("")
    box = ":".join(end.input_value() for end in ends)
    here.shows(explorer.report(Selection("all", 0.01, 0.7, box=box)).selected)
    here.view.get_by_role("button", name="Train on steps outside, too").click()
    here.view.get_by_role("button", name="Clear box").click()
    here.shows(len(kl))

    kinds = {kind["kind"]: kind for kind in _explorer(folder).categories()}
    title = "Token categories"
    expect(here.chart(title).locator(".lr-plot")).to_contain_text(f"{kinds['number']['mean_kl']:.3f}")
    [bars] = here.plotted(title)["data"]
    row = 1 - (bars["y"].index("Numbers") + 0.5) / len(kinds)
    here.page.mouse.click(*here.point(title, 0.1, row))
    here.shows(kinds["number"]["steps"])
    assert set(here.lines.locator("td:nth-child(6)").all_text_contents()) == {"Numbers"}
    picker = here.page.get_by_label("Show only tokens of this category")  # the keyboard's way
    expect(picker).to_have_value("number")
    picker.select_option("")
    here.shows(len(kl))
    here.page.get_by_label("Search tokens, problems and responses").fill("How many, 7?")
    here.shows(next(len(row["kl"]) for row in rows(folder) if row["question"] == "How many, 7?"))
    here.page.get_by_label("Search tokens, problems and responses").fill("no such thing")
    here.shows(0)
    expect(here.root.locator(".lr-none")).to_be_visible()
    here.page.get_by_label("Search tokens, problems and responses").fill("")
    here.shows(len(kl))
    here.page.get_by_role("button", name="Next ›").click()
    expect(here.root.locator(".lr-pager")).to_contain_text("Page 2 of")


def test_the_charts_answer_the_pointer_and_move_without_a_request(tab, folder):
    here = tab(f"&dataset={folder.name}")
    kl = kls(folder)
    kept, bins = "Selected steps by β", "Steps by KL"
    assert here.plotted(bins)["shapes"]["beta"]["x0"] == pytest.approx(
        np.interp(0.4, KL_EDGES, range(len(KL_EDGES))), abs=1e-3
    )
    here.page.mouse.move(*here.point(kept, 0.5))
    hover = here.chart(kept).locator(".hoverlayer")
    expect(hover).to_contain_text("β = 1.50 nats")
    expect(hover).to_contain_text(f"{(kl > 1.5).sum():,} steps, {100 * (kl > 1.5).mean():.1f}% of all")
    here.page.mouse.move(*here.point(bins, 0.755))
    [hovered] = re.findall(r"([\d.]+) to ([\d.]+) nats: (\d+)", here.chart(bins).locator(".hoverlayer").text_content())
    at = [n for n, edge in enumerate(KL_EDGES) if f"{edge:.3g}" == hovered[0]]
    assert int(hovered[2]) in np.histogram(kl, KL_EDGES)[0][at]

    here.drag(kept, 0.1, 0.3)  # box zoom, and back
    low, high = here.plotted(kept)["x"]
    assert (low, high) == (pytest.approx(0.3, abs=0.02), pytest.approx(0.9, abs=0.02))
    here.option(kept, "Logarithmic axis").click()
    assert here.plotted(kept)["type"] == "log"
    assert here.plotted(kept)["x"] == [low, high]  # what was zoomed stays
    here.option(kept, "Reset zoom").click()
    assert here.plotted(kept)["x"] == [0, 3]
    asked = []
    here.page.on("request", lambda request: asked.append(str(request.post_data)))
    moves = [n / 20 for n in range(30)]
    drawn = here.slider(BETA).evaluate(  # in one go: nothing can be asked in between
        """(input, moves) => moves.map((beta) => {
            input.value = beta;
            input.dispatchEvent(new Event('input'));
            const plot = input.closest('figure').querySelector('.lr-plot');
            const area = plot.querySelector('.nsewdrag').getBBox(), line = plot.querySelector('.shapelayer path');
            return 3 * (line.getBBox().x - area.x) / area.width;
        })""",
        [*moves, 1.2],
    )
    assert drawn == pytest.approx([*moves, 1.2], abs=0.01)
    expect(here.chart(kept).locator(".lr-plot")).to_have_attribute("aria-label", re.compile(r"at 1\.20, "))
    here.page.wait_for_timeout(400)  # plotly.js is told of it later
    moved = here.plotted(bins)["shapes"]
    assert moved["below-beta"]["x1"] == pytest.approx(np.interp(1.2, KL_EDGES, range(len(KL_EDGES))), abs=1e-3)
    expect(here.view.locator(".lr-chosen b")).to_have_text(
        f"{selection_report(folder, Selection(beta=1.2)).usable} samples"
    )
    assert len([body for body in asked if '"overview"' in body]) <= 2  # for the last movement, and the page's own look
    here.page.mouse.click(*here.point(kept, 0.25))
    expect(here.slider(BETA)).to_have_value(re.compile(r"0\.7[456]"))


def test_a_pair_is_checked_and_its_charts_are_shown(tab):
    here = tab()
    here.page.get_by_role("button", name="Check this pair on 24 problems").click()
    check = here.page.get_by_label("Assessment of the pair")
    expect(check).to_contain_text("diverge by more than β = 0.4", timeout=JOB)
    kept, bins = (check.locator("figure").nth(n) for n in range(2))
    expect(kept.locator(".lr-plot")).to_have_attribute("aria-label", re.compile(r"at β = 0\.40 nats [\d.]+ % of all"))
    expect(bins.locator(".bars path").first).to_be_attached()
    expect(kept.locator(".shapelayer path")).to_be_attached()
    check.get_by_role("button", name="Preview training with this pair").click()
    preview = here.page.locator(".lr-evaluate .lr-run-view", has_text="Preview")
    expect(preview).to_be_visible()
    expect(here.page).to_have_url(re.compile(r"tab=evaluate&run="))
    preview.get_by_role("button", name="Cancel").click()
    expect(preview).to_contain_text("Cancelled", timeout=JOB)


def test_the_charts_can_be_saved(tab, folder):
    here = tab(f"&dataset={folder.name}", color_scheme="dark")
    kept, bins = "Selected steps by β", "Steps by KL"
    here.plotted(kept)
    saved = {}
    for title, name in ((kept, "Save PNG"), (kept, "Save SVG"), (kept, "Save CSV"), (bins, "Save CSV")):
        with here.page.expect_download() as waiting:
            here.option(title, name).click()
        saved[waiting.value.suggested_filename] = waiting.value.path().read_bytes()
    assert saved["selected-by-beta.png"].startswith(b"\x89PNG\r\n\x1a\n")
    picture = saved["selected-by-beta.svg"].decode()
    assert picture.count("<path") > 2 and kept in picture and "β in nats" in picture and "var(--" not in picture
    explorer = _explorer(folder)
    lines = saved["selected-by-beta.csv"].decode().splitlines()
    assert lines[0] == "beta,share,steps"
    wanted = [[p["beta"], p["share"], p["steps"]] for p in explorer.steps_above(n / 100 for n in range(301))]
    assert [[float(cell) for cell in line.split(",")] for line in lines[1:]] == wanted
    lines = saved["steps-by-kl.csv"].decode().splitlines()
    assert lines[0] == "steps,low,high"
    assert [float(line.split(",")[0]) for line in lines[1:]] == explorer.histogram(KL_EDGES)
    assert [float(line.split(",")[1]) for line in lines[1:]] == list(KL_EDGES[:-1])


def _explorer(folder: Path) -> Explorer:
    explorer = Explorer(folder)
    explorer.refresh()
    return explorer


def test_a_step_opens_in_the_step_view_and_its_link_outlives_the_server(own_app, visitors):
    app = own_app.start("--no-preload")
    first = Datasets(visitors.context(app.url).new_page()).open(f"{app.url}?tab=datasets")
    expect(first.root.locator(".lr-empty")).to_contain_text("No dataset yet")
    assert first.barriers() == []
    folder = app.workspace / "runs" / new_id()
    make_dataset(folder, problems=6, tokens=True, vocabulary=300)
    first.entries.first.click()  # it was found without a reload
    expect(first.badge).to_have_text("Done")

    first.lines.nth(1).get_by_role("button", name="Open step").click()
    expect(first.step.locator("h3")).to_contain_text("Step ")
    expect(first.page).to_have_url(re.compile("problem=.*step=|step=.*problem="))  # it follows the selection
    where = parse_qs(urlsplit(first.page.url).query)
    row = next(r for r in rows(folder) if r["problem_id"] == where["problem"][0])
    index = int(where["step"][0])
    expect(first.step.locator(".lr-verdict")).to_contain_text(f"KL {row['kl'][index]:.3f} nats")
    expect(first.reader.locator(".lr-token")).to_have_count(len(row["response_ids"]))
    sample = next(s for s in training_samples(folder) if (s.problem_id, s.step) == (row["problem_id"], index))
    first.step.locator(".lr-training summary").click()
    lines = first.step.locator(".lr-training pre").text_content().splitlines()
    shown = {name: json.loads(value) for name, value in (line.split(": ", 1) for line in lines)}
    assert dict(zip(shown["token_ids"], shown["weights"], strict=True)) == pytest.approx(
        dict(zip(sample.token_ids, sample.weights, strict=True)), rel=1e-4
    )  # what is seen is what is trained on
    assert shown["prefix_tokens"] == len(sample.prefix_ids)

    first.reader.get_by_role("button", name=f"pin, step {index}").click()
    expect(first.reader.get_by_role("button", name=f"pin, step {index}")).to_have_attribute("aria-pressed", "true")
    assert load_annotations(folder).get(row["problem_id"], 0, index) == "pin"
    low = next(i for i, kl in enumerate(row["kl"]) if kl <= 0.05)
    first.reader.locator(f'.lr-token[data-index="{low}"]').click()
    expect(first.step.locator(".lr-unstored")).to_contain_text("were not stored")
    address = first.page.url
    assert f"step={low}" in address
    with first.page.expect_download() as waiting:
        first.reader.locator('.lr-menu [data-kind="json"]').click()
    record = json.loads(waiting.value.path().read_text())
    assert [step["token_id"] for step in record["steps"]] == row["response_ids"]
    first.page.close()

    app.stop()
    app.start("--no-preload")
    again = Datasets(visitors.context(app.url).new_page()).open(address)
    expect(again.step.locator("h3")).to_contain_text(f"Step {low} ")
    again.reader.get_by_role("button", name="‹ Back to the dataset").click()
    expect(again.lines.first.locator(".lr-mark-pin")).to_have_attribute("aria-pressed", "true")  # pinned ones first
    again.lines.nth(2).locator(".lr-mark-drop").click()
    expect(again.view.locator(".lr-chosen")).to_contain_text("1 dropped")
    assert len(load_annotations(folder).of("drop")) == 1
    again.page.get_by_label("Show only steps with this mark").select_option("any")
    again.shows(2)


def test_a_dataset_is_exported_imported_and_deleted(app, tab, folder, tmp_path):
    here = tab(f"&dataset={folder.name}&beta=0.3")
    expect(here.badge).to_have_text("Done")
    lines = here.take("paper").read_text(encoding="utf-8")
    made = list(training_samples(folder, Selection(beta=0.3)))
    assert [json.loads(line)["token_ids"] for line in lines.splitlines()] == [sample.token_ids for sample in made]
    assert pq.read_metadata(here.take("parquet")).num_rows == len(made)
    assert pq.read_metadata(here.take("raw")).num_rows == 20

    file = tmp_path / "theirs.jsonl"
    file.write_text(lines + "no line\n", encoding="utf-8")
    with here.page.expect_file_chooser() as chooser:
        here.page.get_by_role("button", name="Import samples (JSONL)").click()
    chooser.value.set_files(file)
    expect(here.view.locator("h2")).to_have_text("theirs.jsonl · imported")
    expect(here.notice).to_contain_text(f"line {len(made) + 1}")
    here.shows(len(made))
    here.lines.first.locator(".lr-open").click()
    top = max(made, key=lambda sample: sample.kl)
    expect(here.reader.locator(".lr-imported .lr-verdict")).to_contain_text(f"KL {top.kl:.3f} nats")
    expect(here.reader.locator(".lr-imported .lr-target-row")).to_have_count(len(top.token_ids))
    here.reader.get_by_role("button", name="‹ Back to the dataset").click()
    [imported] = parse_qs(urlsplit(here.page.url).query)["dataset"]
    here.view.get_by_role("button", name="Delete …").click()
    here.view.get_by_role("button", name="Delete it").click()
    expect(here.root.locator(f'[data-id="{imported}"]')).to_have_count(0)
    assert not (app.workspace / "runs" / imported).exists()
    assert folder.exists()


def test_it_is_accessible(tab, folder):
    here = tab(f"&dataset={folder.name}")
    expect(here.lines.first).to_be_visible()
    for look in in_every_look(here.page):
        assert here.barriers() == [], look
    here.lines.nth(2).locator(".lr-open").press("Enter")
    expect(here.step.locator("h3")).to_contain_text("Step ")
    for look in in_every_look(here.page):
        assert here.barriers() == [], look
        assert here.overflow() <= 0, look


def test_fingers_move_beta_and_open_steps(tab, folder):
    here = tab(f"&dataset={folder.name}", **PHONE)
    expect(here.lines.first).to_be_visible()
    assert here.overflow() <= 0
    here.page.touchscreen.tap(*here.point("Selected steps by β", 0.7, 0.4))
    expect(here.slider(BETA)).not_to_have_value("0.4")
    here.lines.nth(2).locator(".lr-open").tap()
    expect(here.step.locator("h3")).to_contain_text("Step ")
    assert here.overflow() <= 0


def test_amateurs_stand_beside_each_other_and_the_recommended_one_leads_to_the_forms(app, tab):
    place = app.workspace / "runs" / new_id()
    make_dataset(place, problems=6, tokens=True)
    record = json.loads((place / "run.json").read_text())
    own = further_folder(place, "x/other")
    shutil.copytree(place, own)
    (own / "run.json").write_text(json.dumps(record | {"config": record["config"] | {"amateur": "x/other"}}))
    expert, cells = Path(record["config"]["expert"]), (Contrast(0.2, 0.1),)
    right = ["1" * 4 + "0" * 16, "1" * 15 + "0" * 5]
    preview = make_evaluation(app.workspace / "runs", expert, [], right, contrasts=cells, amateur="x/other")
    make_evaluation(app.workspace / "runs", "x/other", [], ["1" * 2 + "0" * 18])
    here = tab(f"&dataset={place.name}")
    panel = here.view.get_by_role("region", name="Amateurs").first
    expect(panel).to_contain_text("other is recommended: its preview gains +55.0 points")
    expect(panel.get_by_role("row")).to_have_count(3)
    assert here.plotted("Gap against gain")["data"][0]["y"] == [55]
    assert len(here.plotted("KL of each amateur")["data"]) == 2
    tune = panel.get_by_role("link", name="Fine-tune on other’s steps").get_attribute("href")
    assert parse_qs(urlsplit(tune).query)["dataset"] == [f"{place.name}:{own.name}"]
    gain = panel.get_by_role("link", name="+55.0")
    assert parse_qs(urlsplit(gain.get_attribute("href")).query)["run"] == [preview.name]
    assert here.barriers() == [] and here.overflow() <= 0
    panel.get_by_role("button", name="Add an amateur").click()
    expect(panel.get_by_role("alert")).to_have_text("Name the model that is to read along.")
    panel.get_by_role("link", name="other", exact=True).click()
    expect(here.view.locator("h2")).to_contain_text("other")
    expect(panel).to_be_hidden()
    here.shows(len(kls(own)))
    here.page.goto(f"{app.url}{tune}")
    expect(here.page.locator("#lr-ft-dataset input")).to_have_value(re.compile("other"))
    here.open(f"{app.url}?tab=datasets")
    here.page.get_by_role("button", name="Compare amateurs").first.click()
    here.page.locator("#lr-ds-compare-go").click()
    expect(here.notice).to_contain_text("nothing to compare it with")
    here.page.get_by_role("button", name="Make an amateur out of this expert").click()
    here.page.locator("#lr-ds-make-go").click()
    expect(here.page.locator("#lr-ds-make-notice")).to_contain_text("write their numbers from 0 on")
