"""Looking at a run: what the step view and the sliders show is what the exported JSON says, and costs no request."""

from __future__ import annotations

import math
import re
import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from lightreasoner.paper import TEACHES
from lightreasoner.tracing.records import plausible_logprobs, reweigh
from tests.support.browser import Inspect, barriers_of
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from ui.scripts import address

pytestmark = pytest.mark.browser


@contextmanager
def no_requests(inspect: Inspect):
    """Nothing inside asks the server for anything, nor does what it may have set in motion. The header's look at the
    jobs, every few seconds, is nobody's doing."""
    asked = []
    inspect.page.on("request", lambda request: asked.append(f"{request.url} {request.post_data}"))
    yield
    inspect.page.wait_for_timeout(400)
    assert [what for what in asked if '"header_status"' not in what] == []


def above(record: dict, beta: float) -> list[int]:
    return [step["index"] for step in record["steps"] if step["kl"] > beta]


def quantile(record: dict, share: float) -> float:
    """A β, to the slider's 0.01, with about this share of the steps below it."""
    kls = sorted(step["kl"] for step in record["steps"])
    return round(kls[int(share * len(kls))], 2)


def target(candidates: dict, alpha: float) -> dict[int, float]:
    """Token id → contrastive weight, straight from the paper: softmax of log πE − log πA over {πE ≥ α · max πE}."""
    columns = zip(candidates["ids"], candidates["expert_logprobs"], candidates["amateur_logprobs"], strict=True)
    bound = max(candidates["expert_logprobs"]) + math.log(alpha)
    ratios = {token: math.exp(expert - amateur) for token, expert, amateur in columns if expert >= bound}
    return {token: ratio / sum(ratios.values()) for token, ratio in ratios.items()}


def test_the_step_view_shows_the_three_distributions_of_the_exported_step(scored):
    record = scored.record()
    for index in (0, 7, len(record["steps"]) - 1):
        scored.select(index)
        step = record["steps"][index]
        kept = step["candidates"]
        weights = target(kept, record["alpha"])
        bars = scored.bars()
        assert len(bars) >= 10 and step["token_id"] in bars
        for token, drawn in bars.items():
            at = kept["ids"].index(token)
            expected = [math.exp(kept[f"{who}_logprobs"][at]) for who in ("expert", "amateur")]
            assert drawn == pytest.approx([100 * p for p in (*expected, weights.get(token, 0))], abs=0.006)

        expect(scored.step.locator(".lr-verdict")).to_contain_text(f"KL {step['kl']:.3f} nats")
        facts = dict(
            zip(
                scored.step.locator(".lr-facts dt").all_text_contents(),
                scored.step.locator(".lr-facts dd").all_text_contents(),
                strict=True,
            )
        )
        assert facts["Entropy, expert"] == f"{step['expert_entropy']:.3f} nats"
        assert facts["Entropy, amateur"] == f"{step['amateur_entropy']:.3f} nats"
        assert facts["Reverse KL"] == f"{step['reverse_kl']:.3f} nats"
        assert facts["Jensen–Shannon"] == f"{step['js']:.3f} nats"
        assert f"(rank {step['expert_rank']:,})" in facts["Expert gave the token"]
        assert f"(rank {step['amateur_rank']:,})" in facts["Amateur gave it"]


def test_tokens_are_marked_as_the_record_says(scored):
    record = scored.record()
    assert scored.tokens.count() == len(record["steps"])
    marks = [set((token or "").split()) for token in classes(scored)]
    assert ["lr-above" in mark for mark in marks] == [step["selected"] for step in record["steps"]]
    assert ["lr-differs" in mark for mark in marks] == [not step["agree"] for step in record["steps"]]
    differ = sum(not step["agree"] for step in record["steps"])
    expect(scored.counts).to_contain_text(f"{differ} top-1 disagreement")
    label = scored.tokens.nth(3).get_attribute("aria-label")
    assert label.startswith("Step 3: ") and f"KL {record['steps'][3]['kl']:.3f}" in label


def classes(inspect: Inspect) -> list[str]:
    return inspect.tokens.evaluate_all("tokens => tokens.map((token) => token.className)")


