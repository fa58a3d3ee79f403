"""The explorer: numbers and pages of finished, growing, damaged and imported datasets."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from lightreasoner.datasets import explorer as exploring
from lightreasoner.datasets.annotations import set_annotation
from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.explorer_page import ORDERS, Filters, page
from lightreasoner.datasets.export import export_steps
from lightreasoner.datasets.figures import plane_figure
from lightreasoner.datasets.imported import import_samples
from lightreasoner.datasets.quality import BAD, GOOD, WARN, GradedAnswers, quality_report
from lightreasoner.datasets.selectors import SELECTOR_NAMES, Selection
from lightreasoner.datasets.trajectories import KL_EDGES, kl_histogram, shards
from lightreasoner.errors import UserError
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.scoring.divergence import support, teaching
from tests.datasets.test_paper_format import ROW, write
from tests.support.tiny_dataset import make_dataset, selection_report, write_rows
from tests.support.tiny_models import tiny_tokenizer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "dataset"
    return folder, make_dataset(folder, problems=7, per_shard=3, tokens=True)


@pytest.fixture
def explorer(dataset):
    explorer = Explorer(dataset[0])
    explorer.refresh()
    return explorer


TAUGHT = {"selector": "teaching", "tau": 0.3, "alpha": 0.05}
CAPPED = {"selector": "teaching", "tau": 0.1, "cap": 0.3}
BOXED = {"selector": "all", "box": "0.5:3:0.1:1"}


def flat(rows, name):
    return np.array([x for row in rows for x in row[name]])


def test_histogram_and_kept(explorer, dataset):
    kl = flat(dataset[1], "kl")
    edges = [0, 0.1, 0.5, 1.0]
    assert explorer.histogram(edges) == [(kl < 0.1).sum(), ((kl >= 0.1) & (kl < 0.5)).sum(), (kl >= 0.5).sum()]
    assert explorer.histogram(KL_EDGES) == kl_histogram(kl).tolist()
    kept = explorer.steps_above([0, 0.4, 1000])
    assert [k["steps"] for k in kept] == [(kl > 0).sum(), (kl > 0.4).sum(), 0]
    assert kept[1]["share"] == pytest.approx((kl > 0.4).mean())


def test_alphas_effect_is_exact(explorer, dataset):
    for alpha in (0.01, 0.02, 0.2, 0.37, 1.0):
        sizes = [
            len(support(s["ids"], s["expert_logprobs"], s["amateur_logprobs"], alpha)[0])
            for row in dataset[1]
            for s in row["steps"]
            if s["kl"] > 0.2
        ]
        effect = explorer.alpha_effect([alpha], 0.2)[0]
        assert effect["targets"] == len(sizes) and effect["tokens"] == pytest.approx(np.mean(sizes))
        assert effect["one_token"] == pytest.approx(np.mean([size == 1 for size in sizes]))
    assert explorer.alpha_effect([0.2], 1000)[0] == {"alpha": 0.2, "tokens": None, "one_token": None, "targets": 0}


def test_kinds_count_every_step(explorer, dataset):
    kinds = {row["kind"]: row for row in explorer.categories()}
    ids = flat(dataset[1], "response_ids")
    assert sum(row["steps"] for row in kinds.values()) == len(ids)
    end = ids == tiny_tokenizer().eos_token_id
    assert kinds["end"]["steps"] == end.sum() == 7
    assert kinds["end"]["mean_kl"] == pytest.approx(flat(dataset[1], "kl")[end].mean(), rel=1e-5)
    assert {"number", "operator", "word", "punctuation"} <= set(kinds)


@pytest.mark.parametrize("selection", [*({"selector": name} for name in SELECTOR_NAMES), TAUGHT, BOXED, CAPPED])
def test_the_report_is_what_step_selection_makes(dataset, explorer, selection, tmp_path):
    selection = Selection(**{"beta": 0.1, "seed": 4} | selection)
    assert explorer.report(selection) == selection_report(dataset[0], selection)


def test_the_plane_of_entropy_and_kl_holds_every_step_and_its_box_the_selected_ones(explorer, dataset, monkeypatch):
    """What a box of the page lists is what training on that box takes."""
    points, cells = explorer.plane(0.2)
    total = explorer.view.data.steps
    assert len(points) == cells["steps"].sum() == total and points["teaching"].isna().any()
    figure = plane_figure(points, cells, total)
    json.dumps(figure.to_plotly_json(), allow_nan=False)
    assert f"All {total:,} steps" in figure.layout.meta["says"]
    assert sum(len(trace.x) for trace in figure.data[1:]) == total
    monkeypatch.setattr(exploring, "DRAWN", 10)
    few, cells = explorer.plane(0.2)
    assert len(few) == 10 and cells["steps"].sum() == total
    assert f"10 of {total:,} steps, evenly spaced" in plane_figure(few, cells, total).layout.meta["says"]
    ranges = {"expert_entropy": (0.5, 3), "kl": (0.1, 1)}
    listed = page(explorer, Filters(ranges=ranges), limit=1)["total"]
    assert 0 < listed < total and explorer.report(Selection(**BOXED)).selected == listed


def test_a_page_shows_tokens_in_their_context(explorer, dataset):
    texts = TokenTexts(tiny_tokenizer())
    answer = page(explorer, limit=200, sort="order")
    assert answer["total"] == len(answer["rows"]) == len(flat(dataset[1], "kl"))
    row = dataset[1][0]
    words = [texts.text(id) for id in row["response_ids"]]
    for step, shown in enumerate(answer["rows"][: len(words)]):
        assert (shown["problem"], shown["sample"], shown["step"]) == ("p0", 0, step)
        assert shown["token"] == words[step] and shown["kl"] == pytest.approx(row["kl"][step], rel=1e-6)
        assert "".join(words[:step]).endswith(shown["before"]) and (step == 0 or shown["before"])
        assert "".join(words[step + 1 :]).startswith(shown["after"])
        assert shown["selected"] == (row["kl"][step] > 0.4)
        details = {s["index"]: s for s in row["steps"]}.get(step)
        assert shown["details"] == (details is not None)
        if details:
            assert shown["expert"] == texts.text(details["ids"][0])
            assert shown["agree"] == (shown["expert"] == shown["amateur"]) == row["agree"][step]
            ids = support(details["ids"], details["expert_logprobs"], details["amateur_logprobs"], 0.2)[0]
            assert shown["target_tokens"] == len(ids)
        else:
            assert shown["expert"] is shown["target_tokens"] is None
    json.dumps(answer, allow_nan=False)


def test_sorting_and_turning_pages(explorer, dataset):
    kl = np.sort(flat(dataset[1], "kl"))[::-1]
    pages = [page(explorer, offset=offset, limit=10) for offset in range(0, len(kl), 10)]
    assert [row["kl"] for p in pages for row in p["rows"]] == pytest.approx(kl.tolist(), rel=1e-6)
    assert page(explorer, sort="-kl", limit=1)["rows"][0]["kl"] == pytest.approx(kl[-1], rel=1e-6)
    entropies = [row["expert_entropy"] for row in page(explorer, sort="expert-entropy")["rows"]]
    assert entropies == sorted(entropies, reverse=True)
    assert page(explorer, offset=10**6) == {"total": len(kl), "rows": []}


def test_filters(explorer, dataset):
    def found(**kw):
        answer = page(explorer, Filters(**kw), limit=200)
        assert answer["total"] == len(answer["rows"])
        return answer["rows"]

    kl = flat(dataset[1], "kl")
    assert len(found(low=0.1, high=0.5)) == ((kl >= 0.1) & (kl < 0.5)).sum()
    assert {row["kind"] for row in found(category="number")} == {"Numbers"}
    assert len(found(agree=False)) == (~flat(dataset[1], "agree")).sum()
    assert {row["problem"] for row in found(search="HOW MANY, 3")} == {"p3"}
    assert {row["problem"] for row in found(search="apples")} == {"p1", "p4"}
    assert found(search="no such thing anywhere") == []
    both = found(search="how many, 3", category="number", low=0.2)
    assert all(row["problem"] == "p3" and row["kind"] == "Numbers" and row["kl"] >= 0.2 for row in both)


@pytest.mark.parametrize("order, sign", [("kl", -1), ("-kl", 1), ("order", 0)])
def test_one_step_of_each_response(explorer, dataset, order, sign):
    """The most divergent steps were all of one response that went wrong."""
    _, rows = dataset
    found = page(explorer, Filters(one_each=True), order, limit=200)
    best = [min(range(len(row["kl"])), key=lambda n, row=row: sign * row["kl"][n]) for row in rows]
    expected = {(row["problem_id"], row["sample"]): n for row, n in zip(rows, best, strict=True)}
    assert {(row["problem"], row["sample"]): row["step"] for row in found["rows"]} == expected
    assert found["total"] == len(found["rows"]) == len(rows)
    measured = [sign * row["kl"] for row in found["rows"]]
    assert measured == sorted(measured)
    digits = Filters(one_each=True, category="number")
    assert page(explorer, digits, order)["total"] <= len(rows), "the first of those that pass the other filters"
    with pytest.raises(UserError, match="one_each"):
        Filters(one_each="yes")


def signals(made, alpha):
    """The teaching signal of every step by the scorer's function, NaN where the step was not stored in detail."""
    found = []
    for row in made:
        stored = {s["index"]: teaching(s["expert_logprobs"], s["amateur_logprobs"], alpha) for s in row["steps"]}
        found += [stored.get(n, math.nan) for n in range(len(row["kl"]))]
    return np.array(found)


