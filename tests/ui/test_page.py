"""The page's handlers called as plain functions: streams, exports, links, cards, templates."""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from jinja2 import UndefinedError

from lightreasoner.decoding.contrast import Contrast, takeover
from lightreasoner.errors import UserError
from lightreasoner.grading.grading import grade
from lightreasoner.jobs.accelerator import WaitCancelled
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.problems.rows import Problem
from lightreasoner.progress import check_interruption
from lightreasoner.settings import ROOT, Settings
from lightreasoner.tracing.trace import TraceRequest
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from ui.components.estimate import accelerator_turn, stream_estimate
from ui.components.pair_card import count, pair_card
from ui.components.problem_form import (
    NO_FILE,
    OWN_TEXT,
    another_problem,
    choose_problem,
    choose_source,
    known_answer,
    open_file,
    own_text,
    rest_box,
    shown_file,
)
from ui.components.trace_view import standalone
from ui.html_templates import render
from ui.inspect.calls import viewer_calls
from ui.inspect.links import linked_number, linked_writer, open_link
from ui.inspect.tab import offer_response
from ui.inspect.writer_form import requested_contrast
from ui.page import build
from ui.studio import Studio, branch_request, greedy_request, header, replay, stream


@pytest.fixture(scope="module")
def refs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]


@pytest.fixture
def studio(tmp_path):
    return Studio(Settings(workspace=tmp_path, device="cpu"))


def finished(studio, refs, **request):
    """(run id, the stream's last value) of a finished run."""
    live = studio.start(TraceRequest(**{"question": "2 + 2?", "max_new_tokens": 12} | request), (None, *refs))
    *_, last = stream(studio, live)
    return live.trace.id, last


def lines(value):
    return [json.loads(line) for line in value.splitlines()]


def test_the_engine_never_imports_gradio():
    for path in (ROOT / "lightreasoner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("gradio", "ui") for name in names), path


def test_the_stream_only_grows_and_carries_every_step(studio, refs):
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=12), (None, *refs))
    values = list(stream(studio, live))
    for before, after in pairwise(values):
        assert after.startswith(before)
    head, *rest = lines(values[-1])
    steps = [item for item in rest if isinstance(item, list)]
    record = studio.record(live.trace.id)
    assert head["run"] == live.trace.id and head["key"] == live.key
    assert [s[0] for s in steps] == [s["text"] for s in record["steps"]]
    assert [s[2] for s in steps] == [s["kl"] for s in record["steps"]]
    assert rest[-1]["end"] == record["finish_reason"]


@pytest.mark.parametrize("answer", ["4", None])
def test_a_response_to_a_problem_with_a_known_answer_is_judged_at_once(studio, refs, answer):
    """The viewer was told nothing: whether a response is right showed only after an evaluation."""
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=12), (None, *refs), answer=answer)
    *_, last = stream(studio, live)
    told = [json.loads(item) for item in last.splitlines() if '"graded"' in item]
    record = studio.record(live.trace.id)
    if answer is None:
        assert not told and "graded" not in record
    else:
        assert told == [{"graded": record["graded"]}]
        assert record["graded"]["answer"] == answer
        assert record["graded"]["right"] == grade(record["response"], answer).right
        assert '"graded"' in replay(record)


def test_a_live_run_across_tokenizers_is_read_as_its_record(studio, refs, tmp_path):
    """The columns of a step were sent before the models were loaded, without what was compared: in a live run the page
    took that share for the plausible tokens, and every target was wrong. The amateurs that read along say ≥, too."""
    other = str(save_tiny(tmp_path / "other", 3, tiny_tokenizer(["a b cc dd ee the 12 34"])))
    request = TraceRequest("2 + 2?", max_new_tokens=12, contrast=Contrast(0.05, 0.0))
    live = studio.start(request, (None, refs[0], other), others=[refs[1]])
    *_, last = stream(studio, live)
    record = studio.record(live.trace.id)
    head, *rest = lines(last)
    columns = next(item["facts"]["columns"] for item in rest if isinstance(item, dict) and "facts" in item)
    assert columns == lines(replay(record))[0]["columns"] and head["others"] == ["amateur"]
    for line, step in zip((item for item in rest if isinstance(item, list)), record["steps"], strict=True):
        assert dict(zip(columns, line[2:-1], strict=True)) == {name: step[name] for name in columns}
        assert (line[-1] is None) == (step["candidates"] is None) and 0 < step["compared"] < 1.00001
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=4), (None, *refs), others=[other])
    *_, last = stream(studio, live)
    facts = next(item["facts"] for item in lines(last) if isinstance(item, dict) and "facts" in item)
    assert facts["others_across"] == [True] == lines(replay(studio.record(live.trace.id)))[0]["others_across"]


