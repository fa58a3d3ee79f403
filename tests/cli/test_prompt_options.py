"""The options of the prompt on the command line, and what runs store of it."""

from __future__ import annotations

import argparse
import json

import pyarrow.parquet as pq
import pytest

from lightreasoner.cli.main import main
from lightreasoner.cli.prompt import add_prompt_options, prompt_argument, prompt_settings
from lightreasoner.errors import UserError
from lightreasoner.models.prompt_settings import PRESETS, PromptSettings
from lightreasoner.storage.runs import read_run
from tests.support.tiny_models import CHAT_TEMPLATE, save_tiny, tiny_tokenizer

SOLVED = '{"question": "1 + 1?", "answer": "2"}\n{"question": "1 + 2?", "answer": "One more.\\n#### 3"}\n'


def parsed(*words: str) -> PromptSettings:
    parser = argparse.ArgumentParser()
    add_prompt_options(parser)
    return prompt_settings(parser.parse_args(words))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    for name, seed in (("expert", 1), ("amateur", 2)):
        save_tiny(tmp_path / name, seed)
    (tmp_path / "problems.jsonl").write_text(SOLVED)
    return tmp_path


def sample(home, *more: str) -> int:
    pair = ["--expert", str(home / "expert"), "--amateur", str(home / "amateur")]
    fast = ["--problems", str(home / "problems.jsonl"), "--max-new-tokens", "4", "--run-dir", str(home / "run")]
    return main(["sample", *pair, *fast, *more])


def test_options_make_settings(home):
    assert parsed() == PRESETS["paper"] and parsed("--prompt", "boxed") == PRESETS["boxed"]
    one = parsed("--prompt", "boxed", "--system", "", "--prefix", "So", "--thinking", "off", "--date", "2025-01-31")
    assert one == PromptSettings(system="", prefix="So", thinking=False, date="2025-01-31")
    given = parsed("--template-argument", "documents=[]", "--template-argument", "tone=kind")
    assert given.arguments == {"documents": [], "tone": "kind"}
    few = parsed("--prompt", "few-shot", "--examples", str(home / "problems.jsonl"), "--shots", "2")
    assert few.examples == (("1 + 1?", "The answer is 2."), ("1 + 2?", "One more.\nThe answer is 3."))
    assert parsed(*prompt_argument(few)) == few and prompt_argument(PRESETS["paper"]) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--prompt", "papers"], "There is no prompt 'papers'; choose one of paper, boxed"),
        (["--prompt", "{"], "no JSON object"),
        (["--prompt", "few-shot"], "needs solved problems"),
        (["--shots", "3"], "name their source"),
        (["--examples", "bundled-test", "--shots", "0"], "number of examples"),
        (["--template-argument", "tone"], "no NAME=VALUE"),
        (["--template-argument", "messages=[]"], "messages is set by this software"),
        (["--wrapping", "Solve."], r"lacks \{question\}"),
        (["--prompt", "plain", "--thinking", "on"], "Without a chat template|need the chat template"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(words, sentence):
    with pytest.raises(UserError, match=sentence):
        parsed(*words)


def test_a_dataset_stores_its_prompt_and_is_resumed_with_it_only(home, capsys):
    """Half a dataset could have another prompt."""
    assert sample(home, "--prompt", "boxed", "--prefix", "Well,") == 0
    record = read_run(home / "run")
    assert record["config"]["prompt"] == {"system": PRESETS["boxed"].system, "prefix": "Well,"}
    assert record["about"]["prompt"]["example"].endswith("<|im_start|>assistant\nWell,")
    shard = next((home / "run/trajectories").glob("*.parquet"))
    text = tiny_tokenizer().decode(pq.read_table(shard)["prompt_ids"][0].as_py())
    assert "within \\boxed{}.<|im_end|>" in text and text.endswith("Well,")
    assert sample(home, "--prompt", "boxed", "--prefix", "Well,") == 0, "the same again"
    assert sample(home) == 2 and sample(home, "--prompt", "boxed", "--prefix", "So,") == 2
    told = capsys.readouterr().err
    assert "the prompt's system was Please reason step by step, and put" in told
    assert "the prompt's prefix was Well,, now So," in told
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE.replace("assistant\n", "assistant:\n")
    tokenizer.save_pretrained(home / "expert")
    assert sample(home, "--prompt", "boxed", "--prefix", "Well,") == 2
    told = capsys.readouterr().err
    assert "the expert's chat template has changed since; the expert's prompt has changed since" in told


def test_a_resumed_run_keeps_its_date(home):
    """A template with strftime_now gave each day's problems another prompt."""
    for name in ("expert", "amateur"):
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }}" + CHAT_TEMPLATE
        tokenizer.save_pretrained(home / name)
    assert sample(home) == 0
    record = json.loads((home / "run/run.json").read_text())
    assert len(record["config"]["prompt"]["date"]) == 10
    assert sample(home) == 0
    assert sample(home, "--date", "1999-12-31") == 2


def test_the_exact_prompt_is_shown_before_anything_is_spent(home, capsys):
    assert sample(home, "--show-prompt", "--system", "Be brief.") == 0
    told = capsys.readouterr().out
    assert "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>" in told
    assert "1:'<|im_start|>'" in told and " tokens:\n" in told and not (home / "run").exists()
    line = ["evaluate", "--model", str(home / "expert"), "--problems", str(home / "problems.jsonl")]
    assert main([*line, "--run-dir", str(home / "e"), "--prompt", "plain", "--show-prompt"]) == 0
    assert capsys.readouterr().out.startswith("1 + 1?\n\n")


def test_an_evaluation_grades_what_the_prompt_began(home):
    """With the prefix \\boxed{ the response is its content only."""
    line = ["evaluate", "--model", str(home / "expert"), "--problems", str(home / "problems.jsonl")]
    line += ["--run-dir", str(home / "e"), "--prefix", "The answer is 2. The answer is", "--max-new-tokens", "2"]
    assert main(line) == 0
    record = read_run(home / "e")
    assert record["config"]["prompt"]["prefix"] == record["about"]["prompt"]["opening"] == line[8]
