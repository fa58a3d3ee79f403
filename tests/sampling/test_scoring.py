"""Responses that something else wrote: the dataset that sampling them makes, and all that can be wrong with a file."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch

from lightreasoner.cli.main import main
from lightreasoner.datasets.card import dataset_card
from lightreasoner.datasets.explorer import Explorer
from lightreasoner.datasets.trajectories import rows, shards
from lightreasoner.decoding import generate
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, Given
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import load_pair, presets
from lightreasoner.models.prompt_settings import PAPER
from lightreasoner.models.prompts import pair_prompts, prompt_ids
from lightreasoner.paper import BETA
from lightreasoner.problems.response_files import KnownProblems, ResponseFile
from lightreasoner.problems.rows import Problem
from lightreasoner.progress import SilentProgress
from lightreasoner.sampling.given_responses import GivenPrompts
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.on_cluster import BatchSampler
from lightreasoner.sampling.sampler import SamplingCounts, sample_batch, sample_dataset
from lightreasoner.scoring.measures import FLOAT_MEASURES
from lightreasoner.settings import Settings, to_environment
from lightreasoner.storage.runs import read_run
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.from_trajectory import trace_record
from lightreasoner.tracing.trace import TraceRequest, trace
from tests.support.tiny_models import SPECIALS, save_tiny, tiny_tokenizer
from tests.support.tiny_sampling import QUESTIONS, RecordingProgress, build, ending

OTHERS = ("<｜pad｜>", "<｜User｜>", "<｜end｜>")
SETTINGS = Settings(device="cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]


@pytest.fixture(scope="module")
def pair(folders):
    return load_pair(*folders, LoadedModels(SETTINGS))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A pair whose amateur has another prompt and several ids for some of the expert's tokens."""
    folder = tmp_path_factory.mktemp("strangers")
    expert = save_tiny(folder / "expert", seed=4, tokenizer=tiny_tokenizer(specials=OTHERS))
    amateur = save_tiny(folder / "amateur", seed=5, tokenizer=tiny_tokenizer(specials=SPECIALS))
    return load_pair(str(expert), str(amateur), LoadedModels(SETTINGS))


@pytest.fixture(scope="module")
def bundled():
    preset = presets()[0]
    return load_pair(preset.expert, preset.amateur, LoadedModels(SETTINGS))


