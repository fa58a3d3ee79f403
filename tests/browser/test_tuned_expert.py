"""The tuned expert as a third model on the page: chosen by hand or by a link, drawn, exported, opened again."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lightreasoner.storage.runs import add_to_run, begin_run
from tests.browser.test_links import query
from tests.browser.test_look import barriers, overflow
from tests.support.browser import App, Inspect, in_every_look
from tests.support.browser_models import save_related_pair
from tests.support.tiny_models import save_tiny_adapter, tiny_model

pytestmark = pytest.mark.browser
TEXT = "She sold 12 of the 20 cakes, so 8 cakes are left."
LENS, PAIR = "What training moved: KL(E′ ‖ E)", "KL(expert ‖ amateur)"


@pytest.fixture(scope="session")
def adapter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lens") / "adapter"
    save_tiny_adapter(folder, tiny_model(1, hidden=64), seed=3)
    return folder


def make_run(workspace: Path, pair: tuple[Path, Path], adapter: Path, run: str = "tunedtunedtunedtuned") -> str:
    """A finished fine-tuning run of this workspace, and its dataset, as the verbs leave them."""
    runs = workspace / "runs"
    expert, amateur = map(str, pair)
    if not (runs / "datasetdatasetdataset").exists():
        begin_run(runs / "datasetdatasetdataset", "dataset", {"expert": expert, "amateur": amateur}, {})
    config = {"dataset": str(runs / "datasetdatasetdataset"), "method": "lightreasoner"}
    begin_run(runs / run, "finetune", config, {"expert": expert})
    shutil.copytree(adapter, runs / run / "adapter")
    add_to_run(runs / run, result={"samples": 2000, "updates": 100})
    return run


@pytest.fixture(scope="session")
def lens_pair(tmp_path_factory) -> tuple[Path, Path]:
    """A pair that no other file's tests have loaded."""
    return save_related_pair(tmp_path_factory.mktemp("lens-pair"))


@pytest.fixture(scope="session")
def tuned(app: App, lens_pair, adapter) -> str:
    return make_run(app.workspace, lens_pair, adapter)


def metric(inspect: Inspect):
    return inspect.page.get_by_label("Colour the tokens by")


def choose_tuned(inspect: Inspect, ref: str) -> None:
    field = inspect.page.get_by_label("Tuned expert (optional)")
    field.fill(ref)
    field.press("Enter")
    inspect.settle()
    expect(inspect.page.get_by_role("radio", name="Tuned expert")).to_be_visible()


def test_a_runs_link_fills_the_form_and_run_shows_what_moved(visit, tuned, lens_pair):
    inspect = visit(f"?lens={tuned}")
    expect(inspect.page.get_by_label("Expert (the stronger model)")).to_have_value(str(lens_pair[0]))
    expect(inspect.page.get_by_label("Amateur (the weaker model)")).to_have_value(str(lens_pair[1]))
    expect(inspect.page.get_by_label("Tuned expert (optional)")).to_have_value(
        re.compile("LightReasoner, 2,000 samples · .* · tunedtun")
    )
    assert inspect.tokens.count() == 0, "nothing runs, and nothing is loaded, before Run"
    expect(inspect.card).to_contain_text("Loads when you press Run")
    inspect.score(TEXT)
    record = inspect.record()
    steps = record["steps"]
    assert record["lens"]["run"] == tuned and record["lens"]["writer"] == "expert"
    assert set(query(inspect.page.url)) == {"trace"}, "the link to the run has become that of the trace"

    expect(metric(inspect).locator("option:checked")).to_have_text(LENS)
    changed = sum(step["tuned_changed"] for step in steps)
    assert 0 < changed < len(steps)
    expect(inspect.counts).to_contain_text(f"training changed the top-1 token at {changed} steps")
    expect(inspect.page.locator(".lr-token.lr-changed")).to_have_count(changed)
    expect(inspect.page.locator(".lr-tuned-model")).to_contain_text("LightReasoner, 2,000 samples")
    heats = inspect.tokens.evaluate_all("nodes => nodes.map((n) => parseFloat(n.style.getPropertyValue('--heat')))")
    assert heats == pytest.approx([100 * math.sqrt(min(1, step["tuned_kl"])) for step in steps], abs=0.06)

    index = max(range(len(steps)), key=lambda n: steps[n]["tuned_kl"])
    inspect.select(index)
    kept = steps[index]["candidates"]
    tuned_of = dict(zip(kept["ids"], kept["tuned_logprobs"], strict=True))
    bars = inspect.bars()
    assert bars and all(len(bar) == 4 for bar in bars.values())
    for id, (*_, width) in bars.items():
        assert width == pytest.approx(100 * math.exp(tuned_of[id]), abs=0.006)
    best = max(tuned_of, key=tuned_of.get)
    assert best in bars, "what the tuned expert likes best is among the rows"
    expect(inspect.step.locator(".lr-key")).to_contain_text("Tuned expert E′")
    expect(inspect.step.locator(".lr-facts")).to_contain_text(f"{steps[index]['tuned_kl']:.3f} nats")