def test_the_teaching_signal_is_a_column_that_moves_with_alpha(explorer, dataset, tmp_path):
    """KL was the only measure of the explorer that says anything on training; steps without details say nothing."""
    for alpha in (0.01, 0.2, 1.0):
        expected = signals(dataset[1], alpha)
        known = expected[~np.isnan(expected)]
        assert 0 < len(known) < len(expected)
        assert explorer.table(alpha)["teaching"].to_numpy() == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
        edges = [0, 0.01, 0.5, 1.0]
        assert explorer.histogram(edges, alpha) == np.histogram(known.clip(0, 0.999999), edges)[0].tolist()
        selection = Selection(alpha=alpha, beta=0.1)
        shown = page(explorer, sort="teaching", limit=200, selection=selection)["rows"]
        given = [row["teaching"] for row in shown if row["teaching"] is not None]
        assert given == pytest.approx(sorted(known, reverse=True), rel=1e-5, abs=1e-6)
        assert all(row["teaching"] is None for row in shown[len(given) :]) and len(shown) == len(expected)
        low = float(np.sort(known)[-5:-3].mean())  # between two steps
        found = page(explorer, Filters(low=0.2, ranges={"teaching": (low, None)}), selection=selection)
        assert found["total"] == ((expected >= low) & (flat(dataset[1], "kl") >= 0.2)).sum()
        used = expected[flat(dataset[1], "kl") > 0.1]
        taught = explorer.taught(selection)
        assert (taught.samples, taught.teaching) == (len(used), (used >= 0.01).sum())
        assert taught.loss == pytest.approx(used.mean(), rel=1e-5)
    export_steps(explorer, tmp_path / "steps.csv", Selection(alpha=1.0, beta=0.1))
    table = pd.read_csv(tmp_path / "steps.csv", keep_default_na=False, na_values={"teaching": [""]})
    assert table["teaching"].to_numpy() == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    assert table["selected"].sum() == (flat(dataset[1], "kl") > 0.1).sum()
    assert not table["token"].str.match(r"[=+\-@]").any() and table["token"].str.startswith("'").any()


