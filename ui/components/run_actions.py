"""RunActions, the base class for the calls of a tab's script on the runs of one kind.

A script calls `await server.METHOD([…])`. Users can send any arguments over HTTP, so a method checks them all and
raises UserError, which the script gets as {"error": sentence}.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from ui.access.actions import action
from ui.components.run_list import RunList
from ui.components.script_calls import answering, calls_of


class RunActions:
    """Methods that declare an @action are calls; so are `act`, `discard` and `rename`, which every tab has."""

    activity: ClassVar[str]  # begins the actions' names

    def __init__(self, runs: Any):
        """runs: the tab's RunList, of whichever subclass its methods need."""
        self.runs: RunList = runs

    @property
    def calls(self) -> list[Callable[[object], dict]]:
        """Functions for gr.HTML(server_functions=…), which take one list of arguments and answer with a dict."""
        shared = {"control_job": self.act, "rename": self.rename, "delete": self.discard}
        return calls_of(self) + [action(f"{self.activity}.{name}")(answering(call)) for name, call in shared.items()]

    def act(self, run_id, action) -> dict:
        """Stop the run's job and keep its output ("keep"), cancel it, or resume it."""
        self.runs.act(run_id, action)
        return {}

    def discard(self, run_id) -> dict:
        """Delete a run for good."""
        self.runs.remove(run_id)
        return {}

    def rename(self, run_id, name) -> dict:
        """Give a run a name; an empty one brings its first name back."""
        self.runs.rename(run_id, name)
        return {}