def test_closing_the_stream_stops_the_run_and_saves_it(studio, refs):
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=800, temperature=10.0), (None, *refs))
    values = stream(studio, live)
    while "[" not in next(values).split("\n", 1)[1]:
        time.sleep(0.01)
    values.close()
    assert live.done.is_set() and live.trace.id not in studio.live_runs
    assert studio.record(live.trace.id)["steps"]


def test_a_stream_says_something_while_nothing_happens(studio, refs, monkeypatch):
    """Gradio learns that a tab was closed when a value is due: while a model was read, a closed tab held the
    accelerator for minutes, since its status did not change."""
    loading = threading.Event()

    def load(expert, amateur, models, on_status, name):
        on_status("Loading a large model")
        while not loading.wait(0.02):
            on_status("Loading a large model")

    monkeypatch.setattr("ui.studio.load_pair", load)
    monkeypatch.setattr("ui.studio.BEAT", 0.1)
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=12), (None, *refs))
    values = stream(studio, live)
    while "Loading a large model" not in (last := next(values)):
        pass
    assert next(values) == next(values) == last
    values.close()
    assert live.done.is_set() and not loading.is_set() and studio.accelerator.holder() is None


def test_an_estimate_says_something_while_nothing_happens(studio, monkeypatch):
    """The same of an estimate, whose models are read without a word."""
    monkeypatch.setattr("ui.components.estimate.BEAT", 0.1)
    ended = []

    def measure(studio, request, say, stop):
        stop.wait(30)
        ended.append(request)
        raise WaitCancelled

    values = stream_estimate(studio, lambda: "a request", measure, "Waiting")
    assert next(values) == next(values) == next(values) and "Waiting" in next(values)
    values.close()
    while not ended:
        time.sleep(0.01)


def test_an_estimate_ends_in_the_middle_of_a_long_read(studio):
    """A closed tab kept the accelerator until a pass through the model had ended: on a CPU, minutes."""
    stop = threading.Event()
    with pytest.raises(WaitCancelled), accelerator_turn(studio, lambda text: None, stop):
        check_interruption()
        stop.set()
        check_interruption()
    check_interruption()


def test_a_replay_equals_the_run_without_its_key(studio, refs):
    run, last = finished(studio, refs)
    again = replay(studio.record(run))
    steps = lambda value: [item for item in lines(value) if isinstance(item, list)]  # noqa: E731
    assert steps(again) == steps(last)
    assert "key" not in lines(again)[0]


def test_a_steps_candidates_have_texts(studio, refs):
    run, _ = finished(studio, refs)
    step, _, _ = viewer_calls(studio)
    answer = step([run, 1])
    record = studio.record(run)
    assert answer["candidates"] == record["steps"][1]["candidates"]
    assert set(answer["tokens"]) == {str(i) for i in answer["candidates"]["ids"]}


@pytest.mark.parametrize("arguments", [None, 7, [], ["x"], ["x", 0, 1], [None, 0], [["a"], 0], [{}, 0], ["../x", 0]])
def test_forged_calls_get_an_error(studio, arguments):
    step, export, stop = viewer_calls(studio)
    assert "error" in step(arguments) and "error" in export(arguments)
    assert stop(arguments).keys() <= {"error"}


@pytest.mark.parametrize("index", [-1, 10**9, 1.5, float("nan"), None, "1", True])
def test_forged_indices_get_an_error(studio, refs, index):
    run, _ = finished(studio, refs)
    assert "The step is" in viewer_calls(studio)[0]([run, index])["error"]


def test_only_the_key_stops_a_run(studio, refs):
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=800, temperature=10.0), (None, *refs))
    _, _, stop = viewer_calls(studio)
    stop([live.trace.id, "guess"])
    assert not live.stop.is_set()
    stop([live.trace.id, live.key])
    assert live.stop.is_set() and live.done.wait(20)


