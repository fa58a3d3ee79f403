"""A trace as a record: one JSON file that opens again without any model.

The page's permalinks, the command line's --json and the page's export use the same JSON. Infinite values, of tokens to
which one model gives probability 0, are written as null because JSON has no infinity.
"""

import csv
import io
import json
import math
import time
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from lightreasoner.decoding.contrast import Contrast
from lightreasoner.errors import UserError
from lightreasoner.formatting import csv_cell
from lightreasoner.grading.grading import grade
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.paper import ALPHA, ALPHA_FLOOR, BETA, TIE
from lightreasoner.scoring.divergence import support, teaching
from lightreasoner.scoring.measures import COMPARED, STEP_MEASURES, TARGET_MEASURES, TUNING_MEASURES
from lightreasoner.storage.atomic import ID_PATTERN, new_id, stamp, write_text
from lightreasoner.tracing.events import OWN_CHOICES, EndEvent, Event, PromptEvent, Step, StepsEvent
from lightreasoner.tracing.trace import TraceRequest

VERSION = 1
#: What the file of every trace has, by its kind in JSON.
PARTS = {"pair": dict, "request": dict, "response": str, "steps": list, "tokens": dict}


@dataclass
class Trace:
    """One trace, which grows while it is generated.

    `parent` is {"id", "step"} for a branch of another trace; `tuned` is describe_tuned's dict for a tuned expert.
    """

    pair: dict
    request: TraceRequest
    id: str = field(default_factory=new_id)
    created: float = field(default_factory=time.time)  # seconds since 1970
    parent: dict | None = None
    tuned: dict | None = None
    problem_id: str | None = None
    answer: str | None = None  # the problem's known answer
    graded: dict | None = None  # {"answer", "extracted", "right"}, once the response has ended
    prompt_ids: list[int] = field(default_factory=list)
    prompt: str = ""
    prompt_notes: tuple[str, ...] = ()
    opening: str = ""  # the beginning of the answer that the prompt holds
    steps: list[Step] = field(default_factory=list)
    finish_reason: str | None = None  # stop, length, given, stopped, error; None while it runs
    response: str = ""
    seconds: float = 0.0
    texts: dict[int, str] = field(default_factory=dict)  # of every candidate token
    spelled: dict[int, tuple[str, ...]] = field(default_factory=dict)  # those that the amateur spells in several tokens

    def add(self, event: Event, texts: TokenTexts | None) -> None:
        """Add an event. Token texts come before steps, so that other threads can name every candidate that they see.
        texts: None where `self.texts` has them already."""
        if isinstance(event, PromptEvent):
            self.prompt_ids, self.prompt, self.prompt_notes = event.ids, event.text, event.notes
            self.request, self.opening = replace(self.request, prompt=event.settings), event.opening
        elif isinstance(event, StepsEvent):
            for step in event.steps:
                self.texts.update((i, texts.text(i)) for i in step.score.ids if i not in self.texts)
                self.spelled |= step.spelled
            self.steps += event.steps
        elif isinstance(event, EndEvent):
            if self.answer:
                found = grade(self.opening + event.text, self.answer)
                self.graded = {"answer": self.answer, "extracted": found.extracted, "right": found.right}
            self.finish_reason, self.response, self.seconds = event.finish_reason, event.text, event.seconds


def json_number(x: float | int | bool | None) -> float | int | bool | None:
    if isinstance(x, float):
        return float(f"{x:.7g}") if math.isfinite(x) else None  # seven digits are all that fp32 has
    return x


def columns(record: dict) -> tuple[str, ...]:
    """What every step has in a trace's JSON: STEP_MEASURES, and what this kind of trace has besides.

    That is COMPARED of a pair across tokenizers, TUNING_MEASURES with a tuned expert, the models' own choices where a
    contrast writes, and the KL of each further amateur.
    """
    contrast = contrast_of(record)
    own = () if contrast is None else OWN_CHOICES if contrast.takeover else OWN_CHOICES[:1]
    across = (COMPARED,) if record["pair"].get("across") else ()
    others = tuple(f"other_kl_{n}" for n, _ in enumerate(record["pair"].get("others") or (), 1))
    return STEP_MEASURES + across + (TUNING_MEASURES if record.get("lens") else ()) + own + others


def contrast_of(record: dict) -> Contrast | None:
    found = record["request"].get("contrast")
    return found and Contrast(**found)