def test_the_keyboard_walks_through_the_steps(scored):
    record = scored.record()
    last = len(record["steps"]) - 1
    beta = quantile(record, 0.7)
    scored.beta.fill(str(beta))
    press = scored.page.keyboard.press
    scored.select(3)
    for key, expected in [("ArrowRight", 4), ("ArrowLeft", 3), ("End", last), ("ArrowRight", last), ("Home", 0)]:
        press(key)
        scored.shows(expected)
    expect(scored.selected).to_be_focused()

    high = above(record, beta)
    assert 2 < len(high) < last
    at = 0
    for _ in range(3):
        press("n")
        at = next(i for i in high if i > at)
        scored.shows(at)
    press("p")
    scored.shows(next(i for i in reversed(high) if i < at))
    press("End")
    press("n")  # nothing lies behind the last one
    scored.shows(last)
    scored.page.get_by_role("button", name="Previous step above beta").click()
    scored.shows(next(i for i in reversed(high) if i < last))

    press("Home")
    press("ArrowDown")  # the line end is at the end of the first line, so there is a second
    expect(scored.selected).not_to_have_attribute("data-index", "0")
    press("ArrowUp")
    scored.shows(0)


def test_resting_on_a_token_shows_its_bars_without_a_request(scored):
    """The three bars of a token could only be seen in the step view, and the keys worked in the text alone."""
    record, card = scored.record(), scored.page.locator(".lr-token-card")
    expect(card).to_be_hidden()
    scored.select(3)
    for index in (9, 11):
        step = record["steps"][index]
        with no_requests(scored):
            scored.tokens.nth(index).hover()
        expect(card).to_contain_text(f"KL {step['kl']:.3f}")
        weights = target(step["candidates"], record["alpha"])
        logs = (step["expert_logprob"], step["amateur_logprob"])
        widths = card.locator("i").evaluate_all("bars => bars.map((bar) => parseFloat(bar.style.width))")
        expected = [100 * math.exp(log) for log in logs] + [100 * weights.get(step["token_id"], 0)]
        assert widths == pytest.approx(expected, abs=0.06)
    scored.shows(3)  # resting selects nothing
    scored.page.mouse.move(0, 0)
    expect(card).to_be_hidden()

    favourites, kept = scored.step.locator(".lr-favourites"), record["steps"][3]["candidates"]
    for order, column in (("amateur", 1), ("target", 2), ("expert", 0)):
        scored.step.locator(f'[data-order="{order}"]').click()
        drawn = [bars[column] for bars in scored.bars_in_order()]
        assert drawn == sorted(drawn, reverse=True)
        best = max(zip(kept["amateur_logprobs"], kept["ids"], strict=True))
        assert best[1] in scored.bars()
        expect(favourites.locator(".lr-amateur code")).to_have_text(as_label(record["tokens"][str(best[1])]))
    scored.page.keyboard.press("ArrowRight")  # the focus is on a button of the step view
    scored.shows(4)
    expect(card).to_be_visible()
    scored.page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    scored.beta.focus()
    scored.page.keyboard.press("n")
    scored.shows(next(i for i in above(record, record["beta"]) if i > 4))


def as_label(text: str) -> str:
    return re.sub("^ +| +$", lambda spaces: "␣" * len(spaces[0]), text)


def test_beta_moves_counts_and_underlines_without_a_request(scored):
    record = scored.record()
    scored.select(2)
    for beta in (quantile(record, 0.25), quantile(record, 0.8), 0, 3):
        with no_requests(scored):
            scored.beta.fill(str(beta))
        high = above(record, beta)
        total = len(record["steps"])
        expect(scored.counts).to_contain_text(f"{len(high)} of {total} steps above β")
        expect(scored.counts).to_contain_text(f"· {math.floor(100 * len(high) / total + 0.5)} %")
        expect(scored.above).to_have_count(len(high))
        assert [i for i, name in enumerate(classes(scored)) if "lr-above" in name] == high
        verdict = "above β, selected" if 2 in high else "not above β"
        expect(scored.step.locator(".lr-verdict")).to_contain_text(verdict)
    exported = scored.record()  # and an export takes the slider along
    assert exported["beta"] == 3
    assert [step["index"] for step in exported["steps"] if step["selected"]] == above(record, 3)