def test_exports_carry_the_pages_alpha_and_beta(studio, refs):
    run, _ = finished(studio, refs)
    _, export, _ = viewer_calls(studio)
    record = json.loads(export([run, "json", 0.05, 0.9])["content"])
    assert (record["alpha"], record["beta"]) == (0.05, 0.9)
    assert [s["selected"] for s in record["steps"]] == [s["kl"] > 0.9 for s in record["steps"]]
    assert export([run, "csv", 0.05, 0.9])["content"].count("\n") == len(record["steps"]) + 1
    for bad in ([run, "exe", 0.2, 0.4], [run, "json", 0, 0.4], [run, "json", 0.2, float("nan")]):
        assert "error" in export(bad)


def test_an_exported_file_loads_nothing_and_its_data_cannot_end_the_script(studio, refs):
    run, _ = finished(studio, refs, response="</script><script>alert(1)</script> <!-- ${x} {{y}}")
    page = standalone(studio.record(run))
    assert page.count("</script>") == 5  # its own: four of data, one that starts
    addresses = page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")  # a namespace is not fetched
    assert "http://" not in addresses and "https://" not in addresses
    assert not any(
        f"{{{{ {name}" in page for name in ("style", "constants", "modules", "record", "curve", "start")
    )  # all are filled in


def test_a_branch_keeps_the_prefix(studio, refs):
    run, _ = finished(studio, refs)
    record = studio.record(run)
    ids = [s["token_id"] for s in record["steps"]]
    assert branch_request(record, 3, 99).prefix == (*ids[:3], 99)
    for step, token in ((-1, 5), (len(ids), 5), (0, -1), ("0", 5), (0.5, 5), (True, 5), (None, None)):
        with pytest.raises(UserError, match="no step"):
            branch_request(record, step, token)


@pytest.mark.parametrize("contrast", [Contrast(0.05, 0.0), takeover(9.0)], ids=["contrast", "takeover"])
def test_a_run_by_contrast_keeps_its_writer_and_is_compared_with_greedy(studio, refs, contrast):
    """A branch of it was written by the expert alone, and a link to it did not say who wrote it."""
    run, streamed = finished(studio, refs, contrast=contrast)
    head, record = lines(streamed)[0], studio.record(run)
    assert head["contrast"] == record["request"]["contrast"]
    again = [item for item in lines(replay(record)) if isinstance(item, list)]
    assert again == [item for item in lines(streamed) if isinstance(item, list)]
    assert branch_request(record, 2, 9).contrast == contrast

    asked = SimpleNamespace(query_params={"trace": run, "beta": "0.7"})
    assert open_link(studio, asked)[7] == ("Takeover" if contrast.takeover else "Contrast")
    writer, alpha, beta, cap = linked_writer(studio, asked)
    assert (writer == "Takeover") == contrast.takeover and beta == 0.7
    assert contrast.takeover or (alpha, cap) == (0.05, 0)

    request, step = greedy_request(record)
    greedy = studio.record(finished(studio, refs)[0])
    mine, own = ([s["token_id"] for s in found["steps"]] for found in (record, greedy))
    assert (request.contrast, request.prefix, request.question) == (None, (), "2 + 2?")
    assert mine[:step] == own[:step] and mine[step] != own[step] == record["steps"][step]["expert_choice"]["token_id"]
    with pytest.raises(UserError, match="nothing to compare"):
        greedy_request(greedy)


def test_an_address_may_ask_for_a_writer(studio):
    def filled(**query):
        return linked_writer(studio, SimpleNamespace(query_params=query))

    assert filled(writer="contrast", alpha="0.1", beta="1") == ("Contrast", 0.1, 1.0, 0)
    assert filled(writer="contrast", cap="2") == ("Contrast", ALPHA, BETA, 2.0)
    assert filled(writer="takeover")[0:3:2] == ("Takeover", BETA)
    for wrong in ({}, {"writer": "nobody"}, {"writer": "contrast", "beta": "x"}, {"writer": "contrast", "alpha": "7"}):
        assert not any(isinstance(update, str | float) for update in filled(**wrong)), wrong