def _measures(step: Step) -> dict:
    found = {name: json_number(getattr(step.score, name)) for name in STEP_MEASURES}
    found |= {} if step.score.compared is None else {COMPARED: json_number(step.score.compared)}
    found |= {name: json_number(getattr(step.shift, name)) for name in TUNING_MEASURES} if step.shift else {}
    found |= {name: asdict(own) for name in OWN_CHOICES if (own := getattr(step, name))}
    return found | {f"other_kl_{n}": json_number(value) for n, value in enumerate(step.other_kls, 1)}


def _candidates_json(step: Step) -> dict | None:
    score = step.score
    if not score.ids:  # of a pair across tokenizers, where not all of the plausible set was compared
        return None
    logprobs = {f"{who}_logprobs": getattr(score, f"{who}_logprobs") for who in ("expert", "amateur")}
    if step.shift:
        logprobs["tuned_logprobs"] = step.shift.tuned_logprobs
    return {"ids": list(score.ids)} | {name: [json_number(x) for x in logprobs[name]] for name in logprobs}


def plausible_logprobs(candidates: dict | None) -> tuple[list, list] | None:
    """The log-probabilities of the expert and of the amateur on the plausible set at ALPHA_FLOOR, of candidates in
    JSON: all that the page needs to compute a step's TARGET_MEASURES at any α. None where they were not stored."""
    if candidates is None:
        return None
    logs = candidates["expert_logprobs"]
    bound = max(x for x in logs if x is not None) + math.log(ALPHA_FLOOR) - TIE
    kept = [n for n, x in enumerate(logs) if x is not None and x >= bound]
    return [logs[n] for n in kept], [candidates["amateur_logprobs"][n] for n in kept]


def step_line(step: Step) -> list:
    """The step in the page's stream: [text, token id, *columns, plausible_logprobs]."""
    return [step.text, step.token_id, *_measures(step).values(), plausible_logprobs(_candidates_json(step))]


def stored_step_line(step: dict, measures: tuple[str, ...]) -> list:
    return [step["text"], step["token_id"], *(step[m] for m in measures), plausible_logprobs(step["candidates"])]


def _support_json(support: tuple) -> dict:
    names = ("ids", "expert_logprobs", "amateur_logprobs", "weights")
    return {name: [json_number(x) for x in column] for name, column in zip(names, support, strict=True)}


def step_json(step: Step, alpha: float = ALPHA, beta: float = BETA, cap: float | None = None) -> dict:
    """The whole step. `support` is the plausible set at α with its contrastive weights under a cap on the log ratio,
    `teaching` the teaching signal; from `candidates` they can be computed at any α ≥ ALPHA_FLOOR and any cap."""
    score = step.score
    return {
        "index": step.index,
        "token_id": step.token_id,
        "text": step.text,
        **_measures(step),
        "selected": score.kl > beta,
        "teaching": json_number(score.teaching(alpha, cap)) if score.ids else None,
        "support": _support_json(score.support(alpha, cap)) if score.ids else None,
        "candidates": _candidates_json(step),
    }


def trace_json(trace: Trace, alpha: float = ALPHA, beta: float = BETA, cap: float | None = None) -> dict:
    """The whole trace as the value for json.dumps."""
    request = asdict(trace.request)
    request |= {name: list(request[name]) for name in ("prefix", "stop")}
    request["context"] = [[*turn] for turn in request["context"]]
    request.pop("prompt")
    request.pop("contrast")
    if trace.request.contrast:  # records of earlier versions have none
        request["contrast"] = trace.request.contrast.as_json()
    if prompt := trace.request.prompt.as_json():
        request["prompt"] = prompt
    record = {
        "format": "lightreasoner-trace",
        "version": VERSION,
        "id": trace.id,
        "created": trace.created,
        "pair": trace.pair,
        "problem_id": trace.problem_id,
        "request": request,
        "parent": trace.parent,
        "prompt_ids": trace.prompt_ids,
        "prompt": trace.prompt,
        "response": trace.response,
        "finish_reason": trace.finish_reason,
        "seconds": round(trace.seconds, 3),
        "alpha": alpha,
        "alpha_floor": ALPHA_FLOOR,
        "beta": beta,
        "steps": [step_json(step, alpha, beta, cap) for step in trace.steps],
        "tokens": {str(i): text for i, text in trace.texts.items()},
    }
    record |= {} if cap is None else {"cap": cap}
    record |= {"prompt_notes": list(trace.prompt_notes)} if trace.prompt_notes else {}
    record |= {"lens": trace.tuned} if trace.tuned else {}
    record |= {"spelled": {str(i): list(parts) for i, parts in trace.spelled.items()}} if trace.spelled else {}
    return record | ({"graded": trace.graded} if trace.graded else {})