def said(step: dict, tokens: dict) -> tuple[bool, str, float]:
    """(whether the favourite changed, text of the token that the sentence is about, its ratio), from the numbers."""
    kept = step["candidates"]
    rows = [
        (math.exp(e), math.exp(t), tokens[str(id)])
        for id, e, t in zip(kept["ids"], kept["expert_logprobs"], kept["tuned_logprobs"], strict=True)
    ]
    e, t, text = max(rows, key=lambda row: row[1] if step["tuned_changed"] else row[1] - row[0])
    return step["tuned_changed"], text, t / e


def test_one_sentence_says_what_training_did(visit, tuned):
    inspect = visit(f"?lens={tuned}")
    inspect.score(TEXT)
    record = inspect.record()
    seen = set()
    for index, step in enumerate(record["steps"]):
        changed, text, ratio = said(step, record["tokens"])
        if changed in seen or not text.isalnum() or not 1.2 < ratio < 900 or not (changed or ratio > 1):
            continue
        inspect.select(index)
        sentence = inspect.step.locator(".lr-training-effect")
        shown = f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}"
        expect(sentence).to_contain_text(f"“{text}” {shown} times as likely here (")
        if changed:
            expect(sentence).to_contain_text("Training changed the top-1 token from “")
        seen.add(changed)
    assert seen == {True, False}


def test_a_run_without_a_tuned_expert_is_as_it_was(visit, tuned, lens_pair):
    inspect = visit(f"?lens={tuned}")
    expect(inspect.page.get_by_role("radio", name="Tuned expert")).to_be_visible()
    inspect.limit(12)
    inspect.run()
    expect(metric(inspect).locator("option:checked")).to_have_text(LENS)
    inspect.page.get_by_label("Tuned expert (optional)").click()
    inspect.page.get_by_role("option", name="None, the pair alone").click()
    expect(inspect.page.get_by_role("radio", name="Tuned expert")).to_be_hidden()
    expect(inspect.page.get_by_label("Tuned expert (optional)")).to_have_value("")
    inspect.run()
    expect(metric(inspect).locator("option:checked")).to_have_text(PAIR)
    assert LENS not in metric(inspect).locator("option").all_text_contents()
    expect(inspect.page.locator(".lr-tuned-model")).to_be_hidden()
    assert "training" not in inspect.counts.text_content()
    inspect.select(2)
    assert {len(bar) for bar in inspect.bars().values()} == {3}
    expect(inspect.step.locator(".lr-training-effect")).to_have_count(0)
    assert "lens" not in inspect.record()


