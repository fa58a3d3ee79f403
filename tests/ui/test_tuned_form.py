"""The form for the tuned expert: the list, links to runs, invalid values, and traces with three models."""

from __future__ import annotations

import json

import pytest

from lightreasoner.errors import UserError
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import add_to_run, begin_run
from lightreasoner.tracing.trace import TraceRequest
from lightreasoner.training.runs import tuned_run, tuned_runs
from tests.support.tiny_models import save_tiny, save_tiny_adapter, tiny_model
from ui.components.pair_card import OTHER
from ui.inspect.calls import viewer_calls
from ui.inspect.links import open_link
from ui.inspect.tuned_form import choices, requested_tuned, run_fields
from ui.studio import Studio, replay, stream

BUNDLED = {"expert": "lightreasoner-expert-4m", "amateur": "lightreasoner-amateur-1m"}


@pytest.fixture
def studio(tmp_path):
    return Studio(Settings(workspace=tmp_path, device="cpu"))


@pytest.fixture(scope="module")
def refs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    pair = [str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]
    save_tiny_adapter(folder / "adapter", tiny_model(1), seed=3)
    return *pair, folder / "adapter"


def make_run(studio, pair=None, *, adapter=True, result=True, method="lightreasoner") -> str:
    """A fine-tuning run and its dataset with all that the list of tuned experts reads."""
    pair, runs = pair or BUNDLED, studio.settings.runs
    data, run = new_id(), new_id()
    begin_run(runs / data, "dataset", {k: v for k, v in pair.items() if v}, {})
    begin_run(runs / run, "finetune", {"dataset": str(runs / data), "method": method}, {"expert": str(pair["expert"])})
    if adapter:
        (runs / run / "adapter").mkdir()
        (runs / run / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    if result:
        add_to_run(runs / run, result={"samples": 1234})
    return run


class Request:
    def __init__(self, **query):
        self.query_params = query


def test_only_finished_runs_of_this_expert_are_listed_newest_first(studio):
    first = make_run(studio)
    make_run(studio, adapter=False)
    make_run(studio, result=False)
    make_run(studio, {"expert": "/elsewhere/expert", "amateur": "/elsewhere/amateur"})
    make_run(studio, {"expert": "/elsewhere/expert::/an/adapter", "amateur": "/elsewhere/amateur"})
    (studio.settings.runs / "broken").mkdir()
    second = make_run(studio, method="sft")
    nobody, *offered = choices(studio, "bundled", "", "")
    assert nobody == ("None, the pair alone", "")
    assert [ref.split("/")[-2] for _, ref in offered] == [second, first]
    assert offered[0][0].startswith("SFT, 1,234 samples · ") and offered[0][0].endswith(second[:8])
    assert [run.id for run in tuned_runs(studio.settings, "/elsewhere/../elsewhere/expert")] != []
    assert tuned_runs(studio.settings, "no model at all") == []


def test_an_invalid_pair_has_no_runs(studio):
    make_run(studio)
    for refs in (("no such pair", "", ""), (OTHER, "", ""), (OTHER, None, ["x"]), (OTHER, "a b c", "d")):
        assert [ref for _, ref in choices(studio, *refs)] == [""]


@pytest.mark.parametrize("tuned", [None, "", "  "])
def test_an_empty_field_means_no_tuned_expert(studio, tuned):
    assert requested_tuned(studio, tuned, "anybody", BUNDLED["expert"]) is None


@pytest.mark.parametrize("tuned", [7, True, [], ["a", "b"], {}, {"a": 1}, float("nan"), "a b c", "x" * 600, "\x00"])
def test_an_invalid_model_is_an_error(studio, tuned):
    with pytest.raises(UserError) as caught:
        requested_tuned(studio, tuned, "Expert", BUNDLED["expert"])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("writer", [None, "", "Amateur", [], {}, 7])
def test_an_invalid_writer_is_an_error(studio, writer):
    with pytest.raises(UserError, match="cannot generate"):
        requested_tuned(studio, "lightreasoner-expert-4m", writer, BUNDLED["expert"])


def test_a_selected_run_keeps_its_name(studio):
    run = make_run(studio)
    [_, (title, ref)] = choices(studio, "bundled", "", "")
    tuned = requested_tuned(studio, ref, "Tuned expert", BUNDLED["expert"])
    assert tuned == {"tuned": ref, "writer": "tuned", "run": run, "name": title}
    assert requested_tuned(studio, "lightreasoner-amateur-1m", "Expert", BUNDLED["expert"]) == {
        "tuned": "lightreasoner-amateur-1m",
        "writer": "expert",
    }


def test_a_runs_pair_is_a_preset_if_there_is_one(studio):
    fields, tuned, say = run_fields(studio, make_run(studio))
    assert fields == ("bundled", "", "") and say is None
    assert tuned["tuned"].startswith("lightreasoner-expert-4m::/")
    fields, _, say = run_fields(studio, make_run(studio, {"expert": "/my/expert", "amateur": "/my/amateur"}))
    assert fields == (OTHER, "/my/expert", "/my/amateur") and say is None
    fields, _, say = run_fields(studio, make_run(studio, {"expert": "/my/expert", "amateur": None}))
    assert fields == (OTHER, "/my/expert", "") and "names no amateur" in say
    fields, _, say = run_fields(studio, make_run(studio, {"expert": BUNDLED["expert"], "amateur": None}))
    assert fields == ("bundled", "", "") and say is None  # an imported dataset; the expert has one amateur here


def test_a_link_keeps_the_stop_strings(studio):
    from ui.inspect.links import linked_stop
    from ui.studio import branch_request

    request = TraceRequest("2 + 2?", max_new_tokens=3, stop=("\nQ:", "x"))
    live = studio.start(request, (None, *BUNDLED.values()))
    assert live.done.wait(60) and not live.error
    assert linked_stop(studio, Request(trace=live.trace.id)) == "\\nQ:\nx"
    record = studio.record(live.trace.id)
    assert branch_request(record, 0, 5).stop == request.stop
    del record["request"]["stop"]  # as version 0.2 wrote it
    assert branch_request(record, 0, 5).stop == ()


def test_a_link_to_a_run_fills_the_form_and_starts_nothing(studio):
    run = make_run(studio)
    viewer, preset, expert, amateur, own, card, tuned, writer, *problem = open_link(studio, Request(lens=run))
    assert (preset, expert, amateur) == ("bundled", "", "") and own.visible is False
    assert "lightreasoner-expert-4m" in card and writer == "Expert"
    assert tuned.value.endswith(f"{run}/adapter") and tuned.choices[0][1] == tuned.value
    assert not studio.live_runs and not studio.models._models
    assert isinstance(viewer, dict) and all("value" not in update for update in problem)  # left as they are


@pytest.mark.parametrize("run", ["", "../../etc", "a" * 22, "x", "<img src=x>"])
def test_an_invalid_link_is_an_error(studio, run):
    viewer, *_ = open_link(studio, Request(lens=run))
    assert "error" in json.loads(viewer.splitlines()[1])


def test_unusable_runs_give_the_reason(studio):
    for options, says in (
        ({"adapter": False}, "no adapter yet"),
        ({"result": False}, "no adapter yet"),
        ({"pair": {"expert": "/e::/a", "amateur": "/b"}}, "already includes an adapter"),
    ):
        with pytest.raises(UserError, match=says):
            tuned_run(studio.settings, make_run(studio, **options))


def lines(value):
    return [json.loads(line) for line in value.splitlines()]


def test_stream_replay_and_reopened_trace_of_three_models_are_equal(studio, refs):
    expert, amateur, adapter = refs
    tuned = requested_tuned(studio, str(adapter), "Expert", expert)
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=12), (None, expert, amateur), tuned=tuned)
    *_, last = stream(studio, live)
    head, *rest = lines(last)
    record = studio.record(live.trace.id)
    steps = [item for item in rest if isinstance(item, list)]
    assert head["columns"][-5:] == ["tuned_kl", "tuned_reverse_kl", "tuned_changed", "tuned_logprob", "tuned_rank"]
    assert [s[2 + head["columns"].index("tuned_kl")] for s in steps] == [s["tuned_kl"] for s in record["steps"]]
    again = lines(replay(record))
    assert [item for item in again if isinstance(item, list)] == steps and again[0]["lens"] == record["lens"]
    step, export, _ = viewer_calls(studio)
    assert step([live.trace.id, 1])["candidates"]["tuned_logprobs"]
    assert "tuned_kl" in export([live.trace.id, "csv", 0.2, 0.4])["content"]

    studio.live_runs.clear()
    viewer, *_, tuned, writer, _, _, _, _ = open_link(studio, Request(trace=live.trace.id))
    assert tuned.value == record["lens"]["tuned"] == f"{expert}::{adapter}" and writer == "Expert"
    assert lines(viewer)[1:] == again[1:]


def test_a_tuned_model_that_cannot_be_loaded_is_the_runs_error(studio, refs):
    expert, amateur, _ = refs
    tuned = requested_tuned(studio, "/nowhere/at/all", "Expert", expert)
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=5), (None, expert, amateur), tuned=tuned)
    assert live.done.wait(60) and "There is no folder /nowhere/at/all" in live.error
