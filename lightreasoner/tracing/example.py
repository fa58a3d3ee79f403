"""The example: a stored trace of the bundled pair on the first bundled problem, which the page shows before any run."""

import json

from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import describe_pair, load_pair, presets
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.problems.stream import load_problems
from lightreasoner.settings import ASSETS, Settings
from lightreasoner.storage.atomic import write_text
from lightreasoner.tracing.records import Trace, trace_json
from lightreasoner.tracing.trace import TraceRequest, trace

#: The example's id; its file in FOLDER is named after it, as those of other traces are.
EXAMPLE = "example-bundled-pair"
FOLDER = ASSETS / "examples"


def trace_example(settings: Settings) -> dict:
    """The trace's JSON, as the bundled pair writes it now: greedy, with the first choices of the form. It has no date
    and took no time, so that it is the same wherever it is made."""
    first, problem = presets()[0], load_problems("bundled-test").problems[0]
    pair = load_pair(first.expert, first.amateur, LoadedModels(settings), name=first.name)
    request = TraceRequest(problem.question)
    record = Trace(describe_pair(pair), request, EXAMPLE, 0.0, problem_id=problem.id, answer=problem.answer)
    texts = TokenTexts(pair.expert.tokenizer)
    for event in trace(pair, request, settings):
        record.add(event, texts)
    record.seconds = 0.0
    return trace_json(record)


def write_example(settings: Settings) -> None:
    FOLDER.mkdir(exist_ok=True)
    write_text(FOLDER / f"{EXAMPLE}.json", json.dumps(trace_example(settings), ensure_ascii=False) + "\n")