def test_a_writer_is_checked():
    assert requested_contrast("Expert", "x", None) is None
    assert requested_contrast("Contrast", None, None) == Contrast()
    assert requested_contrast("Takeover", "x", 1) == takeover(1)
    assert requested_contrast("Contrast", None, None, 2) == Contrast(cap=2.0)
    for wrong in (
        ("Contrast", "x", 1),
        ("Takeover", None, math.nan),
        ("Contrast", 0.2, -1),
        ("Contrast", 0.2, 0.4, -1),
        ("Amateur", 0.2, 0.4),
    ):
        with pytest.raises(UserError):
            requested_contrast(*wrong)


def test_the_card_escapes_and_explains(studio):
    card = pair_card(studio, "other", "<img src=x>", "<b>")
    assert "<img" not in card and "<b>" not in card
    assert "Name an expert" in pair_card(studio, "other", "", "  ")
    assert "Name an expert" in pair_card(studio, "other", None, ["x"])
    assert "KL will be 0" in pair_card(studio, "other", "lightreasoner-expert-4m", "lightreasoner-expert-4m")


def test_the_card_says_whether_run_would_download(studio):
    """Regression: the card said that a pair on the Hub would load at once."""
    assert "Loads when you press Run" in pair_card(studio, "bundled", "", "")
    assert "&lt;|im_end|&gt; (chat template" in pair_card(studio, "bundled", "", "")
    far = pair_card(studio, "other", "no-such/expert", "no-such/amateur")
    assert "Loads when you press Run" not in far and "Hub" in far


def test_parameter_counts_are_formatted():
    assert [count(n) for n in (None, 3_970_304, 952_448, 1_543_714_304)] == ["", "3.97 M", "0.952 M", "1.54 B"]


def test_numbers_in_links_are_checked():
    assert [linked_number(t) for t in ("3", "0.25", "nan", "inf", "-1", "x", None, "")] == [3, 0.25, *[None] * 6]


def test_a_changed_text_loses_the_known_answer():
    """Regression: the page showed the selected problem's answer under an edited text."""
    problem = Problem("p", "How much is 5 + 5?", "10")
    assert own_text("How much is 5 + 6?", problem, known_answer(problem)) == OWN_TEXT
    assert "10" in own_text("How much is 5 + 5? ", problem, OWN_TEXT)  # changed back
    assert own_text(None, problem, "") == OWN_TEXT  # a forged call
    assert not isinstance(own_text(problem.question, problem, "3 problems: …"), str)  # the upload's note stays


def test_an_upload_shows_which_columns_were_used(studio, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "How much is 5 + 5?", "answer": "10"}\n{"question": ""}\n')
    *nothing, note = open_file(studio.settings, str(file))  # the rest is used only after the user says so
    assert not any(map(plain, nothing)) and re.search("1 row .*cannot be read.*line 2.*tick “Use the rows", note)
    problems, _, picked, question, note = open_file(studio.settings, str(file), use_rest=True)
    assert len(problems) == 1 and picked.answer == "10" and question == "How much is 5 + 5?"
    assert re.search("1 problem.*question.*1 row .*cannot be read.*line 2", note) and known_answer(picked) in note
    assert rest_box(studio.settings, str(file)).visible
    file.write_text('{"question": "How much is 5 + 5?", "answer": "10"}\n')
    assert not rest_box(studio.settings, str(file)).visible and open_file(studio.settings, str(file))[2].answer == "10"


def test_a_rejected_file_leaves_no_other_problem_selected(studio, tmp_path):
    """The problem before it stayed, under "Upload a file", and Run asked it."""
    file, sources = tmp_path / "mine.txt", ("file", "no such source")
    file.write_bytes(b"\x00\xff")
    good = tmp_path / "good.jsonl"
    good.write_text('{"question": "1 + 1?"}\n')
    assert shown_file(studio.settings, str(good))[3] == "1 + 1?"
    updates = [shown_file(studio.settings, str(file)), shown_file(studio.settings, None)]
    updates += [choose_source(source)[1:6] for source in sources]
    for problems, pick, picked, question, note in updates:
        assert problems == [] and pick.value is None and (picked.question, question) == ("", "") and note
        assert isinstance(own_text("", picked, note), dict), "the note still says why"
        assert choose_problem(problems, 0)[1] == "" and another_problem(problems)[-1] == NO_FILE
    assert "mine.txt" in updates[0][-1].replace("\\", "")


