"""Converts the responses of a batch into a table of trajectories.SCHEMA from flat arrays, without a loop over steps."""

import numpy as np
import pyarrow as pa

from lightreasoner.datasets.trajectories import COMPARED, SCHEMA, STEP
from lightreasoner.decoding.amateur_reader import Responses
from lightreasoner.decoding.generate import GenerationRow
from lightreasoner.models.pairs import Pair
from lightreasoner.models.turn_ends import finished_text
from lightreasoner.problems.conversations import context_json
from lightreasoner.scoring.divergence import CANDIDATES
from lightreasoner.scoring.measures import STEP_MEASURES, taken_measures

MEASURED = (*STEP_MEASURES, "steps")  # columns


def batch_table(pair: Pair, items: list[GenerationRow], responses: Responses, stop: tuple[str, ...] = ()) -> pa.Table:
    """One row per item, in order. stop: the stop strings with which the responses were generated."""
    texts, reasons = zip(*(finished_text(pair.expert, tokens, stop) for tokens in responses.tokens), strict=True)
    given = [item.given.finish_reason if item.given else None for item in items]
    reasons = [said if reason == "length" and said else reason for reason, said in zip(reasons, given, strict=True)]
    columns = {
        "problem_id": [item.problem.id for item in items],
        "sample": [item.sample for item in items],
        "question": [item.problem.question for item in items],
        "context": [context_json(item.problem.context) for item in items],
        "answer": [item.problem.answer for item in items],
        "prompt_ids": [item.prompt for item in items],
        "response_ids": responses.tokens,
        "response": texts,
        "finish_reason": reasons,
    }
    columns = {name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()}
    columns |= measure_columns(responses)
    return pa.table(columns, SCHEMA.append(COMPARED) if COMPARED.name in columns else SCHEMA)


def measure_columns(responses: Responses) -> dict[str, pa.Array]:
    """The columns of MEASURED: what depends on the amateur, and the expert's measures beside it."""
    lengths, columns = np.array([len(tokens) for tokens in responses.tokens]), {}
    unknown = None if responses.known.all() else ~responses.known
    lacking = taken_measures("compared" in responses.measures)
    for name in STEP_MEASURES:
        kind = SCHEMA.field(name).type.value_type
        missing = unknown if name in lacking else None
        columns[name] = _lists(lengths, pa.array(responses.measures[name], mask=missing).cast(kind))
    if COMPARED.name in responses.measures:
        columns[COMPARED.name] = _lists(lengths, pa.array(responses.measures[COMPARED.name]))
    return columns | {"steps": _details(lengths, responses)}


def _details(lengths: np.ndarray, responses: Responses) -> pa.ListArray:
    measures = responses.measures
    kept = measures["counts"] > 0  # (steps,)
    row = np.repeat(np.arange(len(lengths)), lengths)  # (steps,)
    index = np.arange(len(kept)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    token = np.concatenate([np.asarray(tokens) for tokens in responses.tokens])
    fields = {"index": index[kept], "token_id": token[kept], "kl": measures["kl"][kept]}
    arrays = [pa.array(values).cast(STEP.field(name).type) for name, values in fields.items()]
    for name in CANDIDATES:
        values = pa.array(measures[name]).cast(STEP.field(name).type.value_type)
        arrays.append(_lists(measures["counts"][kept], values))
    steps = pa.StructArray.from_arrays(arrays, fields=list(STEP))
    return _lists(np.bincount(row[kept], minlength=len(lengths)), steps)


def _lists(lengths: np.ndarray, values: pa.Array) -> pa.ListArray:
    """Cut flat values into lists of these lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