def reweigh(record: dict, alpha: float, beta: float, cap: float | None = None) -> dict:
    """A trace's JSON at another α, β and cap on the log ratio, computed from its candidates without a model.

    A step without stored details has None for `candidates`, and therefore for `support` and `teaching`.
    """

    def at(step: dict) -> dict:
        candidates = step["candidates"]
        selected = step["kl"] is None or step["kl"] > beta
        if candidates is None:
            return step | {"selected": selected, "teaching": None, "support": None}
        logs = [[-math.inf if x is None else x for x in candidates[f"{who}_logprobs"]] for who in ("expert", "amateur")]
        found = {"teaching": json_number(teaching(*logs, alpha, cap))}
        found["support"] = _support_json(support(candidates["ids"], *logs, alpha, cap))
        return step | {"selected": selected} | found

    others = {name: value for name, value in record.items() if name != "cap"} | ({} if cap is None else {"cap": cap})
    return others | {"alpha": alpha, "beta": beta, "steps": [at(step) for step in record["steps"]]}


def trace_csv(record: dict) -> str:
    """A trace's JSON as CSV, one row per step. Texts that a spreadsheet would run as formulas start with a quote.

    Where a contrast writes, each row has it as well, and the tokens that the models alone would have written.
    """
    own, contrast = [name for name in columns(record) if name in OWN_CHOICES], contrast_of(record)
    shift = [name for name in columns(record)[len(STEP_MEASURES) :] if name not in own]
    out = io.StringIO()
    writer = csv.writer(out)
    named = [*(["writer"] if contrast else []), *(part for name in own for part in (f"{name}_id", name))]
    writer.writerow(["step", "token_id", "text", *STEP_MEASURES, "selected", *shift, *named, *TARGET_MEASURES])
    for step in record["steps"]:
        selected = step["kl"] is None or step["kl"] > record["beta"]
        measured = [*(step[m] for m in STEP_MEASURES), selected, *(step[m] for m in shift)]
        measured += [contrast.title] if contrast else []
        measured += [part for name in own for part in (step[name]["token_id"], csv_cell(step[name]["text"]))]
        measured += [step.get(m) for m in TARGET_MEASURES]  # records of earlier versions get them from `reweigh`
        writer.writerow([step["index"], step["token_id"], csv_cell(step["text"]), *measured])
    return out.getvalue()


def save_trace(trace: Trace, folder: Path) -> Path:
    path = folder / f"{trace.id}.json"
    write_text(path, json.dumps(trace_json(trace), ensure_ascii=False))
    return path


def load_record(trace_id: str, folder: Path) -> dict:
    """A saved trace's JSON. Raises UserError for an invalid id, and for a file that is missing or cannot be read."""
    if not isinstance(trace_id, str) or not ID_PATTERN.fullmatch(trace_id):
        raise UserError("That link holds no valid trace id; copy it again in full.")
    try:
        record = json.loads((folder / f"{trace_id}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no trace {trace_id} on this server; it was deleted or made elsewhere.") from None
    except (OSError, ValueError, RecursionError):
        raise UserError(f"The file of trace {trace_id} cannot be read; it is damaged. Run the problem again.") from None
    if not isinstance(record, dict) or record.get("format") != "lightreasoner-trace":
        raise UserError(f"The file of trace {trace_id} is not a trace. Run the problem again.")
    if record.get("version") != VERSION:
        raise UserError(
            f"Trace {trace_id} has version {record.get('version')!r:.20} and this software reads {VERSION}; "
            "use the software that wrote it."
        )
    whole = all(isinstance(record.get(name), kind) for name, kind in PARTS.items())
    if not whole or not all(isinstance(step, dict) for step in record["steps"]):
        raise UserError(f"The file of trace {trace_id} lacks a part; it is damaged. Run the problem again.")
    return record


def kept_record(trace_id: str, folder: Path) -> dict:
    """The same, but the last few are kept in memory while their files stay as they are. It must not be changed.

    Selecting a token asks for one step of it: to parse a file of 5,000 steps takes longer than all else together.
    """
    written = stamp(folder / f"{trace_id}.json")
    return _kept(trace_id, folder, written) if written else load_record(trace_id, folder)


@lru_cache(maxsize=4)
def _kept(trace_id: str, folder: Path, _written: tuple) -> dict:
    return load_record(trace_id, folder)