def written(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def score(pair, path, folder, problems=None, *, skip=False, batch_size=3, **decoding):
    """Score a file into a folder: what it says of the responses' origin."""
    found = GivenPrompts(pair, ResponseFile(path, problems, skip_unreadable=skip), PAPER, ())
    origin = found.check(lambda: None)
    progress, counts = RecordingProgress(), SamplingCounts()
    config = DecodingConfig(**decoding)
    given = {"batch_size": batch_size, "total": found.responses, "progress": progress, "counts": counts}
    sample_dataset(pair, found, folder, config, **given)
    return origin


@pytest.mark.parametrize("which", ["pair", "strangers", "bundled"])
def test_what_sample_wrote_is_scored_as_sample_scored_it(request, tmp_path, which):
    """Every column, within 1e-4 and with no selection flipped, although the batches differ."""
    pair = request.getfixturevalue(which)
    pair = pair if which == "bundled" else ending(pair, *range(40, 60))
    build(pair, tmp_path / "own", temperature=1.5, samples=2, batch_size=5)
    kept = ("problem_id", "sample", "question", "answer", "prompt_ids", "response_ids", "response")
    path = written(tmp_path / "own.jsonl", [{name: row[name] for name in kept} for row in rows(tmp_path / "own")])
    origin = score(pair, path, tmp_path / "scored", batch_size=4)
    assert (origin["responses"], origin["recorded_prompts"], origin["other_prompts"], origin["texts"]) == (14, 14, 0, 0)
    own, scored = ({(r["problem_id"], r["sample"]): r for r in rows(tmp_path / name)} for name in ("own", "scored"))
    assert own.keys() == scored.keys() and len({len(row["kl"]) for row in own.values()}) > 3
    for key, row in own.items():
        other = scored[key]
        for name in ("question", "answer", "prompt_ids", "response_ids", "response", "finish_reason", "agree"):
            assert row[name] == other[name], name
        for name in FLOAT_MEASURES:
            assert [x or 0 for x in row[name]] == pytest.approx([x or 0 for x in other[name]], abs=1e-4), name
        assert [kl > BETA for kl in row["kl"]] == [kl > BETA for kl in other["kl"]]
        assert [step["index"] for step in row["steps"]] == [step["index"] for step in other["steps"]]


@pytest.mark.parametrize("which", ["pair", "strangers", "bundled"])
def test_a_text_has_the_inspectors_numbers_to_the_bit(request, tmp_path, which):
    """In a batch with longer and shorter ones, over several pieces, with a prompt of several hundred tokens."""
    pair = request.getfixturevalue(which)
    texts = ["3 + 4 = 7. The answer is 7.", "Seven, for 3 and 4 are 7. " * 9, "7"]
    asked = [QUESTIONS[0], QUESTIONS[2], "How many? " * 60] if which == "bundled" else QUESTIONS[:3]
    lines = [{"question": q, "response": text} for q, text in zip(asked, texts, strict=True)]
    score(pair, written(tmp_path / "texts.jsonl", lines), tmp_path / "run")
    found = {row["question"]: row for row in rows(tmp_path / "run")}
    for question, text in zip(asked, texts, strict=True):
        events = list(trace(pair, TraceRequest(question, response=text), SETTINGS))
        steps = [step.score for event in events if isinstance(event, StepsEvent) for step in event.steps]
        row = found[question.strip()]
        assert (row["response"], row["prompt_ids"], row["finish_reason"]) == (text, events[0].ids, "given")
        for name in FLOAT_MEASURES:
            assert row[name] == [getattr(step, name) for step in steps], name


@pytest.mark.parametrize("which", ["pair", "strangers"])
def test_side_by_side_they_are_what_they_are_alone(request, which):
    """As on a GPU: rows of a batch that end in different pieces, after prompts of different length."""
    pair, rows = request.getfixturevalue(which), []
    for n, length in enumerate((50, 1, 17, 33, 16)):
        prompts = pair_prompts(pair, QUESTIONS[n])
        rows.append(
            GenerationRow(Problem(str(n), "?"), 0, *prompts, Given([(7 * n + 3 * k) % 250 for k in range(length)]))
        )
    config, quiet = DecodingConfig(beta_floor=0.0), lambda ended: None
    alone = generate.generate_batch(pair, rows, config, quiet)
    with torch.inference_mode():
        together = generate._Batch(pair, rows, config, quiet).run()
    assert alone.tokens == together.tokens and (alone.known == together.known).all()
    for name in (*FLOAT_MEASURES, "expert_rank", "agree"):
        assert alone.measures[name] == pytest.approx(together.measures[name], abs=1e-5), name


PROBLEMS = [Problem("a", "What is 2 + 2?", "4"), Problem("b", "What is 3 + 3?", "6")]
TEXT, IDS = "It is 4.", [70, 71, 72]


@pytest.mark.parametrize(
    "row, expected",
    [
        ({"problem_id": "a", "response": TEXT}, [(TEXT, None)]),
        ({"question": "What is 2 + 2?", "completion": TEXT, "token_ids": IDS}, [(TEXT, IDS)]),
        ({"prompt": "What is  2 + 2?", "generated_text": TEXT}, [(TEXT, None)]),  # TGI
        ({"problem_id": "a", "prompt": "…", "content": TEXT, "tokens": IDS}, [(TEXT, IDS)]),  # llama.cpp
        ({"id": "a", "text": TEXT, "output_ids": IDS, "meta_info": {"finish_reason": {"type": "stop"}}}, [(TEXT, IDS)]),
        (  # vLLM's RequestOutput
            {
                "request_id": "0",
                "id": "a",
                "prompt_token_ids": [5],
                "outputs": [{"index": 0, "text": TEXT, "token_ids": IDS}],
            },
            [(TEXT, IDS)],
        ),
        ({"id": "a", "outputs": [{"text": TEXT}, {"text": TEXT}]}, [(TEXT, None)] * 2),  # two samples may be equal
        ({"id": "a", "responses": [TEXT, "No."]}, [(TEXT, None), ("No.", None)]),
        ({"id": "a", "response": [TEXT, "No."]}, [(TEXT, None), ("No.", None)]),
        (
            {
                "problem_id": "a",
                "id": "chatcmpl-1",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}}],
            },
            [(TEXT, None)],
        ),
        ({"problem_id": "a", "choices": [{"text": TEXT, "finish_reason": "length"}]}, [(TEXT, None)]),
        (  # a line of OpenAI's and vLLM's batches
            {
                "id": "b1",
                "custom_id": "a",
                "error": None,
                "response": {"status_code": 200, "body": {"id": "x", "choices": [{"message": {"content": TEXT}}]}},
            },
            [(TEXT, None)],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "What is 2 + 2?"},
                    {"role": "assistant", "content": f" {TEXT}\n"},
                ]
            },
            [(f" {TEXT}\n", None)],
        ),
        (
            {
                "prompt": [{"role": "user", "content": "What is 2 + 2?"}],
                "completion": [{"role": "assistant", "content": TEXT}],
            },
            [(TEXT, None)],
        ),
        ({"question": "What is 2 + 2?", "solution": "2 + 2 = 4", "output": TEXT}, [(TEXT, None)]),
        ({"id": "a", "message": {"content": [{"type": "text", "text": TEXT}]}}, [(TEXT, None)]),
    ],
)
def test_the_fields_of_other_software_are_read(tmp_path, row, expected):
    """vLLM, SGLang, llama.cpp, TGI, TRL, OpenAI: the response as it stands, white space included."""
    found = list(ResponseFile(written(tmp_path / "f.jsonl", [row]), KnownProblems("set", PROBLEMS)))
    assert [(each.text, each.ids) for each in found] == expected
    assert {each.problem.id for each in found} == {"a"} and [each.sample for each in found] == [*range(len(found))]