def test_a_token_is_found_where_the_response_spells_it_otherwise(tmp_path):
    """Control tokens stand in no response text; still they can be searched for."""
    make_dataset(tmp_path / "d", problems=2, tokens=True)
    explorer = Explorer(tmp_path / "d")
    explorer.refresh()
    rows = page(explorer, Filters(search="<|IM_END"))["rows"]
    assert [row["token"] for row in rows] == ["<|im_end|>"] * 2 and rows[0]["kind"] == "End of turn"


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": float("nan")},
        {"low": "1"},
        {"ranges": [1, 2]},
        {"ranges": {"js": [0, 1]}},
        {"ranges": {"teaching": [0]}},
        {"ranges": {"teaching": ["0", 1]}},
        {"category": "verb"},
        {"category": ["word"]},
        {"annotation": 1},
        {"search": "x" * 201},
        {"search": None},
        {"agree": "yes"},
    ],
)
def test_senseless_filters_are_refused(wrong):
    with pytest.raises(UserError):
        Filters(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"sort": "best"}, {"sort": []}, {"offset": -1}, {"limit": 0}, {"limit": 10**6}, {"limit": True}]
)
def test_senseless_pages_are_refused(explorer, wrong):
    with pytest.raises(UserError):
        page(explorer, **wrong)


