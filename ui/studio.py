"""Studio, the state that the page's handlers share, made once in app.py; and traces as the viewer's stream."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lightreasoner.datasets.amateurs import model_title
from lightreasoner.errors import UserError
from lightreasoner.jobs.accelerator import AcceleratorLock
from lightreasoner.jobs.ray import backends
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import JobStore
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import load_further, load_pair
from lightreasoner.models.prompt_settings import prompt_of
from lightreasoner.models.references import parse_ref
from lightreasoner.problems.conversations import context_text, stored_context
from lightreasoner.serving import zerogpu
from lightreasoner.serving.archive import RunArchiver
from lightreasoner.serving.live_runs import LiveRun, RunQueue
from lightreasoner.serving.permissions import User, visitor_pair, visitor_settings
from lightreasoner.serving.quotas import TraceQuota, delete_oldest
from lightreasoner.serving.zerogpu import RemoteTracer
from lightreasoner.settings import Settings
from lightreasoner.tracing import example
from lightreasoner.tracing.records import (
    Trace,
    columns,
    contrast_of,
    kept_record,
    load_record,
    step_line,
    stored_step_line,
    trace_json,
)
from lightreasoner.tracing.trace import TraceRequest, check
from lightreasoner.tracing.tuned_decoder import load_tuned_model
from ui.access.actions import current_user

POLL = 0.05  # seconds between looks at a run
INTERVAL = 0.1  # seconds between updates of the page at least, once there are steps
BEAT = 1.0  # seconds between values at most: Gradio notices a closed tab only when a value is due


@dataclass
class Studio:
    """Settings, loaded models, the queue of traces, the accelerator, the jobs, and the runs in progress by id."""

    settings: Settings
    models: LoadedModels = None
    run_queue: RunQueue = None
    accelerator: AcceleratorLock = None
    jobs: Scheduler = None  # app.py starts it
    archiver: RunArchiver | None = None  # copies finished runs to another place; app.py starts it
    remote_tracer: RemoteTracer | None = None  # on ZeroGPU, whose GPUs are in other processes
    live_runs: dict[str, LiveRun] = field(default_factory=dict)
    trace_quota: TraceQuota = None  # on a public server

    def __post_init__(self):
        self.models = self.models or LoadedModels(self.settings)
        self.run_queue = self.run_queue or RunQueue(self.settings.max_waiting)
        self.accelerator = self.accelerator or AcceleratorLock(self.settings.workspace, self.settings.device)
        self.trace_quota = self.trace_quota or TraceQuota(self.settings)
        store = JobStore(self.settings.jobs / "jobs.sqlite")
        self.jobs = self.jobs or Scheduler(store, backends(self.settings), self.settings)
        if zerogpu.on_zerogpu():
            self.remote_tracer = zerogpu.remote_tracer(self.settings)

    @property
    def user(self) -> User:
        """The user whose request is being handled; always the owner unless the server is public."""
        return current_user(self.settings)

    def start(
        self,
        request: TraceRequest,
        refs: tuple[str | None, str, str],
        parent: dict | None = None,
        problem_id: str | None = None,
        trace_id: str | None = None,
        tuned: dict | None = None,
        answer: str | None = None,
        others: Sequence[str] = (),
        patience: float | None = None,
    ) -> LiveRun:
        """Start a run on (preset name or None, expert, amateur). Raises UserError for a request that cannot work.

        trace_id: an unguessable id for the run, where it must be found again; a random one by default.
        answer: the problem's known answer, by which the response is judged when it has ended.
        others: further amateurs, which read along.
        patience: of the LiveRun, where no stream reads it.
        tuned: the tuned expert to compare, from ui/inspect/tuned_form.py or a saved trace.
        """
        user, settings = self.user, self.settings
        if not user.owner:
            refs, settings = visitor_pair(refs, tuned), visitor_settings(settings)
        if others and (not user.owner or self.remote_tracer):
            why = "on ZeroGPU one amateur reads" if user.owner else "they belong to the owner of this server"
            raise UserError(f"No further amateurs can read along: {why}. Leave that field empty.")
        check(request, settings)
        name, expert, amateur = refs
        pair = {"name": name, "expert": expert, "amateur": amateur, "same_model": expert == amateur}
        pair |= {"others": list(others)} if others else {}
        given = {"id": trace_id} if trace_id else {}
        record = Trace(pair, request, parent=parent, problem_id=problem_id, answer=answer, tuned=tuned, **given)

        def load(say):
            return load_pair(expert, amateur, self.models, on_status=say, name=name)

        more, models = {"hide_details": not user.owner, "patience": patience}, self.models
        if others:
            more["load_others"] = lambda pair, say: load_further(pair, others, models, on_status=say)
        if tuned:
            ref, writer = tuned["tuned"], tuned["writer"]
            more["load_tuned"] = lambda pair, say: load_tuned_model(parse_ref(ref), writer, pair, models, say)
        if self.remote_tracer:
            more["remote"] = lambda stop: self.remote_tracer(refs, request, tuned, stop)
        live = LiveRun(record, load, self.run_queue, settings, self.accelerator, **more)
        if not user.owner:
            self.trace_quota.admit(user, live.done)
        if settings.public:
            delete_oldest(settings.traces, "*.json", settings.max_traces_mb * 1_000_000)
        self.live_runs[record.id] = live
        return live.start()

    def record(self, run: str) -> dict:
        """A run's JSON, from memory while it is live, else from disk; or the example's. Raises UserError."""
        live = self.live_runs.get(run) if isinstance(run, str) else None
        return trace_json(live.trace) if live else load_record(run, self._folder(run))

    def kept_record(self, run: str) -> dict:
        """A finished run's JSON, to be read only: one that was just read is not read again. Raises UserError."""
        return kept_record(run, self._folder(run))

    def _folder(self, run: str) -> Path:
        return example.FOLDER if run == example.EXAMPLE else self.settings.traces