@pytest.mark.parametrize(
    "line, says",
    [
        ("{", "it is not valid JSON"),
        ("[1, 2]", "it is not an object"),
        ({"problem_id": "a"}, "it has neither the text of a response nor its token ids; columns: problem_id"),
        ({"problem_id": "a", "response": None, "error": "429"}, "it holds an error in place of a response"),
        ({"problem_id": "a", "response": ""}, "its response is empty"),
        ({"problem_id": "a", "token_ids": []}, "neither the text of a response nor its token ids"),
        ({"problem_id": "a", "token_ids": [70, -1]}, "its token_ids is no list of whole numbers from 0"),
        ({"problem_id": "a", "token_ids": [70, 1.5]}, "its token_ids is no list of whole numbers from 0"),
        ({"problem_id": "a", "token_ids": [70, 300]}, "hold 300, outside the vocabulary of"),
        ({"problem_id": "a", "token_ids": [70], "prompt_token_ids": [1, 300]}, "its prompt's ids hold 300, outside"),
        ({"problem_id": "z", "response": TEXT}, "it answers a problem that set does not have (problem_id 'z')"),
        ({"question": "What is 9?", "response": TEXT}, "it answers a problem that set does not have"),
        ({"response": TEXT}, "it names no problem; give problem_id or question"),
        ({"problem_id": "a", "question": "What is 3 + 3?", "response": TEXT}, "its id is that of another problem"),
        (
            {"problem_id": "a", "question": "What?", "response": TEXT},
            "its question is not that of the problem a of set",
        ),
        ({"problem_id": "b", "response": "It is 6."}, "it repeats the response in line 1 to the problem b; remove one"),
        (
            {"problem_id": "a", "response": TEXT, "completion": "No."},
            "its response and its completion are two different",
        ),
        ({"problem_id": "a", "response": TEXT, "outputs": [{"text": TEXT}]}, "both its outputs and its response hold"),
        ({"problem_id": "a", "token_ids": [70], "output_ids": [71]}, "are different token ids; keep one of them"),
        ({"problem_id": "a", "response": "half \ud83d"}, "holds characters that are not text"),
        ({"problem_id": "a", "response": "It is \ufffd"}, "in place of bytes that were no whole character"),
        ({"problem_id": "a", "response": f"It {SPECIALS[1]} is"}, f"its text holds {SPECIALS[1]!r}, a control token"),
        ({"problem_id": "a", "response": TEXT, "token_ids": [70, 71]}, "its token ids do not spell its text"),
        ({"problem_id": "a", "response": "4 " * 3000}, "can read 1,024 tokens, but this needs"),
        (
            {"problem_id": "a", "prompt": "Q: 2 + 2? A:", "response": TEXT},
            "its prompt is neither the problem's question",
        ),
        (
            {"problem_id": "a", "message": {"content": TEXT, "reasoning_content": "Hm"}},
            "its reasoning_content is apart",
        ),
        (
            {
                "problem_id": "a",
                "messages": [{"role": "user", "content": "Sum?"}, {"role": "assistant", "content": "4"}],
            },
            "its messages ask the problem a of set in other words",
        ),
        ({"problem_id": "a", "response": " \n"}, "its response is empty"),
        ({"problem_id": "a", "message": {"content": None, "tool_calls": [{}]}}, "its message calls a tool"),
        ({"custom_id": "a", "response": {"status_code": 400, "body": {}}}, "its request failed (status 400)"),
    ],
)
def test_each_fault_of_a_line_is_a_sentence_with_its_number(pair, tmp_path, line, says):
    """It stops the run before anything is computed; with --skip-unreadable the rest is scored and it is told."""
    good = {"problem_id": "b", "response": "It is 6."}
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(good) + "\n" + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    known = KnownProblems("set", PROBLEMS, lambda problem: (prompt_ids(pair.expert, problem.question), ""))
    with pytest.raises(UserError) as caught:
        score(pair, path, tmp_path / "run", known)
    told = str(caught.value)
    assert "line 2: " in told and says in told and "--skip-unreadable" in told and "\n" not in told
    assert not shards(tmp_path / "run")
    score(pair, path, tmp_path / "run", known, skip=True)
    assert [row["problem_id"] for row in rows(tmp_path / "run")] == ["b"]