def test_marks_are_shown_pins_come_first_and_the_report_follows(tmp_path):
    folder = tmp_path / "d"
    rows = make_dataset(folder, problems=4, tokens=True)
    explorer = Explorer(folder)
    explorer.refresh()
    lowest, highest = (page(explorer, sort=sort, limit=1)["rows"][0] for sort in ("-kl", "kl"))
    explorer.annotate(lowest["problem"], 0, lowest["step"], "pin")
    explorer.annotate(highest["problem"], 0, highest["step"], "drop")
    first, second = page(explorer, limit=2)["rows"]
    assert first == lowest | {"mark": "pin"} and second == highest | {"mark": "drop"}
    assert page(explorer, Filters(annotation="any"))["total"] == 2
    assert page(explorer, Filters(annotation="drop"), limit=1)["rows"] == [second]
    assert (
        explorer.report(Selection()) == selection_report(folder, Selection())
        and explorer.report(Selection()).dropped_by_annotation == 1
    )
    for key in (("p0", 0, len(rows[0]["kl"])), ("p9", 0, 0), ("p0", 1, 0), (None, 0, 0), ("p0", "0", 0)):
        with pytest.raises(UserError):
            explorer.annotate(*key, "keep")
    set_annotation(folder, ("p0", 0, 1), "keep")  # by somebody else
    explorer.refresh()
    assert page(explorer, Filters(annotation="keep"))["total"] == 1


def test_growing_datasets_are_read_shard_by_shard_and_only_once(tmp_path, monkeypatch):
    folder = tmp_path / "d"
    rows = make_dataset(folder, problems=6, per_shard=2, tokens=True)
    hidden = shards(folder)[1:]
    kept = [path.read_bytes() for path in hidden]
    for path in hidden:
        path.unlink()
    read = []
    whole = exploring.read_shard_columns
    monkeypatch.setattr(
        exploring, "read_shard_columns", lambda path, kinds: read.append(path.stem) or whole(path, kinds)
    )
    explorer = Explorer(folder)
    assert explorer.view.data.steps == 0 and page(explorer) == {"total": 0, "rows": []}
    explorer.refresh()
    assert read == ["000000"] and len(explorer.view.data.responses) == 2
    hidden[1].write_bytes(kept[1])  # out of order
    explorer.refresh()
    hidden[0].write_bytes(kept[0])
    explorer.refresh()
    view = explorer.refresh()
    assert read == ["000000", "000002", "000001"] and view is explorer.refresh()
    assert [r.problem_id for r in view.data.responses] == [f"p{n}" for n in range(6)]
    fresh = Explorer(folder)
    fresh.refresh()
    assert page(explorer, limit=200) == page(fresh, limit=200)
    assert page(explorer)["total"] == len(flat(rows, "kl"))


