"""What the tabs share for their runs: the calls of every tab, the parsed runs in memory, what has changed."""

from __future__ import annotations

import pytest

from lightreasoner.errors import UserError
from lightreasoner.experiments.stages import later_expert
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.training.runs import tuned_run
from tests.support.tiny_tuning import make_run
from ui.access.actions import action, action_of
from ui.components.run_actions import RunActions
from ui.components.run_list import Recent, without_folders
from ui.components.script_calls import add_if_changed, fingerprint
from ui.finetune.catalogue import Tunings
from ui.studio import Studio


class Runs:
    def __init__(self):
        self.calls = []

    def act(self, run_id, action):
        self.calls.append((run_id, action))

    def remove(self, run_id):
        self.calls.append(run_id)


class Actions(RunActions):
    activity = "things"

    @action("things.view")
    def overview(self, run_id, seen) -> dict:
        return {"run": run_id, "seen": seen}

    def helper(self) -> None:
        """Declares no action, so it is no call."""


def test_a_tabs_calls_are_its_own_and_those_of_every_tab():
    runs = Runs()
    calls = {call.__name__: call for call in Actions(runs).calls}
    names = {name: action_of(call).name for name, call in calls.items()}
    shared = {"act": "things.control_job", "rename": "things.rename", "discard": "things.delete"}
    assert names == {"overview": "things.view"} | shared
    assert not any(action_of(call).visitors for call in calls.values())
    assert calls["overview"](["a", 1]) == {"run": "a", "seen": 1}
    assert "takes 2 arguments" in calls["overview"](["a"])["error"]
    assert calls["act"](["a", "cancel"]) == calls["discard"](["b"]) == {}
    assert runs.calls == [("a", "cancel"), "b"]
    Actions.activity, other = "others", Actions.activity
    try:  # the names are each instance's own
        assert action_of(Actions(runs).calls[-1]).name == "others.delete" and names["discard"] == "things.delete"
    finally:
        Actions.activity = other


def test_the_runs_that_were_opened_last_stay_in_memory():
    recent = Recent(2)
    first = recent.get("a", lambda: ["a"])
    recent.get("b", lambda: ["b"])
    assert recent.get("a", lambda: ["again"]) is first
    recent.get("c", lambda: ["c"])  # b goes, unused for longest
    assert recent.get("b", lambda: ["again"]) == ["again"] and recent.get("c", lambda: ["again"]) == ["c"]
    recent.forget("c")
    recent.forget("never seen")
    assert recent.get("c", lambda: ["again"]) == ["again"]


def test_only_what_has_changed_is_sent():
    answer = {"marks": {}}
    add_if_changed(answer, "past", [1, 2], {})
    assert answer == {"marks": {"past": fingerprint([1, 2])}, "past": [1, 2]}
    again = {"marks": {}}
    add_if_changed(again, "past", [1, 2], answer["marks"])
    assert again == {"marks": answer["marks"]}
    assert fingerprint([1, 2]) != fingerprint([2, 1]) and fingerprint({"path": object}) == fingerprint({"path": object})


@pytest.fixture
def three(tmp_path):
    """A list of three runs with the same settings, and their ids, oldest first."""
    studio = Studio(Settings(workspace=tmp_path))
    ids = [new_id() for _ in range(3)]
    for run_id in ids:
        make_run(studio.settings.runs / run_id, tmp_path / "data")
    return Tunings(studio.settings, studio.jobs), ids


def names_of(runs) -> dict[str, str]:
    return {entry["id"]: entry["name"] for entry in runs.summaries()}


def test_no_two_runs_of_a_list_have_the_same_name(three):
    """Runs with the same method, expert and problems could not be told apart, in the list and in a comparison."""
    runs, (a, b, c) = three
    plain = names_of(runs)[a]
    assert names_of(runs) == {a: plain, b: f"{plain} (2)", c: f"{plain} (3)"}
    assert [runs.find(run_id).name for run_id in (c, a)] == [f"{plain} (3)", plain]
    assert Tunings(runs.settings, runs.jobs).find(b).name == f"{plain} (2)", "before anything was listed"
    runs.rename(c, "Mine")
    runs.rename(c, f"{plain} (3)")
    runs.rename(b, "Mine")
    fourth = new_id()
    make_run(runs.settings.runs / fourth, runs.settings.workspace / "data")
    assert names_of(runs) == {a: plain, b: "Mine", c: f"{plain} (3)", fourth: f"{plain} (2)"}


def test_a_run_is_renamed_and_takes_its_own_name_back(three):
    runs, (a, b, _) = three
    before = names_of(runs)
    runs.rename(b, "  The one \n with rank 8 ")
    assert names_of(runs)[b] == "The one with rank 8" == runs.find(b).name
    assert tuned_run(runs.settings, b).title.startswith("The one with rank 8 · "), "in the other tabs' lists, too"
    for name in ("The one with rank 8", before[a]):
        with pytest.raises(UserError, match="Another fine-tuning run is called"):
            runs.rename(runs_other(runs, a, b, name), name)
    for name in (None, 7, ["x"], "x" * 81, "a\x00b", "a\u202eb"):
        with pytest.raises(UserError, match="The name h"):
            runs.rename(a, name)
    runs.rename(b, "")
    assert names_of(runs) == before


def runs_other(runs, a, b, name):
    """The one of two runs that has another name."""
    return a if runs.find(b).name == name else b


def test_what_was_asked_to_stop_is_not_said_to_train(three):
    """After Stop and keep the list still said "Training"."""
    from lightreasoner.jobs.context import STOP_FILE, job_context

    runs, (a, *_) = three
    folder = runs.settings.runs / a
    assert {entry["stopping"] for entry in runs.summaries()} == {False}
    with job_context(folder, "finetune", runs.settings, accelerator=False):
        assert [e["stopping"] for e in runs.summaries() if e["state"] == "running"] == [False]
        (folder / STOP_FILE).write_text("keep")
        assert [e["id"] for e in runs.summaries() if e["stopping"]] == [a]
    assert not any(entry["stopping"] for entry in runs.summaries())


def test_the_expert_of_a_later_round_is_named_after_the_round(tmp_path):
    """Lists showed the id that its folder begins with."""
    assert without_folders(later_expert(tmp_path / "M1wC5QOdbSeUliOaxL52dg", 2)) == "expert of round 2"
    assert without_folders("Qwen/Qwen2.5-Math-1.5B") == "Qwen2.5-Math-1.5B"