def test_a_response_too_long_in_the_amateurs_tokens_is_a_faulty_line(pair, tmp_path):
    """Of a pair across tokenizers its length was known in the expert's tokens alone, and the job stopped at it."""
    stranger = save_tiny(tmp_path / "amateur", seed=2, tokenizer=tiny_tokenizer(["a b"]))
    across = load_pair(str(pair.expert.ref), str(stranger), LoadedModels(SETTINGS))
    lines = [{"problem_id": "a", "response": text} for text in (TEXT, "reason step by step. " * 40)]
    path, known = written(tmp_path / "f.jsonl", lines), KnownProblems("set", PROBLEMS)
    needs = [across.across.length(pair.expert.tokenizer(line["response"])["input_ids"]) for line in lines]
    assert needs[1] > 700 > len(pair.expert.tokenizer(lines[1]["response"])["input_ids"]) + 200
    across = replace(across, amateur=replace(across.amateur, max_positions=700))
    with pytest.raises(UserError, match=r"line 2: .* can read 700 tokens, but this needs"):
        score(across, path, tmp_path / "run", known)
    score(across, path, tmp_path / "run", known, skip=True)
    assert [row["response"] for row in rows(tmp_path / "run")] == [TEXT]


def test_a_text_that_its_tokens_do_not_give_back_is_refused(pair, tmp_path):
    """A tokenizer that normalises would have scored a text that nobody wrote."""

    class Folding:
        def __init__(self, tokenizer):
            self._tokenizer = tokenizer

        def __len__(self):
            return len(self._tokenizer)

        def __call__(self, text, **options):
            return self._tokenizer(text.lower(), **options)

        def __getattr__(self, name):
            return getattr(self._tokenizer, name)

    other = replace(pair, expert=replace(pair.expert, tokenizer=Folding(pair.expert.tokenizer)))
    path = written(tmp_path / "f.jsonl", [{"problem_id": "a", "response": "it is Four"}])
    with pytest.raises(UserError, match=r"line 1: its text does not come back from its tokens \(character 7 is 'F'"):
        score(other, path, tmp_path / "run", KnownProblems("set", PROBLEMS))