def test_a_corrupt_shard_is_named_and_the_rest_is_shown_until_it_is_repaired(tmp_path):
    folder = tmp_path / "d"
    rows = make_dataset(folder, problems=4, per_shard=2)
    shards(folder)[0].write_bytes(b"PAR1")
    explorer = Explorer(folder)
    view = explorer.refresh()
    assert len(view.corrupt) == 1 and "000000.parquet" in view.corrupt[0]
    assert {r.problem_id for r in view.data.responses} == {"p2", "p3"}
    card = {finding.name: finding for finding in quality_report(explorer, 0.2, 0.4)}
    assert card["corrupt"].tone == BAD
    write_rows(folder, 0, rows[:2])
    assert explorer.refresh().corrupt == () and len(explorer.view.data.responses) == 4


def test_without_the_tokenizer_there_are_ids_and_a_note(tmp_path):
    make_dataset(tmp_path / "d", problems=2)
    explorer = Explorer(tmp_path / "d")
    explorer.refresh()
    row = page(explorer)["rows"][0]
    assert row["token"] == f"[{row['token_id']}]" and row["kind"] == "Other"
    assert "nowhere/expert" in explorer.note and explorer.categories()[0]["steps"] == 40


def test_a_row_in_full(explorer, dataset):
    row = explorer.row("p3")
    assert row["response_ids"] == dataset[1][3]["response_ids"]
    assert [s["ids"] for s in row["steps"]] == [s["ids"] for s in dataset[1][3]["steps"]]
    for name in (("p99", 0), ("p3", 1), (None, 0), ([], 0)):
        with pytest.raises(UserError):
            explorer.row(*name)


def test_a_deleted_dataset_and_folders_that_are_none(tmp_path):
    import shutil

    make_dataset(tmp_path / "d", problems=2)
    explorer = Explorer(tmp_path / "d")
    explorer.refresh()
    shutil.rmtree(tmp_path / "d")
    with pytest.raises(UserError, match="deleted"):
        explorer.refresh()
    with pytest.raises(UserError):
        Explorer(tmp_path / "d")


def test_the_health_card(tmp_path):
    folder = tmp_path / "d"
    rows = make_dataset(folder, problems=4, per_shard=4, answer="7", finish_reason="length")
    rows[1]["question"] = "  how MANY,\n0?"  # the same as p0's
    rows[3]["question"], rows[3]["response"] = rows[0]["question"], rows[0]["response"]
    for row in rows[:2]:
        row["finish_reason"] = "stop"
    rows[2]["kl"] = [0.06] * len(rows[2]["kl"])  # a problem at which nothing diverges
    rows[2]["finish_reason"], rows[2]["answer"] = "stop", None
    write_rows(folder, 0, rows)
    explorer = Explorer(folder)
    explorer.refresh()
    calls = []
    graded = GradedAnswers(lambda response, answer: calls.append(response) or response == "response 0")
    card = {finding.name: finding for finding in quality_report(explorer, 0.2, 0.4, graded)}
    kl = flat(rows, "kl")
    assert card["problems"].value == card["responses"].value == 4 and card["steps"].value == 80
    assert card["above"].value == (kl > 0.4).sum() and card["above"].tone == GOOD
    counts = [sum(k > 0.4 for k in row["kl"]) for row in rows]
    assert card["per_problem"].value == np.mean(counts) and f"{max(counts)} at most" in card["per_problem"].shown
    assert card["without"].value == counts.count(0) >= 1
    assert card["truncated"].value == 1 and card["truncated"].tone == GOOD
    assert card["duplicate_questions"].value == 2 and card["duplicate_questions"].tone == WARN
    assert card["duplicate_responses"].value == 1
    assert (card["right"].value, card["right"].shown) == (2, "2 of 3 (67 %)")
    quality_report(explorer, 0.2, 0.4, graded)
    assert len(calls) == 3  # each response is compared once
    none = {finding.name: finding for finding in quality_report(explorer, 0.2, 900)}
    assert none["above"].tone == BAD and "right" not in none and "one_token" not in none
    missing = {finding.name: finding for finding in quality_report(explorer, 0.2, 0.0)}["missing"]
    assert missing.value == selection_report(folder, Selection(beta=0)).missing and missing.tone == WARN
    assert all(bool(f.advice) == (f.tone != GOOD) for f in [*card.values(), *none.values()])


