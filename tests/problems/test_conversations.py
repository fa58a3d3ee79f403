"""Conversations in every published layout: the last user turn is the question, what is before it is its context."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from lightreasoner.problems.stream import ProblemStream, load_file

SYSTEM, FIRST, REPLY = ("system", "Be brief."), ("user", "What is 1 + 1?"), ("assistant", "It is 2.")
Q, A = "And twice that?", "Twice 2 is \\boxed{4}."
TURNS = [SYSTEM, FIRST, REPLY, ("user", Q), ("assistant", A)]


def messages(turns=TURNS, role="role", content="content", names=None):
    return [{role: (names or {}).get(who, who), content: text} for who, text in turns]


SHAREGPT = {"user": "human", "assistant": "gpt"}
PROMPT = [{"role": "user", "content": Q}]

LAYOUTS = {
    "messages": {"messages": messages()},
    "messages with a prompt": {"prompt": FIRST[1], "prompt_id": "7", "messages": messages()},  # UltraChat
    "ShareGPT": {"conversations": messages(role="from", content="value", names=SHAREGPT)},
    "ShareGPT, system beside it": {
        "conversations": messages(TURNS[1:], "from", "value", SHAREGPT),
        "system": SYSTEM[1],
        "tools": "",
    },
    "prompt and completion": {"prompt": messages(TURNS[:-1]), "completion": messages(TURNS[-1:])},  # TRL
    "preferences": {"chosen": messages(), "rejected": messages([*TURNS[:-1], ("assistant", "No.")])},
    "content parts": {"messages": [{"role": who, "content": [{"type": "text", "text": text}]} for who, text in TURNS]},
    "a table of turns": {"messages": {"role": [who for who, _ in TURNS], "content": [text for _, text in TURNS]}},
    "pairs": {
        "conversation": [{"system": SYSTEM[1], "input": FIRST[1], "output": REPLY[1]}, {"input": Q, "output": A}]
    },
}


@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "csv of Parquet"])
def test_the_last_user_turn_is_the_question_and_the_assistants_turn_a_response(tmp_path, row, kind):
    path = tmp_path / f"rows.{kind.split()[0]}"
    if kind == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    else:
        frame = pd.DataFrame([row])
        if kind != "csv":
            frame.to_parquet(tmp_path / "rows.parquet")
            frame = pd.read_parquet(tmp_path / "rows.parquet")
        if kind != "parquet":
            frame.to_csv(path, index=False)
    found = load_file(path)
    assert found.skipped == []
    (problem,) = found.problems
    assert (problem.question, problem.context) == (Q, (SYSTEM, FIRST, REPLY))
    assert (problem.response, problem.solution, problem.answer) == (A, A, "4")


REWARDED = {
    "verl": {"prompt": PROMPT, "reward_model": {"ground_truth": "4", "style": "rule"}, "extra_info": {"index": 3}},
    "DAPO": {"data_source": "math_dapo", "prompt": PROMPT, "ability": "MATH", "reward_model": {"ground_truth": "4"}},
    "Skywork": {"prompt": PROMPT, "reward_model": {"ground_truth": '["4"]'}},
    "a list": {"prompt": PROMPT, "reward_model": {"ground_truth": ["4"]}},
    "JSON in text": {"prompt": Q, "verification_info": json.dumps({"ground_truth": "4"})},
    "flat": {"prompt": PROMPT, "reward_model.ground_truth": "4"},
    "Tülu": {"messages": PROMPT, "ground_truth": "4", "dataset": "gsm8k"},
    "OpenR1": {"problem": Q, "solution": A, "answer": "4", "messages": messages([("user", Q), ("assistant", A)])},
    "verl, GSM8K": {"prompt": PROMPT, "reward_model": {"ground_truth": "4"}, "extra_info": {"answer": "2+2\n#### 4"}},
    "both": {"prompt": PROMPT, "answer": "4", "reward_model": {"ground_truth": "4"}},
}


@pytest.mark.parametrize("row", REWARDED.values(), ids=REWARDED)
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv of Parquet"])
def test_prompt_lists_have_the_ground_truth_of_the_reward_model(tmp_path, row, kind):
    path = tmp_path / f"rows.{kind.split()[0]}"
    if kind == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    else:
        pd.DataFrame([row]).to_parquet(tmp_path / "rows.parquet")
        if kind != "parquet":
            pd.read_parquet(tmp_path / "rows.parquet").to_csv(path, index=False)
    found = load_file(path)
    assert found.skipped == []
    assert [(p.question, p.answer, p.context) for p in found.problems] == [(Q, "4", ())]


def test_evaluations_ideal_answers_and_flags_of_responses():
    """OpenAI's evals name the gold `ideal`; KTO's label says whether a response is good, and was taken for the gold."""
    rows = [{"input": messages(TURNS[:2]), "ideal": "2"}, {"prompt": Q, "completion": "4", "label": True}]
    found = ProblemStream(enumerate(rows, 1), title="rows").read_all()
    assert [(problem.question, problem.answer) for problem in found.problems] == [(FIRST[1], "2"), (Q, None)]


def test_history_and_system_columns_are_context():
    """OpenOrca's system prompt and Alpaca's history were dropped without a word."""
    orca = {"system_prompt": SYSTEM[1], "question": Q, "response": A}
    alpaca = {"instruction": Q, "input": "", "output": A, "system": SYSTEM[1], "history": [[FIRST[1], REPLY[1]]]}
    found = ProblemStream(enumerate([orca, alpaca], 1), title="rows").read_all()
    assert [problem.context for problem in found.problems] == [(SYSTEM,), (SYSTEM, FIRST, REPLY)]
    assert found.columns["question"] == "system_prompt + question"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "narrator", "content": "Once"}]}, "turn 1 of its messages has the role 'narrator'"),
        ({"messages": [*PROMPT, {"role": "tool", "content": "5"}]}, "turn 2 of its messages has the role 'tool'"),
        ({"messages": [*PROMPT, {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}]}, "calls a tool"),
        ({"messages": [{"role": "user", "content": " "}]}, "turn 1 of its messages is empty"),
        ({"messages": [{"content": "hi"}]}, "turn 1 of its messages does not say who speaks"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "hold no turn of the user"),
        ({"messages": [*PROMPT, {"role": "system", "content": "hi"}]}, "a system turn after the first"),
        ({"messages": PROMPT + 2 * [{"role": "assistant", "content": "hi"}]}, "2 turns of the assistant in a row"),
        ({"messages": PROMPT, "question": "Another one?"}, "ask different questions"),
        ({"messages": messages(), "system": "Be long."}, "different system turns"),
        ({"messages": ["hi", "hello"]}, "do not say who speaks"),
        ({"messages": PROMPT, "tools": '[{"name": "search"}]'}, "it offers tools"),
        ({"prompt": PROMPT, "reward_model": {"ground_truth": {"inputs": ["1"]}}}, "is an object, not an answer"),
        ({"prompt": [{"role": "user", "content": [{"type": "image_url", "url": "x"}]}]}, "something other than text"),
        ({"question": Q, "history": [["only one"]]}, "no list of pairs"),
    ],
)
def test_conversations_that_cannot_be_asked_as_they_are_are_refused(row, reason):
    found = ProblemStream(enumerate([row, {"question": "fine"}], 1), title="rows").read_all()
    assert [problem.question for problem in found.problems] == ["fine"]
    assert reason in found.skipped[0][1], found.skipped