def test_alpha_moves_the_mask_and_the_target_without_a_request(scored):
    record = scored.record()
    index = max(record["steps"], key=lambda step: step["expert_entropy"])["index"]
    scored.select(index)
    scored.step.locator(".lr-training summary").click()
    candidates, sizes = record["steps"][index]["candidates"], []
    for alpha in (0.01, 0.35, 0.8, 1):
        with no_requests(scored):
            scored.alpha.fill(str(alpha))
        weights = target(candidates, alpha)
        sizes.append(len(weights))
        row = scored.training_row()
        assert dict(zip(row["token_ids"], row["weights"], strict=True)) == pytest.approx(weights, rel=1e-4)
        assert row["tokens"] == [record["tokens"][str(token)] for token in row["token_ids"]]
        assert row["kl_divergence"] == record["steps"][index]["kl"]
        assert row["prefix_tokens"] == len(record["prompt_ids"]) + index
        for token, (_, _, drawn) in scored.bars().items():
            assert drawn == pytest.approx(100 * weights.get(token, 0), abs=0.006)
        masked = scored.step.locator(".lr-masked .lr-label").evaluate_all("nodes => nodes.map((node) => node.title)")
        assert not {int(title.removeprefix("token ")) for title in masked} & set(weights)
        expect(scored.step.locator(".lr-mask-line")).to_have_count(1 if masked else 0)
        teaches_as_the_engine_says(scored, reweigh(record, alpha, record["beta"]), index)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1], "a higher α leaves fewer tokens"
    scored.alpha.fill("0.05")
    slider = scored.step.get_by_label("Cap on the log-ratio, in nats")
    expect(slider).to_have_attribute("aria-valuetext", "off")
    slider.fill("0.1")  # every ratio above it counts the same
    capped = reweigh(scored.record(), 0.05, 0.4, 0.1)["steps"]
    expect(scored.counts).to_contain_text(re.compile(r"the cap changes \d+ targets?"))
    expect(scored.step.locator(".lr-capped")).to_contain_text("The cap of 0.1 nats lowers the target on")
    weights = dict(zip(capped[index]["support"]["ids"], capped[index]["support"]["weights"], strict=True))
    for token, (_, _, drawn) in scored.bars().items():
        assert drawn == pytest.approx(100 * weights.get(token, 0), abs=0.006)
    assert "cap=0.1" in scored.page.url
    slider.fill("10")
    expect(scored.step.locator(".lr-capped")).to_have_count(0)
    scored.alpha.fill("1")
    assert scored.record()["steps"][index]["support"]["ids"] == list(target(candidates, 1))


def teaches_as_the_engine_says(inspect: Inspect, record: dict, index: int) -> None:
    """The page computes KL(target ‖ expert) of every step itself: the numbers, what fades, the counts, the sentence."""
    signals = [step["teaching"] for step in record["steps"]]
    capped = reweigh(record, record["alpha"], record["beta"], 0.5)["steps"]
    for cap, expected in ((None, signals), (0.5, [step["teaching"] for step in capped])):
        computed = inspect.page.evaluate(
            """async ([url, steps, alpha, cap]) => {
                const { teachingSignal } = await import(new URL(url, document.baseURI).href);
                return steps.map((step) => teachingSignal(step, alpha, cap));
            }""",
            [address("inspect/measures.js"), record["steps"], record["alpha"], cap],
        )
        assert computed == pytest.approx(expected, abs=2e-6)
    assert [i for i, name in enumerate(classes(inspect)) if "lr-idle" in name] == [
        i for i, signal in enumerate(signals) if signal < TEACHES
    ]
    taught = [step["teaching"] for step in record["steps"] if step["selected"]]
    expect(inspect.counts).to_contain_text(f"{sum(signal >= TEACHES for signal in taught)} teach")
    expect(inspect.counts).to_contain_text(f"{sum(taught) / len(taught):.3f} nats on average")
    step = record["steps"][index]
    verb = "Teaches" if step["selected"] else "Would teach"
    does = "Teaches nothing: " if step["teaching"] < TEACHES else f"{verb} {step['teaching']:.3f} nats: expert "
    expect(inspect.step.locator(".lr-taught")).to_contain_text(does)


