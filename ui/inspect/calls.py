"""The calls of the viewer's script: a step's candidates, exports, stopping a run.

Users can send any arguments over HTTP. Ids cannot be guessed, and the engine checks the rest.
"""

from collections.abc import Callable

from lightreasoner.errors import UserError
from lightreasoner.tracing.records import step_json
from lightreasoner.validation import number
from ui.access.actions import action
from ui.components.script_calls import answering
from ui.components.trace_view import export_trace
from ui.studio import Studio


def viewer_calls(studio: Studio) -> list[Callable[..., dict]]:
    """The functions step, export and stop, bound to this server's runs."""

    @action("inspect.read_step", visitors=True)
    @answering
    def step(run, index) -> dict:
        """The candidates of a step, and the texts of their tokens."""
        live = studio.live_runs.get(run) if isinstance(run, str) else None
        record = {} if live else studio.kept_record(run)
        steps = live.trace.steps if live else record["steps"]
        index = number("The step", index, 0, max(0, len(steps) - 1), whole=True)
        if not steps:
            raise UserError("This run has no steps yet; wait for its first token.")
        candidates = (step_json(steps[index]) if live else steps[index])["candidates"]
        texts = live.trace.texts if live else {int(i): text for i, text in record["tokens"].items()}
        ids = candidates["ids"] if candidates else ()
        spelled = live.trace.spelled if live else {int(i): parts for i, parts in record.get("spelled", {}).items()}
        found = {"candidates": candidates, "tokens": {str(i): texts[i] for i in ids if i in texts}}
        return found | ({"spelled": {str(i): spelled[i] for i in ids if i in spelled}} if spelled else {})

    @action("inspect.export", visitors=True)
    @answering
    def export(run, kind, alpha, beta, curve="", cap=None) -> dict:
        """A run as the text of a "json", "csv" or "html" file, at this α and β, with this picture of its curve."""
        return export_trace(studio.record(run), kind, alpha, beta, curve, cap)

    @action("inspect.stop", visitors=True)
    @answering
    def stop(run, key) -> dict:
        """Stop a run at its next token. Only the user who started it has the key."""
        live = studio.live_runs.get(run) if isinstance(run, str) else None
        if live and isinstance(key, str) and key == live.key:
            live.stop.set()
        return {}

    return [step, export, stop]
