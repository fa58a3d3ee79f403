"""The Datasets tab in a browser: build with one click, watch the progress, explore, mark, export, import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Locator, Page, expect

from lightreasoner.datasets.annotations import load_annotations
from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.select_steps import selection_report, training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import rows
from lightreasoner.storage.atomic import new_id
from tests.support.browser import PATIENCE, App, barriers_of
from tests.support.tiny_dataset import make_dataset

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
        expect(self.build).to_be_visible()
        return self

    def slider(self, name: str) -> Locator:
        """A handle of a chart; the step view has sliders of the same names."""
        return self.view.locator(f'.lr-handle[aria-label="{name}"]')

    def set_beta(self, value: float) -> None:
        handle = self.slider(BETA)
        handle.press("Home")
        for _ in range(round(value / 0.1)):
            handle.press("PageUp")
        expect(handle).to_have_attribute("aria-valuenow", f"{value:g}")

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
    expect(here.page.locator("#lr-ds-estimate")).to_contain_text("MB on disk")
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
    expect(here.view.locator(".lr-chart-says").first).to_contain_text(f"{above} of {len(kl)} steps")
    expect(here.view.locator(".lr-chosen b")).to_have_text(
        f"{selection_report(folder, Selection(beta=0.7)).usable} samples"
    )
    expect(here.root.locator(".lr-selected-step")).to_have_count(min(25, above))
    assert parse_qs(urlsplit(here.page.url).query)["beta"] == ["0.7"]
    here.slider(ALPHA).press("End")
    expect(here.view.locator(".lr-chart-says").last).to_contain_text("100 % hold a single one")

    here.view.get_by_label("Selector").select_option("random")
    expect(here.view.locator(".lr-chosen")).to_contain_text("As many steps as have KL above β = 0.7")
    made = selection_report(folder, Selection("random", 1, 0.7))
    expect(here.view.locator(".lr-chosen b")).to_have_text(f"{made.usable} samples")

    plot = here.view.locator(".lr-plot").first  # the histogram, with the mouse
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    here.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 70)
    here.page.mouse.down()
    here.page.mouse.move(box["x"] + box["width"] * 0.72, box["y"] + 70, steps=5)
    here.page.mouse.up()
    said = here.view.locator(".lr-brush-said").text_content()
    low, high = (float(word) for word in said.split("from ")[1].removesuffix(" nats").split(" to "))
    brushed = int(said.split()[0].replace(",", ""))
    here.shows(brushed)
    assert 0 < brushed < len(kl) and brushed == pytest.approx(
        ((kl >= low) & (kl < high)).sum(), abs=2
    )  # low is rounded
    handle = here.view.get_by_role("slider", name="Lowest KL shown")  # and with the keyboard
    handle.press("ArrowRight")
    expect(here.view.locator(".lr-brush-said")).not_to_have_text(said)
    handle.press("Escape")
    here.shows(len(kl))

    kinds = {kind["kind"]: kind for kind in _explorer(folder).categories()}
    number = here.view.locator('.lr-kinds [data-key="number"]')
    expect(number).to_contain_text(f"{kinds['number']['mean_kl']:.3f}")
    number.click()
    here.shows(kinds["number"]["steps"])
    assert set(here.lines.locator("td:nth-child(5)").all_text_contents()) == {"Numbers"}
    number.click()
    here.page.get_by_label("Search tokens, problems and responses").fill("How many, 7?")
    here.shows(next(len(row["kl"]) for row in rows(folder) if row["question"] == "How many, 7?"))
    here.page.get_by_label("Search tokens, problems and responses").fill("no such thing")
    here.shows(0)
    expect(here.root.locator(".lr-none")).to_be_visible()
    here.page.get_by_label("Search tokens, problems and responses").fill("")
    here.shows(len(kl))
    here.page.get_by_role("button", name="Next ›").click()
    expect(here.root.locator(".lr-pager")).to_contain_text("Page 2 of")


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


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_it_is_accessible(tab, folder, look):
    here = tab(f"&dataset={folder.name}", **{"light": {}, "dark": {"color_scheme": "dark"}, "phone": PHONE}[look])
    expect(here.lines.first).to_be_visible()
    assert here.overflow() <= 0
    assert here.barriers() == []
    if look == "phone":
        plot = here.view.locator(".lr-plot").nth(1)
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        here.page.touchscreen.tap(box["x"] + box["width"] * 0.7, box["y"] + 60)
        expect(here.slider(BETA)).not_to_have_attribute("aria-valuenow", "0.4")
        here.lines.nth(2).locator(".lr-open").tap()
    else:
        here.lines.nth(2).locator(".lr-open").press("Enter")
    expect(here.step.locator("h3")).to_contain_text("Step ")
    assert here.overflow() <= 0
    assert here.barriers() == []