def test_a_metric_recolours_the_tokens_without_a_request(scored):
    full = {"kl": 2, "reverse_kl": 2, "js": 0.693, "expert_entropy": 3, "amateur_entropy": 3, "teaching": 1}
    record = scored.record()
    picker = scored.page.get_by_label("Colour the tokens by")
    for position, (metric, deepest) in enumerate(full.items()):
        with no_requests(scored):
            picker.select_option(str(position))
        heat = scored.tokens.evaluate_all("tokens => tokens.map((t) => parseFloat(t.style.getPropertyValue('--heat')))")
        expected = [100 * math.sqrt(min(1, step[metric] / deepest)) for step in record["steps"]]
        assert heat == pytest.approx(expected, abs=0.06), metric
    expect(scored.page.locator(".lr-metric-says")).to_contain_text("0: nothing is taught")
    expect(scored.above).to_have_count(len(above(record, record["beta"])))  # the underline stays with KL


def test_the_curve_selects_the_step_that_is_clicked(scored):
    kl = scored.record()["steps"][4]["kl"]
    plot = scored.page.locator(".lr-curve .nsewdrag")
    before, slots = None, max(scored.tokens.count(), 24)
    while (box := plot.bounding_box()) != before:  # on a busy machine the curve gets its width after it is drawn
        before = box
        scored.page.wait_for_timeout(200)
    middle = {"y": box["height"] / 2}
    plot.click(position=middle | {"x": 10.6 / slots * box["width"]})
    scored.shows(10)
    plot.hover(position=middle | {"x": 4.6 / slots * box["width"]})
    expect(scored.page.locator(".lr-curve .hoverlayer")).to_contain_text(f"KL {kl:.3f} nats")


def test_a_contrast_writes_and_is_compared_with_greedy(visit, visitors, related_pair, tmp_path):
    """The page could not decode by contrast. Its tokens are marked, counted, read out and reached by keyboard, the page
    says with which α and β they were written, and one click shows where the expert alone goes another way."""
    inspect = visit()
    inspect.use_models(*related_pair)
    inspect.limit(24)
    beta = inspect.page.locator("#lr-beta input")
    expect(beta).to_be_hidden()
    inspect.page.get_by_role("radio", name="Contrast").check()
    expect(beta).to_be_visible()
    beta.fill("0.1")
    inspect.run()
    record, line = inspect.record(), inspect.page.locator(".lr-written-by")
    assert record["request"]["contrast"] == {"alpha": 0.2, "beta": 0.1, "takeover": False} and record["beta"] == 0.1
    own = [step["index"] for step in record["steps"] if step["expert_choice"]["token_id"] != step["token_id"]]
    assert own and [i for i, name in enumerate(classes(inspect)) if "lr-rewritten" in name] == own
    expect(inspect.counts).to_contain_text(f"{len(own)} token")
    expect(line).to_contain_text("by contrast with α = 0.2 and β = 0.1")
    assert "writer=contrast" in inspect.page.url

    inspect.select(0)
    inspect.page.keyboard.press("c")
    first = own[1] if own[0] == 0 and len(own) > 1 else own[0]
    inspect.shows(first)
    expect(inspect.step.locator(".lr-alone")).to_contain_text("The expert alone would have written “")
    assert "the expert alone would have written “" in inspect.tokens.nth(first).get_attribute("aria-label")
    assert inspect.page.locator(".lr-moved").is_hidden()
    inspect.beta.fill("0.5")
    expect(line).to_contain_text("The sliders now say α = 0.2 and β = 0.5.")
    expect(beta).to_have_value("0.5")  # which the next run takes
    assert barriers_of(inspect.page) == []

    file = tmp_path / "contrast.html"
    inspect.download("html").save_as(file)
    assert inspect.download("png").path().read_bytes().startswith(b"\x89PNG")
    address = inspect.page.url
    with inspect.new_run():
        inspect.page.get_by_role("button", name="Compare with greedy").click()
    greedy = inspect.record()
    assert [s["token_id"] for s in greedy["steps"]][: own[0]] == [s["token_id"] for s in record["steps"]][: own[0]]
    assert greedy["steps"][own[0]]["token_id"] == record["steps"][own[0]]["expert_choice"]["token_id"]
    inspect.shows(own[0])
    expect(inspect.page.locator(".lr-parent")).to_contain_text(f"From step {own[0]} on it differs")
    expect(line).to_be_hidden()

    inspect.page.goto(address)
    expect(line).to_contain_text("β = 0.1")
    expect(inspect.page.get_by_role("radio", name="Contrast")).to_be_checked()
    expect(beta).to_have_value("0.5")
    alone = Inspect(visitors.context(file.as_uri()).new_page()).open(file.as_uri())
    expect(alone.page.locator(".lr-written-by")).to_contain_text("β = 0.1")
    assert alone.page.locator(".lr-tokens .lr-rewritten").count() == len(own)
    assert alone.page.locator(".lr-compare").is_hidden()