def test_the_recorded_prompt_counts_and_what_runs_on_is_cut(pair, tmp_path):
    """The card says both, and from which file and model the responses come."""
    end = min(pair.expert.end_ids)
    own = prompt_ids(pair.expert, PROBLEMS[0].question)
    turns = [("system", "Be brief."), ("user", PROBLEMS[1].question), ("assistant", "6")]
    turns = [{"role": role, "content": text} for role, text in turns]
    lines = [
        {"id": "chatcmpl-1", "messages": turns},  # asked after another system turn than here
        {"problem_id": "a", "token_ids": [70, 71, end, 72, 73], "prompt_token_ids": own, "model": "Far/Away-7B"},
        {"problem_id": "a", "token_ids": [70, end], "prompt_token_ids": [9, 8, 7], "finish_reason": "stop"},
        {"problem_id": "b", "text": "It is 6.", "finish_reason": "stop"},
        {"prompt_token_ids": prompt_ids(pair.expert, PROBLEMS[1].question), "token_ids": [75]},  # named by its prompt
    ]

    def prompt(problem):
        return prompt_ids(pair.expert, problem.question), ""

    known = KnownProblems("set", PROBLEMS, prompt)
    origin = score(pair, written(tmp_path / "f.jsonl", lines), tmp_path / "run", known)
    found = {(row["problem_id"], row["sample"]): row for row in rows(tmp_path / "run")}
    assert found["a", 0]["response_ids"] == [70, 71, end] and found["a", 0]["finish_reason"] == "stop"
    assert found["a", 0]["prompt_ids"] == own and found["a", 1]["prompt_ids"] == [9, 8, 7]
    assert found["b", 1]["finish_reason"] == "stop" and found["b", 2]["response_ids"] == [75]
    brief = prompt_ids(pair.expert, PROBLEMS[1].question, context=[("system", "Be brief.")])
    assert found["b", 0]["prompt_ids"] == brief != found["b", 1]["prompt_ids"]
    told = {name: origin[name] for name in ("responses", "texts", "recorded_prompts", "other_prompts", "past_the_end")}
    assert told == {"responses": 5, "texts": 2, "recorded_prompts": 3, "other_prompts": 1, "past_the_end": 1}
    run = {"config": {"expert": "e", "amateur": "a"}, "about": {"responses": origin, "fingerprints": {}}}
    card = dataset_card(tmp_path / "run", run, "Title", "mit")
    assert "f.jsonl" in card and "Far/Away-7B" in card and "1 ran on past the end" in card
    assert "An expert model's responses" not in card


@pytest.mark.parametrize(
    "encode",
    [lambda t: b"\xef\xbb\xbf" + t.encode(), lambda t: t.replace("\n", "\r\n").encode(), lambda t: t.encode("utf-16")],
)
def test_byte_order_marks_and_windows_line_ends_change_nothing(tmp_path, encode):
    path = tmp_path / "f.jsonl"
    path.write_bytes(encode('{"problem_id": "a", "response": "It is 4."}\n{"problem_id": "b", "response": "6\\n"}\n'))
    found = list(ResponseFile(path, KnownProblems("set", PROBLEMS)))
    assert [each.text for each in found] == ["It is 4.", "6\n"]