def header(record: dict, **more) -> str:
    """The line that opens a run in the viewer. The turns before a problem are shown with it."""
    before = stored_context(record["request"].get("context"))
    head = {
        "run": record["id"],
        "columns": columns(record),
        "question": "\n\n".join(filter(None, (context_text(before), record["request"]["question"]))),
        "parent": record["parent"],
        "problem_id": record["problem_id"],
        "prompt_tokens": len(record["prompt_ids"]),
        "expert": record["pair"]["expert"],
        "amateur": record["pair"]["amateur"],
        "same_model": record["pair"]["same_model"],
        "scored": record["request"]["response"] is not None,
        "lens": record.get("lens"),
    }
    if record["request"].get("prompt") or record.get("prompt_notes"):  # the streams of earlier versions have neither
        head |= {"prompt": record["prompt"], "notes": record.get("prompt_notes", [])}
    if contrast := record["request"].get("contrast"):
        head |= {"contrast": contrast}
    if others := record["pair"].get("others"):
        head |= {"others": [model_title(other) for other in others]}
    return line(head | across_facts(record) | more)


def across_facts(record: dict) -> dict:
    """What is known of a run only once its models are loaded: whether the tokenizers differ, and so what steps have."""
    found = {name: record["pair"][name] for name in ("across", "others_across") if name in record["pair"]}
    return {"columns": columns(record)} | found


def line(item) -> str:
    return json.dumps(item) + "\n"


def failure(message: str) -> str:
    """A stream that holds nothing but an error message."""
    return line({"run": None}) + line({"error": message})


def stream(studio: Studio, live: LiveRun) -> Iterator[str]:
    """The viewer's value while a run is in progress. Closing the generator (a closed tab) stops the run."""
    trace, sent, status, opened, waited, quiet = live.trace, 0, None, False, INTERVAL, 0.0
    view = {"step": trace.parent["step"]} if trace.parent else None  # a branch opens where it leaves its parent
    text = header(trace_json(trace), key=live.key, view=view)
    try:
        while True:
            done = live.done.is_set()  # read first, so that no step before the end is missed
            steps, before = trace.steps[sent:], text
            if steps and not opened:
                opened = True
                facts = {"prompt_tokens": len(trace.prompt_ids), "same_model": trace.pair["same_model"]}
                facts |= {"lens": trace.tuned, "prompt": trace.prompt, "notes": list(trace.prompt_notes)}
                facts |= across_facts(trace_json(trace))
                text += line({"facts": facts})
            if steps and (waited >= INTERVAL or done):
                text += "".join(line(step_line(step)) for step in steps)
                sent += len(steps)
                waited = 0.0
            elif live.status != status and not sent:
                status = live.status
                text += line({"status": status})
            if done:
                if live.error:
                    text += line({"error": live.error})
                if trace.graded:
                    text += line({"graded": trace.graded})
                yield text + line({"end": trace.finish_reason, "seconds": round(trace.seconds, 3)})
                return
            if text != before or quiet >= BEAT:
                quiet = 0.0
                yield text
            live.done.wait(POLL)
            waited += POLL
            quiet += POLL
    finally:
        live.stop.set()
        if live.done.wait(10) and not live.error:  # saved to disk; otherwise it stays in memory
            studio.live_runs.pop(trace.id, None)


def replay(record: dict, view: dict | None = None) -> str:
    """The viewer's value for a finished run."""
    measured = columns(record)
    steps = "".join(line(stored_step_line(step, measured)) for step in record["steps"])
    end = line({"graded": record["graded"]}) if record.get("graded") else ""
    end += line({"end": record["finish_reason"], "seconds": record["seconds"]})
    return header(record, view=view) + steps + end


def branch_request(record: dict, step: int, token: int) -> TraceRequest:
    """The request that continues a run's response from `step` with another token. Raises UserError."""
    steps = record["steps"]
    whole = all(isinstance(x, int) and not isinstance(x, bool) for x in (step, token))
    if not whole or not 0 <= step < len(steps) or token < 0:
        raise UserError(
            f"This trace has no step {str(step)[:20]} with a token {str(token)[:20]}; select one that is shown."
        )
    return replace(request_of(record), prefix=(*(s["token_id"] for s in steps[:step]), token))


def request_of(record: dict) -> TraceRequest:
    """A saved run's request, without a beginning or a text that was given."""
    request = record["request"]
    return TraceRequest(
        question=request["question"],
        max_new_tokens=request["max_new_tokens"],
        temperature=request["temperature"],
        seed=request["seed"],
        stop=tuple(request.get("stop") or ()),  # traces of earlier versions have none
        context=stored_context(request.get("context")),
        prompt=prompt_of(request.get("prompt")),
        contrast=contrast_of(record),
    )


def greedy_request(record: dict) -> tuple[TraceRequest, int]:
    """(the request for the expert's own greedy response to the prompt of a run by contrast, the first step at which the
    two differ). Raises UserError where they do not."""
    if contrast_of(record) is None:
        raise UserError("The expert alone wrote this response, so there is nothing to compare; open a run by contrast.")
    request = replace(request_of(record), prefix=tuple(record["request"]["prefix"]), contrast=None)
    steps = record["steps"]
    for step in range(len(request.prefix), len(steps)):
        if steps[step]["token_id"] != steps[step]["expert_choice"]["token_id"]:
            return request, step
    raise UserError("The expert alone would have written the same, so there is nothing to compare.")