def test_further_amateurs_have_a_line_each_and_may_colour_the_text(visit, related_pair, tmp_path):
    """Issue 15: one amateur was all that the curve could show."""
    inspect, other = visit(), tmp_path / "third"
    shutil.copytree(related_pair[0], other)  # it reads as the expert does
    inspect.use_models(*related_pair)
    inspect.fill("Further amateurs", f"{other}\n{related_pair[1]}")
    inspect.page.get_by_label("Score a text of mine").check()
    inspect.fill("Text to score", "3 + 4 = 7.\nThe answer is 7.")
    inspect.run_button.click()
    expect(inspect.page.locator("#lr-viewer [role=alert]").first).to_contain_text("named twice")
    inspect.fill("Further amateurs", str(other))
    inspect.run()
    record = inspect.record()
    assert record["pair"]["others"] == [str(other)]
    above = sum(step["other_kl_1"] is None or step["other_kl_1"] > 0.4 for step in record["steps"])
    expect(inspect.page.locator(".lr-counts")).to_contain_text(f"third: {above} above β")
    expect(inspect.page.locator(".lr-curve .nsewdrag")).to_be_visible()
    names = inspect.page.locator(".lr-curve .lr-plot").evaluate("(plot) => plot.data.map((trace) => trace.name)")
    assert names == ["expert ‖ amateur", "target ‖ expert", "expert ‖ third"]
    heat = lambda: inspect.tokens.first.evaluate("(node) => node.style.getPropertyValue('--heat')")  # noqa: E731
    before = heat()
    inspect.page.get_by_label("Colour the tokens by").select_option("KL(expert ‖ third)")
    assert (heat(), above) == ("0.0%", 0) and before != "0.0%"
    inspect.page.reload()
    expect(inspect.page.get_by_label("Further amateurs")).to_have_value(str(other))
    colours = inspect.page.get_by_label("Colour the tokens by").locator("option")
    expect(colours.nth(1)).to_have_text("KL(expert ‖ third)")


def test_a_live_run_across_tokenizers_says_what_was_compared(visit, related_pair, tmp_path):
    """The page took the share that was compared for the plausible tokens, so every target of a live run was wrong, and
    a token whose probability is known within wide bounds was called too unlikely to be reinforced."""
    inspect = visit()
    other = save_tiny(tmp_path / "other", 3, tiny_tokenizer(["a b cc dd ee the 12 34"]))
    inspect.use_models(related_pair[0], str(other))
    inspect.page.get_by_label("Contrast", exact=True).check()
    inspect.run()
    record = inspect.record()
    shares = [step["compared"] for step in record["steps"]]
    expect(inspect.counts).to_contain_text("the tokenizers differ: KL is a lower bound, ")
    assert record["pair"]["across"] and min(shares) < 0.999 and record["request"]["contrast"]
    expect(inspect.step.locator(".lr-verdict")).to_contain_text("KL ≥ ")
    expect(inspect.step.locator(".lr-verdict")).to_contain_text("of the expert’s mass compared")
    found = inspect.page.evaluate(
        """async ([url, steps]) => {
            const { takenProbabilities, teachingSignal } = await import(new URL(url, document.baseURI).href);
            return steps.map((step) => [teachingSignal(step, 0.2), takenProbabilities(step, 0.2).plausible]);
        }""",
        [address("inspect/measures.js"), [as_streamed(step) for step in record["steps"]]],
    )
    for (signal, plausible), step in zip(found, record["steps"], strict=True):
        assert signal == pytest.approx(step["teaching"], abs=2e-6)
        known = step["support"] is not None
        assert plausible == (known and step["token_id"] in step["support"]["ids"])


def as_streamed(step: dict) -> dict:
    """A step of a record as a live run has it: with its plausible tokens in place of all candidates."""
    kept = plausible_logprobs(step["candidates"])
    return {name: value for name, value in step.items() if name != "candidates"} | {"plausible": kept}