def plain(update):
    """Whether an update of the page changes a value."""
    return not isinstance(update, dict) or "value" in update


def test_a_conversation_shows_its_turns_and_offers_its_response(studio, tmp_path):
    file = tmp_path / "talk.jsonl"
    turns = [("system", "Be brief."), ("user", "1 + 1?"), ("assistant", "2"), ("user", "Twice?"), ("assistant", "4!")]
    file.write_text(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}))
    _, _, picked, question, note = open_file(studio.settings, str(file))
    assert question == "Twice?" and [turn.role for turn in picked.context] == ["system", "user", "assistant"]
    assert "> system\\: Be brief" in note and "The file has a response" in note
    assert "Be brief" in own_text("Three times?", picked, note)  # the turns stay, and are said to
    assert offer_response(picked, "", "") == ("4!", "4!")
    assert not any(map(plain, offer_response(picked, "mine", "4!")))  # what a person wrote stays
    assert offer_response(Problem("p", "q"), "4!", "4!") == ("", "")


def test_a_link_to_a_conversation_brings_its_turns_back(studio, refs):
    """Regression: a run from a permalink would have asked the question without the turns before it."""
    context = (("system", "Be brief."), ("user", "1 + 1?"), ("assistant", "2"))
    live = studio.start(TraceRequest("Twice?", max_new_tokens=3, context=context), (None, *refs))
    assert live.done.wait(60) and not live.error
    record = studio.record(live.trace.id)
    assert "Be brief." in record["prompt"] and record["prompt"].index("1 + 1?") < record["prompt"].index("Twice?")
    assert "Please reason step by step" not in record["prompt"]  # the conversation has its own system turn
    *_, picked, question, _, _ = open_link(studio, SimpleNamespace(query_params={"trace": live.trace.id}))
    assert (picked.context, question) == (context, "Twice?")
    assert branch_request(record, 0, 1).context == context
    assert header(record).count("user: 1 + 1?") == 1


def test_only_streaming_handlers_are_queued(studio):
    """Regression: Gradio's client loses a queued event that it sends while the server closes the page's stream, which
    it does after the last queued answer. A link to a deleted dataset then showed nothing."""
    queued = [event for event in build(studio).fns.values() if event.fn and event.queue]
    assert {event.api_name for event in queued} == {
        "trace",
        "branch",
        "compare",
        "estimate_dataset",
        "estimate_finetune",
    }
    assert all(inspect.isgeneratorfunction(event.fn) for event in queued)


def test_run_reads_the_stop_strings_as_they_are(studio):
    """They went through a state that another event filled, so a quick Run missed the last edit."""
    page = build(studio)
    (run,) = [event for event in page.fns.values() if event.api_name == "trace"]
    assert "lr-stop-strings" in [part.elem_id for part in run.inputs]
    info = page.get_api_info()["named_endpoints"]["/trace"]["parameters"]
    assert len(info) == 11  # as before there were stop strings


def test_templates_escape_all_values_and_need_all_of_them():
    bad = "<script>alert(1)</script>"
    assert "<script" not in render("pair_card", rows=[(bad, bad)], text=bad, tone=bad, why=bad, improve=bad)
    assert "<script" not in render("sign_in", notice=bad) + render("notice", text=bad, tone="note")
    with pytest.raises(UndefinedError):
        render("sign_in")


def test_html_is_only_in_templates():
    """assets/templates, whose values are escaped; an f-string escapes nothing."""
    for path in (ROOT / "ui").rglob("*.py"):
        assert not re.search(r"""["']\s*<[a-z!/]""", path.read_text(encoding="utf-8")), path


def test_a_gguf_file_that_lies_here_is_on_this_machine(studio, tmp_path, monkeypatch):
    """The card said "Not on this machine yet: Run downloads it" of a file whose size it could not tell."""
    monkeypatch.setattr("lightreasoner.models.weights.gguf_shapes", lambda path: 1 / 0)
    files = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    for file in files:
        file.write_bytes(b"GGUF and what only a loader reads")
    assert "Loads when you press Run" in pair_card(studio, "other", *map(str, files))
