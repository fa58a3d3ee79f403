"""pass@1, several models in one job, resuming, and the paired comparison that comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from lightreasoner.cli.main import main
from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.evaluation import evaluate as evaluation
from lightreasoner.evaluation.results import read_rows, shard
from lightreasoner.models.loading import load_model
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.settings import Settings
from tests.support.tiny_models import save_tiny, save_tiny_adapter

PROBLEMS = [
    {"id": f"p{n}", "question": f"Tom has {n} apples{' and pears' * (n % 4)}. How many?", "answer": str(n)}
    for n in range(10)
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    for name, value in (("WORKSPACE", str(tmp_path / "workspace")), ("DEVICE", "cpu"), ("DTYPE", "float32")):
        monkeypatch.setenv(f"LIGHTREASONER_{name}", value)
    save_tiny(tmp_path / "model", seed=1)
    save_tiny_adapter(tmp_path / "tuned", AutoModelForCausalLM.from_pretrained(tmp_path / "model"))
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PROBLEMS))
    return tmp_path


def evaluate(place: Path, *options: str, run: str = "run", problems: str = "problems.jsonl") -> int:
    fixed = ["--model", str(place / "model"), "--problems", str(place / problems), "--run-dir", str(place / run)]
    return main(["evaluate", *fixed, "--max-new-tokens", "12", "--batch-size", "4", *options])


def results(place: Path, run: str = "run") -> dict:
    return json.loads((place / run / "results.json").read_text())


def naive(place: Path, adapter: Path | None = None) -> dict[str, list[int]]:
    """transformers' own greedy generate, one problem at a time."""
    loaded = load_model(str(place / "model"), Settings(device="cpu", dtype="float32"))
    model = peft.PeftModel.from_pretrained(loaded.model, adapter).eval() if adapter else loaded.model
    found = {}
    for problem in PROBLEMS:
        ids = torch.tensor([prompt_ids(loaded, problem["question"])])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=2
        )
        found[problem["id"]] = out[0, ids.shape[1] :].tolist()
    return found


def written(place: Path, variant: int) -> dict[str, list[int]]:
    return {row["problem_id"]: row["response_ids"] for row in read_rows(place / "run", variant)}


def test_base_and_adapter_in_one_job_are_what_each_is_alone(place):
    assert evaluate(place, "--adapter", str(place / "tuned")) == 0
    base, tuned = naive(place), naive(place, place / "tuned")
    assert written(place, 0) == base
    assert written(place, 1) == tuned
    assert base != tuned, "the adapter does something"


def test_the_numbers_are_those_of_the_rows(place):
    assert evaluate(place, "--adapter", str(place / "tuned")) == 0
    found, rows = results(place), [read_rows(place / "run", n) for n in (0, 1)]
    for summary, of in zip(found["models"], rows, strict=True):
        right = sum(row["right"] for row in of)
        assert summary["problems"] == 10
        assert summary["pass_at_1"] == right / 10
        assert summary["interval"][0] <= right / 10 <= summary["interval"][1]
        assert summary["truncations"] == sum(row["finish_reason"] == "length" for row in of)
        assert summary["extraction_failures"] == sum(row["extracted"] is None for row in of)
        assert summary["mean_length"] == sum(len(row["response_ids"]) for row in of) / 10
    (comparison,) = found["comparisons"]
    assert (comparison["before"], comparison["after"]) == ("base", "tuned")
    assert len(comparison["gained"]) - len(comparison["lost"]) == 10 * comparison["difference"]
    assert found["pass_at_1"] == found["models"][1]["pass_at_1"], "at the top: what was asked about"
    events = [json.loads(line) for line in (place / "run/events.jsonl").read_text().splitlines()]
    assert events[-1]["state"] == "succeeded"


def test_a_right_answer_counts(place, monkeypatch):
    """The tiny model cannot solve anything, so let it say what it would."""
    said = {problem["question"]: problem["answer"] for problem in PROBLEMS[:7]}

    def solved(loaded, prompts, *args):
        texts = [loaded.tokenizer.decode(prompt) for prompt in prompts]
        answers = [next((a for q, a in said.items() if q in text), "x") for text in texts]
        return [[*loaded.tokenizer(f"The answer is {answer}.")["input_ids"], 2] for answer in answers]

    monkeypatch.setattr(evaluation, "greedy_generate", solved)
    assert evaluate(place) == 0
    found = results(place)
    assert (found["pass_at_1"], found["extraction_failures"], found["truncations"]) == (0.7, 3, 0)


def test_resuming_repeats_nothing(place, monkeypatch, capsys):
    calls = []

    def counted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return greedy_generate(*args)

    monkeypatch.setattr(evaluation, "greedy_generate", counted)
    assert evaluate(place, "--adapter", str(place / "tuned")) != 0  # Ctrl+C in the third of six batches
    assert not (place / "run/results.json").exists()
    assert evaluate(place, "--adapter", str(place / "tuned")) == 0
    assert len(calls) == 3 + 4
    assert written(place, 0) == naive(place)
    assert evaluate(place, "--adapter", str(place / "tuned"), "--limit", "5") == 2
    assert "limit was not set, now 5" in capsys.readouterr().err