def test_one_token_targets_are_counted(tmp_path):
    folder = tmp_path / "d"
    rows = make_dataset(folder, problems=2)
    explorer = Explorer(folder)
    explorer.refresh()
    finding = {f.name: f for f in quality_report(explorer, 1.0, 0.4)}["one_token"]
    assert finding.value == (flat(rows, "kl") > 0.4).sum() and finding.tone == WARN


def test_an_empty_dataset_has_a_card_and_numbers(tmp_path):
    make_dataset(tmp_path / "d", problems=0)
    explorer = Explorer(tmp_path / "d")
    explorer.refresh()
    assert explorer.categories() == [] and sum(explorer.histogram(KL_EDGES)) == 0
    assert explorer.steps_above([0.4]) == [{"beta": 0.4, "steps": 0, "share": 0.0}]
    assert {f.name: f.tone for f in quality_report(explorer, 0.2, 0.4)}["steps"] == WARN


def test_an_infinite_divergence_is_last_in_the_histogram_first_in_the_list_and_null_in_json(tmp_path):
    folder = tmp_path / "d"
    rows = make_dataset(folder, problems=1, tokens=True)
    rows[0]["kl"][3] = math.inf
    write_rows(folder, 0, rows)
    explorer = Explorer(folder)
    explorer.refresh()
    assert explorer.histogram([0, 1000, 2000])[-1] == 1
    first = page(explorer, limit=1)["rows"][0]
    assert first["step"] == 3 and first["kl"] is None and first["selected"]
    assert all(math.isfinite(kind["mean_kl"]) for kind in explorer.categories())


def test_imported_sets_are_explored_too(tmp_path):
    rows = [
        ROW | {"step": n, "kl_divergence": n / 10, "tokens": [f" {n}", "x", "-"], "weights": [0.6, 0.4, 0.0]}
        for n in range(10)
    ]
    import_samples(write(tmp_path / "f.jsonl", [*rows, rows[0]]), tmp_path / "d")
    explorer = Explorer(tmp_path / "d")
    view = explorer.refresh()
    assert view.imported and explorer.histogram([0, 0.5, 1]) == [6, 5]
    assert explorer.steps_above([0.4])[0]["steps"] == 5
    assert explorer.alpha_effect([0.01, 1], 0)[1] == {"alpha": 1, "tokens": 3, "one_token": 0, "targets": 9}
    assert explorer.categories()[0]["kind"] == "number" and explorer.categories()[0]["steps"] == 11
    first = page(explorer, limit=1)["rows"][0]
    assert (first["token"], first["step"], first["kl"], first["target_tokens"]) == (" 9", 9, 0.9, 3)
    assert first["before"] == ROW["prefix"] and first["agree"] is None and first["expert"] is None
    explorer.annotate(first["problem"], 0, 0, "pin")
    explorer.annotate(first["problem"], 1, 0, "drop")  # the second row of the same question and step
    assert [row["mark"] for row in page(explorer, Filters(high=0.05), selection=Selection(beta=0))["rows"]] == [
        "pin",
        "drop",
    ]
    assert explorer.report(Selection(beta=0.2)) == selection_report(tmp_path / "d", Selection(beta=0.2))
    assert page(explorer, Filters(search="3 + 4"))["total"] == 11 and page(explorer, Filters(search=" 7"))["total"] == 1
    assert (
        first["teaching"] is None and sum(explorer.histogram([0, 1], 0.2)) == explorer.taught(Selection()).samples == 0
    )
    card = {finding.name: finding for finding in quality_report(explorer, 0.2, 0.4)}
    assert card["steps"].title == "Samples" and card["duplicate_responses"].value == 1 and "truncated" not in card
    with pytest.raises(UserError, match="no trajectories"):
        explorer.row(first["problem"])
    with pytest.raises(UserError, match="imported"):
        page(explorer, selection=Selection("js"))
    json.dumps(page(explorer), allow_nan=False)


def test_every_order_has_a_title():
    assert all(title and (measure is None or measure) for title, measure, _ in ORDERS.values())