def test_a_worker_of_a_cluster_scores_what_this_process_scores(pair, folders, tmp_path):
    """On Ray as sample is: the job and the rows travel, and the worker's table is this process's."""
    path = written(tmp_path / "f.jsonl", [{"problem_id": "a", "token_ids": [70, 71]}, {"problem_id": "b", "text": "6"}])
    job = SamplingJob(tmp_path, *folders, None, DecodingConfig(), responses=str(path))
    items = list(GivenPrompts(pair, ResponseFile(path, KnownProblems("set", PROBLEMS)), PAPER, ()))
    job, items = pickle.loads(pickle.dumps((job, items)))
    marks = [pair.expert.fingerprint, pair.amateur.fingerprint]
    (table,), halved = BatchSampler(job, marks, 2, to_environment(SETTINGS))((items, (0,)))
    assert halved == [] and table == sample_batch([pair], (items, (0,)), job.decoding, SilentProgress(), print, 2)[0][0]


def test_a_file_is_read_line_by_line(tmp_path, monkeypatch):
    """A file of gigabytes is never in memory: the first response is there before the second line is read."""
    path = written(tmp_path / "f.jsonl", [{"problem_id": "a", "response": str(n)} for n in range(9)])
    reader = iter(ResponseFile(path, KnownProblems("set", PROBLEMS)))
    assert next(reader).text == "0"
    with path.open("a") as file:  # seen, since nothing beyond a buffer was read
        file.write(json.dumps({"problem_id": "a", "response": "late"}) + "\n")
    assert [each.text for each in reader][-1] == "late"


@pytest.fixture
def verb(folders, tmp_path, monkeypatch, capsys):
    """verb(*options) runs score on a file of texts: (exit status, standard output, standard error)."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    monkeypatch.delenv("LIGHTREASONER_JOB", raising=False)
    path = written(tmp_path / "r.jsonl", [{"question": q, "response": f"It is {n}."} for n, q in enumerate(QUESTIONS)])

    def run(*options):
        argv = ["score", "--expert", folders[0], "--amateur", folders[1], "--responses", path, "--batch-size", 2]
        status = main([str(a) for a in [*argv, "--run-dir", tmp_path / "run", *options]])
        return status, *capsys.readouterr()

    run.path, run.folder = path, tmp_path / "run"
    return run


def test_the_verb_resumes_and_everything_downstream_reads_its_dataset(verb, folders, tmp_path):
    status, out, err = verb()
    assert status == 0 and out.startswith("7 problems, ") and "read from the file r.jsonl" in out, err
    record = read_run(verb.folder)
    assert record["kind"] == "dataset" and record["about"]["responses"]["texts"] == 7
    before = {path.name: path.read_bytes() for path in shards(verb.folder)}
    gone, *rest = shards(verb.folder)
    gone.unlink()
    times = {path.name: path.stat().st_mtime_ns for path in rest}
    assert verb()[0] == 0  # as after kill -9: only what is missing is scored, to the same bits
    assert {path.name: path.stat().st_mtime_ns for path in rest} == times
    assert {path.name: path.read_bytes() for path in shards(verb.folder)} == before

    explorer = Explorer(verb.folder)
    explorer.refresh()
    row = explorer.row(explorer.view.data.responses[0].problem_id, 0)
    assert trace_record(row, record, "run", explorer.texts)["response"] == row["response"]
    run = ["--run-dir", str(verb.folder)]
    assert main(["export", *run, "--format", "paper", "--out", str(tmp_path / "p.jsonl"), "--beta", "0"]) == 0
    tune = ["finetune", "--dataset", str(verb.folder), "--run-dir", str(tmp_path / "tuned"), "--beta", "0"]
    assert main([*tune, "--max-steps", "1", "--held-out", "0"]) == 0
    verb.path.write_text('{"question": "Another?", "response": "No."}\n')
    status, _, err = verb()
    assert status == 2 and "the file of responses has changed" in err


@pytest.mark.parametrize(
    "options, says",
    [
        (["--responses", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["--problems", "gsm9k"], "neither a problem source"),
        (["--batch-size", "many"], "whole number or auto"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(verb, options, says):
    status, _, err = verb(*options)
    assert status == 2 and says in err and err.count("\n") == 1
    assert not verb.folder.exists()