def test_rows_that_end_leave_the_batch_and_change_no_other(place):
    """Each response is what it is alone, whoever ends first beside it."""
    loaded = load_model(str(place / "model"), Settings(device="cpu", dtype="float32"))
    prompts = [prompt_ids(loaded, problem["question"]) for problem in PROBLEMS]
    alone = [greedy_generate(loaded, [prompt], 40)[0] for prompt in prompts]

    def lengths(end: int) -> set[int]:
        return {response.index(end) if end in response else 40 for response in alone}

    loaded.end_ids = frozenset([max((t for r in alone for t in r), key=lambda t: (len(lengths(t)), t))])
    alone = [greedy_generate(loaded, [prompt], 40)[0] for prompt in prompts]
    assert len({len(response) for response in alone}) > 1
    assert greedy_generate(loaded, prompts, 40) == alone


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--no-base"], "leaves nothing to evaluate"),
        (["--max-new-tokens", "0"], "--max-new-tokens is 0"),
        (["--max-new-tokens", "1500"], "reads 1,024; lower --max-new-tokens"),
        (["--batch-size", "-1"], "--batch-size is -1"),
        (["--limit", "0"], "The number of problems is 0"),
        (["--adapter", "./nowhere"], "nowhere"),
        (["--split", "dev"], "has no split"),
    ],
)
def test_mistakes_are_one_sentence(place, capsys, options, sentence):
    assert evaluate(place, *options) == 2
    assert sentence in capsys.readouterr().err.strip().splitlines()[-1]


def test_more_problems_than_an_evaluation_keeps_in_memory_are_refused_before_they_are_read(place, monkeypatch, capsys):
    """A million were read for a minute, and their prompts took gigabytes."""
    monkeypatch.setattr("lightreasoner.evaluation.run.MOST_PROBLEMS", 9)
    with monkeypatch.context() as patched:
        patched.setattr("lightreasoner.problems.stream.read_row", None)
        assert evaluate(place) == 2
    assert "problems.jsonl has more than 9 rows; set a limit or load a part of it." in capsys.readouterr().err
    assert evaluate(place, "--limit", "3") == 0 and results(place)["problems"] == 3


def test_problems_without_answers_cannot_be_marked(place, capsys):
    (place / "open.jsonl").write_text('{"question": "Why?"}\n')
    assert evaluate(place, problems="open.jsonl") == 2
    assert "None of the 1 problems of open.jsonl has a known answer" in capsys.readouterr().err
    with (place / "open.jsonl").open("a") as file:
        file.write('{"question": "1 + 1?", "answer": "2"}\n')
    assert evaluate(place, problems="open.jsonl", run="other") == 0
    assert results(place, "other")["problems"] == 1


def test_an_adapter_for_another_model(place, capsys):
    other = save_tiny(place / "other", seed=2, hidden=64)
    save_tiny_adapter(place / "wide", AutoModelForCausalLM.from_pretrained(other))
    assert evaluate(place, "--adapter", str(place / "wide")) == 2
    assert "does not fit" in capsys.readouterr().err


def test_without_a_limit_it_writes_what_the_model_can_read(place):
    """The bundled model reads 512 positions, so a fixed default of 512 new tokens failed always."""
    config = json.loads((place / "model/config.json").read_text())
    (place / "model/config.json").write_text(json.dumps(config | {"max_position_embeddings": 90}))
    fixed = ["--model", str(place / "model"), "--problems", str(place / "problems.jsonl"), "--limit", "2"]
    assert main(["evaluate", *fixed, "--run-dir", str(place / "run")]) == 0
    tokens = json.loads((place / "run/run.json").read_text())["config"]["max_new_tokens"]
    assert 0 < tokens < 90


def test_where_memory_runs_out_each_half_is_solved_by_itself(place, monkeypatch):
    real, refused = evaluation.greedy_generate, []

    def short(loaded, prompts, *rest):
        if len(prompts) > 1:
            refused.append(len(prompts))
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(loaded, prompts, *rest)

    monkeypatch.setattr(evaluation, "greedy_generate", short)
    assert evaluate(place) == 0
    assert refused[0] == 4 and written(place, 0) == naive(place)


def test_one_problem_that_does_not_fit_is_a_sentence(place, monkeypatch, capsys):
    def never(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(evaluation, "greedy_generate", never)
    assert evaluate(place) == 2
    assert "A single problem needs more memory" in capsys.readouterr().err


def test_damaged_rows_are_put_aside_and_done_again(place):
    assert evaluate(place) == 0
    whole, path = written(place, 0), shard(place / "run", 0, 1)
    path.write_bytes(path.read_bytes()[:50])
    assert evaluate(place) == 0
    assert written(place, 0) == whole and path.with_name(path.name + ".corrupt").is_file()


def test_an_adapter_called_base_is_not_taken_for_the_base(place):
    (place / "tuned").rename(place / "base")
    assert evaluate(place, "--adapter", str(place / "base")) == 0
    assert [model["name"] for model in results(place)["models"]] == ["base", "base-1"]


def test_a_problem_counts_once(place):
    rows = [*PROBLEMS, *(PROBLEMS[0] | {"id": f"again-{n}"} for n in range(5))]
    (place / "twice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evaluate(place, problems="twice.jsonl") == 0
    assert results(place)["models"][0]["problems"] == 10