def test_a_finished_run_can_be_picked_and_may_write(visit, tuned, lens_pair):
    inspect = visit()
    inspect.use_models(*lens_pair)
    inspect.page.get_by_label("Tuned expert (optional)").click()
    inspect.page.get_by_role("option", name="LightReasoner, 2,000 samples").click()
    inspect.page.get_by_role("radio", name="Tuned expert").check()
    inspect.limit(12)
    inspect.run()
    first = inspect.record()
    assert first["lens"]["writer"] == "tuned" and first["lens"]["run"] == tuned
    assert all(step["tuned_rank"] == 1 for step in first["steps"]), "greedy: its own favourites"
    expect(inspect.page.locator(".lr-tuned-model")).to_contain_text("which writes")

    inspect.select(4)
    with inspect.new_run():
        inspect.step.locator(".lr-branch:enabled").first.click()
    branch = inspect.record()
    assert branch["parent"] == {"id": first["id"], "step": 4}
    assert branch["lens"] == first["lens"], "a branch is read by the same three"
    assert all(step["tuned_rank"] == 1 for step in branch["steps"][5:])

    inspect.pick_pair("Bundled")  # of another base, so the tuned expert goes
    expect(inspect.page.get_by_role("radio", name="Tuned expert")).to_be_hidden()


def test_exports_and_the_link_hold_the_third_model_also_without_models(own_app, visitors, lens_pair, adapter, tmp_path):
    run = make_run(own_app.workspace, lens_pair, adapter)
    app = own_app.start("--no-preload")
    inspect = Inspect(visitors.context(app.url).new_page()).open(app.url + f"?lens={run}")
    inspect.score(TEXT)
    inspect.select(3)
    address, bars, record = inspect.page.url, inspect.bars(), inspect.record()
    rows = list(csv.DictReader(io.StringIO(inspect.export("csv"))))
    assert [float(row["tuned_kl"]) for row in rows] == [step["tuned_kl"] for step in record["steps"]]
    assert [row["tuned_changed"] == "True" for row in rows] == [s["tuned_changed"] for s in record["steps"]]
    file = tmp_path / "lens.html"
    inspect.download("html").save_as(file)
    assert inspect.download("png").path().read_bytes().startswith(b"\x89PNG")
    inspect.page.close()

    app.stop()
    shutil.rmtree(app.workspace / "runs")  # neither the run nor its adapter is needed
    app.start("--no-preload")
    again = Inspect(visitors.context(app.url).new_page()).open(address)
    again.shows(3)
    assert again.bars() == bars and again.record() == record
    expect(metric(again).locator("option:checked")).to_have_text(LENS)
    expect(again.card).to_contain_text("Loads when you press Run")

    alone = Inspect(visitors.context(file.as_uri()).new_page()).open(file.as_uri())
    alone.select(3)
    assert alone.bars() == bars
    expect(metric(alone).locator("option:checked")).to_have_text(LENS)
    expect(alone.page.locator(".lr-tuned-model")).to_contain_text("LightReasoner, 2,000 samples")
    assert alone.download("png").path().read_bytes().startswith(b"\x89PNG")


def test_mistakes_get_one_sentence(visit, tuned, lens_pair, hostile_pair):
    unknown = visit("?lens=doesnotexist00000")
    expect(unknown.error).to_contain_text("not a run folder")
    expect(unknown.run_button).to_be_visible()
    expect(visit("?lens=../../etc").error).to_contain_text("no valid run id")
    expect(visit("?lens=datasetdatasetdataset").error).to_contain_text("not a fine-tuning")

    inspect = visit()
    inspect.use_models(*lens_pair)
    for ref, says in (
        ("/nowhere/at/all", "There is no folder /nowhere/at/all"),
        ("a b c", "names no model"),
        (str(hostile_pair[0]), "another tokenizer than the expert"),
    ):
        choose_tuned(inspect, ref)
        inspect.run_button.click()
        expect(inspect.error).to_contain_text(says)
        assert inspect.tokens.count() == 0


def test_everybody_can_read_it(visit, tuned):
    inspect = visit(f"?lens={tuned}")
    expect(inspect.page.get_by_role("radio", name="Tuned expert")).to_be_visible()
    inspect.score(TEXT)
    inspect.tokens.nth(3).click()
    inspect.shows(3)
    inspect.page.set_viewport_size({"width": 1440, "height": 3000})
    for look in in_every_look(inspect.page):
        inspect.page.wait_for_function("innerWidth >= document.documentElement.scrollWidth")
        assert overflow(inspect) <= 0, look
        assert barriers(inspect) == [], look
    label = inspect.tokens.nth(3).get_attribute("aria-label")
    assert "moved by training" in label
    inspect.page.keyboard.press("ArrowRight")
    inspect.shows(4)
