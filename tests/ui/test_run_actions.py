"""What the tabs share for their runs: the calls of every tab, the parsed runs in memory, what has changed."""

from __future__ import annotations

from ui.access.permissions import action, action_of
from ui.components.run_actions import RunActions
from ui.components.run_list import Recent
from ui.components.script_calls import add_if_changed, fingerprint


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
    assert names == {"overview": "things.view", "act": "things.control_job", "discard": "things.delete"}
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
