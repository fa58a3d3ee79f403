"""The preview: a grid of contrasts beside the expert, compared problem by problem, in one evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from lightreasoner.cli.main import main
from lightreasoner.decoding.contrast import Contrast, contrast_generate, takeover
from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.errors import UserError
from lightreasoner.evaluation import evaluate as evaluation
from lightreasoner.evaluation.figures import departure_figure, preview_figure
from lightreasoner.evaluation.preview import Cell, best_cell, preview_cells, verdict
from lightreasoner.evaluation.results import read_rows, variants_of, write_shard
from lightreasoner.evaluation.verdicts import regrade, set_verdict
from lightreasoner.grading.grading import answer_key, stated_answer
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import read_run
from tests.support.tiny_models import save_tiny, tiny_tokenizer

PROBLEMS = [
    {"id": f"p{n}", "question": f"Tom has {n} apples{' and pears' * (n % 3)}.", "answer": "7"} for n in range(5)
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    for name, value in (("WORKSPACE", str(tmp_path / "workspace")), ("DEVICE", "cpu"), ("DTYPE", "float32")):
        monkeypatch.setenv(f"LIGHTREASONER_{name}", value)
    save_tiny(tmp_path / "expert", seed=1)
    save_tiny(tmp_path / "amateur", seed=2)
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PROBLEMS))
    return tmp_path


def preview(place: Path, *options: str) -> int:
    pair = ["--expert", str(place / "expert"), "--amateur", str(place / "amateur")]
    where = ["--problems", str(place / "problems.jsonl"), "--run-dir", str(place / "run")]
    return main(["preview", *pair, *where, "--max-new-tokens", "12", *options])


@pytest.mark.parametrize("across", [False, True], ids=["one tokenizer", "other tokens"])
def test_every_cell_is_what_it_is_alone_and_stands_in_an_evaluation(place, capsys, across):
    """Issue 17: an amateur with other tokens was refused."""
    if across:
        save_tiny(place / "amateur", seed=2, tokenizer=tiny_tokenizer(["a b cc dd ee the 12 34"]))
    assert preview(place, "--alpha", "0.05,0.2", "--beta", "0.4,2,1000") == 0
    printed, said = capsys.readouterr()
    assert ("The tokenizers differ: KL is a lower bound" in said) == across
    pair = load_pair(str(place / "expert"), str(place / "amateur"), LoadedModels(Settings(device="cpu")))
    prompts = [pair_prompts(pair, problem["question"]) for problem in PROBLEMS]
    variants = variants_of(read_run(place / "run"))
    wanted = [None, *(Contrast(alpha, beta) for alpha in (0.05, 0.2) for beta in (0.4, 2.0, 1000.0))]
    assert [variant.contrast for variant in variants] == wanted
    decoded = 0
    for n, contrast in enumerate(wanted):
        rows = {row["problem_id"]: row for row in read_rows(place / "run", n)}
        if contrast is None:  # decoded with the cells, as the contrast that changes nothing
            assert {row["changed"] for row in rows.values()} == {None}
            own = greedy_generate(pair.expert, [prompt for prompt, _ in prompts], 12)
            assert [rows[problem["id"]]["response_ids"] for problem in PROBLEMS] == own
            continue
        for problem, response in zip(PROBLEMS, contrast_generate(pair, prompts, contrast, 12), strict=True):
            row = rows[problem["id"]]
            assert (row["response_ids"], row["changed"]) == (response.tokens.tolist(), response.changed), contrast
            decoded += row["decoded"]
        assert contrast.title in printed
    assert 0 < decoded < 6 * 5 * 12, "cells share what they have in common"
    alone, cells = preview_cells(place / "run", variants)
    assert alone == 0 and [cell.contrast for cell in cells] == wanted[1:]
    unchanged = cells[2]
    assert (unchanged.changed, unchanged.same_answer, unchanged.difference) == (0, 1, 0)


def test_the_preview_beside_a_dataset_is_found_by_its_models(place, capsys):
    """The verb amateurs finds it whatever the models' folders are called; another amateur's preview is not taken."""
    assert preview(place, "--beta", "0.4,2") == 0
    shutil.copytree(place / "amateur", place / "moved")
    save_tiny(place / "other", seed=3)
    models = [f"--expert={place / 'expert'}", f"--amateur={place / 'other'}", f"--amateur={place / 'moved'}"]
    problems = ["--problems", str(place / "problems.jsonl"), "--max-new-tokens", "8"]
    assert main(["check-pair", *models[:2], *problems, "--run-dir", str(place / "check")]) == 0
    assert main(["sample", *models, *problems, "--run-dir", str(place / "data")]) == 0
    capsys.readouterr()
    assert main(["amateurs", "--dataset", str(place / "data"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    other, moved = found["amateurs"]
    assert (moved["gap"], other["preview"], moved["preview"]["folder"]) == (None, None, str(place / "run"))
    assert other["gap"]["value"] == 0 and moved["preview"]["problems"] == 5
    assert "Train with none of the previewed" in found["recommendation"] and "other" in found["recommendation"]
    assert main(["amateurs", "--dataset", str(place / "data"), "--results", str(place / "data")]) == 2


def test_an_interrupted_grid_goes_on_and_other_cells_are_refused(place, monkeypatch, capsys):
    """Between the files of two cells, which are decoded together."""
    written = []

    def interrupted(path, table):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write_shard(path, table)

    with monkeypatch.context() as first:
        first.setattr(evaluation, "write_shard", interrupted)
        assert preview(place, "--beta", "0.1,0.4,1") == 130
    before = [path.stat().st_mtime_ns for path in written]
    assert preview(place, "--beta", "0.1,0.4,1") == 0
    assert [path.stat().st_mtime_ns for path in written] == before
    pair = load_pair(str(place / "expert"), str(place / "amateur"), LoadedModels(Settings(device="cpu")))
    prompts = [pair_prompts(pair, problem["question"]) for problem in PROBLEMS]
    for n, variant in list(enumerate(variants_of(read_run(place / "run"))))[1:]:
        found = {row["problem_id"]: row["response_ids"] for row in read_rows(place / "run", n)}
        alone = contrast_generate(pair, prompts, variant.contrast, 12)
        assert [found[problem["id"]] for problem in PROBLEMS] == [own.tokens.tolist() for own in alone]
    assert preview(place, "--beta", "0.1,0.4") == 2
    assert "contrasts" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, says",
    [
        (["--beta", "0.1;0.2"], "--beta is '0.1;0.2'; give numbers with commas"),
        (["--beta", "nan"], "--beta is nan; it must be a number from 0 to 1000"),
        (["--alpha", "0"], "--alpha is 0.0; it must be a number from 0.01 to 1"),
        (["--limit", "1"], "--limit is 1; it must be a whole number from 2"),
    ],
)
def test_what_makes_no_grid_is_one_sentence(place, capsys, options, says):
    assert preview(place, *options) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_options_of_a_contrast_need_an_amateur(place, capsys):
    """They were ignored without a word."""
    argv = ["evaluate", "--model", str(place / "expert"), "--problems", str(place / "problems.jsonl")]
    with pytest.raises(SystemExit):
        main([*argv, "--run-dir", str(place / "run"), "--beta", "0.4"])
    assert "name one with --amateur" in capsys.readouterr().err and not (place / "run").exists()


def test_takeover_is_a_variant_of_evaluate(place):
    argv = ["evaluate", "--model", str(place / "expert"), "--amateur", str(place / "amateur"), "--takeover"]
    argv += ["--beta", "0.5", "--problems", str(place / "problems.jsonl"), "--max-new-tokens", "8"]
    assert main([*argv, "--run-dir", str(place / "run")]) == 0
    assert [v.contrast for v in variants_of(read_run(place / "run"))] == [None, takeover(0.5)]
    assert json.loads((place / "run" / "results.json").read_text())["models"][1]["changed"] > 0


def cell(beta: float, difference: float, low: float, changed: float = 0.1, alpha: float = 0.2) -> Cell:
    high = 2 * difference - low
    return Cell(Contrast(alpha, beta), 100, 0.4 + difference, difference, low, high, 20, 5, changed, 0.7, 60.0)


def test_the_best_cell_solves_most_with_the_fewest_changes():
    cells = [cell(0.1, 0.2, 0.1, changed=0.03), cell(0.2, 0.2, 0.1, changed=0.02), cell(0.4, 0.1, 0.05)]
    assert best_cell(cells) is cells[1]
    assert verdict(cells).startswith(
        "If training reached its target at β = 0.2 and α = 0.2, the best of 3 cells, the expert would gain +20.0"
    )
    assert "too few problems to be sure" in verdict([cell(0.4, 0.02, -0.03)])
    assert best_cell([cell(0.4, 0.0, -0.1)]) is None
    over = [
        Cell(takeover(beta), 100, 0.4 + gain, gain, gain - 0.05, gain + 0.05, 12, 2, changed, 0.7, 60.0)
        for beta, gain, changed in ((0.1, 0.01, 0.16), (0.4, 0.0, 0.08), (1.0, -0.2, 0.04))
    ]
    assert verdict(over).startswith("With 8.0 % of the tokens taken over (β = 0.4) the amateur's text solves 40.0 %")
    assert "nothing to reach here" in verdict([cell(0.4, -0.05, -0.1)])


def test_one_alpha_is_a_line_and_several_are_a_heatmap():
    def frame(cells: list[Cell]) -> pd.DataFrame:
        return pd.DataFrame([vars(c) | vars(c.contrast) for c in cells])

    line = preview_figure(frame([cell(1.0, 0.0, -0.02), cell(0.1, 0.2, 0.1)]))
    assert (
        line.data[0].type == "scatter" and list(line.data[0].x) == ["0.1", "1"] and list(line.data[0].y) == [20.0, 0.0]
    )
    assert line.layout.meta["says"].startswith("β = 0.1: +20.0 points, 95 % interval +10.0 to +30.0; 20 gained, 5 lost")
    grid = preview_figure(frame([cell(b, d, 0.0, alpha=a) for a in (0.05, 0.2) for b, d in ((0.1, 0.2), (1.0, -0.1))]))
    assert grid.data[0].type == "heatmap" and list(grid.data[0].z) == [20.0, -10.0] * 2
    assert list(grid.data[0].y) == ["0.05", "0.05", "0.2", "0.2"]


UNKNOWN = [{name: problem[name] for name in ("id", "question")} for problem in PROBLEMS]


def test_problems_without_answers_tell_how_far_the_contrast_departs(place, capsys):
    """They were refused: "no response can be graded"."""
    (place / "problems.jsonl").write_text("".join(json.dumps(p) + "\n" for p in UNKNOWN))
    assert preview(place, "--beta", "0.4,1000") == 0
    said = capsys.readouterr()
    assert "None of the 5 problems has a known answer, so accuracy cannot be told" in said.err
    assert "pass@1" not in said.out and "same answer" in said.out and "No answers are known" in said.out
    run = read_run(place / "run")
    alone, (far, same) = preview_cells(place / "run", variants_of(run))
    assert (alone, run["about"]["graded"], best_cell([far, same])) == (None, False, None)
    assert (far.pass_at_1, far.difference, far.gained) == (None, None, None)
    assert far.changed > 0 and (same.changed, same.same_answer, same.mean_length) == (0, 1, same.base_length)
    assert {row["right"] for n in range(3) for row in read_rows(place / "run", n)} == {None}
    assert (
        regrade(place / "run") == [] and json.loads((place / "run" / "results.json").read_text())["comparisons"] == []
    )
    with pytest.raises(UserError, match="No answer to this problem is known"):
        set_verdict(place / "run", 0, "p0", True)


def test_of_problems_with_and_without_answers_those_with_count(place, capsys):
    (place / "problems.jsonl").write_text("".join(json.dumps(p) + "\n" for p in [*PROBLEMS[:2], *UNKNOWN[2:]]))
    assert preview(place, "--beta", "0.4") == 0
    said = capsys.readouterr()
    assert "3 of the 5 problems have no known answer and are left out" in said.err and "of 2 problems" in said.out


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("So 3 + 4 = 7.\nThe answer is 7 apples.", "Thus \\boxed{7}", True),
        ("The answer is (C).", "Answer: C", True),
        ("We get \\boxed{\\frac{1}{2}}", "The answer is 0.5.", True),
        ("The answer is 7.", "The answer is 8.", False),
        ("\\boxed{", "", True),  # neither states one
    ],
)
def test_the_stated_answer_needs_no_reference(one, other, same):
    keys = [None if (found := stated_answer(text)) is None else answer_key(found) for text in (one, other)]
    assert (keys[0] == keys[1]) is same, keys


def test_departures_are_lines_over_beta():
    cells = [Cell(Contrast(a, b), 9, *[None] * 6, 0.1, 0.75, 60.0, 50.0) for a in (0.05, 0.2) for b in (1.0, 0.1)]
    figure = departure_figure(pd.DataFrame([vars(c) | vars(c.contrast) for c in cells]))
    assert [trace.name for trace in figure.data] == ["α = 0.05", "α = 0.2"] and list(figure.data[0].y) == [25.0, 25.0]
    assert list(figure.data[0].x) == ["0.1", "1"] and "25.0 % of the answers are others" in figure.layout.meta["says"]
    assert "of 4 cells the farthest, 10.0 % of the tokens are changed and 25.0 % of 9 problems" in verdict(cells)
